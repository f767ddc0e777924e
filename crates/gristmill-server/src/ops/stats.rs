//! Totals and lag, in the shapes of the older systems together.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use gristmill_model::Timestamp;
use http::StatusCode;
use serde_json::{Value, json};

use super::{SERVICE, TOPIC};
use crate::app::App;
use crate::json;

/// Totals of both ends and of the store.
pub(crate) async fn stats(State(app): State<Arc<App>>) -> Response {
    json::respond(StatusCode::OK, &totals(&app))
}

/// How many records of each partition cannot be queried yet.
pub(crate) async fn lag(State(app): State<Arc<App>>) -> Response {
    let committed = app.services.store.progress().committed;
    let durable = app.services.ingest.durable();
    let lag: BTreeMap<String, u64> = durable
        .iter()
        .map(|(partition, next)| {
            (partition.0.to_string(), next.saturating_sub(committed.next(partition)))
        })
        .collect();
    let body = json!({
        "service": SERVICE,
        "lag": {TOPIC: lag},
        "timestamp": app.now().to_string(),
    });
    json::respond(StatusCode::OK, &body)
}

/// What all of `/health`, `/ready` and `/stats` tell.
pub(crate) fn totals(app: &App) -> Value {
    let (store, ingest, metrics) =
        (app.services.store.stats(), app.services.ingest.stats(), &app.metrics);
    let uptime_seconds = app.uptime() as f64 / Timestamp::SECOND as f64;
    let rate = |count: u64| if uptime_seconds > 0.0 { count as f64 / uptime_seconds } else { 0.0 };
    let processed = store.stored + store.duplicate;
    let visible_ms = metrics.visible.mean_millis();
    json!({
        "service": SERVICE,
        "timestamp": app.now().to_string(),
        "uptime_seconds": uptime_seconds,
        "messages_sent": ingest.accepted,
        // Dashboards take this for errors of the producer, which mistakes of clients are not.
        "messages_error": ingest.failed,
        "bytes_sent": metrics.received_bytes.get(),
        "avg_latency_ms": metrics.ack.mean_millis(),
        "throughput_per_sec": rate(ingest.accepted),
        "consumer": {
            "processed_events": processed,
            "failed_events": store.quarantined,
            "retried_events": 0,
            "dlq_events": store.quarantined,
            "processing_rate": rate(processed),
            "avg_processing_ms": visible_ms,
            "last_message_time": metrics.last_accepted().map(|time| time.to_string()),
        },
        "stream": {
            "events_processed": store.stored,
            "events_filtered": store.duplicate + store.expired,
            "events_error": store.quarantined,
            "avg_latency_ms": visible_ms,
            "throughput_per_sec": rate(processed),
        },
        "store": {
            "stored": store.stored,
            "duplicate": store.duplicate,
            "quarantined": store.quarantined,
            "expired": store.expired,
            "hot_rows": store.hot_rows,
            "parts": store.parts,
            "part_bytes": store.part_bytes,
            "merge_debt_rows": store.merge_debt_rows,
        },
        "backlog_records": app.backlog(),
    })
}
