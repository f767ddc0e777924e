//! `analytics.v1.EventIngestionService` and `analytics.ProducerService`, called by generated clients.

use std::collections::BTreeMap;

use gristmill_ingest::IngestConfig;
use gristmill_model::limits;
use gristmill_proto::analytics as older;
use gristmill_proto::analytics::producer_service_client::ProducerServiceClient;
use gristmill_proto::analytics::v1::event::EventData;
use gristmill_proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_proto::analytics::v1::{
    Event, IngestEventRequest, IngestEventsRequest, IngestOptions, TransactionEvent,
    TransactionType, UserContext, UserEvent,
};
use gristmill_server::ServerConfig;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::channel::Channel;
use crate::support::{Listening, NOW, Platform, ingest_config, post};

type Client = EventIngestionServiceClient<Channel>;

async fn client(server: &Listening) -> Client {
    EventIngestionServiceClient::new(Channel::to(server.grpc_address).await)
}

pub(crate) fn event(id: &str, user: &str, name: &str) -> Event {
    let (id, user_id, r#type) = (id.to_owned(), user.to_owned(), name.to_owned());
    Event { id, user_id, r#type, ..Event::default() }
}

fn one(event: Event, options: IngestOptions) -> IngestEventRequest {
    IngestEventRequest { event: Some(event), options: Some(options) }
}

fn visible() -> IngestOptions {
    IngestOptions { wait_visible: true, ..IngestOptions::default() }
}

/// The JSON that a route of the server answers.
async fn get(server: &Listening, target: &str) -> Value {
    body_of(&server.get(target).await)
}

fn body_of(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

async fn post_json(server: &Listening, path: &str, body: &Value) -> Value {
    let request = post(path, "", &body.to_string());
    body_of(&server.exchange(&request).await)
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let bad = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    bad.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_typed_event_is_the_same_event_over_grpc_and_over_rest() {
    let server = Listening::new(ServerConfig::default());
    let mut client = client(&server).await;
    let typed = Event {
        user_id: "ada".to_owned(),
        event_type: 1,
        timestamp: Some(prost_types::Timestamp { seconds: NOW.seconds() - 60, nanos: 0 }),
        properties: [("kind".to_owned(), "pro".to_owned())].into(),
        properties_json: r#"{"n":1}"#.to_owned(),
        event_data: Some(EventData::UserEvent(UserEvent {
            action: "click".to_owned(),
            page_url: "/p".to_owned(),
            user_context: Some(UserContext { is_new_user: true, ..UserContext::default() }),
            ..UserEvent::default()
        })),
        ..Event::default()
    };
    let answer = client.ingest_event(one(typed, visible())).await.unwrap().into_inner();
    assert!(answer.success, "{answer:?}");
    assert_eq!(answer.status, "stored");
    assert!(answer.metadata.is_some() && !answer.position.is_empty());

    // The same in protojson, and without an id: that is derived from the same content.
    let same = json!({"event": {"userId": "ada", "eventType": "EVENT_TYPE_USER",
        "timestamp": "2025-12-31T23:59:00Z",
        "userEvent": {"action": "click", "pageUrl": "/p", "userContext": {"isNewUser": true}},
        "properties": {"kind": "pro", "n": 1}}, "options": {"wait_visible": true}});
    let told = post_json(&server, "/v1/events", &same).await;
    assert_eq!(told["results"][0]["id"], answer.event_id, "{told}");
    assert_eq!(told["results"][0]["status"], "duplicate", "{told}");

    let user = get(&server, "/v1/analytics/users/ada").await;
    let kept = &user["events"][0];
    assert_eq!((&kept["event_type"], &kept["page_url"]), (&json!("click"), &json!("/p")), "{user}");
    assert_eq!(
        kept["properties"],
        json!({"user_event": {"action": "click", "page_url": "/p",
            "user_context": {"is_new_user": true}}, "kind": "pro", "n": 1})
    );
}

#[tokio::test]
async fn a_batch_tells_what_became_of_each_event() {
    let server = Listening::new(ServerConfig::default());
    let mut client = client(&server).await;
    let purchase = TransactionEvent {
        r#type: TransactionType::Purchase as i32,
        amount: f64::NAN,
        ..TransactionEvent::default()
    };
    let nan = Event {
        id: "c".to_owned(),
        event_data: Some(EventData::TransactionEvent(purchase)),
        ..Event::default()
    };
    let events = vec![event("a", "u", "t"), event("b", "u", ""), nan, event("a", "u", "t")];
    let request = IngestEventsRequest { events, options: Some(visible()) };
    let answer = client.ingest_events(request).await.unwrap().into_inner();
    let statuses: Vec<_> = answer.results.iter().map(|result| result.status.as_str()).collect();
    assert_eq!(statuses, ["stored", "rejected", "rejected", "duplicate"]);
    assert_eq!((answer.success, answer.processed_count, answer.failed_count), (false, 2, 2));
    assert_eq!(answer.failed_event_ids, ["b", "c"]);
    let errors: Vec<_> = answer.validation_errors.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(errors, ["events[1].event_type", "events[2]"]);
    assert_eq!(answer.results[1].pointer, "/event_type");
    let target = format!("/v1/analytics/summary?at_least={}", answer.position);
    assert_eq!(get(&server, &target).await["total_events"], 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_told_with_details() {
    let server = Listening::new(ServerConfig::default());
    let mut client = client(&server).await;
    let long = event(&"x".repeat(limits::EVENT_ID_BYTES + 1), "u", "t");
    let status = client.ingest_event(one(long, visible())).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "invalid_event"));
    assert_eq!(fields(&status), ["event.id"]);
    let status = client.ingest_event(IngestEventRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["event".to_owned()]));
    let status = client.ingest_events(IngestEventsRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), fields(&status)),
        (Code::InvalidArgument, vec!["events".to_owned()])
    );
    let events = vec![event("", "u", "t"); limits::MESSAGE_EVENTS + 1];
    let many = IngestEventsRequest { events, options: None };
    let status = client.ingest_events(many).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "too_large"));
    let contradiction = IngestOptions { r#async: true, ..visible() };
    let status = client.ingest_event(one(event("", "u", "t"), contradiction)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let before = IngestOptions { timeout_seconds: -1, ..IngestOptions::default() };
    let status = client.ingest_event(one(event("", "u", "t"), before)).await.unwrap_err();
    assert_eq!(fields(&status), ["options.timeout_seconds"]);
    assert_eq!(get(&server, "/v1/analytics/summary").await["total_events"], 0);
}

#[tokio::test]
async fn a_server_without_room_says_when_to_come_again() {
    let config = IngestConfig { max_in_flight_bytes: 64 * 1024, ..ingest_config() };
    let server = Listening::over(ServerConfig::default(), Platform::new(config));
    let mut client = client(&server).await;
    let mut large = event("e", "u", "t");
    large.properties_json = format!("{{\"a\":\"{}\"}}", "x".repeat(100 * 1024));
    let status = client.ingest_event(one(large, visible())).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "overloaded"));
    let details = status.get_error_details();
    assert!(details.retry_info().and_then(|info| info.retry_delay).is_some_and(|d| !d.is_zero()));
    // What the refused call held is free again.
    assert!(client.ingest_event(one(event("e", "u", "t"), visible())).await.is_ok());
}

