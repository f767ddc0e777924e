//! A key from its making to its end.

use std::time::Duration;

use axum::body::Body;
use gristmill_model::Timestamp;
use gristmill_server::{Front, ServerConfig};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{Keyed, send};
use crate::support::{
    ADMIN_KEY, Listening, NOW, Platform, ingest_config, read_all, read_until, with_admin_key,
};

const SUMMARY: &str = "/v1/analytics/summary";

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let keyed = Keyed::new();
    let wanted = json!({"project": "shop", "scopes": ["write"], "name": "web", "ttl": "30d"});
    let (key, id) = keyed.key_with(wanted).await;
    assert!(key.starts_with("gm_write_") && key.contains(&id), "{key}");
    let secret = key.split('_').nth(3).unwrap();
    let about = keyed.get(ADMIN_KEY, &format!("/v1/keys/{id}")).await;
    let listed = keyed.get(ADMIN_KEY, "/v1/keys").await;
    for answer in [&about, &listed] {
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains(secret) && !answer.text.contains("hash"), "{}", answer.text);
    }
    let about = about.json();
    assert_eq!(about["project"], "shop");
    assert_eq!((&about["name"], &about["status"]), (&json!("web"), &json!("active")));
    assert_eq!(about["expires_at"], NOW.plus(30 * Timestamp::DAY).to_string());
    assert!(about["last_used_at"].is_null());
    let project = gristmill_model::ProjectId::new("");
    for document in keyed.services.store.documents(&project, "key").await.unwrap() {
        assert!(!document.body.contains(secret), "{}", document.body);
    }
    keyed.get(&key, "/v1/keys/self").await;
    let used = keyed.get(ADMIN_KEY, &format!("/v1/keys/{id}")).await.json();
    assert_eq!(used["last_used_at"], NOW.to_string());
}

#[tokio::test]
async fn no_two_keys_are_the_same() {
    let keyed = Keyed::new();
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let (key, _) = keyed.key("p", &["read"]).await;
        assert!(keys.insert(key));
    }
}

