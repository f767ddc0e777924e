//! Calls as browsers make them.

use gristmill_server::ServerConfig;

use crate::calling::{EVENT_COUNT, framed, texts};
use crate::support::{Listening, read_all, status_of};

const ORIGIN: &str = "http://localhost:5173";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// The request of a page, over HTTP/1.1.
pub(crate) fn request(path: &str, content_type: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\norigin: {ORIGIN}\r\nx-grpc-web: 1\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_page_of_the_allowed_origin_calls_and_reads_how_it_ended() {
    let server = Listening::new(ServerConfig::default());
    let message = framed(0, &texts(&["ada", "/p"]));
    for address in [server.address, server.grpc_address] {
        let bytes =
            request(EVENT_COUNT, "application/grpc-web+proto", "x-request-id: mine\r\n", &message);
        let answer = server.exchange_at(address, &bytes).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        for header in [
            "content-type: application/grpc-web+proto",
            "x-request-id: mine",
            "access-control-allow-origin: http://localhost:5173",
        ] {
            assert!(answer.contains(header), "no {header} in {answer}");
        }
        let mut lines = answer.lines();
        let exposed = lines.find(|line| line.starts_with("access-control-expose-headers: "));
        for name in [
            "x-request-id",
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "grpc-encoding",
        ] {
            let names = exposed.and_then(|line| line.split_once(": "));
            let is_exposed = names.is_some_and(|(_, names)| names.split(',').any(|it| it == name));
            assert!(is_exposed, "{name} in {exposed:?}");
        }
        assert!(answer.contains("\0\0\0\0\u{9}\u{12}\u{3}ada\u{1a}\u{2}/p"), "{answer:?}");
        assert!(answer.contains("grpc-status:0\r\n"), "{answer:?}");
    }
    // An error before any message stands in the head.
    let bytes = request("/analytics.AnalyticsService/No", "application/grpc-web", "", b"");
    let answer = server.exchange(&bytes).await;
    assert!(answer.contains("grpc-status: 12"), "{answer}");
}

#[tokio::test]
async fn pages_call_in_text_too() {
    let server = Listening::new(ServerConfig::default());
    // The message of the user `ada` and the page `/p`, in base64.
    let message = b"AAAAAAkKA2FkYRICL3A=";
    for accept in ["", "accept: application/grpc-web-text\r\n", "accept: */*\r\n"] {
        let bytes = request(EVENT_COUNT, "application/grpc-web-text", accept, message);
        let answer = server.exchange(&bytes).await;
        assert!(answer.contains("content-type: application/grpc-web-text+proto"), "{answer}");
        assert!(answer.contains("AAAAAAkSA2FkYRoCL3A="), "{answer}");
        // The trailers begin with a byte of 0x80.
        assert!(answer.contains("gAAAA"), "{answer}");
    }
}

#[tokio::test]
async fn streams_come_to_pages_message_by_message() {
    let server = Listening::new(ServerConfig::default());
    for (content_type, message, first, end) in [
        (
            "application/grpc-web+proto",
            &b"\0\0\0\0\0"[..],
            "\0\0\0\0\u{2}\u{8}\u{1}",
            "grpc-status:0",
        ),
        ("application/grpc-web-text+proto", b"AAAAAAA=", "AAAAAAIIAQ==", "gAAAA"),
    ] {
        let server = Listening::new(ServerConfig::default());
        let mut stream = server.connect().await;
        let bytes = request(WATCH, content_type, "", message);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.unwrap();
        let begun = crate::support::read_until(&mut stream, first).await;
        assert!(!begun.contains(end), "{begun}");
        server.shutdown.cancel();
        let rest = read_all(&mut stream).await;
        assert!(rest.contains(end), "{content_type}: {rest}");
    }
    assert_eq!(status_of(&server.get("/livez").await), 200);
}

#[tokio::test]
async fn only_pages_of_the_allowed_origin_may_call() {
    let server = Listening::new(ServerConfig::default());
    let preflight = |origin: &str| {
        format!(
            "OPTIONS {EVENT_COUNT} HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\n\
             access-control-request-headers: content-type,x-grpc-web\r\nconnection: close\r\n\r\n"
        )
        .into_bytes()
    };
    for address in [server.address, server.grpc_address] {
        let answer = server.exchange_at(address, &preflight(ORIGIN)).await;
        assert_eq!(status_of(&answer), 204, "{answer}");
        let allowed = answer.split("access-control-allow-headers: ").nth(1).unwrap_or_default();
        let allowed: Vec<_> = allowed.lines().next().unwrap_or_default().split(',').collect();
        for header in ["content-type", "x-grpc-web", "grpc-timeout", "x-api-key"] {
            assert!(allowed.contains(&header), "{answer}");
        }
        assert!(answer.contains("access-control-allow-methods: GET,POST"), "{answer}");
        assert!(answer.contains(&format!("access-control-allow-origin: {ORIGIN}")), "{answer}");
        let answer = server.exchange_at(address, &preflight("http://evil")).await;
        assert!(!answer.contains("access-control-allow"), "{answer}");
    }
    let get = format!(
        "GET {EVENT_COUNT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\n\
         connection: close\r\n\r\n"
    );
    assert_eq!(status_of(&server.exchange(get.as_bytes()).await), 405);
    // Relays are not for browsers, on whatever address.
    let relay = "/gristmill.internal.v1.Relay/Handle";
    let bytes = request(relay, "application/grpc-web", "", &framed(0, b""));
    let answer = server.exchange_at(server.grpc_address, &bytes).await;
    assert!(answer.contains("grpc-status: 12"), "{answer}");
}
