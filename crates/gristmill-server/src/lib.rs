//! Speak: HTTP, gRPC, status codes, server-sent events.
//!
//! Read [`Server`] for sockets, then `front.rs`, through which every request goes, then
//! `routes.rs`, which lists every path, then the routes themselves: `native.rs`, one file per
//! dialect in `dialects/`, one per question in `analytics/`, `metrics_service/`, and what operators ask
//! in `ops/`. Who may do what is found out in `keys/`.
//! A gateway has the routes of other processes in `gateway/`, which speak to it through `grpc/`.
//! Each route says beside its code what the OpenAPI document, which `openapi/` puts together, says of it.

mod accept;
mod analytics;
mod app;
mod background;
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
mod keys;
mod media;
mod metrics;
mod metrics_service;
mod native;
mod openapi;
mod ops;
mod parameters;
mod problem;
mod receipt;
mod request_id;
mod role;
mod routes;
mod server;
#[cfg(feature = "testing")]
mod testing;
mod tls;
mod trace;
mod visibility;
mod vitals;
mod well_formed;
mod wire;

pub use analytics::cohorts::SavedCohorts;
pub use app::Services;
pub use config::{Access, AdminKey, ServerConfig};
pub use front::{Ambience, Front, Parts};
pub use gateway::{GatewayConfig, TargetAddress};
pub use openapi::openapi;
pub use role::{Role, Roles};
pub use routes::needs_of_paths;
pub use server::{Listeners, Server};
pub use tls::{
    ClientAuth, ClientAuthority, GatewayTls, GatewayTlsFiles, IdentityFiles, ServerTls,
    ServerTlsFiles, TlsError,
};
pub use trace::{
    Attribute, FinishedSpan, RequestNames, SpanKind, Tracer, current_request, current_traceparent,
};
