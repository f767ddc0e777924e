//! `GET /v1/analytics/summary`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{ComparedSummary, SummaryAnswer, SummaryQuery, limits};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::question::{Format, RangeBody, format, seconds, selection};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many event types are listed as metrics if nobody says.
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
        Term::name("group_by", "what `events_by_type` tells anyway", ["event_type"]),
        Term::whole("top", "how many event types are metrics", 0..=limits::TOP_METRICS)
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
    if parameters.take_all("group_by").iter().any(|field| field != "event_type") {
        return Err(Problem::argument(
            "`group_by` of a summary may only be `event_type`: \
             ask /v1/analytics/timeseries or /v1/analytics/top for other fields",
        ));
    }
    let top = top(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let range = selection.range;
    let query = SummaryQuery { selection };
    let is_csv = format(request.headers()) == Format::Csv;
    let compared = if top == 0 || is_csv {
        let summary = app.services.query.summary(query).await?;
        ComparedSummary { summary, previous_by_type: None }
    } else {
        app.services.query.compared_summary(query).await?
    };
    let answer = &compared.summary;
    if is_csv {
        return Ok(table(answer));
    }
    let body = AnswerBody {
        total_events: answer.total_events,
        unique_users: answer.unique_users,
        sessions: answer.sessions,
        events_by_type: &answer.events_by_type,
        top_metrics: top_metrics(&compared, top),
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

/// How many event types are asked for as metrics.
fn top(parameters: &mut Parameters) -> Result<usize, Problem> {
    let Some(text) = parameters.take("top")? else { return Ok(TOP_METRICS) };
    let most = limits::TOP_METRICS;
    let top = text.parse().ok().filter(|top| *top <= most);
    top.ok_or_else(|| Problem::argument(format!("`top` must be a number from 0 to {most}")))
}

fn top_metrics(compared: &ComparedSummary, most: usize) -> Vec<MetricBody<'_>> {
    let change = |name: &str, value: u64| {
        let before = *compared.previous_by_type.as_ref()?.get(name)? as f64;
        Some((value as f64 - before) * 100.0 / before)
    };
    let metric = |(name, value)| MetricBody {
        name,
        value,
        unit: "events",
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
