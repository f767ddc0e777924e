//! Any request: a line of method and target, lines of headers, an empty line, a body.
//!
//! With a header that has an API key it comes to a door that asks for one.
#![no_main]

use std::cell::RefCell;

use axum::body::Body;
use gristmill_fuzz::Platform;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static PLATFORM: RefCell<Platform> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let Some(request) = request(input) else { return };
    let shown = format!("{request:?}");
    PLATFORM.with_borrow_mut(|platform| {
        let answer = platform.answer(request);
        let (status, text) = (answer.status(), String::from_utf8_lossy(answer.body()));
        assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{text} to {shown}");
        assert!(!text.contains("`server.request_timeout`"), "{text} to {shown}");
        let content_type = answer.headers().get("content-type").map(HeaderValue::as_bytes);
        if content_type.is_some_and(|name| name.ends_with(b"json")) {
            let json: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(json.is_ok(), "{json:?}: {text} to {shown}");
        }
        if platform.is_used_up() {
            *platform = Platform::new();
        }
    });
});

fn request(input: &[u8]) -> Option<Request<Body>> {
    let end = input.windows(2).position(|bytes| bytes == b"\n\n").unwrap_or(input.len());
    let (head, body) = (input.get(..end)?, input.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, target) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target).header("host", "a");
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_vec())).ok()
}
