//! `GET /v1/analytics/summary`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{
    ComparedSummary, Field, Selection, SummaryAnswer, SummaryQuery, TopQuery, limits,
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::question::{Format, RangeBody, field_term, format, seconds, selection};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many metrics are listed if nobody says.
const TOP_METRICS: usize = 5;

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    total_events: u64,
    unique_users: u64,
    sessions: u64,
    events_by_type: &'a BTreeMap<String, u64>,
    top_metrics: Vec<MetricBody<'a>>,
    first_event: Option<Time>,
    last_event: Option<Time>,
    last_updated: Time,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct MetricBody<'a> {
    name: &'a str,
    value: u64,
    unit: &'static str,
    /// In percent of the value before; none without a range before or a value there.
    change_percentage: Option<f64>,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    processing_time: String,
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Description {
    let terms = [
        field_term("group_by", "whose most frequent values are metrics").by_default("event_type"),
        Term::whole("top", "how many metrics there are", 0..=limits::TOP_METRICS)
            .by_default(TOP_METRICS),
    ];
    Description::of::<AnswerBody<'_>>("Summary", "Totals of the selected events", terms)
}

/// Totals.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let mut parameters = Parameters::of(request.uri())?;
    let mut terms = Terms::take(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let range = selection.range;
    let is_csv = format(request.headers()) == Format::Csv;
    if is_csv {
        terms.top = 0;
    }
    let Summary { totals: answer, top_metrics } = terms.ask(&app, selection).await?;
    if is_csv {
        return Ok(table(&answer));
    }
    let body = AnswerBody {
        total_events: answer.total_events,
        unique_users: answer.unique_users,
        sessions: answer.sessions,
        events_by_type: &answer.events_by_type,
        top_metrics: top_metrics.iter().map(metric_body).collect(),
        first_event: answer.first_event.map(Time),
        last_event: answer.last_event.map(Time),
        last_updated: Time(app.now()),
        metadata: MetadataBody {
            time_range: range.into(),
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// What a question says beside which events it is about.
pub(crate) struct Terms {
    /// How many metrics are listed.
    top: usize,
    /// Whose values they are.
    group_by: Field,
}

/// Totals, and what is most frequent.
pub(crate) struct Summary {
    pub(crate) totals: SummaryAnswer,
    /// The most frequent first.
    pub(crate) top_metrics: Vec<TopMetric>,
}

/// How many events have a value.
pub(crate) struct TopMetric {
    pub(crate) name: String,
    pub(crate) value: u64,
    /// In percent of the value before; none without a range before or a value there, and for
    /// values that are no event types.
    pub(crate) change_percentage: Option<f64>,
}

impl TopMetric {
    /// What the values count.
    pub(crate) const UNIT: &str = "events";
}

impl Terms {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let group_by = parameters.take("group_by")?.filter(|name| !name.is_empty());
        let group_by = group_by.map_or(Field::EventType, |name| Field::from_name(&name));
        Ok(Self { top: top(parameters)?, group_by })
    }

    /// The answer about a selection.
    pub(crate) async fn ask(self, app: &App, selection: Selection) -> Result<Summary, Problem> {
        let Self { top, group_by } = self;
        let service = &app.services.query;
        let query = SummaryQuery { selection };
        if top == 0 {
            let totals = service.summary(query).await?;
            return Ok(Summary { totals, top_metrics: Vec::new() });
        }
        if group_by == Field::EventType {
            let compared = service.compared_summary(query).await?;
            let top_metrics = top_metrics(&compared, top);
            return Ok(Summary { totals: compared.summary, top_metrics });
        }
        let values = TopQuery { selection: query.selection.clone(), field: group_by, limit: top };
        let totals = service.summary(query).await?;
        let values = service.top(values).await?.values.into_iter();
        let metric = |value: gristmill_model::TopValue| TopMetric {
            name: value.value,
            value: value.count,
            change_percentage: None,
        };
        Ok(Summary { totals, top_metrics: values.map(metric).collect() })
    }
}

/// How many metrics are asked for.
fn top(parameters: &mut Parameters) -> Result<usize, Problem> {
    let Some(text) = parameters.take("top")? else { return Ok(TOP_METRICS) };
    let most = limits::TOP_METRICS;
    let top = text.parse().ok().filter(|top| *top <= most);
    top.ok_or_else(|| Problem::argument(format!("`top` must be a number from 0 to {most}")))
}

fn metric_body(metric: &TopMetric) -> MetricBody<'_> {
    let TopMetric { name, value, change_percentage } = metric;
    MetricBody { name, value: *value, unit: TopMetric::UNIT, change_percentage: *change_percentage }
}

fn top_metrics(compared: &ComparedSummary, most: usize) -> Vec<TopMetric> {
    let change = |name: &str, value: u64| {
        let before = *compared.previous_by_type.as_ref()?.get(name)? as f64;
        Some((value as f64 - before) * 100.0 / before)
    };
    let metric = |(name, value): (&str, u64)| TopMetric {
        name: name.to_owned(),
        value,
        change_percentage: change(name, value),
    };
    top_types(&compared.summary, most).into_iter().map(metric).collect()
}

/// The most frequent event types, most frequent first.
pub(crate) fn top_types(answer: &SummaryAnswer, most: usize) -> Vec<(&str, u64)> {
    let mut types: Vec<_> =
        answer.events_by_type.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    types.truncate(most);
    types
}

fn table(answer: &SummaryAnswer) -> Response {
    let mut table = Table::new(&["name", "event_type", "value"]);
    let totals = [
        ("total_events", answer.total_events),
        ("unique_users", answer.unique_users),
        ("sessions", answer.sessions),
    ];
    let types = answer.events_by_type.iter().map(|(name, count)| ("events", name.as_str(), *count));
    for (name, event_type, value) in
        totals.map(|(name, value)| (name, "", value)).into_iter().chain(types)
    {
        table.text(name);
        table.text(event_type);
        table.number(value);
        table.end_row();
    }
    table.into_response()
}
