//! `GET` and `POST /v1/analytics/timeseries`.

mod body;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{
    Aggregate, Compare, EventMatch, Field, Formula, Grouping, Interval, Metric, Selection, Series,
    SeriesQuery, Totals, limits,
};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::body::{AnswerBody, Columns, MetadataBody};
use super::description::Description;
use super::object::{Member, Object, Scalar};
use super::posted::{event_terms, events, posted, select};
use super::question::{
    Format, at_least, choice, field_term, flag, format, granularity, granularity_term, seconds,
    selection, zone_term,
};
use crate::app::App;
use crate::json;
use crate::openapi::{Term, object};
use crate::parameters::Parameters;
use crate::problem::Problem;

/// What a metric's name stands for.
#[derive(Clone, Copy)]
enum Kind {
    Count,
    UniqueUsers,
    Sessions,
    PerUserAverage,
    Number(Aggregate),
}

const METRICS: [(&str, Kind); 12] = [
    ("count", Kind::Count),
    ("unique_users", Kind::UniqueUsers),
    ("sessions", Kind::Sessions),
    ("per_user_average", Kind::PerUserAverage),
    ("sum", Kind::Number(Aggregate::Sum)),
    ("avg", Kind::Number(Aggregate::Average)),
    ("min", Kind::Number(Aggregate::Minimum)),
    ("max", Kind::Number(Aggregate::Maximum)),
    ("p50", Kind::Number(Aggregate::Percentile(50))),
    ("p90", Kind::Number(Aggregate::Percentile(90))),
    ("p95", Kind::Number(Aggregate::Percentile(95))),
    ("p99", Kind::Number(Aggregate::Percentile(99))),
];

const COMPARISONS: [(&str, Compare); 1] = [("previous_period", Compare::PreviousPeriod)];

/// What the document says of [`get`].
pub(crate) fn describe_get() -> Description {
    let mut terms = metric_terms();
    terms.extend(Terms::describe(groups()));
    Description::of::<AnswerBody<'_>>("TimeSeries", "Values over time of one metric", terms)
}

/// What the document says of [`post`].
pub(crate) fn describe_post() -> Description {
    let named =
        Term::text_up_to("name", "`A`, `B` and so on if missing", limits::SERIES_NAME_BYTES);
    let mut series = vec![named];
    series.extend(metric_terms());
    series.extend(event_terms());
    let about = "numbers, names of series, `+`, `-`, `*`, `/` and parentheses";
    let formula = [
        Term::text_up_to("expression", about, limits::FORMULA_BYTES).required(),
        Term::text_up_to("name", "the expression if missing", limits::SERIES_NAME_BYTES),
    ];
    let mut terms = vec![
        Term::list("series", "what is counted", &object(series), 1..=limits::SERIES).required(),
        Term::list("formulas", "what is worked out", &object(formula), 0..=limits::FORMULAS),
    ];
    let group_by = json!({"anyOf": [{"type": "string"}, groups()]});
    terms.extend(Terms::describe(group_by));
    let summary = "Values over time of several series, and formulas over them";
    Description::of::<AnswerBody<'_>>("TimeSeries", summary, terms)
}

/// What series are grouped by.
fn groups() -> Value {
    let most = limits::SERIES_GROUP_FIELDS;
    json!({"type": "array", "items": {"type": "string"}, "maxItems": most})
}

/// What [`metric_of`] is made of.
fn metric_terms() -> Vec<Term> {
    vec![
        Term::choice("metric", "what is counted", &METRICS).by_default("count"),
        field_term("property", "what a metric of numbers is about"),
    ]
}

/// Values over time of one metric.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::of(request.uri())?;
    let one = OneMetric::take(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let metric_name = one.name;
    let (granularity, query) = one.question(selection);
    let columns = Columns::of(&query, None);
    let answer = app.services.query.series(query).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(columns.table(&answer));
    }
    let metadata = MetadataBody::of_metric(metric_name, granularity, &answer);
    let body = AnswerBody { series: columns.points(&answer), metadata };
    Ok(json::respond(StatusCode::OK, &body))
}

