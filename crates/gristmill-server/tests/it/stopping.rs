//! How a server stops.

use std::sync::Arc;

use axum::body::Body;
use gristmill_server::{Front, ServerConfig};
use http::Request;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{Answer, Listening, PATIENCE, Platform, ingest_config, post};

#[tokio::test]
async fn a_server_stops_by_one_deadline_and_counts_the_queued_events_that_it_gives_up() {
    let gate = Arc::new(Semaphore::new(0));
    let platform = Platform::held(ingest_config(), &gate);
    let config = ServerConfig::default();
    let drain_timeout = config.drain_timeout;
    let front = Front::new(config, platform.services.clone());
    let mut server = Listening::serving(front.clone());
    let queued = r#"{"events":[{"event_type":"a"},{"event_type":"b"}],"options":{"async":true}}"#;
    let answer = server.exchange(&post("/v1/events/batch", "", queued)).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    // A request that is under way for as long as the log takes nothing.
    let mut waiting = server.connect().await;
    waiting.write_all(&post("/v1/events", "", r#"{"event_type":"c"}"#)).await.unwrap();
    let under_way = async {
        while platform.services.ingest.stats().admission.requests < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, under_way).await.unwrap();

    // From here nothing happens but that time passes.
    tokio::time::pause();
    let begun = Instant::now();
    server.shutdown.cancel();
    server.running.join_next().await.unwrap().unwrap().unwrap();
    let taken = begun.elapsed();
    assert!(drain_timeout <= taken && taken < drain_timeout * 3 / 2, "{taken:?}");
    let request = Request::get("/metrics").header("host", "a").body(Body::empty()).unwrap();
    let metrics = Answer::read(front.answer(request).await).await.text;
    assert!(metrics.contains("gristmill_events_queued_lost_total 2\n"), "{metrics}");
}
