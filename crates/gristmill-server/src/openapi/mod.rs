//! The OpenAPI document: every route of the table but those of the older systems.
//!
//! It says nothing that stands only here. A route cannot enter the table without its description,
//! which stands beside the code that reads its requests; the schemas of answers come from the types
//! that are written; names, defaults and limits come from the tables and constants that count.

mod examples;
mod operation;
pub(crate) mod page;
mod term;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::analytics;
use crate::json;
use crate::keys::Need;
use crate::routes::{self, Route};
use crate::{native, problem};
use operation::Shared;

pub(crate) use operation::{Answer, OF_BODY, Operation, Tag};
pub(crate) use term::{Parameter, Term, object, one_or_more, open_object, reference};

/// Headers of answers.
const HEADERS: [(&str, &str); 10] = [
    ("x-request-id", "the name of the request: the client's own, if it sent a well-formed one"),
    (
        "server-timing",
        "for how many milliseconds the question waited for `at_least` and how many its answer \
         took, how many rows of how many files were walked through, and how many pieces of columns \
         were in memory or had to be decoded",
    ),
    ("retry-after", "after how many seconds to come again"),
    ("next-page-token", "of a table: what to give as `page_token` for the next page"),
    ("previous-page-token", "of a table: what to give as `page_token` for the page before"),
    ("etag", "the version in quotes, as `If-Match` takes it"),
    ("location", "the path of what was created"),
    ("www-authenticate", "`Bearer`: how to send an API key, beside `x-api-key`"),
    (
        "ratelimit-policy",
        "of a key with limits: each limit, its quota `q` in a window of `w` seconds",
    ),
    ("ratelimit", "of a key with limits: what is left of each, `r`, and for how many seconds, `t`"),
];

/// The OpenAPI document, as `GET /v1/openapi.json` answers it.
pub fn openapi() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        // Its keys are strings, so it has a text.
        serde_json::to_string_pretty(&document(routes::table())).unwrap_or_default()
    });
    &DOCUMENT
}

/// The document itself.
pub(crate) async fn get() -> Response {
    json::answer(StatusCode::OK, openapi().as_bytes().to_vec())
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Operation {
    let schema = json!({"type": "object", "description": "an OpenAPI 3.1 document"});
    let answer = Answer::empty("This document.").or("application/json", &schema);
    Operation::new(Tag::Operations, "This document").answers(StatusCode::OK, answer)
}

fn document(table: Vec<Route>) -> Value {
    let mut shared = Shared { schemas: schemas(), ..Shared::default() };
    let mut paths = Map::new();
    for route in table {
        let mut methods = Map::new();
        for (method, describe) in &route.descriptions {
            let mut operation = describe().into_json(method, route.path, &mut shared);
            operation["security"] = security(route.needs.with(method));
            examples::add(&mut operation);
            methods.insert(method.as_str().to_ascii_lowercase(), operation);
        }
        if !methods.is_empty() {
            paths.insert(route.path.to_owned(), methods.into());
        }
    }
    let problems = shared.problems.iter();
    let problems = problems.map(|status| (format!("Problem{status}"), operation::problem(*status)));
    let header = |(name, about): (&str, &str)| {
        (name.to_owned(), json!({"description": about, "schema": {"type": "string"}}))
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gristmill",
            "summary": "Real-time event analytics: events in, answers out, nothing lost.",
            "description": "A member of a question's body that is `null` counts as missing.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": Tag::ALL.map(tag),
        "paths": paths,
        "components": {
            "schemas": shared.schemas,
            "parameters": shared.parameters,
            "headers": Map::from_iter(HEADERS.map(header)),
            "responses": Map::from_iter(problems),
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "the key is the user's name",
                },
            },
        },
    })
}

/// What a request needs, with the scope of the key; where there are no keys, nothing.
fn security(need: Need) -> Value {
    let scopes = match need {
        Need::Nothing => return json!([]),
        Need::Key | Need::Elsewhere => Vec::new(),
        Need::Scope(scope) => vec![scope.name()],
    };
    json!([{}, {"apiKey": scopes}, {"bearer": scopes}, {"basic": scopes}])
}

fn tag(tag: Tag) -> Value {
    let (name, about) = tag.told();
    json!({"name": name, "description": about})
}

/// The schemas that others refer to by name.
fn schemas() -> BTreeMap<String, Value> {
    let named = [
        ("CohortDefinition", analytics::cohorts::definition_schema()),
        ("Event", native::event_schema()),
        ("Filter", analytics::filter_schema()),
        ("Problem", problem::schema()),
        ("Time", analytics::time_schema()),
    ];
    named.map(|(name, schema)| (name.to_owned(), schema)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operations_share_is_the_same_for_all_of_them() {
        let document = document(routes::table());
        let components = &document["components"];
        for route in routes::table() {
            for (method, describe) in &route.descriptions {
                let mut own = Shared::default();
                describe().into_json(method, route.path, &mut own);
                for (kind, named) in [("schemas", own.schemas), ("parameters", own.parameters)] {
                    for (name, value) in named {
                        let place = format!("{name} of {method} {}", route.path);
                        assert_eq!(components[kind][&name], value, "{place}");
                        assert!(kind != "schemas" || !schemas().contains_key(&name), "{place}");
                    }
                }
            }
        }
    }
}
