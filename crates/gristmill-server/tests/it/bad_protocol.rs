//! Bad HTTP over real sockets: a table of bytes and the status each gets, and a live server after.

use std::time::Duration;

use gristmill_server::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::support::{Listening, post, read_all, status_of};

const EVENT: &str = r#"{"event_type":"t"}"#;

#[tokio::test]
async fn bad_requests_get_the_stated_status_and_leave_nothing() {
    let server = Listening::new(ServerConfig::default());
    for (what, bytes, wanted) in requests() {
        let answer = server.exchange(&bytes).await;
        assert_eq!(status_of(&answer), wanted, "{what}: {answer}");
    }
    let summary = server.get("/v1/analytics/summary").await;
    assert!(summary.contains("\"total_events\":0"), "{summary}");
}

fn requests() -> Vec<(&'static str, Vec<u8>, u16)> {
    let get = |rest: &str| format!("GET {rest}\r\n\r\n").into_bytes();
    let headers =
        |count: usize| -> String { (0..count).map(|n| format!("x-{n}: 1\r\n")).collect() };
    let chunked = "transfer-encoding: chunked\r\n";
    let raw = |headers: &str, body: &str| {
        let start = "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
        format!("{start}{headers}\r\n{body}").into_bytes()
    };
    vec![
        ("wrong method", get("/v1/events HTTP/1.1\r\nhost: a"), 405),
        ("unknown path", get("/nowhere HTTP/1.1\r\nhost: a"), 404),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".to_vec(), 400),
        ("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), 400),
        (
            "header of 20 KiB",
            get(&format!("/livez HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(20 << 10))),
            431,
        ),
        (
            "header of 64 KiB",
            get(&format!("/livez HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(64 << 10))),
            431,
        ),
        ("101 headers", get(&format!("/livez HTTP/1.1\r\nhost: a\r\n{}x: y", headers(100))), 431),
        ("target of 9 KiB", get(&format!("/{} HTTP/1.1\r\nhost: a", "a".repeat(9 << 10))), 414),
        ("target of 20 KiB", get(&format!("/{} HTTP/1.1\r\nhost: a", "a".repeat(20 << 10))), 414),
        (
            "length, then chunks",
            raw(&format!("content-length: 2\r\n{chunked}"), "2\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunks, then length",
            raw(&format!("{chunked}Content-Length: 2\r\n"), "2\r\n{}\r\n0\r\n\r\n"),
            400,
        ),
        ("two lengths", raw("content-length: 18\r\ncontent-length: 2\r\n", EVENT), 400),
        ("negative length", raw("content-length: -1\r\n", EVENT), 400),
        ("overflowing length", raw("content-length: 99999999999999999999999\r\n", EVENT), 400),
        ("length over the limit", raw("content-length: 9999999999\r\n", EVENT), 413),
        ("bad chunk size", raw(chunked, "zz\r\n{}\r\n0\r\n\r\n"), 400),
        (
            "chunk extension of 1 MB",
            raw(chunked, &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "e".repeat(1 << 20))),
            400,
        ),
        ("unknown transfer encoding", raw("transfer-encoding: gzip\r\n", EVENT), 400),
        ("body shorter than its length", raw("content-length: 100\r\n", EVENT), 400),
        ("folded header", get("/livez HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded"), 400),
        ("NUL in a header", get("/livez HTTP/1.1\r\nhost: a\r\nx: a\0b"), 400),
        ("whole URL as target", get("http://a/livez HTTP/1.1\r\nhost: a"), 400),
        ("* as target", b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400),
        ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400),
        ("no host", get("/livez HTTP/1.1\r\nx: y"), 400),
        ("two hosts", get("/livez HTTP/1.1\r\nhost: a\r\nhost: b"), 400),
        ("empty gzip", post("/v1/events", "content-encoding: gzip\r\n", ""), 400),
    ]
}

#[tokio::test]
async fn harmless_oddities_are_answered() {
    let server = Listening::new(ServerConfig::default());
    let upgrade = "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\n\
        upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(status_of(&server.exchange(upgrade.as_bytes()).await), 200);
    let websocket =
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(status_of(&server.exchange(websocket.as_bytes()).await), 200);
    let trailers = "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n12\r\n{\"event_type\":\"t\"}\r\n0\r\nauthorization: x\r\n\r\n";
    assert_eq!(status_of(&server.exchange(trailers.as_bytes()).await), 200);
    assert_eq!(status_of(&server.exchange(b"GET /livez HTTP/1.0\r\n\r\n").await), 200);
}

#[tokio::test]
async fn bytes_after_a_body_are_a_request_of_their_own_and_judged_as_such() {
    let server = Listening::new(ServerConfig::default());
    let mut bytes = post("/v1/events", "", EVENT);
    bytes.extend_from_slice(b"garbage that is no request\r\n\r\n");
    let answer = server.exchange(&bytes).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 Bad Request"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 2, "{answer}");

    // The same hidden behind two lengths ends the connection before it is read.
    let hidden = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let smuggle = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    let answer = server.exchange(smuggle.as_bytes()).await;
    assert_eq!((status_of(&answer), answer.matches("HTTP/1.1").count()), (400, 1), "{answer}");
}

#[tokio::test]
async fn expectation_of_100_is_met_only_for_bodies_that_will_be_read() {
    let server = Listening::new(ServerConfig::default());
    let ask = |length: usize| {
        format!(
            "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = server.connect().await;
    stream.write_all(ask(1 << 30).as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(status_of(&answer), 413, "{answer}");

    let mut stream = server.connect().await;
    stream.write_all(ask(EVENT.len()).as_bytes()).await.unwrap();
    let mut first = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(EVENT.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(status_of(&read_all(&mut stream).await), 200);
}

#[tokio::test]
async fn refusals_come_at_once_also_to_clients_that_send_nothing_or_go_on_sending() {
    let server = Listening::new(ServerConfig::default());
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    for (path, length, status) in [
        ("/v1/events", 1 << 30, 413),
        ("/v1/events", 2 << 20, 413),
        ("/v1/events?wiat=visible", 100, 400),
        ("/v1/analytics/funnel", 1 << 20, 413),
    ] {
        let since = Instant::now();
        let mut stream = server.connect().await;
        stream.write_all(head(path, length).as_bytes()).await.unwrap();
        // The client keeps its side open.
        let answer = read_all(&mut stream).await;
        assert_eq!(status_of(&answer), status, "{path}: {answer}");
        assert!(answer.contains("connection: close"), "{path}: {answer}");
        assert!(since.elapsed() < Duration::from_secs(3), "{path}: {:?}", since.elapsed());
    }

    let length = 64 << 20;
    let mut stream = server.connect().await;
    stream.write_all(head("/v1/events", length).as_bytes()).await.unwrap();
    let piece = vec![b' '; 1 << 20];
    for _ in 0..64 {
        stream.write_all(&piece).await.unwrap();
    }
    assert_eq!(status_of(&read_all(&mut stream).await), 413);

    // A body that is there already does not cost the connection.
    let mut bytes = post("/v1/events?wiat=visible", "", EVENT);
    bytes.extend_from_slice(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = server.exchange(&bytes).await;
    assert_eq!((status_of(&answer), answer.matches("HTTP/1.1").count()), (400, 2), "{answer}");
}

#[tokio::test]
async fn silence_is_cut_off_at_every_stage() {
    let short = Duration::from_millis(200);
    let server = Listening::new(ServerConfig {
        header_timeout: short,
        keep_alive_timeout: short,
        body_idle_timeout: short,
        body_timeout: short,
        ..ServerConfig::default()
    });
    let half_preface = b"PRI * HTTP/2.0\r\n";
    let body = post("/v1/events", "", EVENT);
    let answered = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    for (what, bytes, wanted) in [
        ("nothing", &b""[..], 0),
        ("half a head", b"GET /livez HTTP/1.1\r\nhos", 0),
        ("half an HTTP/2 preface", half_preface, 0),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
        ("half a body", &body[..body.len() - 3], 408),
        ("one request and then nothing", answered, 200),
        ("half a second head", b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET /livez HT", 200),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert_eq!(status_of(&answer), wanted, "{what}: {answer}");
    }
}
