//! The OpenAPI document against the server that it describes.

mod answers;
mod document;
mod examples;
mod passing;
mod requests;

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::Api;
use document::{Document, members, references};

pub(crate) use passing::hold;

#[tokio::test]
async fn the_document_is_whole() {
    let api = Api::new();
    let document = Document::of(&api).await;
    assert_eq!(document.0["openapi"], "3.1.0");
    assert_eq!(api.get("/v1/openapi.json").await.text, gristmill_server::openapi());

    let ids: Vec<_> = document.operations().map(|operation| operation.id()).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");

    let mut used = BTreeSet::new();
    references(&document.0, &mut used);
    let mut there = BTreeSet::new();
    for (kind, components) in members(&document.0["components"]) {
        // These are referred to by their names alone.
        if kind == "securitySchemes" {
            continue;
        }
        there.extend(members(components).map(|(name, _)| format!("#/components/{kind}/{name}")));
    }
    assert_eq!(used, there.iter().map(String::as_str).collect(), "used, and there");
}

#[tokio::test]
async fn paths_answer_the_methods_that_are_described_and_no_others() {
    let api = Api::new();
    let document = Document::of(&api).await;
    for (path, operations) in members(&document.0["paths"]) {
        let mut described: BTreeSet<_> =
            members(operations).map(|(method, _)| method.to_uppercase()).collect();
        if described.contains("GET") {
            described.insert("HEAD".to_owned());
        }
        let request = Request::patch(path.replace("{id}", "x")).body(Body::empty());
        let answer = api.send(request.unwrap()).await;
        assert_eq!(answer.status, 405, "{path}");
        let allowed = answer.header("allow").split(',').map(str::to_owned).collect();
        assert_eq!(described, allowed, "{path}");
        for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = parameter.trim_end_matches('}');
            for operation in document.operations().filter(|operation| operation.path == path) {
                let mut parameters = operation.parameters(&document);
                let is_it =
                    |parameter: &Value| parameter["in"] == "path" && parameter["name"] == name;
                assert!(parameters.any(is_it), "{} of {}", name, operation.id());
            }
        }
    }
}

#[test]
fn values_that_are_not_as_described_are_found() {
    let document = Document(json!({"components": {"schemas": {
        "Count": {"type": "integer", "minimum": 0},
        "Answer": {
            "type": "object", "required": ["count"],
            "properties": {
                "count": {"$ref": "#/components/schemas/Count"},
                "names": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
            },
        },
    }}}));
    let answer = json!({"$ref": "#/components/schemas/Answer"});
    let fault = |value: Value| document.fault(&answer, &value);
    assert_eq!(fault(json!({"count": 1, "names": ["a", "b"]})), None);
    for wrong in [
        json!([]),
        json!({}),
        json!({"count": "1"}),
        json!({"count": 1.5}),
        json!({"count": -1}),
        json!({"count": null}),
        json!({"count": 1, "names": ["c"]}),
        json!({"count": 1, "names": ["a", "a", "a"]}),
        json!({"count": 1, "other": 1}),
    ] {
        assert!(fault(wrong.clone()).is_some(), "{wrong}");
    }
}
