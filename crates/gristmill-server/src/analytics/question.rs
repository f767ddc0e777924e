//! What all questions have in common: which events, how fresh, and in which format to answer.

use gristmill_ingest::dialect::parse_time;
use gristmill_model::{
    Field, Filter, Interval, Micros, Positions, Selection, TimeRange, Timestamp,
};
use http::{Extensions, HeaderMap, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::filter::filter_of_text;
use crate::accept::wait_until_visible;
use crate::app::App;
use crate::caller::project_of;
use crate::json::Time;
use crate::openapi::{Parameter, Term, reference};
use crate::parameters::Parameters;
use crate::problem::Problem;

/// All events of the request's project.
pub(crate) fn everything(extensions: &Extensions) -> Selection {
    let project = project_of(extensions);
    let (range, event_types, filters) = (TimeRange::ALL, Vec::new(), Vec::new());
    Selection { project, range, event_types, filters }
}

/// Takes the parameters that say which events a question is about, and waits until they cover
/// the position of `at_least`.
pub(super) async fn selection(
    app: &App,
    extensions: &Extensions,
    parameters: &mut Parameters,
) -> Result<Selection, Problem> {
    let mut event_types = parameters.take_all("event_type");
    event_types.extend(parameters.take_all("event_types"));
    let mut selection = Selection {
        project: project_of(extensions),
        range: range(parameters)?,
        event_types,
        filters: filters(parameters.take_map("filters")),
    };
    if let Some(text) = parameters.take("where")? {
        selection.filters.push(filter_of_text("where", &text)?);
    }
    at_least(app, parameters.take("at_least")?).await?;
    Ok(selection)
}

/// Takes the parameters that say a range of event times.
pub(crate) fn range(parameters: &mut Parameters) -> Result<TimeRange, Problem> {
    Ok(TimeRange { start: time(parameters, "start")?, end: time(parameters, "end")? })
}

/// What [`range`] takes.
pub(crate) fn range_parameters() -> [Parameter; 4] {
    let time = |name, about| Term::new(name, about, reference("Time")).in_target();
    [
        time("start", "the first event time"),
        time("end", "the event time behind the last"),
        time("time_range.start", "the same as `start`"),
        time("time_range.end", "the same as `end`"),
    ]
}

/// What [`selection`] takes.
pub(super) fn selection_parameters() -> Vec<Parameter> {
    let types = json!({"type": "array", "items": {"type": "string"}});
    let filters = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let equal = "a field or property must equal a text; also as `filters.NAME=VALUE`";
    let others = [
        Term::new("event_type", "events of one of these types", types.clone()).in_target(),
        Term::new("event_types", "the same as `event_type`", types).in_target(),
        Term::new("filters", equal, filters).in_target_as_map(),
        Term::new("where", "events that pass", reference("Filter")).in_target_as_json(),
        at_least_term().in_target(),
    ];
    range_parameters().into_iter().chain(others).collect()
}

/// A freshness that an answer must have.
pub(crate) fn at_least_term() -> Term {
    Term::text("at_least", "a `position`; the answer waits until it covers it")
}

/// The schema of a time.
pub(crate) fn time_schema() -> Value {
    json!({
        "type": ["string", "number"],
        "description": "RFC 3339 with any offset, or seconds, milliseconds or microseconds since \
            1970, told apart by size",
    })
}

/// Waits until the answer includes everything below a position token, if there is one.
pub(crate) async fn at_least(app: &App, token: Option<String>) -> Result<(), Problem> {
    let Some(token) = token else { return Ok(()) };
    let positions: Positions =
        token.parse().map_err(|error| Problem::argument(format!("`at_least` is {error}")))?;
    if app.appends() && !app.services.ingest.durable().covers(&positions) {
        return Err(Problem::argument("`at_least` lies beyond the end of this server's log"));
    }
    wait_until_visible(app, &positions).await
}

/// The filters that keys and values mean.
pub(crate) fn filters(pairs: impl IntoIterator<Item = (String, String)>) -> Vec<Filter> {
    pairs.into_iter().map(|(key, text)| Filter::equals(Field::from_name(&key), text)).collect()
}

/// The time that a parameter says, under its own name or within `time_range`.
fn time(parameters: &mut Parameters, name: &str) -> Result<Option<Timestamp>, Problem> {
    let nested = format!("time_range.{name}");
    match (parameters.take(name)?, parameters.take(&nested)?) {
        (Some(_), Some(_)) => {
            Err(Problem::argument(format!("`{name}` and `{nested}` are the same parameter")))
        }
        (Some(text), None) => parameter_time(name, &text).map(Some),
        (None, Some(text)) => parameter_time(&nested, &text).map(Some),
        (None, None) => Ok(None),
    }
}

/// The time that the text of a parameter says.
fn parameter_time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    time_of(name, text).map_err(|problem| {
        // A bare `+` of a query means a space: what should be an offset then is none.
        let with_plus = text.rsplit_once(' ').map(|(time, offset)| format!("{time}+{offset}"));
        match with_plus.and_then(|text| parse_time(&text)) {
            Some(_) => Problem::argument(format!("{}, and write + as %2B", problem.detail())),
            None => problem,
        }
    })
}

