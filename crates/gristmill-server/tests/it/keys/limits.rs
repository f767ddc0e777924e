//! How much may be sent with a key.

use gristmill_model::Timestamp;
use gristmill_proto::analytics::producer_service_client::ProducerServiceClient;
use gristmill_proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_proto::analytics::v1::stream_events_request::Request as Sent;
use gristmill_proto::analytics::v1::{
    IngestEventRequest, IngestEventsRequest, IngestOptions, StreamEventsRequest,
};
use gristmill_proto::analytics::{BatchEventsRequest, Event as OlderEvent};
use gristmill_server::{Front, needs_of_paths};
use serde_json::{Value, json};
use tonic::{Code, Request};

use super::{Keyed, send};
use crate::channel::Channel;
use crate::ingest_calls::event;
use crate::support::{ADMIN_KEY, Listening, with_admin_key};

fn events(from: u32, count: u32) -> Value {
    let event = |n: u32| json!({"id": format!("{n}"), "user_id": "u", "event_type": "t"});
    (from..from + count).map(event).collect()
}

#[tokio::test]
async fn a_quota_of_events_is_exact_and_begins_anew_at_midnight() {
    let keyed = Keyed::new();
    let limits = json!({"events_per_day": 10});
    let (key, _) = keyed.key_with(json!({"scopes": ["write", "read"], "limits": limits})).await;
    keyed.clock.advance(Timestamp::DAY - 5_000_000);
    let first = keyed.post(&key, "/v1/events/batch", &events(0, 8)).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(first.header("ratelimit-policy"), "\"events-day\";q=10;w=86400");
    assert_eq!(first.header("ratelimit"), "\"events-day\";r=2;t=5");
    let refused = keyed.post(&key, "/v1/events/batch", &events(8, 3)).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert_eq!(refused.json()["code"], "quota_exceeded");
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(refused.header("ratelimit"), "\"events-day\";r=2;t=5");
    assert_eq!(keyed.post(&key, "/v1/events/batch", &events(8, 2)).await.status, 200);
    assert_eq!(keyed.post(&key, "/v1/events", &events(10, 1)[0]).await.status, 429);
    // Questions are not what is limited, and say nothing of it.
    let asked = keyed.get(&key, "/v1/analytics/summary").await;
    assert_eq!((asked.status.as_u16(), asked.header("ratelimit")), (200, ""));
    keyed.clock.advance(5_000_000);
    let next = keyed.post(&key, "/v1/events/batch?wait=visible", &events(10, 10)).await;
    assert_eq!(next.status, 200, "{}", next.text);
    let total = keyed.get(&key, "/v1/analytics/summary").await.json()["total_events"].clone();
    assert_eq!(total, 20, "what was refused is not there");
}

#[tokio::test]
async fn a_rate_holds_on_average() {
    let keyed = Keyed::new();
    let limits = json!({"events_per_second": 10});
    let (key, _) = keyed.key_with(json!({"scopes": ["write"], "limits": limits})).await;
    let post = async |from, count| keyed.post(&key, "/v1/events/batch", &events(from, count)).await;
    let first = post(0, 30).await;
    assert_eq!(first.status, 200, "a batch passes although it is larger than a second's");
    assert_eq!(first.header("ratelimit-policy"), "\"events\";q=10;w=1");
    assert_eq!(first.header("ratelimit"), "\"events\";r=0;t=3");
    let refused = post(30, 1).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "3"));
    keyed.clock.advance(2_000_001);
    assert_eq!(post(30, 1).await.status, 200);
}

#[tokio::test]
async fn bytes_are_counted_as_they_are_without_their_encoding() {
    let keyed = Keyed::new();
    let body = events(0, 20).to_string();
    let limits = json!({"bytes_per_day": body.len() + 10});
    let (key, _) = keyed.key_with(json!({"scopes": ["write"], "limits": limits})).await;
    let answer = keyed.send("POST", "/v1/events/batch", &[("x-api-key", &key)], &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("ratelimit").starts_with("\"bytes-day\";r=10;"));
    let again = keyed.send("POST", "/v1/events/batch", &[("x-api-key", &key)], &body).await;
    assert_eq!(again.status, 429);
}

