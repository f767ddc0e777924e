//! Every route, as the router has it, for those without a key and with the wrong one.

use gristmill_server::{Access, ServerConfig, needs_of_paths};
use serde_json::json;

use super::{Keyed, target_of};
use crate::support::ADMIN_KEY;

/// What is answered without a key.
const OPEN: [&str; 11] = [
    "/docs",
    "/docs/page.css",
    "/docs/page.js",
    "/v1/events/health",
    "/v1/analytics/health",
    "/v1/metrics/health",
    "/health",
    "/ready",
    "/livez",
    "/readyz",
    "/actuator/health",
];
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];

#[tokio::test]
async fn without_a_key_every_route_but_health_is_refused() {
    let keyed = Keyed::new();
    let mut paths: Vec<_> = needs_of_paths().iter().map(|(path, ..)| target_of(path)).collect();
    assert!(paths.len() > 40, "{paths:?}");
    paths.push("/nothing/here".to_owned());
    for path in &paths {
        for method in METHODS {
            for target in [path.clone(), format!("{path}/"), format!("{path}?tz=UTC")] {
                let answer = keyed.send(method, &target, &[], "{}").await;
                let is_open = OPEN.contains(&path.as_str());
                let status = answer.status.as_u16();
                assert_eq!(status != 401, is_open, "{method} {target}: {status}");
                if !is_open {
                    assert_eq!(answer.header("www-authenticate"), "Bearer", "{target}");
                }
                if !is_open && method != "HEAD" {
                    let problem = answer.json();
                    assert_eq!(problem["code"], "unauthenticated");
                    assert_eq!(problem["detail"], "missing authentication credentials");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_another_scope_is_refused() {
    let keyed = Keyed::new();
    let (write, _) = keyed.key("p", &["write"]).await;
    let (read, _) = keyed.key("p", &["read"]).await;
    let (both, _) = keyed.key("p", &["write", "read"]).await;
    let (admin, _) = keyed.key("p", &["admin"]).await;
    let keys = [
        (&write, &["write"][..]),
        (&read, &["read"]),
        (&both, &["write", "read"]),
        (&admin, &["write", "read", "admin"]),
    ];
    let mut refused = 0;
    for (path, asking, telling) in needs_of_paths() {
        for (method, need) in [("GET", asking), ("POST", telling), ("DELETE", telling)] {
            for (key, scopes) in keys {
                // A stream of numbers has no end.
                if (path, method) == ("/metrics/stream", "GET") && scopes.contains(&"read") {
                    continue;
                }
                let headers = [("x-api-key", key.as_str())];
                let answer = keyed.send(method, &target_of(path), &headers, "{").await;
                let may = ["nothing", "any"].contains(&need) || scopes.contains(&need);
                let status = answer.status.as_u16();
                assert_eq!(status != 403, may, "{method} {path} with {scopes:?}: {status}");
                assert_ne!(status, 401, "{method} {path}");
                if !may {
                    assert_eq!(answer.json()["code"], "permission_denied");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test]
async fn routes_need_what_the_manual_says() {
    let needs = needs_of_paths();
    let of = |wanted: &str| {
        let (_, asking, telling) = needs.iter().find(|(path, ..)| *path == wanted).unwrap();
        (*asking, *telling)
    };
    for path in OPEN {
        assert_eq!(of(path), ("nothing", "nothing"), "{path}");
    }
    let open = needs.iter().filter(|(_, asking, _)| *asking == "nothing").count();
    assert_eq!(open, OPEN.len());
    for (path, need) in [
        ("/v1/events", ("write", "write")),
        ("/v1/events/batch", ("write", "write")),
        ("/ingest", ("write", "write")),
        ("/events", ("write", "write")),
        ("/activity", ("write", "write")),
        ("/v1/analytics/funnel", ("read", "read")),
        ("/analytics/events", ("read", "read")),
        ("/metrics", ("read", "read")),
        ("/metrics/stream", ("read", "read")),
        ("/stats", ("read", "read")),
        ("/lag", ("read", "read")),
        ("/v1/cohorts", ("read", "admin")),
        ("/v1/cohorts/{id}", ("read", "admin")),
        ("/v1/cohorts/{id}/users", ("read", "read")),
        ("/v1/keys", ("admin", "admin")),
        ("/v1/keys/{id}", ("admin", "admin")),
        ("/v1/keys/{id}/rotate", ("admin", "admin")),
        ("/v1/store/compact", ("admin", "admin")),
        ("/v1/keys/self", ("any", "any")),
        ("/v1/openapi.json", ("any", "any")),
    ] {
        assert_eq!(of(path), need, "{path}");
    }
}

#[tokio::test]
async fn without_any_key_everything_is_open_until_there_is_one() {
    let keyed = Keyed::of(ServerConfig::default());
    let event = json!({"id": "1", "user_id": "u", "event_type": "t"});
    assert_eq!(keyed.post("your-api-key", "/v1/events", &event).await.status, 200);
    let myself = keyed.send("GET", "/v1/keys/self", &[], "").await.json();
    assert_eq!(
        (&myself["authentication"], &myself["project"]),
        (&json!("none"), &json!("default"))
    );
    // Whoever makes the first key must be able to go on.
    for scopes in [&["write"][..], &["read"], &["read", "write"]] {
        let answer = keyed.post("", "/v1/keys", &json!({"scopes": scopes})).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains("admin"), "{}", answer.text);
    }
    // A page of a browser can send this without asking.
    let plain = [("content-type", "text/plain")];
    let sneaked = keyed.send("POST", "/v1/keys", &plain, r#"{"scopes":["admin"]}"#).await;
    assert_eq!(sneaked.status, 415);
    let made = keyed.post("", "/v1/keys", &json!({"scopes": ["admin"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("cache-control"), "no-store");
    let key = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(keyed.post("your-api-key", "/v1/events", &event).await.status, 401);
    assert_eq!(keyed.send("GET", "/v1/analytics/summary", &[], "").await.status, 401);
    assert_eq!(keyed.get(&key, "/v1/analytics/summary").await.status, 200);
    // Revoked keys count: what was closed stays closed.
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/keys/{id}");
    let revoked = keyed.send("DELETE", &path, &[("x-api-key", &key)], "").await;
    assert_eq!(revoked.status, 204, "{}", revoked.text);
    assert_eq!(keyed.get(&key, "/v1/analytics/summary").await.status, 401);
    assert_eq!(keyed.post("your-api-key", "/v1/events", &event).await.status, 401);
}

#[tokio::test]
async fn the_first_key_is_made_on_this_machine_and_not_by_a_page() {
    let keyed = Keyed::of(ServerConfig::default());
    let wanted = json!({"scopes": ["admin"]}).to_string();
    let make = async |headers: &[(&str, &str)]| {
        keyed.send("POST", "/v1/keys", headers, &wanted).await.status.as_u16()
    };
    for headers in [
        &[("host", "shop.example")][..],
        &[("host", "localhost.shop.example")],
        &[("host", "10.0.0.1:8080")],
        &[("origin", "http://localhost:5173")],
        &[("origin", "null")],
    ] {
        assert_eq!(make(headers).await, 403, "{headers:?}");
    }
    assert_eq!(keyed.send("GET", "/v1/keys", &[], "").await.json()["keys"], json!([]));
    for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080"] {
        let keyed = Keyed::of(ServerConfig::default());
        let made = keyed.send("POST", "/v1/keys", &[("host", host)], &wanted).await;
        assert_eq!(made.status, 201, "{host}: {}", made.text);
    }
}

#[tokio::test]
async fn an_admin_key_manages_its_own_project_only() {
    let keyed = Keyed::new();
    let (admin, admin_id) = keyed.key("p", &["admin"]).await;
    let (_, other) = keyed.key("q", &["read"]).await;
    let made = keyed.post(&admin, "/v1/keys", &json!({"scopes": ["write"]})).await.json();
    assert_eq!(made["project"], "p");
    for wanted in [json!({"scopes": ["write"], "project": "q"})] {
        assert_eq!(keyed.post(&admin, "/v1/keys", &wanted).await.status, 403);
    }
    let ids = |answer: &crate::support::Answer| -> Vec<String> {
        let keys = answer.json()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    };
    let listed = ids(&keyed.get(&admin, "/v1/keys").await);
    assert!(listed.contains(&admin_id) && !listed.contains(&other) && listed.len() == 2);
    assert_eq!(keyed.get(&admin, "/v1/keys?project=q").await.status, 403);
    assert_eq!(ids(&keyed.get(ADMIN_KEY, "/v1/keys").await).len(), 3);
    let listed = ids(&keyed.get(ADMIN_KEY, "/v1/keys?project=q").await);
    assert_eq!(listed, std::slice::from_ref(&other));
    let path = format!("/v1/keys/{other}");
    assert_eq!(keyed.get(&admin, &path).await.status, 404);
    let headers = [("x-api-key", admin.as_str())];
    assert_eq!(keyed.send("DELETE", &path, &headers, "").await.status, 404);
    assert_eq!(keyed.post(&admin, &format!("{path}/rotate"), &json!({})).await.status, 404);
    assert_eq!(keyed.get(ADMIN_KEY, &path).await.json()["status"], "active");
    let myself = keyed.get(&admin, "/v1/keys/self").await.json();
    assert_eq!((&myself["project"], &myself["key"]["id"]), (&json!("p"), &json!(admin_id)));
    let operator = keyed.get(ADMIN_KEY, "/v1/keys/self").await.json();
    assert_eq!(operator["authentication"], "admin_key");
}

#[tokio::test]
async fn until_the_keys_are_read_nobody_is_taken_for_a_stranger() {
    let with_keys = Keyed::new();
    let (key, _) = with_keys.key("p", &["read"]).await;
    // Another process over the same store, which has had keys before and has not read them yet.
    let access = Access { had_keys: true, ..Access::default() };
    let config = ServerConfig { access, ..ServerConfig::default() };
    let front = gristmill_server::Front::new(config, with_keys.services.clone());
    let get = async |key: &str| {
        let headers = [("x-api-key", key)];
        super::send(&front, "GET", "/v1/analytics/summary", &headers, "").await
    };
    let answer = get(&key).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].clone()), (503, json!("not_ready")));
    assert_eq!(get("mistyped").await.status, 401);
    front.refresh_keys().await.unwrap();
    assert_eq!(get(&key).await.status, 200);
}

#[tokio::test]
async fn a_process_that_others_reach_may_not_serve_without_keys() {
    let demands = || Access {
        demands_keys: Some("server.listen: 0.0.0.0:8080".to_owned()),
        ..Access::default()
    };
    let config = ServerConfig { access: demands(), ..ServerConfig::default() };
    let keyed = Keyed::of(config.clone());
    assert_eq!(keyed.front.fault(), None, "nobody knows yet");
    assert_eq!(keyed.send("GET", "/v1/analytics/summary", &[], "").await.status, 401);
    keyed.front.refresh_keys().await.unwrap();
    let fault = keyed.front.fault().unwrap();
    for word in ["0.0.0.0:8080", "--insecure-no-auth", "server.admin_key"] {
        assert!(fault.contains(word), "{fault}");
    }
    let access = Access { admin_key: with_admin().access.admin_key, ..demands() };
    let keyed = Keyed::of(ServerConfig { access, ..ServerConfig::default() });
    keyed.front.refresh_keys().await.unwrap();
    assert_eq!(keyed.front.fault(), None);
    keyed.key("p", &["read"]).await;
    let front = gristmill_server::Front::new(config, keyed.services.clone());
    front.refresh_keys().await.unwrap();
    assert_eq!(front.fault(), None, "there is a key in the store");
}

fn with_admin() -> ServerConfig {
    crate::support::with_admin_key()
}
