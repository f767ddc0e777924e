//! Who may do what, with keys of the store and of the settings.

mod access;
mod calls;
mod cors;
mod credentials;
mod endings;
mod life;
mod limits;
mod projects;
mod projects_calls;
mod store_away;

use std::sync::Arc;

use axum::body::Body;
use gristmill_server::{Front, ServerConfig, Services};
use gristmill_testkit::ManualClock;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Answer, Platform, ingest_config, with_admin_key};

/// A platform where requests need keys.
pub(super) struct Keyed {
    pub(super) front: Front,
    pub(super) clock: Arc<ManualClock>,
    pub(super) services: Services,
    _platform: Platform,
}

impl Keyed {
    /// With a key of the settings.
    pub(super) fn new() -> Self {
        Self::of(with_admin_key())
    }

    /// With settings, of which some say nothing of keys.
    pub(super) fn of(config: ServerConfig) -> Self {
        Self::over(config, Platform::new(ingest_config()))
    }

    /// Over a platform.
    pub(super) fn over(config: ServerConfig, platform: Platform) -> Self {
        let services = platform.services.clone();
        let front = Front::new(config, services.clone());
        Self { front, clock: Arc::clone(&platform.clock), services, _platform: platform }
    }

    /// The answer to a request without anything that is not said here.
    pub(super) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        send(&self.front, method, target, headers, body).await
    }

    /// The answer to a `GET` with a key.
    pub(super) async fn get(&self, key: &str, target: &str) -> Answer {
        self.send("GET", target, &[("x-api-key", key)], "").await
    }

    /// The answer to a `POST` of JSON with a key.
    pub(super) async fn post(&self, key: &str, target: &str, body: &Value) -> Answer {
        self.send("POST", target, &[("x-api-key", key)], &body.to_string()).await
    }

    /// Ends a key by its id.
    pub(super) async fn revoke(&self, id: &str) {
        let headers = [("x-api-key", ADMIN_KEY)];
        let answer = self.send("DELETE", &format!("/v1/keys/{id}"), &headers, "").await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }

    /// A new key of a project: the key, and its id.
    pub(super) async fn key(&self, project: &str, scopes: &[&str]) -> (String, String) {
        self.key_with(json!({"project": project, "scopes": scopes})).await
    }

    /// A new key.
    pub(super) async fn key_with(&self, wanted: Value) -> (String, String) {
        let answer = self.post(ADMIN_KEY, "/v1/keys", &wanted).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let made = answer.json();
        (made["key"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
    }
}

/// The answer of a front to a request.
pub(super) async fn send(
    front: &Front,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in [("host", "localhost"), ("content-type", "application/json")] {
        if !headers.iter().any(|(given, _)| *given == name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    Answer::read(front.answer(request).await).await
}

/// A target of a path of the table.
pub(super) fn target_of(path: &str) -> String {
    path.replace("{id}", "some")
}
