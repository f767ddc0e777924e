//! Health and readiness.
//!
//! `/livez` says that the process answers; `/readyz` that it should get traffic: it does not
//! drain and has once caught up with its log; `/ready` that all acknowledged events can be
//! queried at this moment.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{SERVICE, TOPIC, stats};
use crate::app::App;
use crate::json;

/// Whether the server works, with everything that older health pages said.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let is_healthy = !app.draining.is_cancelled();
    let now = app.now().to_string();
    let mut body = stats::totals(&app);
    let more = json!({
        "status": if is_healthy { "healthy" } else { "unhealthy" },
        "healthy": is_healthy,
        "service": SERVICE,
        "version": app.services.version,
        "kafka_health": {
            "is_healthy": is_healthy,
            "brokers": [{"id": 0, "address": "embedded", "is_online": is_healthy}],
            "topics": [TOPIC],
            "response_time": (app.metrics.ack.mean_millis() * 1e6) as u64,
            "timestamp": now,
        },
        "details": {},
    });
    merge(&mut body, more);
    json::respond(status(is_healthy), &body)
}

/// 200 only when every acknowledged event can be queried.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let backlog = app.backlog();
    let is_draining = app.draining.is_cancelled();
    let is_ready = backlog == 0 && !is_draining;
    let mut body = stats::totals(&app);
    let more = json!({
        "ready": is_ready,
        "service": SERVICE,
        "producer_ready": !is_draining,
        "consumer_ready": is_ready,
        "stream_ready": is_ready,
        "messages_processed": app.services.store.stats().stored,
        "backlog_records": backlog,
    });
    merge(&mut body, more);
    json::respond(status(is_ready), &body)
}

/// Whether the process answers at all.
pub(crate) async fn livez() -> Response {
    json::answer(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())
}

/// Whether the server should get traffic.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let backlog = app.backlog();
    if backlog == 0 {
        app.has_caught_up.store(true, Relaxed);
    }
    let (has_caught_up, is_draining) =
        (app.has_caught_up.load(Relaxed), app.draining.is_cancelled());
    let is_ready = has_caught_up && !is_draining;
    let body = json!({
        "status": if is_ready { "ok" } else { "not ready" },
        "draining": is_draining,
        "caught_up": has_caught_up,
        "backlog_records": backlog,
    });
    json::respond(status(is_ready), &body)
}

/// Health in the words of Spring Boot.
pub(crate) async fn actuator(State(app): State<Arc<App>>) -> Response {
    let is_up = !app.draining.is_cancelled();
    let word = if is_up { "UP" } else { "OUT_OF_SERVICE" };
    json::respond(status(is_up), &json!({"status": word}))
}

fn status(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
