//! What a gateway does with calls, before a process that only echoes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use gristmill_proto::internal::{ResponseFrame, ResponseHead};
use gristmill_server::{Ambience, Front, GatewayConfig, Parts, ServerConfig, Tracer};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::calling::{Caller, EVENT_COUNT, ended, framed, slow_body, text};
use crate::support::{Listening, PATIENCE, Platform, ingest_config};

const STREAM: &str = "/analytics.v1.EventIngestionService/StreamEvents";
const RELAY: &str = "/gristmill.internal.v1.Relay/Handle";

/// A process that gives every message back.
struct Echoing {
    address: SocketAddr,
    running: JoinSet<()>,
    /// Set when a call has ended, in whatever way.
    ended: CancellationToken,
}

impl Echoing {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ended = CancellationToken::new();
        let (mut running, told) = (JoinSet::new(), ended.clone());
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let told = told.clone();
                let service = service_fn(move |request| {
                    std::future::ready(Ok::<_, Infallible>(echo(name, request, told.clone())))
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                connections.spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, running, ended }
    }
}

fn echo(
    name: &'static str,
    request: Request<Incoming>,
    ended: CancellationToken,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut trailers = HeaderMap::new();
    let body = if parts.uri.path() == RELAY {
        let head = Some(ResponseHead { status: 200, ..ResponseHead::default() });
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        // What is asked here is what the key allows.
        let frame = ResponseFrame { head, body: Bytes::from_static(br#"{"scopes":["read"]}"#) };
        let body = Body::from(framed(0, &frame.encode_to_vec()));
        Body::new(Echo { body, trailers: Some(trailers), _ended: None })
    } else {
        trailers.insert("grpc-status", HeaderValue::from_static("9"));
        trailers.insert("grpc-message", HeaderValue::from_static("not%20now"));
        trailers.insert("grpc-status-details-bin", HeaderValue::from_static("CAk"));
        let body = Body::new(body);
        Body::new(Echo { body, trailers: Some(trailers), _ended: Some(ended.drop_guard()) })
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("x-name", HeaderValue::from_static(name));
    for seen in [
        "grpc-timeout",
        "x-request-id",
        "x-api-key",
        "te",
        "grpc-encoding",
        "traceparent",
        "tracestate",
    ] {
        if let Some(value) = parts.headers.get(seen) {
            headers
                .insert(http::HeaderName::try_from(format!("seen-{seen}")).unwrap(), value.clone());
        }
    }
    response
}

struct Echo {
    body: Body,
    trailers: Option<HeaderMap>,
    _ended: Option<DropGuard>,
}

impl hyper::body::Body for Echo {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            frame => Poll::Ready(frame),
        }
    }
}

/// A gateway before these processes, which it has reached.
async fn gateway(ingest: &Echoing, query: &Echoing) -> Listening {
    gateway_to(ingest.address, query.address).await
}

/// A gateway before the processes at these addresses, which it has reached.
pub(crate) async fn gateway_to(ingest: SocketAddr, query: SocketAddr) -> Listening {
    gateway_with(ServerConfig::default(), ingest, query).await
}

async fn gateway_with(server: ServerConfig, ingest: SocketAddr, query: SocketAddr) -> Listening {
    let of = |address: SocketAddr| vec![format!("http://{address}").parse().unwrap()];
    let config = GatewayConfig {
        ingest: of(ingest),
        query: of(query),
        tries: 2,
        deadline: PATIENCE,
        max_in_flight_requests: 2,
        max_in_flight_bytes: 1 << 20,
        max_body_bytes: 1 << 20,
        tls: None,
    };
    let services = Platform::stalled(ingest_config()).services;
    let (clock, entropy) = (services.clock, services.entropy);
    let ambience = Ambience { clock, entropy, started: services.started, version: "0" };
    let parts = Parts::Gateway(config, ambience);
    let listening = Listening::serving(Front::of(server, parts));
    let reached = async {
        while !listening.get("/ready").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the gateway reaches nobody");
    listening
}

async fn next(body: &mut Incoming) -> Bytes {
    let frame = timeout(PATIENCE, body.frame()).await.expect("nothing comes back");
    frame.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn everything_of_a_call_goes_through_both_ways_as_it_comes() {
    let (ingest, query) = (Echoing::start("ingest").await, Echoing::start("query").await);
    let gateway = gateway(&ingest, &query).await;
    let mut caller = Caller::open(gateway.grpc_address).await;
    let headers = [
        ("grpc-timeout", "60S"),
        ("x-request-id", "mine"),
        ("x-api-key", "key"),
        ("grpc-encoding", "snappy"),
        ("connection-like", "x"),
    ];
    let (sender, body) = slow_body();
    let answer = caller.begin(STREAM, &headers, body).await;
    for (name, value) in [
        ("x-name", "ingest"),
        ("seen-grpc-timeout", "60S"),
        ("seen-x-request-id", "mine"),
        ("x-request-id", "mine"),
        ("seen-x-api-key", "key"),
        ("seen-te", "trailers"),
        ("seen-grpc-encoding", "snappy"),
    ] {
        assert_eq!(text(answer.headers(), name), value, "{name}");
    }
    let (parts, mut body) = answer.into_parts();
    for number in 0..3_u8 {
        let message = Bytes::from(framed(1, &[number]));
        sender.send(message.clone()).await;
        assert_eq!(next(&mut body).await, message);
    }
    drop(sender);
    let rest = ended(Response::from_parts(parts, body)).await;
    assert_eq!((rest.status(), rest.message()), ("9", "not%20now"));
    assert_eq!(text(&rest.trailers, "grpc-status-details-bin"), "CAk");

    for (path, name) in [
        ("/analytics.ProducerService/SendEvent", "ingest"),
        (EVENT_COUNT, "query"),
        ("/analytics.v1.MetricsService/GetMetrics", "query"),
        ("/analytics.ConsumerService/GetConsumerStats", "query"),
    ] {
        let answer = caller.call(path, &[], framed(0, b"x")).await;
        assert_eq!((text(&answer.headers, "x-name"), answer.status()), (name, "9"), "{path}");
    }
    let metrics = gateway.get("/metrics").await;
    let counted = "{method=\"analytics.v1.EventIngestionService/StreamEvents\",code=\"FAILED_PRECONDITION\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn calls_that_are_passed_on_are_told_of_and_belong_to_the_same_trace() {
    let (ingest, query) = (Echoing::start("ingest").await, Echoing::start("query").await);
    let services = Platform::stalled(ingest_config()).services;
    let (tracer, mut spans) = Tracer::new(0.0, 100, services.clock, services.entropy);
    let traced = ServerConfig { tracer: Some(tracer), ..ServerConfig::default() };
    let gateway = gateway_with(traced, ingest.address, query.address).await;
    let mut caller = Caller::open(gateway.grpc_address).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    let answer = caller.call(EVENT_COUNT, &headers, framed(0, b"x")).await;
    let [relay, call] = [spans.try_recv().unwrap(), spans.try_recv().unwrap()];
    assert_eq!([relay.name.as_str(), call.name.as_str()], ["relay", &EVENT_COUNT[1..]]);
    assert_eq!([relay.parent, call.parent], [Some(call.span_id), Some(0x00f0_67aa_0ba9_02b7)]);
    let seen = text(&answer.headers, "seen-traceparent");
    assert_eq!(seen, format!("00-{trace}-{:016x}-01", relay.span_id));
    assert_eq!(text(&answer.headers, "seen-tracestate"), "vendor=1");

    // A trace that nobody records goes on all the same.
    let parent = format!("00-{trace}-00f067aa0ba902b7-00");
    let answer = caller.call(EVENT_COUNT, &[("traceparent", &parent)], framed(0, b"x")).await;
    let seen = text(&answer.headers, "seen-traceparent");
    assert!(seen.starts_with(&format!("00-{trace}-")) && seen.ends_with("-00"), "{seen}");
    assert!(spans.try_recv().is_err());
}

#[tokio::test]
async fn streams_end_with_a_status_when_either_process_does() {
    let (mut ingest, query) = (Echoing::start("ingest").await, Echoing::start("query").await);
    let gateway = gateway(&ingest, &query).await;
    let mut caller = Caller::open(gateway.address).await;
    let (sender, body) = slow_body();
    sender.send(framed(0, b"x")).await;
    let killed = caller.begin(STREAM, &[], body).await;
    let (unary, body) = slow_body();
    let _passing = caller.begin(EVENT_COUNT, &[], body).await;
    // There is room for two.
    let refused = caller.call(EVENT_COUNT, &[], framed(0, b"")).await;
    assert_eq!(refused.status(), "14", "{refused:?}");

    ingest.running.shutdown().await;
    let killed = ended(killed).await;
    assert_eq!(killed.status(), "14", "{killed:?}");
    assert!(killed.message().contains("went%20away"), "{killed:?}");
    let refused = caller.call(STREAM, &[], framed(0, b"")).await;
    assert_eq!(refused.status(), "14", "{refused:?}");

    unary.give_up().await;
    timeout(PATIENCE, query.ended.cancelled()).await.expect("a call goes on without its client");
}

/// An address from which one connection goes on to another address, for as long as the task runs.
async fn cable_to(address: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap();
    let mut cable = JoinSet::new();
    cable.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(address).await.unwrap();
        // Its end is what is wanted of it.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    (between, cable)
}

#[tokio::test]
async fn a_stream_that_is_stuck_ends_behind_the_gateway_when_its_client_leaves() {
    let (ingest, query) = (Echoing::start("ingest").await, Echoing::start("query").await);
    let gateway = gateway(&ingest, &query).await;
    let (between, mut cable) = cable_to(gateway.address).await;
    let mut caller = Caller::open(between).await;
    let (sender, body) = slow_body();
    let _unread = caller.begin(STREAM, &[], body).await;
    // No answer is read, so at some point nobody takes anything any more.
    let piece = Bytes::from(vec![0; 64 * 1024]);
    let patience = Duration::from_millis(200);
    while timeout(patience, sender.send(piece.clone())).await.is_ok() {}
    assert!(!ingest.ended.is_cancelled());
    cable.shutdown().await;
    timeout(PATIENCE, ingest.ended.cancelled()).await.expect("it goes on without its client");
}

#[tokio::test]
async fn a_stopping_gateway_ends_streams_and_finishes_the_rest() {
    let (ingest, query) = (Echoing::start("ingest").await, Echoing::start("query").await);
    // Nothing of it may have to be cut.
    let patient = ServerConfig { drain_timeout: 10 * PATIENCE, ..ServerConfig::default() };
    let mut gateway = gateway_with(patient, ingest.address, query.address).await;
    let mut caller = Caller::open(gateway.address).await;
    let (_stream, body) = slow_body();
    let stream = caller.begin(STREAM, &[], body).await;
    let (unary, body) = slow_body();
    let passing = caller.begin(EVENT_COUNT, &[], body).await;
    gateway.shutdown.cancel();
    let stream = ended(stream).await;
    assert_eq!(stream.status(), "14", "{stream:?}");
    assert!(stream.message().contains("stops"), "{stream:?}");
    drop(unary);
    assert_eq!(ended(passing).await.status(), "9");
    let finished = timeout(PATIENCE, gateway.running.join_next()).await;
    finished.expect("it does not end").unwrap().unwrap().unwrap();
}
