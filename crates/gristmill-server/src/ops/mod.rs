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
use http::{HeaderValue, header};

use crate::app::App;
use crate::exposition;

/// The name of the service in answers that ask for one.
pub(crate) const SERVICE: &str = "gristmill";
/// The name of the log where older answers name a topic.
pub(crate) const TOPIC: &str = "events";

/// All numbers in Prometheus' text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut response = Response::new(Body::from(exposition::text(&app)));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
