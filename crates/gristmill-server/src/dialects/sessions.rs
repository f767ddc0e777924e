//! The session system's `POST /events`: 202 and nothing, or the error document of its framework.

use axum::response::Response;
use gristmill_ingest::dialect::sessions::SessionsError;
use gristmill_model::{ErrorCode, Event};
use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::accept::{accept_one, count_refused};
use crate::app::App;
use crate::json;
use crate::problem::Problem;

/// Takes in a session event.
pub(crate) async fn answer(
    app: &App,
    event: Result<Event<'_>, SessionsError>,
    since: Instant,
) -> Response {
    let result = match event {
        Ok(event) => accept_one(app, event, since).await,
        Err(error) => {
            count_refused(app);
            Err(Problem::new(ErrorCode::InvalidBody, error.to_string()))
        }
    };
    match result {
        Ok(_) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        Err(problem) => refuse(app, &problem),
    }
}

fn refuse(app: &App, problem: &Problem) -> Response {
    let status = problem.status();
    let body = json!({
        "timestamp": app.now().to_string(),
        "status": status.as_u16(),
        "error": status.canonical_reason().unwrap_or_default(),
        "message": problem.detail(),
        "path": "/events",
    });
    problem.answer_with("application/json", json::text(&body))
}
