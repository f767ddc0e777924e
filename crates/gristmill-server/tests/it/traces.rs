//! Names of requests, and the spans that are told of them.

use std::sync::Arc;

use axum::body::Body;
use gristmill_server::{Attribute, FinishedSpan, Front, ServerConfig, SpanKind, Tracer};
use http::Request;
use tokio::sync::mpsc::Receiver;

use crate::support::{Answer, Platform, ingest_config};

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
        let platform = Platform::new(ingest_config());
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
async fn names_of_spans_are_ours_and_failures_are_marked() {
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
