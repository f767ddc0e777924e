//! Calls of gRPC to the real binary, alone and behind a gateway.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use gristmill_testkit::{Behind, Deployment, Request, TestServer, wait_until};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::load::PATIENCE;
use crate::support::server;

const EVENT_COUNT: &str = "/analytics.AnalyticsService/GetEventCount";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// The user `ada` and the page `/p`, as a message.
const ADA: &[u8] = b"\0\0\0\0\x09\x0a\x03ada\x12\x02/p";
const NOTHING: &[u8] = b"\0\0\0\0\0";

/// How a call ended.
#[derive(Debug)]
struct Ended {
    status: String,
    body: Bytes,
    request_id: String,
}

fn call(address: SocketAddr, path: &str, message: &'static [u8]) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let calling = async {
        let io = TokioIo::new(tokio::net::TcpStream::connect(address).await?);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = handshake.await?;
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-request-id", "mine")
            .body(Full::new(Bytes::from_static(message)))?;
        let answering = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().unwrap_or(&head.headers);
            let text = |headers: &http::HeaderMap, name: &str| {
                let value = headers.get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let status = text(trailers, "grpc-status");
            let request_id = text(&head.headers, "x-request-id");
            anyhow::Ok(Ended { status, request_id, body: body.to_bytes() })
        };
        tokio::select! {
            ended = answering => ended,
            closed = connection => anyhow::bail!("the connection ended: {closed:?}"),
        }
    };
    let patient = async { tokio::time::timeout(PATIENCE, calling).await };
    runtime.block_on(patient).with_context(|| path.to_owned())?
}

fn grpc_address(server: &TestServer) -> anyhow::Result<SocketAddr> {
    Ok(server.grpc_url()?.trim_start_matches("http://").parse()?)
}

fn click(front: &TestServer) -> anyhow::Result<()> {
    let event = json!({"id": "1", "user_id": "ada", "event_type": "click", "page_url": "/p"});
    front.post_json("/v1/events?wait=visible", &event).map(drop)
}

#[test]
fn a_gateway_passes_calls_on_and_answers_as_one_process_would() -> anyhow::Result<()> {
    let deployment = Deployment::behind_gateway(server().grpc(), &[Behind::all(server())])?;
    let front = deployment.front();
    click(front)?;
    for address in [front.address(), grpc_address(front)?] {
        let ended = call(address, EVENT_COUNT, ADA)?;
        assert_eq!((ended.status.as_str(), ended.request_id.as_str()), ("0", "mine"));
        assert_eq!(&ended.body[..], b"\0\0\0\0\x0b\x08\x01\x12\x03ada\x1a\x02/p");
        assert_eq!(call(address, HEALTH, NOTHING)?.body[..], *b"\0\0\0\0\x02\x08\x01");
        for (path, message, status) in [
            (EVENT_COUNT, &b"\0\0\0\0\x02\x0a\x09"[..], "13"),
            ("/analytics.AnalyticsService/Nothing", NOTHING, "12"),
            ("/no.Service/Nothing", NOTHING, "12"),
            ("/gristmill.internal.v1.Relay/Handle", NOTHING, "12"),
        ] {
            let ended = call(address, path, message)?;
            assert_eq!(
                (ended.status.as_str(), ended.request_id.as_str()),
                (status, "mine"),
                "{path}"
            );
        }
    }
    let from_page = Request::new("POST", EVENT_COUNT)
        .header("content-type", "application/grpc-web-text")
        .body("AAAAAAkKA2FkYRICL3A=");
    let answer = front.send(&from_page)?;
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("AAAAAAsIARIDYWRhGgIvcA=="), "{}", answer.text());
    Ok(())
}

#[test]
fn calls_go_to_who_is_there_and_without_anybody_the_client_is_told() -> anyhow::Result<()> {
    let behind = [Behind::all(server()), Behind::all(server())];
    let mut deployment = Deployment::behind_gateway(server().grpc(), &behind)?;
    let address = grpc_address(deployment.front())?;
    deployment.behind()[0].kill9()?;
    // A call that is on its way to the dead one may be lost; the next ones go to the other.
    let answered = || (call(address, EVENT_COUNT, ADA).ok()?.status == "0").then_some(());
    wait_until("an answer", PATIENCE, answered)?;
    for _ in 0..20 {
        assert_eq!(call(address, EVENT_COUNT, ADA)?.status, "0");
    }
    deployment.behind()[1].kill9()?;
    let is_down =
        || (call(address, HEALTH, NOTHING).ok()?.body.ends_with(b"\x08\x02")).then_some(());
    wait_until("the gateway to notice", PATIENCE, is_down)?;
    let ended = call(address, EVENT_COUNT, ADA)?;
    assert_eq!((ended.status.as_str(), ended.request_id.as_str()), ("14", "mine"));
    deployment.behind()[1].restart()?;
    wait_until("an answer after a restart", PATIENCE, answered)?;
    Ok(())
}

/// The port that is the default.
const DEFAULT: &str = "127.0.0.1:50051";

#[test]
fn a_port_that_only_the_default_wants_may_be_taken_and_one_that_was_asked_for_may_not()
-> anyhow::Result<()> {
    // Whoever has it, it is taken.
    let _taken = TcpListener::bind(DEFAULT);
    let mut unasked = server().default_grpc().start()?;
    assert!(unasked.log().contains("no port for gRPC alone"), "{}", unasked.log());
    click(&unasked)?;
    assert_eq!(call(unasked.address(), EVENT_COUNT, ADA)?.status, "0", "the other port serves it");
    ensure!(unasked.terminate()?.success());

    let mut asked = server().argument("--grpc-listen").argument(DEFAULT).start_unready()?;
    assert!(!asked.wait_exit()?.success());
    assert!(asked.log().contains("server.grpc_listen"), "{}", asked.log());
    Ok(())
}

#[test]
fn a_stopping_process_says_that_it_does_not_serve_and_ends_in_time() -> anyhow::Result<()> {
    let mut process = server().grpc().start()?;
    assert_eq!(call(grpc_address(&process)?, HEALTH, NOTHING)?.body[..], *b"\0\0\0\0\x02\x08\x01");
    let waited = gristmill_testkit::Stopwatch::start();
    ensure!(process.terminate()?.success());
    assert!(waited.elapsed() < Duration::from_secs(20), "{:?}", waited.elapsed());
    Ok(())
}