/// The time that a text says.
pub(crate) fn time_of(name: &str, text: &str) -> Result<Timestamp, Problem> {
    parse_time(text).ok_or_else(|| {
        Problem::argument(format!("`{name}` is no time: use RFC 3339 or an epoch number"))
    })
}

/// The length of time that a text like `3600s`, `1.5h` or `7d` says.
pub(crate) fn duration_of(name: &str, text: &str) -> Result<Micros, Problem> {
    let wrong = || {
        Problem::argument(format!(
            "`{name}` is no length of time: use a number and one of ms, s, m, h, d, like 3600s"
        ))
    };
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let micros_per_unit = match unit {
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3_600e6,
        "d" => 86_400e6,
        _ => return Err(wrong()),
    };
    let is_decimal = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = number.parse().ok().filter(|_| is_decimal).ok_or_else(wrong)?;
    let micros = (number * micros_per_unit).round();
    // Longer than all of time means the same and could overflow a sum.
    let longest = Timestamp::MAX.since(Timestamp::MIN) as f64;
    if micros < 1.0 { Err(wrong()) } else { Ok(micros.min(longest) as Micros) }
}

/// The value of a parameter that is `true` or `false`.
pub(super) fn flag(parameters: &mut Parameters, name: &str) -> Result<Option<bool>, Problem> {
    let value = parameters.take(name)?.map(|text| text.parse());
    value.transpose().map_err(|_| Problem::argument(format!("`{name}` must be true or false")))
}

/// The widths of buckets by name.
pub(super) const INTERVALS: [(&str, Interval); 5] = [
    ("minute", Interval::Minute),
    ("hour", Interval::Hour),
    ("day", Interval::Day),
    ("week", Interval::Week),
    ("month", Interval::Month),
];

/// The width of buckets that a text names, and its name; a day, if there is no text.
pub(super) fn granularity(text: Option<String>) -> Result<(&'static str, Interval), Problem> {
    let name = text.unwrap_or_else(|| "day".to_owned()).to_ascii_lowercase();
    let name = name.strip_prefix("time_granularity_").unwrap_or(&name);
    choice("granularity", name, &INTERVALS)
}

/// What [`granularity`] reads.
pub(super) fn granularity_term() -> Term {
    Term::choice("granularity", "the width of buckets; weeks begin on Monday", &INTERVALS)
        .by_default("day")
}

/// A time zone.
pub(super) fn zone_term() -> Term {
    Term::text("tz", "an IANA time zone, in which days are cut").by_default("UTC")
}

/// The name of a field or property.
pub(super) fn field_term(name: &'static str, about: &str) -> Term {
    Term::text(name, format!("{about}; a built-in field or a property"))
}

/// What events are grouped by, as [`Grouping::from_name`](gristmill_model::Grouping) reads it.
pub(super) fn grouping_term(name: &'static str, about: &str) -> Term {
    let about = format!("{about}; a built-in field, a property, or `cohort:` and a cohort's id");
    Term::text(name, about)
}

/// A length of time, as [`duration_of`] reads it.
pub(crate) fn duration_term(name: &'static str, about: &str) -> Term {
    Term::text(name, format!("{about}; a number and one of `ms`, `s`, `m`, `h` and `d`"))
}

/// A page of an answer.
pub(super) fn page_term() -> Term {
    Term::text("page_token", "a token of another page of the same question")
}

/// What a name stands for, with the name.
pub(crate) fn choice<T: Copy>(
    parameter: &str,
    given: &str,
    choices: &[(&'static str, T)],
) -> Result<(&'static str, T), Problem> {
    choices.iter().find(|(name, _)| *name == given).copied().ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        Problem::argument(format!("`{parameter}` must be one of {}", names.join(", ")))
    })
}

