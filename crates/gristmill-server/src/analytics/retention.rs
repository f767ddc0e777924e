//! `POST /v1/analytics/retention`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{Entry, RetentionAnswer, RetentionCohort, RetentionQuery, Return, Selection};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::object::Object;
use super::posted::{event_match, event_match_term, posted, select};
use super::question::{
    Format, Metadata, at_least, choice, format, granularity, granularity_term, zone_term,
};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::problem::Problem;

const ENTRIES: [(&str, Entry); 2] =
    [("first_time", Entry::FirstTime), ("recurring", Entry::Recurring)];
const COUNTINGS: [(&str, Return); 2] = [("exact", Return::Exact), ("rolling", Return::Rolling)];

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    cohorts: Vec<CohortBody<'a>>,
    metadata: Metadata<Terms>,
}

#[derive(JsonSchema, Serialize)]
struct CohortBody<'a> {
    start: Time,
    users: u64,
    retained: &'a [u64],
    /// The shares of the cohort's users.
    rates: Vec<f64>,
}

/// What a question says beside which events it is about.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Terms {
    granularity: &'static str,
    tz: String,
    mode: &'static str,
    counting: &'static str,
}

/// What the document says of [`post`].
pub(crate) fn describe() -> Description {
    let mode = "whose cohorts a user is in: that of the first start event ever, or those of all";
    let counting = "whether a user is retained in the buckets with a return event, or in all up to \
        the last of them";
    let terms = [
        event_match_term("start_event", "the events with which users enter"),
        event_match_term("return_event", "the events with which they come back"),
        granularity_term(),
        zone_term(),
        Term::choice("mode", mode, &ENTRIES).by_default("first_time"),
        Term::choice("counting", counting, &COUNTINGS).by_default("exact"),
    ];
    let summary = "How many users of each cohort came back";
    Description::of::<AnswerBody<'_>>("Retention", summary, terms)
}

/// How many users of each cohort came back.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let (query, terms, token) = question(&posted.body, posted.selection)?;
    at_least(&app, token).await?;
    let range = query.selection.range;
    let answer = app.services.query.retention(query).await?;
    if format(&posted.headers) == Format::Csv {
        return Ok(table(&answer));
    }
    let cohorts = answer.cohorts.iter().map(|cohort| CohortBody {
        start: Time(cohort.start),
        users: cohort.users,
        retained: &cohort.retained,
        rates: cohort.retained.iter().map(|users| rate(*users, cohort)).collect(),
    });
    let body =
        AnswerBody { cohorts: cohorts.collect(), metadata: Metadata::of(range, terms, since) };
    Ok(json::respond(StatusCode::OK, &body))
}

/// The question of a body, about what is left of `selection`, and its `at_least`.
pub(crate) fn question(
    body: &[u8],
    mut selection: Selection,
) -> Result<(RetentionQuery, Terms, Option<String>), Problem> {
    let mut body = Object::of_body(body)?;
    let start = event_match(&mut body, "start_event")?;
    let returning = event_match(&mut body, "return_event")?;
    select(&mut body, &mut selection)?;
    let (granularity, interval) = granularity(body.take_text("granularity")?)?;
    let zone = body.take_text("tz")?.unwrap_or_else(|| "UTC".to_owned());
    let mode = body.take_text("mode")?;
    let (mode, entry) = choice("mode", mode.as_deref().unwrap_or("first_time"), &ENTRIES)?;
    let counting = body.take_text("counting")?;
    let counting = counting.as_deref().unwrap_or("exact");
    let (counting_name, counting) = choice("counting", counting, &COUNTINGS)?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    let terms = Terms { granularity, tz: zone.clone(), mode, counting: counting_name };
    let query = RetentionQuery { selection, start, returning, entry, counting, interval, zone };
    Ok((query, terms, token))
}

pub(crate) fn rate(users: u64, cohort: &RetentionCohort) -> f64 {
    if cohort.users == 0 { 0.0 } else { users as f64 / cohort.users as f64 }
}

fn table(answer: &RetentionAnswer) -> Response {
    let mut table = Table::new(&["cohort", "users", "period", "retained", "rate"]);
    for cohort in &answer.cohorts {
        for (period, retained) in cohort.retained.iter().enumerate() {
            table.text(&cohort.start.to_string());
            table.number(cohort.users);
            table.number(period);
            table.number(*retained);
            table.number(rate(*retained, cohort));
            table.end_row();
        }
    }
    table.into_response()
}