/// Values over time of several series, and formulas over them.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let mut body = Object::of_body(&posted.body)?;
    let missing = || Problem::argument("`series` is missing");
    let all = body.take_array("series")?.ok_or_else(missing)?;
    let series = all.into_iter().enumerate().map(series).collect::<Result<_, Problem>>()?;
    let formulas = body.take_array("formulas")?.unwrap_or_default();
    let formulas = formulas.into_iter().map(formula).collect::<Result<_, Problem>>()?;
    let mut selection = posted.selection;
    select(&mut body, &mut selection)?;
    let terms = Terms::of_body(&mut body)?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    at_least(&app, token).await?;
    let (granularity, query) = terms.question(selection, series, formulas);
    let columns = Columns::of(&query, Some("series"));
    let (range, zone) = (query.selection.range, query.zone.clone());
    let answer = app.services.query.series(query).await?;
    if format(&posted.headers) == Format::Csv {
        return Ok(columns.table(&answer));
    }
    let processing_time = seconds(since.elapsed().as_micros() as i64);
    let metadata = MetadataBody::of_series(granularity, zone, range, processing_time, &answer);
    let body = AnswerBody { series: columns.points(&answer), metadata };
    Ok(json::respond(StatusCode::OK, &body))
}

/// A question about one metric, without which events it is about.
pub(crate) struct OneMetric {
    /// The metric's name.
    pub(crate) name: &'static str,
    metric: Metric,
    terms: Terms,
}

impl OneMetric {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let (metric, property) = (parameters.take("metric")?, parameters.take("property")?);
        let (name, metric) = metric_of(["metric", "property"], metric, property)?;
        Ok(Self { name, metric, terms: Terms::of_target(parameters)? })
    }

    /// The question about a selection, and the name of its granularity.
    pub(crate) fn question(self, selection: Selection) -> (&'static str, SeriesQuery) {
        let Self { name, metric, terms } = self;
        let events = EventMatch::default();
        let series = vec![Series { name: name.to_owned(), metric, events }];
        terms.question(selection, series, Vec::new())
    }
}

/// What a question says beside its series and which events it is about.
struct Terms {
    granularity: (&'static str, Interval),
    zone: String,
    group_by: Vec<Grouping>,
    top: Option<usize>,
    compare: Compare,
    totals: Totals,
}

impl Terms {
    /// What they are made of, with the schema of what series are grouped by.
    fn describe(group_by: Value) -> [Term; 6] {
        let top = "how many groups are told apart; all others are one";
        [
            granularity_term(),
            zone_term(),
            Term::new(
                "group_by",
                "fields, properties, or `cohort:` and the id of a cohort",
                group_by,
            ),
            Term::whole("top", top, 1..=limits::SERIES_GROUPS),
            Term::choice("compare", "also the period before", &COMPARISONS),
            Term::flag("cumulative", "whether a value is about all from the start of the period")
                .by_default(false),
        ]
    }

    fn of_target(parameters: &mut Parameters) -> Result<Self, Problem> {
        Ok(Self {
            granularity: granularity(parameters.take("granularity")?)?,
            zone: parameters.take("tz")?.unwrap_or_else(|| "UTC".to_owned()),
            group_by: groupings(&parameters.take_all("group_by"))?,
            top: match parameters.take("top")? {
                Some(text) => Some(text.parse().map_err(|_| wrong_top("top"))?),
                None => None,
            },
            compare: compare(parameters.take("compare")?)?,
            totals: totals(flag(parameters, "cumulative")?),
        })
    }

    fn of_body(body: &mut Object<'_>) -> Result<Self, Problem> {
        Ok(Self {
            granularity: granularity(body.take_text("granularity")?)?,
            zone: body.take_text("tz")?.unwrap_or_else(|| "UTC".to_owned()),
            group_by: groupings(&body.take_texts("group_by")?)?,
            top: body.take("top")?.map(|member| whole_number(&member)).transpose()?,
            compare: compare(body.take_text("compare")?)?,
            totals: totals(body.take("cumulative")?.map(|member| is_true(&member)).transpose()?),
        })
    }

