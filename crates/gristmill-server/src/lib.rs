//! Speak: HTTP, status codes, server-sent events.
//!
//! Read [`Server`] for sockets, then `front.rs`, through which every request goes, then
//! `routes.rs`, which lists every path, then the routes themselves: `native.rs`, one file per
//! dialect in `dialects/`, one per question in `analytics/`, and what operators ask in `ops/`.
//! Each says beside its code what the OpenAPI document, which `openapi/` puts together, says of it.

mod accept;
mod analytics;
mod app;
mod body;
mod config;
mod connection;
mod cors;
mod dialects;
mod exposition;
mod front;
mod json;
mod media;
mod metrics;
mod native;
mod openapi;
mod ops;
mod parameters;
mod problem;
mod request_id;
mod routes;
mod server;
mod visibility;
mod vitals;
mod wire;

pub use analytics::cohorts::SavedCohorts;
pub use app::Services;
pub use config::ServerConfig;
pub use front::Front;
pub use openapi::openapi;
pub use server::Server;
