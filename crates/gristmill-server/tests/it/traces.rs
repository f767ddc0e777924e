//! Names of requests, and the spans that are told of them.

use std::sync::Arc;

use axum::body::Body;
use gristmill_proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_proto::analytics::v1::stream_events_request::Request as Streamed;
use gristmill_proto::analytics::v1::{IngestEventRequest, StreamEventsRequest};
use gristmill_server::{Attribute, FinishedSpan, Front, ServerConfig, SpanKind, Tracer};
use http::Request;
use tokio::sync::mpsc::Receiver;

use crate::calling::{Caller, EVENT_COUNT, framed, texts};
use crate::channel::Channel;
use crate::ingest_calls::event;
use crate::support::{ADMIN_KEY, Answer, Listening, Platform, ingest_config, with_admin_key};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const CALLER: u64 = 0x00f0_67aa_0ba9_02b7;

/// Routes whose requests are told in spans.
struct Traced {
    front: Front,
    spans: Receiver<FinishedSpan>,
    _platform: Platform,
}

impl Traced {
    fn new(share: f64, room: usize) -> (Self, Arc<Tracer>) {
        Self::over(Platform::new(ingest_config()), share, room)
    }

    fn over(platform: Platform, share: f64, room: usize) -> (Self, Arc<Tracer>) {
        let (clock, entropy) = (platform.services.clock.clone(), platform.services.entropy.clone());
        let (tracer, spans) = Tracer::new(share, room, clock, entropy);
        let config = ServerConfig { tracer: Some(Arc::clone(&tracer)), ..ServerConfig::default() };
        let front = Front::new(config, platform.services.clone());
        (Self { front, spans, _platform: platform }, tracer)
    }

    async fn send(&self, request: http::request::Builder, body: &'static str) -> Answer {
        let request = request.header("host", "a").header("content-type", "application/json");
        let request = request.body(Body::from(body)).unwrap();
        Answer::read(self.front.answer(request).await).await
    }

    /// The spans that have ended, in order.
    fn ended(&mut self) -> Vec<FinishedSpan> {
        std::iter::from_fn(|| self.spans.try_recv().ok()).collect()
    }
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE:032x}-{CALLER:016x}-{flags}")
}

#[tokio::test]
async fn request_of_a_trace_is_told_with_its_steps() {
    let (mut traced, _) = Traced::new(0.0, 100);
    let request = Request::post("/v1/events?wait=visible").header("traceparent", traceparent("01"));
    let answer = traced.send(request, r#"{"event_type":"t"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let [append, request] = &traced.ended()[..] else { panic!("not two spans") };
    assert_eq!((append.name.as_str(), append.kind), ("append", SpanKind::Internal));
    assert_eq!((request.name.as_str(), request.kind), ("POST /v1/events", SpanKind::Server));
    assert_eq!([append.trace_id, request.trace_id], [TRACE, TRACE]);
    assert_eq!([append.parent, request.parent], [Some(request.span_id), Some(CALLER)]);
    assert!(request.start <= append.start && append.end <= request.end);
    let status = ("http.response.status_code", Attribute::Number(200));
    assert!(request.attributes.contains(&status), "{request:?}");

    let request = Request::get("/v1/analytics/summary").header("traceparent", traceparent("01"));
    assert_eq!(traced.send(request, "").await.status, 200);
    let names: Vec<_> = traced.ended().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["query", "GET /v1/analytics/summary"]);
}

#[tokio::test]
async fn callers_decide_and_the_share_decides_for_the_rest() {
    let (mut none, _) = Traced::new(0.0, 100);
    let (mut all, _) = Traced::new(1.0, 100);
    for flags in ["00", "02"] {
        let request = || Request::get("/livez").header("traceparent", traceparent(flags));
        all.send(request(), "").await;
    }
    none.send(Request::get("/livez"), "").await;
    none.send(Request::get("/livez").header("traceparent", "00-nonsense-01"), "").await;
    assert_eq!((none.ended().len(), all.ended().len()), (0, 0));

    all.send(Request::get("/livez"), "").await;
    all.send(Request::get("/livez").header("traceparent", "00-nonsense-01"), "").await;
    let two = Request::get("/livez").header("traceparent", traceparent("01"));
    all.send(two.header("traceparent", traceparent("01")), "").await;
    let begun = all.ended();
    assert_eq!(begun.len(), 3);
    assert!(begun.iter().all(|span| span.parent.is_none() && span.trace_id != TRACE), "{begun:?}");
    assert_ne!(begun[0].trace_id, begun[1].trace_id);

    let (mut some, _) = Traced::new(0.5, 1_000);
    for _ in 0..200 {
        some.send(Request::get("/livez"), "").await;
    }
    let recorded = some.ended().len();
    assert!((50..=150).contains(&recorded), "{recorded} of 200");
}

