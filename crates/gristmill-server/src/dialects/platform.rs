//! The analytics platform: `POST /events`, `/events/async`, `/events/batch` and
//! `GET /analytics/summary`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::dialect::Rejection;
use gristmill_ingest::dialect::platform::{self, PlatformError};
use gristmill_model::{Coded, ErrorCode, Event, SummaryAnswer, SummaryQuery, Timestamp};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::accept::{accept, accept_one, context, count_refused};
use crate::app::App;
use crate::keys::charge;
use crate::problem::Problem;
use crate::{analytics, body, json};

/// How many event types the summary lists as metrics.
const TOP_METRICS: usize = 10;

/// Takes in a platform event of `POST /events`.
pub(crate) async fn answer(
    app: &App,
    event: Result<Event<'_>, PlatformError>,
    since: Instant,
) -> Response {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            count_refused(app);
            return refuse_event(&error);
        }
    };
    match accept_one(app, event, since).await {
        Ok(id) => {
            let body = json!({
                "success": true,
                "message": "Event sent successfully",
                "event_id": id.as_str(),
            });
            json::respond(StatusCode::OK, &body)
        }
        Err(problem) => refuse_away(refuse(&problem, "Failed to send event: "), &problem, 400),
    }
}

/// When the log is away, each route answers with the status that its clients know.
fn refuse_away(mut response: Response, problem: &Problem, status: u16) -> Response {
    if problem.code() == ErrorCode::LogUnavailable
        && let Ok(status) = StatusCode::from_u16(status)
    {
        *response.status_mut() = status;
    }
    response
}

/// Takes in an event whatever it lacks. It is durable before the answer, as everywhere.
pub(crate) async fn one_async(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match take_async(&app, request).await {
        Ok(id) => {
            let message = "Event queued for async processing";
            let body = json!({"event_id": id, "message": message, "success": true});
            json::respond(StatusCode::ACCEPTED, &body)
        }
        Err(Refusal::Json(text)) => invalid_json(&text),
        Err(Refusal::Other(problem)) => refuse_async(&problem),
    }
}

/// Takes in a batch.
pub(crate) async fn batch(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match take_batch(&app, request).await {
        Ok((status, body)) => json::respond(status, &body),
        Err(Refusal::Json(text)) => invalid_json(&text),
        Err(Refusal::Other(problem)) => refuse_batch(&problem),
    }
}

/// Totals of everything.
pub(crate) async fn summary(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let query = SummaryQuery { selection: analytics::everything(request.extensions()) };
    match app.services.query.summary(query).await {
        Ok(answer) => json::respond(StatusCode::OK, &summary_body(&answer, app.now())),
        Err(error) => {
            tracing::warn!(%error, "cannot answer the summary");
            refuse_summary(&Problem::new(error.code(), "failed to get summary"))
        }
    }
}

/// Any other method.
pub(crate) async fn wrong_method() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// A request of `POST /events` that failed as a whole; `prefix` begins the message.
pub(crate) fn refuse(problem: &Problem, prefix: &str) -> Response {
    let message = format!("{prefix}{}", problem.detail());
    let body = json!({"success": false, "message": message, "event_id": ""});
    problem.answer_with("application/json", json::text(&body))
}

/// What a gateway answers where it has no answer to an event.
pub(crate) fn relayed(relayed: Result<Response, Problem>) -> Response {
    relayed.unwrap_or_else(|problem| refuse(&problem, "Failed to send event: "))
}

/// The same of `POST /events/async`.
pub(crate) fn relayed_async(relayed: Result<Response, Problem>) -> Response {
    relayed.unwrap_or_else(|problem| refuse_async(&problem))
}

/// The same of `POST /events/batch`.
pub(crate) fn relayed_batch(relayed: Result<Response, Problem>) -> Response {
    relayed.unwrap_or_else(|problem| refuse_batch(&problem))
}

/// The same of `GET /analytics/summary`.
pub(crate) fn relayed_summary(relayed: Result<Response, Problem>) -> Response {
    relayed.unwrap_or_else(|problem| refuse_summary(&problem))
}

fn refuse_async(problem: &Problem) -> Response {
    let error = format!("Failed to queue async event: {}", problem.detail());
    let body = json::text(&json!({"error": error}));
    refuse_away(problem.answer_with("application/json", body), problem, 500)
}

