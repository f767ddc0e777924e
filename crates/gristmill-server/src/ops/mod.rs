//! What operators and their machines ask.
//!
//! The older systems answer `/health`, `/ready`, `/stats` and `/lag` each in its own shape; here
//! one superset satisfies all of them.

pub(crate) mod compact;
pub(crate) mod health;
pub(crate) mod stats;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::app::App;
use crate::exposition;
use crate::openapi::{Answer, Operation, Tag};

/// The name of the service in answers that ask for one.
pub(crate) const SERVICE: &str = "gristmill";

/// What the document says of [`metrics`].
pub(crate) fn describe_metrics() -> Operation {
    let answer = Answer::empty("The numbers.").or("text/plain", &json!({"type": "string"}));
    Operation::new(Tag::Operations, "All numbers in Prometheus' text format")
        .answers(StatusCode::OK, answer)
}

/// All numbers in Prometheus' text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    text_page(exposition::text(&app))
}

/// A page of numbers in that format.
pub(crate) fn text_page(page: String) -> Response {
    let mut response = Response::new(Body::from(page));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
