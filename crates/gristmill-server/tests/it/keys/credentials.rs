//! What stands where a key should be.

use gristmill_model::KeyText;
use gristmill_testkit::SeededEntropy;
use http::StatusCode;
use serde_json::json;

use super::Keyed;
use crate::support::{ADMIN_KEY, Listening, Platform, ingest_config, status_of, with_admin_key};

const SUMMARY: &str = "/v1/analytics/summary";

#[tokio::test]
async fn a_key_is_taken_where_clients_put_it() {
    let keyed = Keyed::new();
    let (key, _) = keyed.key("p", &["read"]).await;
    let basic = |text: &str| {
        use base64_of as encode;
        format!("Basic {}", encode(text))
    };
    for (name, value) in [
        ("x-api-key", key.clone()),
        ("authorization", format!("Bearer {key}")),
        ("authorization", format!("bearer {key}")),
        ("authorization", basic(&format!("{key}:"))),
        ("authorization", basic(&format!(":{key}"))),
        ("authorization", key.clone()),
    ] {
        let answer = keyed.send("GET", SUMMARY, &[(name, &value)], "").await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    let bearer = format!("Bearer {key}");
    let same = [("x-api-key", key.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(keyed.send("GET", SUMMARY, &same, "").await.status, 200);
}

#[tokio::test]
async fn what_is_no_valid_key_is_refused() {
    let keyed = Keyed::new();
    let (key, _) = keyed.key("p", &["read"]).await;
    let scopes = [gristmill_model::Scope::Admin].into_iter().collect();
    let made_up = KeyText::make(scopes, &SeededEntropy::new(99));
    let long = "k".repeat(10_000);
    let (head, _) = key.rsplit_once('_').unwrap();
    let cut = &key[..key.len() - 1];
    let shouted = key.to_uppercase();
    // The right id with the secret of another key, and a right checksum.
    let swapped = with_secret_of(&key, made_up.as_str());
    for wrong in [
        "",
        "your-api-key",
        "gm_",
        cut,
        head,
        &shouted,
        &long,
        made_up.as_str(),
        &swapped,
        &ADMIN_KEY[1..],
    ] {
        let answer = keyed.get(wrong, SUMMARY).await;
        assert_eq!(answer.status, 401, "{wrong:.60}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert!(!answer.text.contains(wrong) || wrong.len() < 4, "{}", answer.text);
    }
    for wrong in ["Bearer", "Bearer ", "Digest a=b", "Basic !!!", "Basic"] {
        let answer = keyed.send("GET", SUMMARY, &[("authorization", wrong)], "").await;
        assert_eq!(answer.status, 401, "{wrong}");
    }
    assert_eq!(keyed.get(&key, SUMMARY).await.status, 200);
}

#[tokio::test]
async fn credentials_that_contradict_each_other_are_refused() {
    let keyed = Keyed::new();
    let (one, _) = keyed.key("p", &["read"]).await;
    let (other, _) = keyed.key("q", &["read"]).await;
    let (one_bearer, bearer) = (format!("Bearer {one}"), format!("Bearer {other}"));
    for headers in [
        [("x-api-key", one.as_str()), ("authorization", bearer.as_str())],
        [("authorization", one_bearer.as_str()), ("authorization", bearer.as_str())],
        [("x-api-key", one.as_str()), ("x-api-key", other.as_str())],
    ] {
        assert_eq!(keyed.send("GET", SUMMARY, &headers, "").await.status, 400, "{headers:?}");
    }
}

#[tokio::test]
async fn a_key_in_a_target_is_refused_and_to_be_revoked() {
    let keyed = Keyed::new();
    let (key, _) = keyed.key("p", &["read"]).await;
    for name in ["api_key", "apikey", "x-api-key", "key", "token", "tz"] {
        for encoded in [key.clone(), key.replace("gm", "%67m"), key.replace('_', "%5F")] {
            let target = format!("{SUMMARY}?{name}={encoded}");
            for sent in [None, Some(key.as_str())] {
                let headers = sent.map(|key| ("x-api-key", key));
                let answer = keyed.send("GET", &target, headers.as_slice(), "").await;
                assert_eq!(answer.status, 400, "{target}");
                assert!(answer.text.contains("revoke"), "{}", answer.text);
                assert!(!answer.text.contains(&key), "{}", answer.text);
            }
        }
    }
    // Where there are no keys, too.
    let open = Keyed::of(gristmill_server::ServerConfig::default());
    let answer = open.send("GET", &format!("{SUMMARY}?key={key}"), &[], "").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_project_in_a_body_or_a_target_is_never_used() {
    let keyed = Keyed::new();
    let (key, _) = keyed.key("p", &["write", "read"]).await;
    let (other, _) = keyed.key("q", &["read"]).await;
    let event = json!({"id": "1", "user_id": "u", "event_type": "t", "project": "q",
        "project_id": "q", "properties": {"project": "q"}});
    let headers = [("x-api-key", key.as_str()), ("x-project", "q"), ("project", "q")];
    let answer = keyed.send("POST", "/v1/events?wait=visible", &headers, &event.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let total = async |key: &str| keyed.get(key, SUMMARY).await.json()["total_events"].clone();
    assert_eq!((total(&key).await, total(&other).await), (json!(1), json!(0)));
    let answer = keyed.get(&key, &format!("{SUMMARY}?project=q")).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
}

#[tokio::test]
async fn a_request_without_a_key_is_refused_before_its_body_is_sent() {
    let server = Listening::over(with_admin_key(), Platform::new(ingest_config()));
    let request = "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
        content-length: 1000000\r\nexpect: 100-continue\r\n\r\n";
    let mut stream = server.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let answer = crate::support::read_all(&mut stream).await;
    assert_eq!(status_of(&answer), 401, "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
}

#[tokio::test]
async fn an_address_that_tries_many_keys_is_slowed() {
    let server = Listening::over(with_admin_key(), Platform::new(ingest_config()));
    let get = async |key: &str| {
        let text = format!("GET {SUMMARY} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n");
        server.exchange(text.as_bytes()).await
    };
    // No key at all is no try.
    for _ in 0..30 {
        assert_eq!(status_of(&server.get(SUMMARY).await), 401);
    }
    for number in 0..gristmill_model::limits::WRONG_KEYS_A_MINUTE {
        assert_eq!(status_of(&get(&format!("wrong-{number}")).await), 401, "{number}");
    }
    let slowed = get("wrong-again").await;
    assert_eq!(status_of(&slowed), u16::from(StatusCode::TOO_MANY_REQUESTS), "{slowed}");
    assert!(slowed.contains("retry-after: "), "{slowed}");
    assert_eq!(status_of(&server.get("/health").await), 200);
}

#[tokio::test]
async fn keys_that_are_in_use_go_on_from_an_address_that_tried_many() {
    let keyed = Keyed::new();
    let (used, _) = keyed.key("p", &["read"]).await;
    let (fresh, _) = keyed.key("p", &["read"]).await;
    let server = Listening::serving(keyed.front.clone());
    let status = async |key: &str| {
        let text = format!("GET {SUMMARY} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n");
        status_of(&server.exchange(text.as_bytes()).await)
    };
    assert_eq!(status(&used).await, 200);
    for number in 0..gristmill_model::limits::WRONG_KEYS_A_MINUTE {
        assert_eq!(status(&format!("wrong-{number}")).await, 401, "{number}");
    }
    assert_eq!(status("wrong-again").await, 429);
    assert_eq!(status(&used).await, 200);
    for other in [&fresh, ADMIN_KEY] {
        assert_eq!(status(other).await, 429);
    }
    keyed.clock.advance(60 * gristmill_model::Timestamp::SECOND);
    for key in [&used, &fresh, ADMIN_KEY] {
        assert_eq!(status(key).await, 200);
    }
}

/// The text of a key with the secret of another one and the checksum that then is right.
fn with_secret_of(key: &str, other: &str) -> String {
    let parts: Vec<_> = key.split('_').collect();
    let secret = other.split('_').nth(3).unwrap();
    let head = format!("{}_{}_{}_{secret}", parts[0], parts[1], parts[2]);
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut sum = crc32(head.as_bytes());
    let mut checksum = String::new();
    for _ in 0..6 {
        checksum.push(char::from(digits[(sum % 62) as usize]));
        sum /= 62;
    }
    let whole = format!("{head}_{checksum}");
    assert!(gristmill_model::key_id(&whole).is_some(), "the test's own checksum is wrong");
    whole
}

/// CRC-32 as in zip files, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

fn base64_of(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let mut bytes = [0_u8; 3];
        bytes[..three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for index in 0..4 {
            let digit = (bits >> (18 - 6 * index)) & 63;
            let is_there = index <= three.len();
            encoded.push(if is_there { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    encoded
}