#[tokio::test]
async fn a_key_ends_when_it_was_to_end() {
    let keyed = Keyed::new();
    let end = NOW.plus(3_600_000_000).to_string();
    let (key, id) = keyed.key_with(json!({"scopes": ["read"], "expires_at": end})).await;
    assert_eq!(keyed.get(&key, SUMMARY).await.status, 200);
    keyed.clock.advance(3_600_000_000 - 1);
    assert_eq!(keyed.get(&key, SUMMARY).await.status, 200);
    keyed.clock.advance(1);
    let answer = keyed.get(&key, SUMMARY).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains("expired"), "{}", answer.text);
    let about = keyed.get(ADMIN_KEY, &format!("/v1/keys/{id}")).await.json();
    assert_eq!(about["status"], "expired");
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_a_while_beside_the_new_one() {
    let keyed = Keyed::new();
    let wanted = json!({"project": "p", "scopes": ["read"], "name": "n",
        "limits": {"events_per_day": 7}});
    let (old, id) = keyed.key_with(wanted).await;
    let path = format!("/v1/keys/{id}/rotate");
    let answer = keyed.post(ADMIN_KEY, &path, &json!({"overlap": "2h"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let made = answer.json();
    let new = made["key"].as_str().unwrap();
    assert_eq!((&made["project"], &made["name"]), (&json!("p"), &json!("n")));
    assert_eq!(made["limits"], json!({"events_per_day": 7}));
    for key in [old.as_str(), new] {
        assert_eq!(keyed.get(key, SUMMARY).await.status, 200);
    }
    let about = keyed.get(ADMIN_KEY, &format!("/v1/keys/{id}")).await.json();
    assert_eq!(about["rotated_to"], made["id"]);
    keyed.clock.advance(2 * 3_600_000_000);
    assert_eq!(keyed.get(&old, SUMMARY).await.status, 401);
    assert_eq!(keyed.get(new, SUMMARY).await.status, 200);
    assert_eq!(keyed.post(ADMIN_KEY, &path, &json!({})).await.status, 409, "it has ended");
}

#[tokio::test]
async fn a_successor_lives_as_long_and_is_rotated_in_its_turn() {
    let keyed = Keyed::new();
    let (_, old) = keyed.key_with(json!({"scopes": ["read"], "ttl": "30d"})).await;
    let rotate =
        async |id: &str| keyed.post(ADMIN_KEY, &format!("/v1/keys/{id}/rotate"), &json!({})).await;
    keyed.clock.advance(10 * Timestamp::DAY);
    let made = rotate(&old).await.json();
    assert_eq!(made["expires_at"], NOW.plus(40 * Timestamp::DAY).to_string());
    assert_eq!(rotate(&old).await.status, 409, "it has a successor");
    assert_eq!(rotate(made["id"].as_str().unwrap()).await.status, 201);
}

#[tokio::test]
async fn a_second_successor_lives_as_long_as_the_first() {
    for (ttl, wanted) in [
        (json!("30d"), json!(NOW.plus(31 * Timestamp::DAY).to_string())),
        (Value::Null, Value::Null),
    ] {
        let keyed = Keyed::new();
        let mut wanted_key = json!({"scopes": ["read"]});
        if !ttl.is_null() {
            wanted_key["ttl"] = ttl;
        }
        let (_, old) = keyed.key_with(wanted_key).await;
        let path = format!("/v1/keys/{old}/rotate");
        let first = keyed.post(ADMIN_KEY, &path, &json!({"overlap": "36h"})).await.json();
        let revoke = format!("/v1/keys/{}", first["id"].as_str().unwrap());
        keyed.send("DELETE", &revoke, &[("x-api-key", ADMIN_KEY)], "").await;
        keyed.clock.advance(Timestamp::DAY);
        let second = keyed.post(ADMIN_KEY, &path, &json!({})).await.json();
        assert_eq!(second.get("expires_at").cloned().unwrap_or_default(), wanted, "{second}");
        let about = keyed.get(ADMIN_KEY, &format!("/v1/keys/{old}")).await.json();
        let overlap = NOW.plus(36 * Timestamp::HOUR);
        assert_eq!(about["expires_at"], overlap.to_string(), "it does not live longer for that");
    }
}

#[tokio::test]
async fn the_key_of_a_project_that_ended_first_makes_room() {
    let keyed = Keyed::new();
    let mut ids = Vec::new();
    for _ in 0..gristmill_model::limits::PROJECT_KEYS {
        ids.push(keyed.key("p", &["write"]).await.1);
    }
    let make = async |project: &str| {
        let wanted = json!({"project": project, "scopes": ["write"]});
        keyed.post(ADMIN_KEY, "/v1/keys", &wanted).await.status.as_u16()
    };
    assert_eq!((make("p").await, make("q").await), (409, 201));
    for id in [&ids[7], &ids[3]] {
        keyed.clock.advance(1);
        let admin = [("x-api-key", ADMIN_KEY)];
        keyed.send("DELETE", &format!("/v1/keys/{id}"), &admin, "").await;
    }
    assert_eq!(make("p").await, 201);
    let about = async |id: &str| keyed.get(ADMIN_KEY, &format!("/v1/keys/{id}")).await;
    assert_eq!(about(&ids[7]).await.status, 404);
    assert_eq!(about(&ids[3]).await.status, 200);
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_not_taken_with_a_key_that_is_revoked_meanwhile() {
    let keyed = Keyed::new();
    let (key, id) = keyed.key("p", &["write", "read"]).await;
    let (reader, _) = keyed.key("p", &["read"]).await;
    let server = Listening::serving(keyed.front.clone());
    let mut stream = server.connect().await;
    let body = r#"{"event_type":"t"}"#;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "100 Continue").await;
    let admin = [("x-api-key", ADMIN_KEY)];
    let revoked = keyed.send("DELETE", &format!("/v1/keys/{id}"), &admin, "").await;
    assert_eq!(revoked.status, 204);
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.contains("HTTP/1.1 401"), "{answer}");
    let total = keyed.get(&reader, SUMMARY).await.json()["total_events"].clone();
    assert_eq!(total, json!(0));
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_here_and_after_a_restart() {
    let keyed = Keyed::new();
    let (key, id) = keyed.key("p", &["read"]).await;
    assert_eq!(keyed.get(&key, SUMMARY).await.status, 200);
    let path = format!("/v1/keys/{id}");
    let headers = [("x-api-key", ADMIN_KEY)];
    for _ in 0..2 {
        assert_eq!(keyed.send("DELETE", &path, &headers, "").await.status, 204);
    }
    assert_eq!(keyed.get(&key, SUMMARY).await.status, 401);
    assert_eq!(keyed.get(ADMIN_KEY, &path).await.json()["status"], "revoked");
    let front = Front::new(ServerConfig::default(), keyed.services.clone());
    front.refresh_keys().await.unwrap();
    let answer = send(&front, "GET", SUMMARY, &[("x-api-key", &key)], "").await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains("revoked"), "{}", answer.text);
    assert_eq!(send(&front, "GET", SUMMARY, &[], "").await.status, 401);
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_another_process_within_ten_seconds() {
    let platform = Platform::new(ingest_config());
    let here = Front::new(with_admin_key(), platform.services.clone());
    let there = Front::new(with_admin_key(), platform.services.clone());
    let _serving = Listening::serving(there.clone());
    let admin = [("x-api-key", ADMIN_KEY)];
    let made = send(&here, "POST", "/v1/keys", &admin, r#"{"scopes":["read"]}"#).await.json();
    let key = made["key"].as_str().unwrap().to_owned();
    let mut has_keys = there.has_keys().unwrap();
    let hears = timeout(Duration::from_secs(10), has_keys.wait_for(|has_keys| *has_keys));
    hears.await.expect("it does not hear of the key").unwrap();
    assert_eq!(send(&there, "GET", SUMMARY, &[("x-api-key", &key)], "").await.status, 200);
    // What goes on for long ends there once it has heard of the end.
    let live = Request::get(SUMMARY)
        .header("host", "a")
        .header("x-api-key", &key)
        .header("accept", "text/event-stream");
    let live = there.answer(live.body(Body::empty()).unwrap()).await;
    assert_eq!(live.status(), 200);
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(send(&here, "DELETE", &path, &admin, "").await.status, 204);
    let end = live.into_body().collect();
    timeout(Duration::from_secs(10), end).await.expect("it goes on").unwrap();
    assert_eq!(send(&there, "GET", SUMMARY, &[("x-api-key", &key)], "").await.status, 401);
}

#[tokio::test]
async fn what_was_used_outlasts_a_restart() {
    let keyed = Keyed::new();
    let (key, id) = keyed.key("p", &["read"]).await;
    keyed.get(&key, SUMMARY).await;
    keyed.front.tell_usage().await;
    let front = Front::new(with_admin_key(), keyed.services.clone());
    front.refresh_keys().await.unwrap();
    let path = format!("/v1/keys/{id}");
    let about = send(&front, "GET", &path, &[("x-api-key", ADMIN_KEY)], "").await.json();
    assert_eq!(about["last_used_at"], NOW.to_string());
}