#[tokio::test]
async fn failures_are_marked() {
    let (mut traced, _) = Traced::over(Platform::stalled(ingest_config()), 1.0, 100);
    assert_eq!(traced.send(Request::post("/v1/events"), r#"{"event_type":"t"}"#).await.status, 200);
    // What was acknowledged is never settled here.
    assert_eq!(traced.send(Request::get("/ready"), "").await.status, 503);
    // That is the client's fault.
    assert_eq!(traced.send(Request::get("/made/up"), "").await.status, 404);
    let failed: Vec<_> = traced.ended().into_iter().filter(|span| span.is_error).collect();
    assert!(matches!(&failed[..], [span] if span.name == "GET /ready"), "{failed:?}");
}

#[tokio::test]
async fn names_of_spans_are_ours() {
    let (mut traced, _) = Traced::new(1.0, 100);
    traced.send(Request::get("/v1/analytics/users/some-one-secret"), "").await;
    traced.send(Request::get("/made/up"), "").await;
    traced.send(Request::builder().method("MADEUP").uri("/livez"), "").await;
    let names: Vec<_> = traced.ended().into_iter().map(|span| span.name).collect();
    let expected = ["GET /v1/analytics/users/{id}", "GET other", "_OTHER /livez"];
    assert!(expected.iter().all(|name| names.iter().any(|it| it == name)), "{names:?}");
}

#[tokio::test]
async fn spans_without_room_are_counted_and_nobody_waits() {
    let (mut traced, tracer) = Traced::new(1.0, 2);
    for _ in 0..5 {
        assert_eq!(traced.send(Request::get("/livez"), "").await.status, 200);
    }
    assert_eq!((traced.ended().len(), tracer.dropped()), (2, 3));
}

/// A server with a key whose calls are told in spans.
fn listening(share: f64) -> (Listening, Receiver<FinishedSpan>) {
    let platform = Platform::new(ingest_config());
    let (clock, entropy) = (platform.services.clock.clone(), platform.services.entropy.clone());
    let (tracer, spans) = Tracer::new(share, 100, clock, entropy);
    let config = ServerConfig { tracer: Some(tracer), ..with_admin_key() };
    (Listening::over(config, platform), spans)
}

#[tokio::test]
async fn calls_belong_to_traces_and_no_key_is_told() {
    let (server, mut spans) = listening(0.0);
    let mut caller = Caller::open(server.grpc_address).await;
    let parent = traceparent("01");
    let message = || framed(0, &texts(&["ada", "/p"]));
    for (path, key, status) in [
        (EVENT_COUNT, ADMIN_KEY, "0"),
        (EVENT_COUNT, "a-wrong-key-of-somebody", "16"),
        ("/made.up/Call", ADMIN_KEY, "12"),
    ] {
        let headers = [("traceparent", parent.as_str()), ("x-api-key", key)];
        assert_eq!(caller.call(path, &headers, message()).await.status(), status, "{path}");
    }
    let told: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
    let known = EVENT_COUNT.trim_start_matches('/');
    let names: Vec<_> = told.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, [known, known, "other"]);
    assert!(told.iter().all(|span| span.trace_id == TRACE && span.parent == Some(CALLER)));
    let refused = ("rpc.grpc.status_code", Attribute::Number(16));
    assert!(told[1].attributes.contains(&refused), "{told:?}");
    assert_eq!([told[1].is_error, told[2].is_error], [false, true]);
    let text = format!("{told:?}");
    assert!(["key-of", "made.up", "ada"].iter().all(|secret| !text.contains(secret)), "{text}");
}

#[tokio::test]
async fn events_of_calls_and_streams_are_appended_as_a_part_of_them() {
    let (server, mut spans) = listening(0.0);
    let channel = Channel::to(server.grpc_address).await;
    let mut client = EventIngestionServiceClient::new(channel);
    let named = |mut metadata: tonic::metadata::MetadataMap| {
        metadata.insert("traceparent", traceparent("01").parse().unwrap());
        metadata.insert("x-api-key", ADMIN_KEY.parse().unwrap());
        metadata
    };
    let mut request = tonic::Request::new(IngestEventRequest {
        event: Some(event("1", "ada", "t")),
        ..IngestEventRequest::default()
    });
    *request.metadata_mut() = named(request.metadata().clone());
    client.ingest_event(request).await.unwrap();
    let [append, call] = [spans.recv().await.unwrap(), spans.recv().await.unwrap()];
    assert_eq!((append.name.as_str(), append.parent), ("append", Some(call.span_id)));
    assert_eq!(call.name, "analytics.v1.EventIngestionService/IngestEvent");

    let events = [StreamEventsRequest { request: Some(Streamed::Event(event("2", "ada", "t"))) }];
    let mut request = tonic::Request::new(futures_util::stream::iter(events));
    *request.metadata_mut() = named(request.metadata().clone());
    let mut answers = client.stream_events(request).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let [call, append] = [spans.recv().await.unwrap(), spans.recv().await.unwrap()];
    assert_eq!(call.name, "analytics.v1.EventIngestionService/StreamEvents");
    assert_eq!((append.name.as_str(), append.parent), ("append", Some(call.span_id)));
}

#[tokio::test]
async fn events_that_are_only_queued_are_appended_as_a_part_of_their_request() {
    let (mut traced, _) = Traced::new(1.0, 100);
    let batch = r#"{"events":[{"event_type":"t"}],"options":{"async":true}}"#;
    let answer = traced.send(Request::post("/v1/events/batch"), batch).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let first = traced.spans.recv().await.unwrap();
    let second = traced.spans.recv().await.unwrap();
    let (append, request) = match first.name.as_str() {
        "append" => (first, second),
        _ => (second, first),
    };
    assert_eq!((append.name.as_str(), append.parent), ("append", Some(request.span_id)));
}
