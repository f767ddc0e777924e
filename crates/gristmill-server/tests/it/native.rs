//! `/v1/events` and `/v1/events/batch`.

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::support::{Api, NOW};

#[tokio::test]
async fn one_event_bare_or_wrapped_is_accepted_with_its_position() {
    let api = Api::new();
    let event = json!({"id": "e1", "user_id": "u", "event_type": "view"});
    for body in [event.clone(), json!({"event": event})] {
        let answer = api.post("/v1/events", body.to_string()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, "application/json")
        );
        let body = answer.json();
        assert_eq!((&body["accepted"], &body["rejected"]), (&json!(1), &json!(0)));
        assert_eq!(body["results"], json!([{"index": 0, "id": "e1", "status": "accepted"}]));
        let position = body["position"].as_str().unwrap();
        let target = format!("/v1/analytics/summary?at_least={position}");
        assert_eq!(api.get(&target).await.json()["total_events"], 1);
    }
}

#[tokio::test]
async fn batches_come_as_array_object_and_lines() {
    let api = Api::new();
    let line = |n: u32| format!(r#"{{"id":"e{n}","user_id":"u","event_type":"t"}}"#);
    let array = format!("[{},{}]", line(1), line(2));
    let object = format!(r#"{{"events":[{}]}}"#, line(3));
    assert_eq!(api.post("/v1/events/batch", array).await.json()["accepted"], 2);
    assert_eq!(api.post("/v1/events/batch", object).await.json()["accepted"], 1);

    let lines = format!("{}\r\n\n{}\nnot json\n{}", line(4), line(5), line(6));
    let request = Request::post("/v1/events/batch?wait=visible")
        .header("content-type", "application/x-ndjson; charset=utf-8")
        .body(Body::from(lines));
    let body = api.send(request.unwrap()).await.json();
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(3), &json!(1)), "{body}");
    assert_eq!(body["results"][2]["code"], "invalid_body", "{body}");
    assert_eq!(api.total_events().await, 6);
}

#[tokio::test]
async fn partial_success_names_each_event_and_its_outcome() {
    let api = Api::new();
    let events = json!([
        {"id": "a", "user_id": "u", "event_type": "t"},
        {"id": "b", "user_id": "u"},
        {"id": "a", "user_id": "u", "event_type": "t"},
        {"id": "a", "user_id": "v", "event_type": "t"},
    ]);
    let answer = api.post("/v1/events/batch?wait=visible", events.to_string()).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    let statuses: Vec<_> =
        (0..4).map(|index| body["results"][index]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["stored", "rejected", "duplicate", "stored"], "{body}");
    let rejected = &body["results"][1];
    assert_eq!((&rejected["code"], &rejected["id"]), (&json!("invalid_event"), &json!("b")));
    assert!(rejected["message"].as_str().unwrap().contains("event_type"), "{body}");
    assert_eq!(api.total_events().await, 2);
}

#[tokio::test]
async fn nothing_accepted_is_422_with_results_and_an_empty_batch_is_200() {
    let api = Api::new();
    let answer = api.post("/v1/events", r#"{"id":"x \" y"}"#).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let body = answer.json();
    for key in ["type", "title", "detail", "message", "error", "request_id"] {
        assert!(body[key].is_string(), "{key} in {body}");
    }
    assert_eq!((&body["status"], &body["code"]), (&json!(422), &json!("invalid_event")));
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(0), &json!(1)));
    assert_eq!(body["results"][0]["id"], "x \" y");

    let answer = api.post("/v1/events/batch", "[]").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["results"], json!([]));
}

#[tokio::test]
async fn idempotency_key_makes_a_repeated_request_the_same_events() {
    let api = Api::new();
    let send = async |key: &str| {
        let request = Request::post("/v1/events?wait=visible")
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Body::from(r#"{"user_id":"u","event_type":"t"}"#));
        api.send(request.unwrap()).await
    };
    assert_eq!(send("k1").await.json()["results"][0]["status"], "stored");
    assert_eq!(send("k1").await.json()["results"][0]["status"], "duplicate");
    assert_eq!(send("k2").await.json()["results"][0]["status"], "stored");
    assert_eq!(send(&"k".repeat(257)).await.status, 400);
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_refused() {
    use std::io::Write;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let api = Api::new();
    let send = async |encoding: &str, body: Vec<u8>| {
        let request = Request::post("/v1/events")
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(Body::from(body));
        api.send(request.unwrap()).await.status.as_u16()
    };
    let event = br#"{"user_id":"u","event_type":"t"}"#;
    assert_eq!(send("gzip", gzip(event)).await, 200);
    assert_eq!(send("zstd", zstd::encode_all(&event[..], 1).unwrap()).await, 200);
    let bomb = vec![b' '; 32 << 20];
    assert_eq!(send("gzip", gzip(&bomb)).await, 413);
    assert_eq!(send("zstd", zstd::encode_all(&bomb[..], 1).unwrap()).await, 413);
    assert_eq!(send("gzip", gzip(event)[..20].to_vec()).await, 400);
    assert_eq!(send("gzip", gzip(b"")).await, 400);
    assert_eq!(send("gzip", event.to_vec()).await, 400);
    assert_eq!(send("br", event.to_vec()).await, 415);
    assert_eq!(send("gzip, gzip", gzip(&gzip(event))).await, 415);
}

#[tokio::test]
async fn request_ids_are_echoed_if_well_formed_and_made_otherwise() {
    let api = Api::new();
    let send = async |id: &str| {
        let request = Request::get("/nowhere").header("x-request-id", id);
        api.send(request.body(Body::empty()).unwrap()).await
    };
    let answer = send("mine-1").await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.json()["request_id"], "mine-1");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let other = send("no good").await;
    assert_eq!(other.header("x-request-id").len(), 32);
    assert_ne!(send("no good").await.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn events_cannot_choose_project_arrival_or_place() {
    let api = Api::new();
    let event = json!({
        "id": "e", "user_id": "u", "event_type": "t", "project": "other", "tenant_id": "other",
        "received_at": "2001-01-01T00:00:00Z", "offset": 9, "origin": "clicks",
        "properties": {"__proto__": {"x": 1}, "constructor": 1},
    });
    api.fill(&json!([event])).await;
    let user = api.get("/v1/analytics/users/u").await.json();
    assert_eq!(user["events"][0]["timestamp"], NOW.to_string());
    assert_eq!(user["events"][0]["properties"], event["properties"]);
    let origins = api.get("/v1/analytics/top?property=origin").await.json();
    assert_eq!(origins["values"][0]["value"], "native");
}
