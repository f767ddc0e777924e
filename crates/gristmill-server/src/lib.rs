//! Speak: HTTP, status codes, server-sent events.
//!
//! Read [`Server`] for sockets, then `front.rs`, through which every request goes, then
//! `routes.rs`, which lists every path, then the routes themselves: `native.rs`, one file per
//! dialect in `dialects/`, one per question in `analytics/`, and what operators ask in `ops/`.
//! A gateway has the routes of other processes in `gateway/`, which speak to it through `grpc/`.
//! Each route says beside its code what the OpenAPI document, which `openapi/` puts together, says of it.

mod accept;
mod analytics;
mod app;
mod body;
mod caller;
mod config;
mod connection;
mod cors;
mod dialects;
mod exposition;
mod front;
mod gateway;
mod grpc;
mod json;
mod media;
mod metrics;
mod native;
mod openapi;
mod ops;
mod parameters;
mod problem;
mod request_id;
mod role;
mod routes;
mod server;
mod tls;
mod trace;
mod visibility;
mod vitals;
mod wire;

pub use analytics::cohorts::SavedCohorts;
pub use app::Services;
pub use config::ServerConfig;
pub use front::{Ambience, Front, Parts};
pub use gateway::{GatewayConfig, TargetAddress};
pub use openapi::openapi;
pub use role::{Role, Roles};
pub use server::{Listeners, Server};
pub use tls::{
    ClientAuth, ClientAuthority, GatewayTls, GatewayTlsFiles, IdentityFiles, ServerTls,
    ServerTlsFiles, TlsError,
};
pub use trace::{
    Attribute, FinishedSpan, RequestNames, SpanKind, Tracer, current_request, current_traceparent,
};
