//! What operators and their machines ask.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gristmill_server::ServerConfig;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{Api, Listening, NOW, Platform, ingest_config, post, read_all};

#[tokio::test]
async fn shared_pages_satisfy_every_older_client() {
    let api = Api::new();
    api.fill(&json!([{"id": "a", "user_id": "u", "event_type": "t"}, {"id": "a", "user_id": "u", "event_type": "t"}])).await;
    let health = api.get("/health").await;
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(
        (&health["status"], &health["kafka_health"]["is_healthy"]),
        (&json!("healthy"), &json!(true))
    );
    for key in [
        "service",
        "timestamp",
        "uptime_seconds",
        "messages_sent",
        "messages_error",
        "avg_latency_ms",
        "throughput_per_sec",
        "consumer",
        "stream",
    ] {
        assert!(!health[key].is_null(), "{key} in {health}");
    }
    let ready = api.get("/ready").await.json();
    for key in ["ready", "producer_ready", "consumer_ready", "stream_ready"] {
        assert_eq!(ready[key], true, "{key} in {ready}");
    }
    let stats = api.get("/stats").await.json();
    assert_eq!(stats["messages_sent"], 2);
    assert_eq!(stats["consumer"]["processed_events"], 2);
    assert_eq!(stats["consumer"]["last_message_time"], NOW.to_string());
    assert_eq!(stats["stream"]["events_filtered"], 1);
    let lag = api.get("/lag").await.json();
    assert!(lag["lag"]["events"].as_object().unwrap().values().all(|lag| lag == 0), "{lag}");
    assert_eq!(api.get("/actuator/health").await.json(), json!({"status": "UP"}));
    for path in ["/livez", "/readyz", "/v1/events/health", "/v1/analytics/health", "/livez/"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn mistakes_of_clients_are_no_errors_of_the_producer() {
    let api = Api::new();
    for path in ["/v1/events", "/v1/events/batch", "/ingest", "/events", "/activity"] {
        let answer = api.post(path, r#"{"events":[{}],"id":7}"#).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text);
    }
    for path in ["/stats", "/health"] {
        assert_eq!(api.get(path).await.json()["messages_error"], 0, "{path}");
    }
}

#[tokio::test]
async fn readiness_waits_for_what_was_acknowledged() {
    assert_eq!(Api::new().get("/ready").await.status, 200);
    let stalled = Api::over(Platform::stalled(ingest_config()));
    assert_eq!(stalled.post("/v1/events", r#"{"event_type":"t"}"#).await.status, 200);
    let ready = stalled.get("/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["backlog_records"], 1);
    assert_eq!(stalled.get("/readyz").await.status, 503);
    assert_eq!(stalled.get("/livez").await.status, 200);
}

#[tokio::test]
async fn readiness_waits_until_log_and_store_are_known_to_belong_together() {
    let platform = Platform::new(ingest_config());
    let settles = Arc::clone(&platform.services.settles);
    let api = Api::over(platform);
    for settled in [false, true] {
        settles.store(settled, Relaxed);
        let wanted = if settled { 200 } else { 503 };
        for path in ["/ready", "/readyz"] {
            assert_eq!(api.get(path).await.status, wanted, "{path}");
        }
    }
}

#[tokio::test]
async fn metrics_add_up_and_hold_no_text_of_clients() {
    let api = Api::new();
    let events = json!([
        {"id": "a", "user_id": "secret-user", "event_type": "secret-type"},
        {"id": "a", "user_id": "secret-user", "event_type": "secret-type"},
        {"id": "b"},
    ]);
    api.post("/v1/events/batch?wait=visible", events.to_string()).await;
    api.post("/ingest", "{").await;
    api.get("/secret-path").await;
    let answer = api.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "gristmill_events_received_total 4",
        "gristmill_events_accepted_total 2",
        "gristmill_events_rejected_total 2",
        "gristmill_events_processed_total{outcome=\"stored\"} 1",
        "gristmill_events_processed_total{outcome=\"duplicate\"} 1",
        "gristmill_consumer_lag_records 0",
        "gristmill_ingest_in_flight_bytes 0",
        "gristmill_ingest_ack_seconds_count 1",
        "gristmill_http_requests_total{route=\"/v1/events/batch\",status=\"2xx\"} 1",
        "gristmill_http_requests_total{route=\"other\",status=\"4xx\"} 1",
        "gristmill_build_info{version=\"0.0.0\"} 1",
        "process_start_time_seconds 1767225600",
    ] {
        assert!(answer.text.lines().any(|found| found == line), "{line} in\n{}", answer.text);
    }
    assert!(!answer.text.contains("secret"), "{}", answer.text);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let api = Api::new();
    let answer = api.get("/nowhere").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (404, "application/problem+json")
    );
    assert_eq!(answer.json()["code"], "not_found");
    let answer = api.get("/v1/events").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "POST"));
    assert_eq!(answer.json()["code"], "method_not_allowed");
    let answer = api.post("/v1/analytics/summary", "{}").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET,HEAD"));
}

#[tokio::test]
async fn metrics_stream_tells_real_numbers_at_once_and_ends_with_the_server() {
    let mut server = Listening::new(Default::default());
    server.exchange(&post("/v1/events?wait=visible", "", r#"{"event_type":"t"}"#)).await;
    let mut stream = server.connect().await;
    let request = b"GET /metrics/stream HTTP/1.1\r\nhost: a\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.unwrap();
    let mut seen = String::new();
    while seen.matches("event:metrics\ndata:{").count() < 2 {
        let mut buffer = [0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    let data = seen.split("data:").nth(1).unwrap().lines().next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["receivedTotal"], 1.0);
    assert_eq!(data["writtenTotal"], 1.0);
    assert_eq!(data["lag"], 0);
    assert_eq!(data["ts"], NOW.to_string());
    assert!(data["avgProcessingMs"].is_f64(), "{data}");

    server.shutdown.cancel();
    assert!(read_all(&mut stream).await.ends_with("0\r\n\r\n"));
    server.running.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn panic_ends_the_request_and_not_the_server() {
    struct Broken;
    impl gristmill_model::Clock for Broken {
        fn now(&self) -> gristmill_model::Timestamp {
            panic!("on purpose")
        }
    }
    let mut platform = Platform::new(ingest_config());
    platform.services.clock = std::sync::Arc::new(Broken);
    let api = Api::over(platform);
    let answer = api.get("/lag").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (500, &json!("internal")));
    assert!(!answer.text.contains("on purpose"), "{}", answer.text);
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_connection_goes_on_after_a_compaction_whose_body_comes_late() {
    let server = Listening::new(ServerConfig::default());
    let mut stream = server.connect().await;
    let head = b"POST /v1/store/compact HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head).await.unwrap();
    // Whatever the server does with the head alone is done when others have their answers.
    for _ in 0..20 {
        server.get("/livez").await;
    }
    let next = b"{}GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(next).await.unwrap();
    let answers = read_all(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}