fn refuse_batch(problem: &Problem) -> Response {
    let body = json!({
        "success": false,
        "message": format!("Failed to send batch: {}", problem.detail()),
        "processed_count": 0,
        "failed_event_ids": null,
    });
    problem.answer_with("application/json", json::text(&body))
}

fn refuse_summary(problem: &Problem) -> Response {
    problem.answer_with("application/json", json::text(&json!({"error": problem.detail()})))
}

enum Refusal {
    Json(String),
    Other(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Refusal::Other(problem)
    }
}

impl From<PlatformError> for Refusal {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::Json(_) => Refusal::Json(error.to_string()),
            PlatformError::Required => invalid(error.to_string()),
            PlatformError::Refused(rejection) => invalid(rejection.message),
            PlatformError::TooMany(error) => Refusal::Other(error.into()),
        }
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::Other(Problem::new(ErrorCode::InvalidBody, message))
}

async fn take_async(app: &Arc<App>, request: Request<Body>) -> Result<String, Refusal> {
    let (parts, body) = request.into_parts();
    let context = context(app, &parts)?;
    let received = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let event = platform::one_async(&received.bytes, &context);
    let event = event.inspect_err(|_| count_refused(app))?;
    charge(app, &parts.extensions, 1, || received.bytes.len())?;
    Ok(accept_one(app, event, since).await?.as_str().to_owned())
}

async fn take_batch(
    app: &Arc<App>,
    request: Request<Body>,
) -> Result<(StatusCode, Value), Refusal> {
    let (parts, body) = request.into_parts();
    let context = context(app, &parts)?;
    let received = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let events = platform::batch(&received.bytes, &context)?;
    if events.is_empty() {
        return Ok((StatusCode::PARTIAL_CONTENT, batch_body("No events provided", 0, &[], false)));
    }
    charge(app, &parts.extensions, events.len(), || received.bytes.len())?;
    let ids: Vec<String> = events.iter().map(id_of).collect();
    let accepted = match accept(app, events, since).await {
        Err(problem) if problem.code() == ErrorCode::LogUnavailable => {
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            let message = format!("Processed 0/{} events", ids.len());
            return Ok((StatusCode::PARTIAL_CONTENT, batch_body(&message, 0, &ids, false)));
        }
        accepted => accepted?,
    };
    let failed: Vec<_> = accepted.items.iter().filter(|item| item.result.is_err()).collect();
    let failed: Vec<_> = failed.iter().map(|item| item.id.as_str()).collect();
    let (total, processed) = (accepted.items.len(), accepted.items.len() - failed.len());
    let message = format!("Processed {processed}/{total} events");
    let is_whole = failed.is_empty();
    let status = if is_whole { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    Ok((status, batch_body(&message, processed, &failed, is_whole)))
}

fn id_of(event: &Result<Event<'_>, Rejection>) -> String {
    match event {
        Ok(event) => event.id.as_str().to_owned(),
        Err(rejection) => rejection.id.clone(),
    }
}

fn batch_body(message: &str, processed: usize, failed: &[&str], success: bool) -> Value {
    json!({
        "success": success,
        "message": message,
        "processed_count": processed,
        "failed_event_ids": (!failed.is_empty()).then_some(failed),
    })
}

fn refuse_event(error: &PlatformError) -> Response {
    match error {
        PlatformError::Json(_) => invalid_json(&error.to_string()),
        PlatformError::TooMany(error) => refuse(&error.clone().into(), ""),
        PlatformError::Required | PlatformError::Refused(_) => {
            refuse(&Problem::new(ErrorCode::InvalidBody, error.to_string()), "")
        }
    }
}

/// The original answers JSON here without saying so.
fn invalid_json(text: &str) -> Response {
    let problem = Problem::new(ErrorCode::InvalidBody, text);
    problem.answer_with("text/plain; charset=utf-8", json::text(&json!({"error": text})))
}

fn summary_body(answer: &SummaryAnswer, now: Timestamp) -> Value {
    let timestamp = now.seconds();
    let metric = |(name, value): (&str, u64)| json!({"name": name, "value": value, "labels": {}, "timestamp": timestamp});
    let metrics = analytics::summary::top_types(answer, TOP_METRICS).into_iter().map(metric);
    json!({
        "total_events": answer.total_events,
        "total_users": answer.unique_users,
        "events_by_type": answer.events_by_type,
        "top_metrics": metrics.collect::<Vec<_>>(),
        "last_updated": timestamp,
    })
}
