//! The one foreign origin whose pages may use the session dialect, and call by gRPC-Web: its dashboard.
//!
//! Any other origin gets no permission at all, and none is ever given to credentials.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use crate::ServerConfig;
use crate::app::App;
use crate::grpc::methods::methods;

/// The routes that the dashboard uses.
const PATHS: [&str; 2] = ["/events", "/metrics/stream"];

/// The origin of a request if it is the dashboard's, and the route one of its or a call.
pub(crate) fn allowed_origin(
    request: &Request<Body>,
    config: &ServerConfig,
) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let path = request.uri().path();
    let is_open = PATHS.contains(&path) || methods().at(path).is_some();
    (is_open && origin == config.dashboard_origin).then(|| origin.clone())
}

/// Lets pages of `origin` read the answer.
pub(crate) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Lets them read how a call ended.
pub(crate) fn expose_status(headers: &mut HeaderMap) {
    let names = "grpc-status,grpc-message,grpc-status-details-bin,grpc-encoding,x-request-id";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(names));
}

/// Whether a browser asks whether it may make a call.
pub(crate) fn is_preflight_of_call(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS && methods().at(request.uri().path()).is_some()
}

/// Answers what a browser asks before it sends to a route.
pub(crate) async fn preflight(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    answer_preflight(&request, &app.config)
}

/// Answers what a browser asks before it sends.
pub(crate) fn answer_preflight(request: &Request<Body>, config: &ServerConfig) -> Response {
    let mut response = Response::new(Body::empty());
    if allowed_origin(request, config).is_none() {
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
