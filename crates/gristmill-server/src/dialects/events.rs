//! `POST /events`, which two systems share: an event is told by its fields and answered in the
//! words of its own system.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::dialect::{EventsPost, events_post};
use http::Request;
use tokio::time::Instant;

use super::{platform, sessions};
use crate::accept::context;
use crate::app::App;
use crate::body;
use crate::keys::charge;

/// Takes in an event of either system.
pub(crate) async fn one(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let context = match context(&app, &parts) {
        Ok(context) => context,
        Err(problem) => return platform::refuse(&problem, ""),
    };
    let received = match body::receive(&app, &parts.headers, body).await {
        Ok(received) => received,
        Err(problem) => return platform::refuse(&problem, ""),
    };
    let since = Instant::now();
    if let Err(problem) = charge(&app, &parts.extensions, 1, || received.bytes.len()) {
        return platform::refuse(&problem, "");
    }
    match events_post(&received.bytes, &context) {
        EventsPost::Platform(event) => platform::answer(&app, event, since).await,
        EventsPost::Sessions(event) => sessions::answer(&app, event, since).await,
    }
}
