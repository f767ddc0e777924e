//! The gRPC listener, as clients of the click platform call it.

use bytes::Bytes;
use gristmill_server::ServerConfig;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{Listening, PATIENCE};

const EVENT_COUNT: &str = "/analytics.AnalyticsService/GetEventCount";

/// A message of two texts, the fields 1 and 2, as gRPC frames it.
fn message(user: &str, page: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    for (tag, text) in [(0x0a, user), (0x12, page)] {
        payload.extend([tag, u8::try_from(text.len()).unwrap()]);
        payload.extend(text.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    framed.extend(payload);
    framed
}

/// The payload of the answer and the status that ends it.
async fn call(server: &Listening, path: &str, body: Vec<u8>) -> (Vec<u8>, String) {
    let stream = TcpStream::connect(server.grpc_address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap();
    let (head, body) = answer.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or(head.headers);
    let status = trailers["grpc-status"].to_str().unwrap().to_owned();
    (body.to_bytes().to_vec(), status)
}

#[tokio::test]
async fn clicks_are_counted_over_grpc() {
    let server = Listening::new(ServerConfig::default());
    let event = r#"{"id":"1","user_id":"ada","event_type":"click","page_url":"/p"}"#;
    let post = format!(
        "POST /v1/events?wait=visible HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{event}",
        event.len()
    );
    assert!(server.exchange(post.as_bytes()).await.contains("\"stored\""));

    let (answer, status) = call(&server, EVENT_COUNT, message("ada", "/p")).await;
    assert_eq!(status, "0");
    assert_eq!(answer[5..], *b"\x08\x01\x12\x03ada\x1a\x02/p");
    // Nobody has seen these: no error, and a count of 0, which the encoding leaves out.
    let (answer, status) = call(&server, EVENT_COUNT, message("bob", "/")).await;
    assert_eq!((status.as_str(), &answer[5..]), ("0", &b"\x12\x03bob\x1a\x01/"[..]));
}

#[tokio::test]
async fn what_is_no_call_is_told_so() {
    let server = Listening::new(ServerConfig::default());
    let (_, status) = call(&server, "/analytics.AnalyticsService/Nothing", Vec::new()).await;
    assert_eq!(status, "12", "unimplemented");
    let (_, status) = call(&server, EVENT_COUNT, vec![0, 0, 0, 0, 2, 0x0a, 9]).await;
    assert_eq!(status, "13", "a message that is cut short");
    let (_, status) = call(&server, "/gristmill.internal.v1.Relay/Handle", Vec::new()).await;
    assert_eq!(status, "3", "a relay without a head");
    let mut stream = TcpStream::connect(server.grpc_address).await.unwrap();
    let get = b"GET /v1/analytics/summary HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, get).await.unwrap();
    let answer = crate::support::read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 415") && answer.contains("gRPC"), "{answer}");
}
