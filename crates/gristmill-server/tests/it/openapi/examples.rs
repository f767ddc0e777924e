//! The document's examples, sent as they stand, and the page that shows them.

use axum::body::Body;
use http::{Method, Request};

use super::document::{Document, Operation};
use crate::support::Api;

/// Makes what later examples ask for first, and removes it last.
fn turn(operation: &Operation<'_>) -> usize {
    let is_events = operation.path.starts_with("/v1/events");
    match operation.method {
        "post" if is_events => 0,
        "post" => 1,
        "get" => 2,
        "put" => 3,
        _ => 4,
    }
}

#[tokio::test]
async fn every_operation_has_an_example_that_succeeds() {
    let api = Api::with_key();
    let document = Document::of(&api).await;
    let made = api.post("/v1/keys", r#"{"scopes":["read"]}"#).await.json();
    let mut operations: Vec<_> = document.operations().collect();
    operations.sort_by_key(turn);
    for operation in operations {
        let request = &operation.value["x-codeSamples"][0]["request"];
        let (target, body) = (request["target"].as_str(), request["body"].as_str());
        let target = target.unwrap_or_else(|| panic!("{} has no example", operation.id()));
        // The id of a key cannot be known before.
        let target = target.replace("8fQ2kXz01bTr", made["id"].as_str().unwrap());
        let target = target.as_str();
        let method: Method = operation.method.to_uppercase().parse().unwrap();
        let answer = match (method, body.unwrap_or_default()) {
            (Method::GET, _) => api.get(target).await,
            (Method::POST, body) => api.post(target, body.to_owned()).await,
            (method, body) => {
                let request = Request::builder().method(method).uri(target);
                let request = request.header("content-type", "application/json");
                api.send(request.body(Body::from(body.to_owned())).unwrap()).await
            }
        };
        assert!(answer.status.is_success(), "{}: {}", operation.id(), answer.text);
        let is_empty = answer.text.starts_with("{\"total_events\":0");
        assert!(!is_empty, "{} asks about nothing", operation.id());
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let api = Api::new();
    let page = api.get("/docs").await;
    assert_eq!(
        (page.status.as_u16(), page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self'"),
        "{policy}"
    );
    let mut parts = 0;
    for text in page.text.split(['"']).filter(|text| text.starts_with("/docs/")) {
        let part = api.get(text).await;
        assert_eq!(part.status, 200, "{text}");
        assert!(!part.text.contains("http://") && !part.text.contains("https://"), "{text}");
        parts += 1;
    }
    assert_eq!(parts, 2);
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
}