    /// The question, and the name of its granularity.
    fn question(
        self,
        selection: Selection,
        series: Vec<Series>,
        formulas: Vec<Formula>,
    ) -> (&'static str, SeriesQuery) {
        let Self { granularity: (name, interval), zone, group_by, top, compare, totals } = self;
        let query = SeriesQuery {
            selection,
            series,
            formulas,
            interval,
            zone,
            group_by,
            top,
            compare,
            totals,
        };
        (name, query)
    }
}

fn series((index, series): (usize, Member<'_>)) -> Result<Series, Problem> {
    let mut series = series.object()?;
    let places = [series.name_of("metric"), series.name_of("property")];
    let places = [places[0].as_str(), places[1].as_str()];
    // A series without a name is called by a letter.
    let letter = || char::from(b'A' + (index % 26) as u8).to_string();
    let name = series.take_text("name")?.unwrap_or_else(letter);
    let (metric, property) = (series.take_text("metric")?, series.take_text("property")?);
    let (_, metric) = metric_of(places, metric, property)?;
    let events = events(&mut series)?;
    series.finish()?;
    Ok(Series { name, metric, events })
}

fn formula(formula: Member<'_>) -> Result<Formula, Problem> {
    let mut formula = formula.object()?;
    let missing = Problem::argument(format!("`{}` is missing", formula.name_of("expression")));
    let expression = formula.take_text("expression")?.ok_or(missing)?;
    let name = formula.take_text("name")?.unwrap_or_else(|| expression.clone());
    formula.finish()?;
    Ok(Formula { name, expression })
}

/// The metric of a name and of the property that it is about, with its name. `places` are what
/// errors call the two.
fn metric_of(
    places: [&str; 2],
    metric: Option<String>,
    property: Option<String>,
) -> Result<(&'static str, Metric), Problem> {
    let [metric_place, property_place] = places;
    let metric = metric.unwrap_or_else(|| "count".to_owned());
    let (name, kind) = choice(metric_place, &metric, &METRICS)?;
    let metric = match (kind, property) {
        (Kind::Number(aggregate), Some(property)) => {
            Metric::Number(aggregate, Field::from_name(&property))
        }
        (Kind::Number(_), None) => {
            return Err(Problem::argument(format!(
                "`{property_place}` is missing: it says what `{metric_place}` {name} is about"
            )));
        }
        (_, Some(_)) => {
            return Err(Problem::argument(format!(
                "`{property_place}` is for metrics of numbers, not for `{metric_place}` {name}"
            )));
        }
        (Kind::Count, None) => Metric::Count,
        (Kind::UniqueUsers, None) => Metric::UniqueUsers,
        (Kind::Sessions, None) => Metric::Sessions,
        (Kind::PerUserAverage, None) => Metric::PerUserAverage,
    };
    Ok((name, metric))
}

fn groupings(names: &[String]) -> Result<Vec<Grouping>, Problem> {
    let most = limits::SERIES_GROUP_FIELDS;
    if names.len() > most {
        return Err(Problem::argument(format!("`group_by` must be {most} fields at most")));
    }
    Ok(names.iter().map(|name| Grouping::from_name(name)).collect())
}

fn compare(name: Option<String>) -> Result<Compare, Problem> {
    let Some(name) = name else { return Ok(Compare::Nothing) };
    choice("compare", &name, &COMPARISONS).map(|(_, compare)| compare)
}

fn totals(cumulative: Option<bool>) -> Totals {
    if cumulative == Some(true) { Totals::Running } else { Totals::PerBucket }
}

fn whole_number(member: &Member<'_>) -> Result<usize, Problem> {
    match member.scalar() {
        Ok(Scalar::Number(number)) if number >= 0.0 && number.fract() == 0.0 => Ok(number as usize),
        _ => Err(wrong_top(member.name())),
    }
}

fn wrong_top(place: &str) -> Problem {
    let most = limits::SERIES_GROUPS;
    Problem::argument(format!("`{place}` must be a whole number from 1 to {most}"))
}

fn is_true(member: &Member<'_>) -> Result<bool, Problem> {
    match member.scalar() {
        Ok(Scalar::Flag(flag)) => Ok(flag),
        _ => Err(member.must_be("true or false")),
    }
}
