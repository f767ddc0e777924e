//! What a process answers about itself that is a gateway and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use axum::routing::{MethodRouter, get};
use serde::Serialize;

use super::{Gateway, Group};
use crate::front::Ambience;
use crate::json::{self, Time};
use crate::ops::{SERVICE, health, text_page};
use crate::role::Role;
use crate::{exposition, openapi};

#[derive(Serialize)]
struct HealthBody {
    service: &'static str,
    status: &'static str,
    healthy: bool,
    ready: bool,
    version: &'static str,
    timestamp: Time,
    uptime_seconds: f64,
    /// By role and address: whether it can be reached.
    targets: BTreeMap<&'static str, BTreeMap<String, bool>>,
}

/// The paths that a gateway answers itself, each with how.
pub(crate) fn routes(gateway: &Arc<Gateway>) -> Vec<(&'static str, MethodRouter)> {
    let with = |answer: fn(&Gateway) -> Response| {
        let gateway = Arc::clone(gateway);
        get(move || std::future::ready(answer(&gateway)))
    };
    vec![
        ("/health", with(health)),
        ("/ready", with(ready)),
        ("/readyz", with(ready)),
        ("/livez", get(health::livez)),
        ("/actuator/health", with(actuator)),
        ("/metrics", with(metrics)),
        ("/v1/openapi.json", get(openapi::get)),
    ]
}

fn health(gateway: &Gateway) -> Response {
    let is_healthy = !gateway.outside.draining.is_cancelled();
    json::respond(health::status(is_healthy), &body(gateway, is_healthy))
}

fn ready(gateway: &Gateway) -> Response {
    let is_healthy = !gateway.outside.draining.is_cancelled();
    let body = body(gateway, is_healthy);
    json::respond(health::status(body.ready), &body)
}

fn actuator(gateway: &Gateway) -> Response {
    let is_up = !gateway.outside.draining.is_cancelled();
    health::actuator_answer(is_up)
}

fn metrics(gateway: &Gateway) -> Response {
    text_page(exposition::without_services(gateway))
}

fn body(gateway: &Gateway, healthy: bool) -> HealthBody {
    let Ambience { clock, started, version, .. } = &gateway.outside.ambience;
    let now = clock.now();
    let reached = |group: &Group| {
        group.targets().map(|(address, is_reached)| (address.to_string(), is_reached)).collect()
    };
    HealthBody {
        service: SERVICE,
        status: if healthy { "healthy" } else { "unhealthy" },
        healthy,
        ready: healthy && gateway.is_ready(),
        version,
        timestamp: Time(now),
        uptime_seconds: now.since(*started).max(0) as f64 / 1e6,
        targets: [
            (Role::Ingest.name(), reached(&gateway.ingest)),
            (Role::Query.name(), reached(&gateway.query)),
        ]
        .into(),
    }
}
