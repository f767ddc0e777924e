//! What goes on for long ends with the key that it was begun with.

use axum::body::Body;
use gristmill_model::Timestamp;
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::subscribe_request::Question;
use gristmill_server::ServerConfig;
use http::Request;
use http_body_util::BodyExt;
use prost::Message;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Keyed;
use crate::calling::{Caller, ended, first, framed, slow_body};
use crate::grpc_web;
use crate::support::{Listening, PATIENCE, read_all, read_until, status_of};

const SUBSCRIBE: &str = "/analytics.v1.AnalyticsService/Subscribe";

/// Two keys that are valid until they are ended.
struct Ending {
    keyed: Keyed,
    keys: [String; 2],
    id: String,
}

impl Ending {
    async fn new() -> Self {
        let keyed = Keyed::new();
        let scopes = ["write", "read"];
        let (revoked, id) = keyed.key("p", &scopes).await;
        let wanted = json!({"project": "p", "scopes": scopes, "ttl": "1d"});
        let (expired, _) = keyed.key_with(wanted).await;
        Self { keyed, keys: [revoked, expired], id }
    }

    /// Revokes one and lets the other expire.
    async fn end(&self) {
        self.keyed.revoke(&self.id).await;
        self.keyed.clock.advance(Timestamp::DAY);
    }
}

/// A subscription to the summary.
fn subscribe() -> Vec<u8> {
    let question = Some(Question::Summary(v1::GetAnalyticsSummaryRequest::default()));
    let request = v1::SubscribeRequest { question, ..v1::SubscribeRequest::default() };
    framed(0, &request.encode_to_vec())
}

#[tokio::test]
async fn streams_of_calls_end_unauthenticated() {
    let ending = Ending::new().await;
    let server = Listening::serving(ending.keyed.front.clone());
    let mut caller = Caller::open(server.grpc_address).await;
    let (mut open, mut sending) = (Vec::new(), Vec::new());
    for key in &ending.keys {
        let (events, body) = slow_body();
        sending.push(events);
        for (path, body) in [
            (SUBSCRIBE, Body::from(subscribe())),
            ("/analytics.v1.AnalyticsService/GetRealTimeAnalytics", framed(0, b"").into()),
            ("/analytics.v1.MetricsService/StreamMetrics", framed(0, b"").into()),
            ("/analytics.v1.EventIngestionService/StreamEvents", body),
        ] {
            let mut answer = caller.begin(path, &[("x-api-key", key)], body).await;
            first(&mut answer).await.unwrap();
            open.push((path, answer));
        }
    }
    ending.end().await;
    for (path, answer) in open {
        let ended = ended(answer).await;
        assert_eq!(ended.status(), "16", "{path}: {}", ended.message());
    }
    drop(sending);
}

#[tokio::test]
async fn streams_to_pages_end_unauthenticated() {
    let ending = Ending::new().await;
    let server = Listening::serving(ending.keyed.front.clone());
    let mut open = Vec::new();
    for key in &ending.keys {
        let header = format!("x-api-key: {key}\r\n");
        let bytes =
            grpc_web::request(SUBSCRIBE, "application/grpc-web+proto", &header, &subscribe());
        let mut stream = server.connect().await;
        stream.write_all(&bytes).await.unwrap();
        let begun = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status_of(&begun), 200, "{begun}");
        assert!(!begun.contains("grpc-status:"), "{begun}");
        open.push(stream);
    }
    ending.end().await;
    for mut stream in open {
        let rest = read_all(&mut stream).await;
        assert!(rest.contains("grpc-status:16"), "{rest:?}");
    }
}

#[tokio::test]
async fn live_questions_end() {
    let ending = Ending::new().await;
    let mut open = Vec::new();
    for key in &ending.keys {
        for target in [
            "/v1/analytics/summary",
            "/v1/analytics/timeseries",
            "/v1/analytics/top?property=event_type",
            "/v1/analytics/users/ann",
            "/v1/analytics/retention?question=%7B%7D",
            "/metrics/stream",
        ] {
            let request = Request::get(target)
                .header("host", "a")
                .header("x-api-key", key)
                .header("accept", "text/event-stream");
            let answer = ending.keyed.front.answer(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status(), 200, "{target}");
            let mut body = answer.into_body();
            let begun = timeout(PATIENCE, body.frame()).await.unwrap();
            assert!(begun.is_some(), "{target} tells nothing");
            open.push((target, body));
        }
    }
    ending.end().await;
    for (target, mut body) in open {
        let end = async { while body.frame().await.is_some() {} };
        timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("{target} goes on"));
    }
}

#[tokio::test]
async fn what_was_begun_without_a_key_ends_when_the_first_is_made() {
    let keyed = Keyed::of(ServerConfig::default());
    let server = Listening::serving(keyed.front.clone());
    let mut caller = Caller::open(server.grpc_address).await;
    let mut answer = caller.begin(SUBSCRIBE, &[], subscribe()).await;
    first(&mut answer).await.unwrap();
    let mut live = server.connect().await;
    let head = "GET /v1/analytics/summary HTTP/1.0\r\naccept: text/event-stream\r\n\r\n";
    live.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut live, "event: revision").await;
    let made = keyed.send("POST", "/v1/keys", &[], r#"{"scopes": ["admin"]}"#).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(ended(answer).await.status(), "16");
    read_all(&mut live).await;
}
