//! Health and readiness.
//!
//! `/livez` says that the process answers; `/readyz` that it should get traffic: it does not
//! drain and has once caught up with its log; `/ready` that all acknowledged events can be
//! queried at this moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::stats::{TotalsBody, totals};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::{Answer, Operation, Tag};

#[derive(JsonSchema, Serialize)]
struct HealthBody {
    #[serde(flatten)]
    totals: TotalsBody,
    status: &'static str,
    healthy: bool,
    version: &'static str,
    /// In the words of a system that had a broker where the log is.
    kafka_health: BrokersBody,
    details: BTreeMap<String, String>,
}

#[derive(JsonSchema, Serialize)]
struct BrokersBody {
    is_healthy: bool,
    brokers: [BrokerBody; 1],
    topics: [String; 1],
    /// In nanoseconds.
    response_time: u64,
    timestamp: Time,
}

#[derive(JsonSchema, Serialize)]
struct BrokerBody {
    id: u64,
    address: String,
    is_online: bool,
}

#[derive(JsonSchema, Serialize)]
struct ReadyBody {
    #[serde(flatten)]
    totals: TotalsBody,
    ready: bool,
    producer_ready: bool,
    consumer_ready: bool,
    stream_ready: bool,
    messages_processed: u64,
}

#[derive(JsonSchema, Serialize)]
struct ReadyzBody {
    status: &'static str,
    draining: bool,
    caught_up: bool,
    backlog_records: u64,
}

#[derive(JsonSchema, Serialize)]
struct StatusBody {
    status: &'static str,
}

/// What the document says of [`health`].
pub(crate) fn describe_health() -> Operation {
    good_or_not::<HealthBody>("Whether the server works, with totals", "Health")
}

/// Whether the server works, with everything that older health pages said.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let is_healthy = !app.draining.is_cancelled();
    let store = if app.services.store.is_available() { "available" } else { "not available" };
    let place = app.services.ingest.log_place();
    let is_log_available = app.services.ingest.is_available();
    let log = if is_log_available { "available" } else { "not available" };
    let is_online = is_healthy && is_log_available;
    let kafka_health = BrokersBody {
        is_healthy: is_online,
        brokers: [BrokerBody { id: 0, address: place.address.to_owned(), is_online }],
        topics: [place.name.to_owned()],
        response_time: (app.metrics.ack.mean_millis() * 1e6) as u64,
        timestamp: Time(app.now()),
    };
    let body = HealthBody {
        totals: totals(&app),
        status: if is_healthy { "healthy" } else { "unhealthy" },
        healthy: is_healthy,
        version: app.services.version,
        kafka_health,
        details: [("log".to_owned(), log.to_owned()), ("store".to_owned(), store.to_owned())]
            .into(),
    };
    json::respond(status(is_healthy), &body)
}

/// What the document says of [`ready`].
pub(crate) fn describe_ready() -> Operation {
    good_or_not::<ReadyBody>("Whether every acknowledged event can be queried", "Readiness")
}

/// 200 only when every acknowledged event can be queried, as far as the process's roles have to do with
/// that.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let totals = totals(&app);
    let is_draining = app.draining.is_cancelled();
    let is_ready = app.is_ready() && !is_draining;
    let body = ReadyBody {
        messages_processed: app.services.store.stats().stored,
        totals,
        ready: is_ready,
        producer_ready: !is_draining && app.services.ingest.is_available(),
        consumer_ready: is_ready,
        stream_ready: is_ready,
    };
    json::respond(status(is_ready), &body)
}

/// What the document says of [`livez`].
pub(crate) fn describe_livez() -> Operation {
    let answer = Answer::json::<StatusBody>("Status", "It does.");
    Operation::new(Tag::Operations, "Whether the process answers at all")
        .answers(StatusCode::OK, answer)
}

/// Whether the process answers at all.
pub(crate) async fn livez() -> Response {
    json::respond(StatusCode::OK, &StatusBody { status: "ok" })
}

/// What the document says of [`readyz`].
pub(crate) fn describe_readyz() -> Operation {
    good_or_not::<ReadyzBody>("Whether the server should get traffic", "TrafficReadiness")
}

/// Whether the server should get traffic.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let backlog_records = app.backlog();
    if app.is_ready() {
        app.has_caught_up.store(true, Relaxed);
    }
    let (caught_up, draining) = (app.has_caught_up.load(Relaxed), app.draining.is_cancelled());
    let is_ready = caught_up && !draining;
    let word = if is_ready { "ok" } else { "not ready" };
    let body = ReadyzBody { status: word, draining, caught_up, backlog_records };
    json::respond(status(is_ready), &body)
}

/// What the document says of [`actuator`].
pub(crate) fn describe_actuator() -> Operation {
    good_or_not::<StatusBody>("Health in the words of Spring Boot", "Status")
}

/// Health in the words of Spring Boot.
pub(crate) async fn actuator(State(app): State<Arc<App>>) -> Response {
    actuator_answer(!app.draining.is_cancelled())
}

/// The answer in the words of Spring Boot.
pub(crate) fn actuator_answer(is_up: bool) -> Response {
    let word = if is_up { "UP" } else { "OUT_OF_SERVICE" };
    json::respond(status(is_up), &StatusBody { status: word })
}

/// An operation that answers the same type with the statuses 200 and 503.
fn good_or_not<T: JsonSchema>(summary: &'static str, name: &str) -> Operation {
    Operation::new(Tag::Operations, summary)
        .answers(StatusCode::OK, Answer::json::<T>(name, "Yes."))
        .answers(StatusCode::SERVICE_UNAVAILABLE, Answer::json::<T>(name, "No, or not now."))
}

/// The status that says so.
pub(crate) fn status(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
