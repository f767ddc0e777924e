//! Totals and lag, in the shapes of the older systems together.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use gristmill_model::Timestamp;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::SERVICE;
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::{Answer, Operation, Tag};

/// What all of `/health`, `/ready` and `/stats` tell.
#[derive(JsonSchema, Serialize)]
pub(super) struct TotalsBody {
    service: &'static str,
    timestamp: Time,
    uptime_seconds: f64,
    messages_sent: u64,
    /// Mistakes of clients do not count: dashboards take this for errors of the producer.
    messages_error: u64,
    bytes_sent: u64,
    avg_latency_ms: f64,
    throughput_per_sec: f64,
    consumer: ConsumerBody,
    stream: StreamBody,
    store: StoreBody,
    pub(super) backlog_records: u64,
}

/// What became of events behind the log.
#[derive(JsonSchema, Serialize)]
pub(crate) struct ConsumerBody {
    pub(crate) processed_events: u64,
    pub(crate) failed_events: u64,
    retried_events: u64,
    dlq_events: u64,
    /// Per second since the process started.
    pub(crate) processing_rate: f64,
    avg_processing_ms: f64,
    pub(crate) last_message_time: Option<Time>,
}

#[derive(JsonSchema, Serialize)]
struct StreamBody {
    events_processed: u64,
    events_filtered: u64,
    events_error: u64,
    avg_latency_ms: f64,
    throughput_per_sec: f64,
}

#[derive(JsonSchema, Serialize)]
struct StoreBody {
    stored: u64,
    duplicate: u64,
    quarantined: u64,
    expired: u64,
    hot_rows: u64,
    parts: u64,
    part_bytes: u64,
    merge_debt_rows: u64,
}

#[derive(JsonSchema, Serialize)]
struct LagBody {
    service: &'static str,
    /// By the name of the log and the number of the partition.
    lag: BTreeMap<String, BTreeMap<String, u64>>,
    timestamp: Time,
}

/// What the document says of [`stats`].
pub(crate) fn describe_stats() -> Operation {
    let answer = Answer::json::<TotalsBody>("Totals", "The totals.");
    Operation::new(Tag::Operations, "Totals of both ends and of the store")
        .answers(StatusCode::OK, answer)
}

/// Totals of both ends and of the store.
pub(crate) async fn stats(State(app): State<Arc<App>>) -> Response {
    json::respond(StatusCode::OK, &totals(&app))
}

/// What the document says of [`lag`].
pub(crate) fn describe_lag() -> Operation {
    let answer = Answer::json::<LagBody>("Lag", "The lag.");
    Operation::new(Tag::Operations, "How many records of each partition cannot be queried yet")
        .answers(StatusCode::OK, answer)
}

/// How many records of each partition cannot be queried yet.
pub(crate) async fn lag(State(app): State<Arc<App>>) -> Response {
    let committed = app.services.store.progress().committed;
    let durable = app.services.ingest.durable();
    let lag = durable.iter().map(|(partition, next)| {
        (partition.0.to_string(), next.saturating_sub(committed.next(partition)))
    });
    let body = LagBody {
        service: SERVICE,
        lag: [(app.services.ingest.log_place().name.to_owned(), lag.collect())].into(),
        timestamp: Time(app.now()),
    };
    json::respond(StatusCode::OK, &body)
}

/// What became of events behind the log.
pub(crate) fn consumer(app: &App) -> ConsumerBody {
    totals(app).consumer
}

/// The totals now.
pub(super) fn totals(app: &App) -> TotalsBody {
    let (store, ingest, metrics) =
        (app.services.store.stats(), app.services.ingest.stats(), &app.metrics);
    let uptime_seconds = app.uptime() as f64 / Timestamp::SECOND as f64;
    let rate = |count: u64| if uptime_seconds > 0.0 { count as f64 / uptime_seconds } else { 0.0 };
    let processed = store.stored + store.duplicate;
    let visible_ms = metrics.visible.mean_millis();
    TotalsBody {
        service: SERVICE,
        timestamp: Time(app.now()),
        uptime_seconds,
        messages_sent: ingest.accepted,
        messages_error: ingest.failed,
        bytes_sent: metrics.received_bytes.get(),
        avg_latency_ms: metrics.ack.mean_millis(),
        throughput_per_sec: rate(ingest.accepted),
        consumer: ConsumerBody {
            processed_events: processed,
            failed_events: store.quarantined,
            retried_events: 0,
            dlq_events: store.quarantined,
            processing_rate: rate(processed),
            avg_processing_ms: visible_ms,
            last_message_time: metrics.last_accepted().map(Time),
        },
        stream: StreamBody {
            events_processed: store.stored,
            events_filtered: store.duplicate + store.expired,
            events_error: store.quarantined,
            avg_latency_ms: visible_ms,
            throughput_per_sec: rate(processed),
        },
        store: StoreBody {
            stored: store.stored,
            duplicate: store.duplicate,
            quarantined: store.quarantined,
            expired: store.expired,
            hot_rows: store.hot_rows,
            parts: store.parts,
            part_bytes: store.part_bytes,
            merge_debt_rows: store.merge_debt_rows,
        },
        backlog_records: app.backlog(),
    }
}
