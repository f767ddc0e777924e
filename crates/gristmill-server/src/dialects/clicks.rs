//! The click platform: `POST /ingest` and `GET /analytics/events`. Errors are plain text.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::dialect::clicks::{self, ClicksError};
use gristmill_model::{ErrorCode, PageCountQuery, limits};
use http::{Request, StatusCode, Uri};
use serde_json::Value;
use tokio::time::Instant;

use crate::accept::{accept_one, context, count_refused};
use crate::app::App;
use crate::caller::project_of;
use crate::keys::charge;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, json};

const INVALID_JSON: &str = "invalid json body";

/// Takes in a click and answers with it.
pub(crate) async fn ingest(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(take(&app, request).await)
}

/// How often a user clicked on a page.
pub(crate) async fn count(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer(count_of(&app, request).await)
}

/// Any other method.
pub(crate) async fn wrong_method() -> Response {
    refuse(&Problem::new(ErrorCode::MethodNotAllowed, "method not allowed"))
}

/// What a gateway answers where it has no answer to a click.
pub(crate) fn relayed(relayed: Result<Response, Problem>) -> Response {
    relayed.unwrap_or_else(|problem| refuse(&problem))
}

/// What a gateway answers to a count: whatever failed inside was always told in these words.
pub(crate) fn relayed_count(relayed: Result<Response, Problem>) -> Response {
    match relayed {
        Ok(response) if !response.status().is_server_error() => response,
        Ok(_) | Err(_) => refuse(&Problem::new(ErrorCode::Internal, "failed to get analytics")),
    }
}

async fn take(app: &Arc<App>, request: Request<Body>) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    let context = context(app, &parts)?;
    let received = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let click = clicks::one(&received.bytes, &context).map_err(|error: ClicksError| {
        count_refused(app);
        invalid(error.to_string())
    })?;
    charge(app, &parts.extensions, 1, || received.bytes.len())?;
    let mut echo = json::text(&click.echo);
    echo.push(b'\n');
    accept_one(app, click.event, since).await?;
    Ok(echo)
}

async fn count_of(app: &Arc<App>, request: Request<Body>) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    let project = project_of(&parts.extensions);
    let limit = limits::QUERY_BODY_BYTES;
    let bytes = body::receive_question(app, &parts.headers, body, limit).await?;
    let (user, page_url) =
        if bytes.is_empty() { from_target(&parts.uri)? } else { from_body(&bytes)? };
    let query = PageCountQuery { project, user, page_url };
    let (user, page_url) = (query.user.clone(), query.page_url.clone());
    let count = app.services.query.page_count(query).await.map_err(|error| {
        tracing::warn!(%error, "cannot count a page's clicks");
        Problem::new(gristmill_model::Coded::code(&error), "failed to get analytics")
    })?;
    let mut text = b"{\"count\":".to_vec();
    json::number(&mut text, count);
    text.extend_from_slice(b",\"page_url\":");
    json::string(&mut text, &page_url);
    text.extend_from_slice(b",\"user_id\":");
    json::string(&mut text, &user);
    text.extend_from_slice(b"}\n");
    Ok(text)
}

/// The user and the page that a JSON body names. Names match in any case, as they always did.
fn from_body(body: &[u8]) -> Result<(String, String), Problem> {
    let fields: BTreeMap<String, Value> =
        serde_json::from_slice(body).map_err(|_| invalid(INVALID_JSON))?;
    let (mut user, mut page_url) = (String::new(), String::new());
    for (name, value) in fields {
        let field = if name.eq_ignore_ascii_case("user_id") {
            &mut user
        } else if name.eq_ignore_ascii_case("page_url") {
            &mut page_url
        } else {
            continue;
        };
        match value {
            Value::String(text) => *field = text,
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err(invalid(INVALID_JSON));
            }
        }
    }
    Ok((user, page_url))
}

fn from_target(uri: &Uri) -> Result<(String, String), Problem> {
    let mut parameters = Parameters::of(uri)?;
    match (parameters.take("user_id")?, parameters.take("page_url")?) {
        (None, None) => Err(invalid(INVALID_JSON)),
        (user, page_url) => Ok((user.unwrap_or_default(), page_url.unwrap_or_default())),
    }
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidBody, message)
}

fn answer(result: Result<Vec<u8>, Problem>) -> Response {
    match result {
        Ok(text) => json::answer(StatusCode::OK, text),
        Err(problem) => refuse(&problem),
    }
}

fn refuse(problem: &Problem) -> Response {
    problem.answer_with("text/plain; charset=utf-8", format!("{}\n", problem.detail()))
}
