//! A key from its making to its end.

use gristmill_model::Timestamp;
use gristmill_server::{Front, ServerConfig};
use serde_json::json;

use super::{Keyed, send};
use crate::support::{
    ADMIN_KEY, Listening, NOW, PATIENCE, Platform, ingest_config, status_of, with_admin_key,
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
    let there = Listening::over(with_admin_key(), platform);
    let admin = [("x-api-key", ADMIN_KEY)];
    let made = send(&here, "POST", "/v1/keys", &admin, r#"{"scopes":["read"]}"#).await.json();
    let key = made["key"].as_str().unwrap().to_owned();
    let status = async || {
        let text = format!("GET {SUMMARY} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n");
        status_of(&there.exchange(text.as_bytes()).await)
    };
    let becomes = async |wanted: u16| {
        let since = tokio::time::Instant::now();
        while status().await != wanted {
            assert!(since.elapsed() < PATIENCE, "it does not become {wanted}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        since.elapsed()
    };
    becomes(200).await;
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(send(&here, "DELETE", &path, &admin, "").await.status, 204);
    let took = becomes(401).await;
    assert!(took.as_secs() < 10, "{took:?}");
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
