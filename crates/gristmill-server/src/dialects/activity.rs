//! The activity service: `POST /activity`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::dialect::activity;
use gristmill_model::ErrorCode;
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::json;
use tokio::time::Instant;

use crate::accept::{accept_one, context, count_refused};
use crate::app::App;
use crate::keys::charge;
use crate::problem::Problem;
use crate::{body, json};

const JSON: &str = "application/json; charset=utf-8";

/// Takes in an activity.
pub(crate) async fn one(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match take(&app, request).await {
        Ok(()) => {
            let text = br#"{"message":"Activity published successfully"}"#.to_vec();
            let mut response = json::answer(StatusCode::OK, text);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            response
        }
        Err(problem) => refuse(&problem),
    }
}

/// What a gateway answers where it has no answer.
pub(crate) fn relayed(relayed: Result<Response, Problem>) -> Response {
    relayed.unwrap_or_else(|problem| refuse(&problem))
}

fn refuse(problem: &Problem) -> Response {
    if problem.code() == ErrorCode::LogUnavailable {
        // In the words and with the status of the interface. It may be sent again.
        let body = json!({"error": "Failed to publish activity"});
        let mut response = problem.answer_with(JSON, json::text(&body));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    }
    problem.answer_with(JSON, json::text(&json!({"error": problem.detail()})))
}

async fn take(app: &Arc<App>, request: Request<Body>) -> Result<(), Problem> {
    let (parts, body) = request.into_parts();
    let context = context(app, &parts)?;
    let received = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let event = activity::one(&received.bytes, &context).map_err(|error| {
        count_refused(app);
        Problem::new(ErrorCode::InvalidBody, error.to_string())
    })?;
    charge(app, &parts.extensions, 1, || received.bytes.len())?;
    accept_one(app, event, since).await?;
    Ok(())
}
