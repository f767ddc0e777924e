//! Foreign origins whose pages may speak to the server: those of a list, and no others.
//!
//! An origin that is not in the list gets no permission at all, and none is ever given to a browser's
//! own credentials; API keys are sent by the pages themselves.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use crate::ServerConfig;
use crate::app::App;

/// What pages may send.
const METHODS: &str = "GET,POST,PUT,DELETE";
const HEADERS: &str = "content-type,content-encoding,accept,authorization,x-api-key,idempotency-key,\
    if-match,last-event-id,x-request-id,traceparent,tracestate,x-grpc-web,grpc-timeout,x-user-agent";
/// What pages may read of an answer, beside its body.
const EXPOSED: &str = "x-request-id,retry-after,ratelimit,ratelimit-policy,server-timing,etag,location,\
    next-page-token,previous-page-token,www-authenticate,grpc-status,grpc-message,\
    grpc-status-details-bin,grpc-encoding";
/// The routes of the session dialect, which answers these questions in its own way.
const OLDER: [&str; 2] = ["/events", "/metrics/stream"];

/// The origin of a request if it is one of the list.
pub(crate) fn allowed_origin(
    request: &Request<Body>,
    config: &ServerConfig,
) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    config.cors_origins.contains(origin).then(|| origin.clone())
}

/// Whether a browser asks what its page may send.
pub(crate) fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !OLDER.contains(&request.uri().path())
}

/// What it is told if its page's origin is one of the list.
pub(crate) fn permission() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("1800"));
    response
}

/// Lets pages of `origin` read the answer.
pub(crate) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Answers what a browser asks before it sends to a route of the session dialect.
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
