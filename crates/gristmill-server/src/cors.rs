//! The one foreign origin whose pages may use the session dialect: its dashboard.
//!
//! Any other origin gets no permission at all, and none is ever given to credentials.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use crate::ServerConfig;
use crate::app::App;

/// The routes that the dashboard uses.
const PATHS: [&str; 2] = ["/events", "/metrics/stream"];

/// The origin of a request if it is the dashboard's and the route is one of its.
pub(crate) fn allowed_origin(
    request: &Request<Body>,
    config: &ServerConfig,
) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let is_allowed = origin == config.dashboard_origin && PATHS.contains(&request.uri().path());
    is_allowed.then(|| origin.clone())
}

/// Lets pages of `origin` read the answer.
pub(crate) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Answers what a browser asks before it sends.
pub(crate) async fn preflight(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let mut response = Response::new(Body::empty());
    if allowed_origin(&request, &app.config).is_none() {
        *response.status_mut() = StatusCode::FORBIDDEN;
        return response;
    }
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET,POST");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("1800"));
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}