#[tokio::test]
async fn no_way_in_goes_past_the_limits() {
    let bodies = [
        ("/v1/events", json!({"id": "n", "user_id": "u", "event_type": "t"})),
        ("/v1/events/batch", events(0, 1)),
        ("/ingest", json!({"event_id": "c", "user_id": "u", "event_type": "x", "page_url": "/"})),
        ("/events", json!({"id": "p", "event_type": "view", "user_id": "u"})),
        ("/events/async", json!({"id": "q", "event_type": "view", "user_id": "u"})),
        ("/events/batch", json!({"events": [{"id": "r", "event_type": "view", "user_id": "u"}]})),
        (
            "/activity",
            json!({"user_id": "u", "activity_type": "l", "timestamp": "2025-12-01T00:00:00Z",
                "metadata": {"page_url": "/"}}),
        ),
    ];
    for (path, ..) in needs_of_paths().into_iter().filter(|(_, asking, _)| *asking == "write") {
        let (_, body) = bodies.iter().find(|(known, _)| *known == path).unwrap_or_else(|| {
            panic!("nothing is sent to {path}");
        });
        let keyed = Keyed::new();
        // The second byte is one too many, which is only known when the body has been read.
        for limits in [json!({"bytes_per_day": 2}), json!({"events_per_day": 1})] {
            let wanted = json!({"scopes": ["write"], "limits": limits});
            let (key, _) = keyed.key_with(wanted).await;
            let statuses = [
                keyed.post(&key, path, body).await.status.as_u16(),
                keyed.post(&key, path, body).await.status.as_u16(),
            ];
            let is_of_bytes = limits["bytes_per_day"] == 2;
            assert_eq!(statuses[1], 429, "{path} {limits}");
            assert_eq!(statuses[0] == 429, is_of_bytes, "{path} {limits}: {statuses:?}");
        }
    }
}

#[tokio::test]
async fn quotas_hold_over_processes_and_restarts() {
    let keyed = Keyed::new();
    let limits = json!({"events_per_day": 10});
    let (key, _) = keyed.key_with(json!({"scopes": ["write"], "limits": limits})).await;
    let other = Front::new(with_admin_key(), keyed.services.clone());
    other.refresh_keys().await.unwrap();
    let headers = [("x-api-key", key.as_str())];
    let there = async |body: Value| {
        send(&other, "POST", "/v1/events/batch", &headers, &body.to_string()).await.status.as_u16()
    };
    assert_eq!(keyed.post(&key, "/v1/events/batch", &events(0, 6)).await.status, 200);
    assert_eq!(there(events(6, 2)).await, 200);
    // Both tell the store, and hear of each other.
    keyed.front.tell_usage().await;
    other.tell_usage().await;
    keyed.front.refresh_keys().await.unwrap();
    assert_eq!(there(events(8, 3)).await, 429);
    assert_eq!(keyed.post(&key, "/v1/events/batch", &events(8, 3)).await.status, 429);
    assert_eq!(keyed.post(&key, "/v1/events/batch", &events(8, 2)).await.status, 200);
    keyed.front.tell_usage().await;
    let restarted = Front::new(with_admin_key(), keyed.services.clone());
    restarted.refresh_keys().await.unwrap();
    let one = events(10, 1).to_string();
    let answer = send(&restarted, "POST", "/v1/events/batch", &headers, &one).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    let none = [("x-api-key", ADMIN_KEY)];
    let answer = send(&restarted, "POST", "/v1/events/batch", &none, &one).await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, ""));
}

/// A call that carries a key.
fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-api-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn no_call_goes_past_the_limits() {
    let keyed = Keyed::new();
    let server = Listening::serving(keyed.front.clone());
    let channel = Channel::to(server.grpc_address).await;
    let mut ingestion = EventIngestionServiceClient::new(channel.clone());
    let mut producer = ProducerServiceClient::new(channel);
    let limits = json!({"events_per_day": 5});
    let (key, _) = keyed.key_with(json!({"scopes": ["write", "read"], "limits": limits})).await;

    let one = |id: &str, options| IngestEventRequest {
        event: Some(event(id, "u", "t")),
        options: Some(options),
    };
    let checked = IngestOptions { validate_only: true, ..IngestOptions::default() };
    ingestion.ingest_event(with_key(&key, one("a", checked))).await.unwrap();
    ingestion.ingest_event(with_key(&key, one("a", IngestOptions::default()))).await.unwrap();
    let events = |ids: &[&str]| IngestEventsRequest {
        events: ids.iter().map(|id| event(id, "u", "t")).collect(),
        options: None,
    };
    ingestion.ingest_events(with_key(&key, events(&["b", "c"]))).await.unwrap();
    let older = |id: &str| OlderEvent {
        id: id.to_owned(),
        user_id: "u".to_owned(),
        event_type: "t".to_owned(),
        ..OlderEvent::default()
    };
    producer.send_event(with_key(&key, older("d"))).await.unwrap();
    let batch = BatchEventsRequest { events: vec![older("x"), older("y")] };
    let refused = producer.send_batch_events(with_key(&key, batch)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let refused = ingestion.ingest_events(with_key(&key, events(&["x", "y"]))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");

    let sent = |id: &str| StreamEventsRequest { request: Some(Sent::Event(event(id, "u", "t"))) };
    let last = futures_util::stream::iter([sent("e")]);
    let mut answers = ingestion.stream_events(with_key(&key, last)).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let beyond = futures_util::stream::iter([sent("x")]);
    let end = match ingestion.stream_events(with_key(&key, beyond)).await {
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a stream went past the limit"),
                    Err(status) => break status,
                }
            }
        }
        Err(status) => status,
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
}
