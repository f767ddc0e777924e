//! Many connections, slow ones, HTTP/2, and the end of the server.

use std::time::Duration;

use bytes::Bytes;
use gristmill_server::ServerConfig;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::{Listening, PATIENCE, Platform, ingest_config, post, read_all, status_of};

#[tokio::test]
async fn thousand_slow_clients_disturb_nobody() {
    let server = Listening::new(ServerConfig::default());
    let mut slow = Vec::new();
    let body = post("/v1/events", "", &"x".repeat(1_000));
    for number in 0..1_000 {
        let mut stream = server.connect().await;
        let bytes = if number % 2 == 0 { &body[..30] } else { &body[..body.len() - 900] };
        stream.write_all(bytes).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..50 {
        let since = Instant::now();
        let answer = server.exchange(&post("/v1/events", "", r#"{"event_type":"t"}"#)).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    }
    assert_eq!(slow.len(), 1_000);
}

#[tokio::test]
async fn connection_over_the_limit_is_told_and_room_comes_back() {
    let server = Listening::new(ServerConfig { max_connections: 1, ..ServerConfig::default() });
    let mut first = server.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let answer = server.get("/livez").await;
    assert_eq!(status_of(&answer), 503);
    assert!(answer.contains("retry-after: 1"), "{answer}");
    drop(first);
    let again = async {
        while status_of(&server.get("/livez").await) != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
    let metrics = server.get("/metrics").await;
    assert!(!metrics.contains("gristmill_http_connections_refused_total 0"), "{metrics}");
}

#[tokio::test]
async fn client_that_does_not_read_is_given_up() {
    let short = Duration::from_millis(300);
    let server = Listening::new(ServerConfig {
        write_timeout: short,
        keep_alive_timeout: short,
        header_timeout: short,
        ..ServerConfig::default()
    });
    let mut stream = server.connect().await;
    // Answers of many megabytes, none of which is read.
    let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10_000);
    let cut = timeout(PATIENCE, async { while stream.write_all(&request).await.is_ok() {} });
    cut.await.expect("the server keeps a client that does not read");
}

#[tokio::test]
async fn requests_in_flight_are_answered_before_the_server_ends() {
    let platform = Platform::stalled(ingest_config());
    let (log, store) = (platform.log.clone(), platform.services.store.clone());
    let mut server = Listening::over(ServerConfig::default(), platform);
    let mut waiting = server.connect().await;
    waiting.write_all(&post("/v1/events?wait=visible", "", r#"{"event_type":"t"}"#)).await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    wait_until_logged(&log).await;

    server.shutdown.cancel();
    // The idle connection ends at once, the busy one when its events are visible.
    read_all(&mut idle).await;
    assert!(
        tokio::net::TcpStream::connect(server.address).await.is_err()
            || server.get("/livez").await.is_empty()
    );
    let log: std::sync::Arc<dyn gristmill_log::EventLog> = log;
    let processor = gristmill_process::Processor::new(log, store);
    let mut settling = JoinSet::new();
    settling.spawn(processor.run());
    let answer = read_all(&mut waiting).await;
    assert!(answer.contains("\"status\":\"stored\""), "{answer}");
    timeout(PATIENCE, server.running.join_next()).await.unwrap().unwrap().unwrap().unwrap();
}

async fn wait_until_logged(log: &gristmill_log::MemoryLog) {
    use gristmill_log::EventLog;
    let logged = async {
        while log.durable().iter().all(|(_, next)| next == 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, logged).await.unwrap();
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let server = Listening::new(ServerConfig::default());
    let stream = server.connect().await;
    post_over_http_2(stream, &format!("http://{}/v1/events", server.address)).await;
}

/// Posts events to a URL over one connection, and expects each to be accepted.
pub(crate) async fn post_over_http_2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &str,
) {
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for _ in 0..3 {
        let request = Request::post(url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(br#"{"event_type":"t"}"#)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{\"accepted\":1"), "{body:?}");
    }
}

#[tokio::test]
async fn rapid_resets_over_http_2_end_the_connection_only() {
    let server = Listening::new(ServerConfig::default());
    let mut stream = server.connect().await;
    let mut bytes =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    // `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`, then a reset, a thousand times.
    for number in 0..1_000_u32 {
        let stream_id = (number * 2 + 1).to_be_bytes();
        bytes.extend_from_slice(&[0, 0, 6, 1, 5]);
        bytes.extend_from_slice(&stream_id);
        bytes.extend_from_slice(&[0x82, 0x86, 0x84, 0x41, 1, b'a']);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&stream_id);
        bytes.extend_from_slice(&[0, 0, 0, 8]);
    }
    let _ = stream.write_all(&bytes).await;
    let mut answer = Vec::new();
    let goaway = timeout(PATIENCE, async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..length]);
        }
    });
    goaway.await.expect("the server lets a client reset for ever");
    assert!(frame_types(&answer).contains(&GOAWAY), "{:?}", frame_types(&answer));
    assert_eq!(status_of(&server.get("/livez").await), 200);
}

const GOAWAY: u8 = 7;

/// The types of the HTTP/2 frames in `bytes`, in order.
fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [high, middle, low, kind, rest @ ..] = bytes {
        types.push(*kind);
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        // The flags and the stream's id come before the payload.
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    types
}
