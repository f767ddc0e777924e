//! A server that has no room says so, in the words of each route.

use axum::body::Body;
use gristmill_ingest::IngestConfig;
use http::Request;
use serde_json::json;

use crate::support::{Api, Platform, ingest_config};

#[tokio::test]
async fn store_that_is_behind_turns_requests_away_with_retry_after() {
    let config = IngestConfig { max_backlog_records: 1, ..ingest_config() };
    let api = Api::over(Platform::stalled(config));
    for id in ["a", "b"] {
        let event = json!({"id": id, "event_type": "t"}).to_string();
        assert_eq!(api.post("/v1/events", event).await.status, 200);
    }
    let event = r#"{"id":"c","event_type":"t"}"#;
    let answer = api.post("/v1/events", event).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"));
    assert_eq!(answer.json()["code"], "overloaded");

    for (path, content_type, key) in [
        ("/ingest", "text/plain; charset=utf-8", ""),
        ("/events", "application/json", "message"),
        ("/events/async", "application/json", "error"),
        ("/events/batch", "application/json", "message"),
        ("/activity", "application/json; charset=utf-8", "error"),
    ] {
        let answer = api.post(path, event).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"), "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert!(key.is_empty() || answer.json()[key].is_string(), "{path}: {}", answer.text);
    }
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("gristmill_ingest_refused_total{reason=\"behind\"} 6"), "{metrics}");
}

#[tokio::test]
async fn bodies_over_the_limit_are_413_announced_or_not() {
    let config = IngestConfig { max_body_bytes: 1_000, ..ingest_config() };
    let api = Api::over(Platform::new(config));
    let event = format!(r#"{{"event_type":"t","source":"{}"}}"#, "s".repeat(1_000));
    assert_eq!(api.post("/v1/events", event.clone()).await.status, 413);
    let pieces = event.into_bytes().chunks(100).map(<[u8]>::to_vec).collect();
    let request = Request::post("/v1/events").header("content-type", "application/json");
    let answer = api.send(request.body(Body::new(Unannounced(pieces))).unwrap()).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["code"], "too_large");
    assert_eq!(api.total_events().await, 0);
}

#[tokio::test]
async fn waiting_for_what_does_not_come_ends_with_504() {
    let platform = Platform::stalled(ingest_config());
    let config = gristmill_server::ServerConfig {
        visible_timeout: std::time::Duration::from_millis(50),
        ..Default::default()
    };
    let front = gristmill_server::Front::new(config, platform.services.clone());
    let request = Request::post("/v1/events?wait=visible")
        .header("host", "a")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"event_type":"t"}"#));
    assert_eq!(front.answer(request.unwrap()).await.status(), 504);
}

/// A body in pieces that does not tell its length.
struct Unannounced(std::collections::VecDeque<Vec<u8>>);

impl hyper::body::Body for Unannounced {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Ready(
            self.0.pop_front().map(|piece| Ok(hyper::body::Frame::data(piece.into()))),
        )
    }
}
