//! The server from outside: every route over memory adapters, and bad clients over sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod analytics;
mod bad_fields;
mod bad_protocol;
mod cohorts;
mod connections;
mod dialects;
mod funnels;
mod grpc;
mod lifecycle;
mod live;
mod native;
mod openapi;
mod operations;
mod overload;
mod paths;
mod roles;
mod series;
mod sessions;
mod stickiness;
mod summary;
mod support;
mod tls;
mod traces;
mod user_list;
mod users;
