//! What must hold of every request and call before anybody looks at what it asks.

use axum::body::Body;
use gristmill_model::{ErrorCode, limits};
use http::{Method, Request, Version, header};

use crate::problem::Problem;

/// Refuses what is well-formed enough for hyper and still not a request for us.
pub(crate) fn check(request: &Request<Body>) -> Result<(), Problem> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > limits::URI_BYTES) {
        let detail = format!("the request target is longer than {} bytes", limits::URI_BYTES);
        return Err(Problem::new(ErrorCode::UriTooLong, detail));
    }
    // Per header: a colon, a space and the line's end.
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > limits::HEADER_BYTES || headers.len() > limits::HEADERS {
        let (most, bytes) = (limits::HEADERS, limits::HEADER_BYTES);
        let detail = format!("the request has more than {most} headers or {bytes} bytes of them");
        return Err(Problem::new(ErrorCode::HeadersTooLarge, detail).closing());
    }
    let bad = |detail: &str| Err(Problem::new(ErrorCode::InvalidArgument, detail).closing());
    if request.method() == Method::CONNECT || uri.path() == "*" {
        return bad("the request target must be a path");
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    match request.version() {
        Version::HTTP_2 => {
            if uri.authority().is_none() && hosts != 1 {
                return bad("the request names no authority");
            }
        }
        version => {
            if uri.authority().is_some() {
                return bad("the request target must be a path, not a whole URL");
            }
            if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
                return bad("the request must have exactly one host header");
            }
        }
    }
    Ok(())
}