#[tokio::test]
async fn options_mean_what_they_say_over_grpc() {
    let server = Listening::new(ServerConfig::default());
    let mut client = client(&server).await;
    let only = IngestOptions { validate_only: true, ..IngestOptions::default() };
    let answer = client.ingest_event(one(event("a", "u", "t"), only)).await.unwrap().into_inner();
    assert_eq!((answer.success, answer.status.as_str()), (true, "valid"));
    let answer = client.ingest_event(one(event("a", "u", ""), only)).await.unwrap().into_inner();
    assert_eq!((answer.success, answer.status.as_str()), (false, "rejected"));
    assert_eq!(answer.validation_errors[0].field, "event_type");
    assert_eq!(get(&server, "/v1/analytics/summary").await["total_events"], 0);

    let queued = IngestOptions { r#async: true, ..IngestOptions::default() };
    let answer = client.ingest_event(one(event("a", "u", "t"), queued)).await.unwrap().into_inner();
    assert_eq!((answer.status.as_str(), answer.position.as_str()), ("queued", ""));
    let all = IngestEventsRequest { events: vec![event("b", "u", "t"); 2], options: Some(queued) };
    let answer = client.ingest_events(all).await.unwrap().into_inner();
    assert_eq!((answer.processed_count, answer.failed_count), (2, 0));
}

#[tokio::test]
async fn options_mean_what_they_say_over_rest() {
    let server = Listening::new(ServerConfig::default());
    let event = json!({"id": "a", "user_id": "u", "event_type": "t"});
    let send = async |options: Value| {
        let body = json!({"events": [event, {"id": "b"}], "options": options});
        let request = post("/v1/events/batch", "", &body.to_string());
        let answer = server.exchange(&request).await;
        (crate::support::status_of(&answer), body_of(&answer))
    };
    let (status, body) = send(json!({"validate_only": true})).await;
    assert_eq!((status, &body["valid"], &body["accepted"]), (200, &json!(1), &json!(0)), "{body}");
    assert_eq!(body["results"][0]["status"], "valid");
    let (status, body) = send(json!({"async": true, "wait_visible": true})).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_body")), "{body}");
    assert_eq!(get(&server, "/v1/analytics/summary").await["total_events"], 0);
    let (status, body) = send(json!({"async": true})).await;
    assert_eq!((status, &body["queued"], &body["rejected"]), (202, &json!(1), &json!(1)), "{body}");
    // The queued event was appended before this one, so it is the duplicate or its original.
    let (status, body) = send(json!({"waitVisible": true, "timeout_seconds": 30})).await;
    assert_eq!(status, 200, "{body}");
    assert!(["stored", "duplicate"].contains(&body["results"][0]["status"].as_str().unwrap()));
}

#[tokio::test]
async fn what_was_queued_is_appended_before_the_server_ends() {
    let platform = Platform::stalled(ingest_config());
    let ingest = platform.services.ingest.clone();
    let mut server = Listening::over(ServerConfig::default(), platform);
    let mut client = client(&server).await;
    let queued = IngestOptions { r#async: true, ..IngestOptions::default() };
    client.ingest_event(one(event("a", "u", "t"), queued)).await.unwrap();
    drop(client);
    server.shutdown.cancel();
    server.running.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(ingest.stats().accepted, 1);
}

#[tokio::test]
async fn a_wait_that_is_too_long_ends_with_unknown() {
    let server = Listening::over(ServerConfig::default(), Platform::stalled(ingest_config()));
    let mut client = client(&server).await;
    let options = IngestOptions { timeout_seconds: 1, ..visible() };
    let status = client.ingest_event(one(event("a", "u", "t"), options)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::DeadlineExceeded, "deadline_exceeded")
    );
    assert!(status.message().contains("send the same again"), "{status}");
}

#[tokio::test]
async fn the_older_producer_answers_in_its_own_words() {
    let server = Listening::new(ServerConfig::default());
    let mut client = ProducerServiceClient::new(Channel::to(server.grpc_address).await);
    let event = |id: &str| older::Event {
        id: id.to_owned(),
        user_id: "u".to_owned(),
        event_type: "page_view".to_owned(),
        properties: BTreeMap::from([("page".to_owned(), "/home".to_owned())]),
        timestamp: NOW.seconds(),
        source: "web".to_owned(),
    };
    let answer = client.send_event(event("e1")).await.unwrap().into_inner();
    assert_eq!((answer.success, answer.message.as_str()), (true, "Event sent successfully"));
    assert_eq!(answer.event_id, "e1");
    let answer = client.send_event(event("")).await.unwrap().into_inner();
    let words = "Event ID and type are required";
    assert_eq!(
        (answer.success, answer.message.as_str(), answer.event_id.as_str()),
        (false, words, "")
    );

    let mut wrong = event("e3");
    wrong.timestamp = i64::MIN;
    let batch = older::BatchEventsRequest { events: vec![event("e1"), event("e2"), wrong] };
    let answer = client.send_batch_events(batch).await.unwrap().into_inner();
    assert_eq!((answer.success, answer.message.as_str()), (false, "Processed 2/3 events"));
    assert_eq!((answer.processed_count, answer.failed_event_ids), (2, vec!["e3".to_owned()]));
    let answer = client.send_batch_events(older::BatchEventsRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().message, "No events provided");
    let health = client.get_producer_health(older::HealthRequest {}).await.unwrap().into_inner();
    assert_eq!((health.healthy, health.timestamp), (true, NOW.seconds()));

    // The same event over HTTP is the same event.
    let same = json!({"id": "e1", "user_id": "u", "event_type": "page_view",
        "properties": {"page": "/home"}, "timestamp": NOW.seconds(), "source": "web"});
    let told = post_json(&server, "/events", &same).await;
    assert_eq!(told["success"], true, "{told}");
    let one = json!({"id": "last", "user_id": "u", "event_type": "t"});
    post_json(&server, "/v1/events?wait=visible", &one).await;
    assert_eq!(get(&server, "/v1/analytics/summary").await["total_events"], 3);
}

#[tokio::test]
async fn the_service_tells_its_health() {
    let server = Listening::new(ServerConfig::default());
    let health = client(&server).await.health(()).await.unwrap().into_inner();
    assert!(health.healthy && health.timestamp.is_some(), "{health:?}");
    assert_eq!((health.status.as_str(), health.services.len()), ("healthy", 1));
}