/// What [`limit`] takes.
pub(super) fn limit_term(about: &str, default: usize, most: usize) -> Term {
    Term::whole("limit", about, 1..=most).by_default(default)
}

/// The number of results asked for.
pub(super) fn limit(
    parameters: &mut Parameters,
    default: usize,
    most: usize,
) -> Result<usize, Problem> {
    let Some(text) = parameters.take("limit")? else { return Ok(default) };
    let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
    limit.ok_or_else(|| Problem::argument(format!("`limit` must be a number from 1 to {most}")))
}

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, unless CSV is asked for.
    Json,
    /// Comma-separated values with a header line.
    Csv,
    /// Server-sent events, one for each revision of the answer.
    Events,
}

/// The formats by the names of their media types.
const FORMATS: [(&str, Format); 4] = [
    ("application/json", Format::Json),
    ("*/*", Format::Json),
    ("text/csv", Format::Csv),
    ("text/event-stream", Format::Events),
];

/// The format that the `Accept` header asks for: the first that is known and not refused.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    accepted(headers, &FORMATS).unwrap_or(Format::Json)
}

/// What the first media type of the `Accept` header stands for that is known and not refused.
pub(crate) fn accepted<T: Copy>(headers: &HeaderMap, known: &[(&str, T)]) -> Option<T> {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepts
        .flat_map(|text| text.split(','))
        .filter(|range| !is_refused(range))
        .map(|range| range.split(';').next().unwrap_or_default().trim());
    let found = |name| known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    types.find_map(found).map(|(_, meant)| *meant)
}

/// Whether a range of an `Accept` header has the weight 0.
fn is_refused(range: &str) -> bool {
    let mut parameters = range.split(';').skip(1).filter_map(|text| text.split_once('='));
    parameters.any(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0)
    })
}

/// The range of a question, as its answer repeats it.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct RangeBody {
    start: Option<Time>,
    end: Option<Time>,
}

impl From<TimeRange> for RangeBody {
    fn from(range: TimeRange) -> Self {
        Self { start: range.start.map(Time), end: range.end.map(Time) }
    }
}

/// What an answer says of its question and of itself.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Metadata<T> {
    time_range: RangeBody,
    /// What the question says beside which events it is about.
    #[serde(flatten)]
    pub(super) terms: T,
    processing_time: String,
}

impl<T> Metadata<T> {
    /// The metadata of an answer to a question that came at `since`.
    pub(super) fn of(range: TimeRange, terms: T, since: Instant) -> Self {
        let processing_time = seconds(since.elapsed().as_micros() as i64);
        Self { time_range: range.into(), terms, processing_time }
    }
}

/// A length of time as the JSON of protobuf writes it, in seconds.
pub(super) fn seconds(micros: Micros) -> String {
    format!("{}s", micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn durations_need_a_unit_and_are_positive() {
        let of = |text| duration_of("window", text).ok();
        assert_eq!(of("3600s"), Some(3_600_000_000));
        assert_eq!(of("1.5h"), Some(5_400_000_000));
        assert_eq!(of("7d"), Some(7 * Timestamp::DAY));
        assert_eq!(of("250ms"), Some(250_000));
        assert_eq!(of("99999999999999999d"), Some(Timestamp::MAX.since(Timestamp::MIN)));
        for bad in ["", "s", "1", "-1s", "1e3s", "1 h", "0s", "1w", "NaNs", "1.2.3s", "1é"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn first_known_type_decides_the_format() {
        let of = |accept| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            format(&headers)
        };
        assert_eq!(of("text/csv"), Format::Csv);
        assert_eq!(of("text/html, text/CSV;q=0.9, */*"), Format::Csv);
        assert_eq!(of("*/*"), Format::Json);
        assert_eq!(of("application/json, text/csv"), Format::Json);
        assert_eq!(of("text/csv;q=0, application/json"), Format::Json);
        assert_eq!(of("text/csv; Q = 0.000"), Format::Json);
        assert_eq!(of("application/json;q=0, text/csv;q=0.001"), Format::Csv);
        assert_eq!(of("text/event-stream"), Format::Events);
        assert_eq!(of("text/event-stream;q=0, text/csv"), Format::Csv);
        assert_eq!(of("application/json, text/event-stream"), Format::Json);
        assert_eq!(format(&HeaderMap::new()), Format::Json);
    }
}
