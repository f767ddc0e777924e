//! Bad encodings, bad JSON and bad fields on `/v1`: a table of bodies and the status each gets.

use axum::body::Body;
use http::Request;

use crate::support::Api;

#[tokio::test]
async fn content_types_other_than_json_in_utf_8_are_415() {
    let api = Api::new();
    for content_type in ["", "text/plain", "application/json; charset=latin1", "application/xml"] {
        let mut request = Request::post("/v1/events");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let answer = api.send(request.body(Body::from(r#"{"event_type":"t"}"#)).unwrap()).await;
        assert_eq!(answer.status, 415, "{content_type}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_event_get_the_stated_status() {
    let api = Api::new();
    for (what, body, status) in bodies() {
        let answer = api.post("/v1/events", body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        let problem = answer.json();
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{what}: {problem}");
    }
    assert_eq!(api.total_events().await, 0);
}

fn bodies() -> Vec<(&'static str, Vec<u8>, u16)> {
    let with = |field: &str| format!(r#"{{"id":"a","event_type":"t",{field}}}"#).into_bytes();
    let keys: Vec<_> = (0..50_000).map(|n| format!("\"k{n}\":1")).collect();
    vec![
        ("invalid UTF-8", b"{\"event_type\":\"\xff\"}".to_vec(), 400),
        ("overlong UTF-8", b"{\"event_type\":\"\xc0\xaf\"}".to_vec(), 400),
        ("lone surrogate", br#"{"event_type":"\ud800"}"#.to_vec(), 400),
        ("byte order mark", b"\xef\xbb\xbf{\"event_type\":\"t\"}".to_vec(), 400),
        ("UTF-16", b"\xff\xfe{\x00}\x00".to_vec(), 400),
        ("empty", Vec::new(), 400),
        ("null", b"null".to_vec(), 400),
        ("number", b"1".to_vec(), 400),
        ("string", b"\"t\"".to_vec(), 400),
        ("deep array", "[".repeat(100_000).into_bytes(), 400),
        (
            "deep properties",
            with(&format!("\"properties\":{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200))),
            400,
        ),
        ("trailing garbage", br#"{"event_type":"t"} x"#.to_vec(), 400),
        ("two documents", br#"{"event_type":"t"}{"event_type":"t"}"#.to_vec(), 400),
        ("duplicate keys", br#"{"event_type":"t","event_type":"u"}"#.to_vec(), 400),
        ("NaN", with("\"properties\":{\"a\":NaN}"), 400),
        ("infinite number", with("\"properties\":{\"a\":1e999}"), 400),
        ("comment", br#"{/**/"event_type":"t"}"#.to_vec(), 400),
        ("single quotes", b"{'event_type':'t'}".to_vec(), 400),
        ("trailing comma", br#"{"event_type":"t",}"#.to_vec(), 400),
        ("control character", b"{\"event_type\":\"a\x01\"}".to_vec(), 400),
        ("many keys", with(&format!("\"properties\":{{{}}}", keys.join(","))), 422),
        ("long key", with(&format!("\"properties\":{{\"{}\":1}}", "k".repeat(900_000))), 422),
        ("long value", with(&format!("\"properties\":{{\"k\":\"{}\"}}", "v".repeat(900_000))), 422),
        ("no type", br#"{"id":"a"}"#.to_vec(), 422),
        ("empty type", br#"{"event_type":""}"#.to_vec(), 422),
        ("long type", format!(r#"{{"event_type":"{}"}}"#, "t".repeat(201)).into_bytes(), 422),
        ("NUL in the type", br#"{"event_type":"a\u0000b"}"#.to_vec(), 422),
        (
            "long id",
            format!(r#"{{"event_type":"t","id":"{}"}}"#, "i".repeat(257)).into_bytes(),
            422,
        ),
        ("number for a text", br#"{"event_type":"t","user_id":7}"#.to_vec(), 422),
        ("properties no object", with("\"properties\":[]"), 422),
        ("time no time", with("\"timestamp\":\"yesterday\""), 422),
        ("time in RFC 2822", with("\"timestamp\":\"Tue, 1 Jul 2003 10:52:37 +0200\""), 422),
        ("time without zone", with("\"timestamp\":\"2025-01-01T00:00:00\""), 422),
        ("time far ahead", with("\"timestamp\":\"2026-01-03T00:00:00Z\""), 422),
        ("time before time", with("\"timestamp\":\"0000-01-01T00:00:00Z\""), 422),
    ]
}

#[tokio::test]
async fn unusual_and_still_good_events_are_taken_and_kept_as_sent() {
    let api = Api::new();
    for (what, fields) in [
        ("blank id text", r#""id":" ""#),
        ("emoji, SQL and paths", r#""id":"💥'; DROP TABLE--../../x""#),
        (
            "large integers",
            r#""properties":{"a":9007199254740993,"b":18446744073709551616,"c":1e308,"d":-0}"#,
        ),
        ("old time", r#""timestamp":"1970-01-02T00:00:00Z""#),
        ("negative epoch", r#""timestamp":-86400"#),
        ("leap second", r#""timestamp":"2016-12-31T23:59:60Z""#),
        ("offset", r#""timestamp":"2025-01-01T00:00:00+14:00""#),
        ("epoch as text", r#""timestamp":"1735689600000""#),
        ("unknown fields", r#""whatever":{"a":[1,2,3]}"#),
    ] {
        let body = format!(r#"{{"user_id":"{what}","event_type":"t",{fields}}}"#);
        let answer = api.post("/v1/events?wait=visible", body).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
        assert_eq!(answer.json()["results"][0]["status"], "stored", "{what}");
    }
    let user = api.get("/v1/analytics/users/large%20integers").await;
    let kept = r#"{"a":9007199254740993,"b":18446744073709551616,"c":1e308,"d":-0}"#;
    assert!(user.text.contains(kept), "{}", user.text);
}

#[tokio::test]
async fn batches_that_are_too_many_are_413_and_bad_lines_are_told_one_by_one() {
    let api = Api::new();
    let many = format!("[{}]", vec!["{}"; 10_001].join(","));
    assert_eq!(api.post("/v1/events/batch", many).await.status, 413);

    let long = format!(r#"{{"event_type":"{}"}}"#, "t".repeat(300_000));
    let lines = format!("{{\"event_type\":\"t\"}}\r\n\r\n{long}\n[]\n{{\"event_type\":\"u\"}}");
    let request = Request::post("/v1/events/batch")
        .header("content-type", "application/ndjson")
        .body(Body::from(lines));
    let answer = api.send(request.unwrap()).await;
    let body = answer.json();
    let statuses: Vec<_> = (0..4).map(|i| body["results"][i]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["accepted", "rejected", "rejected", "accepted"], "{body}");
}

#[tokio::test]
async fn unknown_parameters_and_waits_are_refused() {
    let api = Api::new();
    let event = r#"{"event_type":"t"}"#;
    assert_eq!(api.post("/v1/events?wait=forever", event).await.status, 400);
    assert_eq!(api.post("/v1/events?wiat=visible", event).await.status, 400);
}

#[tokio::test]
async fn events_that_are_to_be_checked_only_are_not_kept() {
    let api = Api::new();
    let event = r#"{"event_type":"t","options":{"validate_only":true}}"#;
    let options = r#""options":{"async":true,"validate_only":true}"#;
    for (path, body) in [
        ("/v1/events", format!(r#"{{"event":{event},{options}}}"#)),
        ("/v1/events", format!(r#"{{{options},"event":{event}}}"#)),
        ("/v1/events", format!(r#"{{"event":{event},"options":{{"validateOnly":true}}}}"#)),
        ("/v1/events/batch", format!(r#"{{"events":[{event}],{options}}}"#)),
        ("/v1/events/batch", format!(r#"{{{options},"events":[{event}]}}"#)),
    ] {
        let answer = api.post(path, body.clone()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        assert_eq!(answer.json()["results"][0]["status"], "valid", "{body}: {}", answer.text);
    }
    assert_eq!(api.total_events().await, 0);
    let wrong = r#"{"event":{"id":"x"},"options":{"validate_only":true}}"#;
    let answer = api.post("/v1/events", wrong).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["results"][0]["id"]), (422, &"x".into()));
    for wrong in [r#"{"validate_only":"true"}"#, r#"{"timeout_seconds":"1"}"#] {
        let body = format!(r#"{{"event":{event},"options":{wrong}}}"#);
        let request = Request::post("/v1/events").header("content-type", "application/json");
        let answer = api.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
    }
    // A bare event may have a field of that name, and other options ask for nothing.
    for (path, body, status) in [
        ("/v1/events", event.to_owned(), 200),
        ("/v1/events", format!(r#"{{"event":{event},"options":{{"validate_only":false}}}}"#), 200),
        ("/v1/events/batch", format!(r#"{{"events":[{event}],"options":{{"async":true}}}}"#), 202),
        ("/v1/events/batch", format!(r#"{{"events":[{event}],"options":null}}"#), 200),
    ] {
        let answer = api.post(path, body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
}
