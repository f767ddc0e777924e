//! Any text as a document of the store: an API key, what was used of one, and a saved cohort that is asked for.
#![no_main]

use std::cell::RefCell;

use axum::body::Body;
use bytes::Bytes;
use gristmill_fuzz::{ADMIN_KEY, Platform};
use gristmill_model::ProjectId;
use gristmill_store::DocumentKey;
use http::{Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

thread_local! {
    static PLATFORM: RefCell<Keyed> = RefCell::new(Keyed::new());
}

/// A platform with a key.
struct Keyed {
    platform: Platform,
    id: String,
    text: String,
    /// The hash of the text, in the place of which documents have `HASH`.
    hash: String,
}

fuzz_target!(|body: &str| {
    PLATFORM.with_borrow_mut(|keyed| {
        let body = body.replace("HASH", &keyed.hash);
        keyed.put("", "key", &keyed.id, &body);
        keyed.put("", "key-usage", &keyed.id, &body);
        keyed.put("default", "cohort", "c", &body);
        let refreshed =
            keyed.platform.runtime.block_on(keyed.platform.keyed_front().refresh_keys());
        refreshed.expect("memory");
        for target in ["/v1/keys", "/v1/cohorts", "/v1/cohorts/c", "/v1/cohorts/c/users"] {
            ask(&keyed.platform, Method::GET, target, ADMIN_KEY);
        }
        let of_members = "/v1/analytics/summary?where=%7B%22cohort%22:%22c%22%7D";
        ask(&keyed.platform, Method::GET, of_members, ADMIN_KEY);
        ask(&keyed.platform, Method::GET, of_members, &keyed.text);
        ask(&keyed.platform, Method::GET, "/v1/keys/self", &keyed.text);
        ask(&keyed.platform, Method::GET, &format!("/v1/keys/{}", keyed.id), ADMIN_KEY);
        if keyed.platform.is_used_up() {
            *keyed = Keyed::new();
        }
    });
});

impl Keyed {
    fn new() -> Self {
        let platform = Platform::new();
        let request = Request::post("/v1/keys")
            .header("host", "a")
            .header("x-api-key", ADMIN_KEY)
            .header("content-type", "application/json")
            .body(Body::from(r#"{"scopes":["read"]}"#));
        let answer = platform.answer(request.expect("a request"));
        let key: Value = serde_json::from_slice(answer.body()).expect("a key");
        let member = |value: &Value, name: &str| value[name].as_str().expect("a text").to_owned();
        let (id, text) = (member(&key, "id"), member(&key, "key"));
        let name = DocumentKey { project: ProjectId::new(""), kind: "key", id: &id };
        let document = platform.runtime.block_on(platform.store.document(name));
        let document = document.expect("memory").expect("the key's document");
        let record: Value = serde_json::from_str(&document.body).expect("a record");
        let hash = member(&record, "hash");
        Self { platform, id, text, hash }
    }

    fn put(&self, project: &str, kind: &str, id: &str, body: &str) {
        let key = DocumentKey { project: ProjectId::new(project), kind, id };
        self.platform.runtime.block_on(async {
            let held = self.platform.store.document(key.clone()).await.expect("memory");
            let version = held.map(|document| document.version);
            let put = self.platform.store.put_document(key, version, body.to_owned()).await;
            put.expect("memory takes it");
        });
    }
}

fn ask(platform: &Platform, method: Method, target: &str, key: &str) -> Response<Bytes> {
    let request = Request::builder().method(method).uri(target).header("host", "a");
    let request = request.header("x-api-key", key).body(Body::empty());
    platform.answer(request.expect("a request"))
}
