//! What any test asks and is answered, held against the document in passing: what a reader takes or
//! an answer has without being described is found by the test that is about it.

use std::sync::LazyLock;

use http::Method;
use serde_json::Value;

use super::document::{Document, Operation};
use crate::support::Answer;

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document(serde_json::from_str(gristmill_server::openapi()).unwrap()));

/// Fails if a request or its answer are not as described. Requests that were refused may be
/// anything.
pub(crate) fn hold(method: &Method, target: &str, body: &[u8], answer: &Answer) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut operations = DOCUMENT.operations();
    let operation = operations.find(|operation| is_of(operation, method, path));
    let Some(operation) = operation.filter(|_| answer.status.is_success()) else { return };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        // `filters.NAME` and `filters[NAME]` are both of `filters`, and so it is with `labels`.
        let name = pair.split(['=', '[']).next().unwrap_or_default();
        let maps = ["filters", "labels"];
        let is_of_map = |map: &&str| name.split('.').next() == Some(*map);
        let name = maps.into_iter().find(is_of_map).unwrap_or(name);
        let mut parameters = operation.parameters(&DOCUMENT);
        let is_described = parameters.any(|parameter| parameter["name"] == name);
        assert!(is_described, "{name} of {target} is not described");
    }
    // Events have other names for their members, too, and may be many.
    let schema = operation.body();
    if !schema.is_null() && !operation.id().starts_with("postEvents") {
        let mut body: Value = serde_json::from_slice(body).unwrap();
        // In a body `null` says that there is nothing.
        if let Some(members) = body.as_object_mut() {
            members.retain(|_, member| !member.is_null());
        }
        assert_eq!(DOCUMENT.fault(schema, &body), None, "the body of {target}: {body}");
    }
    if answer.header("content-type") == "application/json" {
        let schema = operation.answer(&DOCUMENT, answer.status.as_u16(), "application/json");
        let value = answer.json();
        assert_eq!(DOCUMENT.fault(schema, &value), None, "the answer to {target}: {value}");
    }
}

/// Whether a path is one of an operation's.
fn is_of(operation: &Operation<'_>, method: &Method, path: &str) -> bool {
    let (parts, described) = (path.split('/'), operation.path.split('/'));
    operation.method.eq_ignore_ascii_case(method.as_str())
        && parts.clone().count() == described.clone().count()
        && described.zip(parts).all(|(one, other)| one.starts_with('{') || one == other)
}
