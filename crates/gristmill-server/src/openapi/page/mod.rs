//! A page that shows the OpenAPI document and lets each operation be tried. It needs nothing that this
//! server does not have, and the browser is told to load nothing else.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::{Answer, Operation, Tag};

const HTML: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page may do: use what comes from this server, and be in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(crate) async fn html() -> Response {
    let mut response = file("text/html; charset=utf-8", HTML);
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// How it looks.
pub(crate) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

/// What it does.
pub(crate) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// What the document says of [`html`].
pub(crate) fn describe() -> Operation {
    part("A page that shows this API and lets it be tried", "text/html")
}

/// What the document says of [`style`].
pub(crate) fn describe_style() -> Operation {
    part("How that page looks", "text/css")
}

/// What the document says of [`script`].
pub(crate) fn describe_script() -> Operation {
    part("What that page does", "text/javascript")
}

fn part(summary: &'static str, media: &'static str) -> Operation {
    let text = serde_json::json!({"type": "string"});
    let answer = Answer::empty("The text.").or(media, &text);
    Operation::new(Tag::Operations, summary).answers(StatusCode::OK, answer)
}

fn file(media: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
