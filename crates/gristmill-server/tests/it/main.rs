//! The server from outside: every route over memory adapters, and bad clients over sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod analytics;
mod bad_fields;
mod bad_protocol;
mod calling;
mod calls;
mod channel;
mod cohorts;
mod connections;
mod dialects;
mod event_streams;
mod funnels;
mod gateway_calls;
mod grpc;
mod grpc_live;
mod grpc_questions;
mod grpc_web;
mod held_log;
mod ingest_calls;
mod keys;
mod lifecycle;
mod live;
mod metrics_service;
mod native;
mod openapi;
mod operations;
mod overload;
mod paths;
mod roles;
mod series;
mod sessions;
mod standard_calls;
mod stickiness;
mod stopping;
mod summary;
mod support;
mod tls;
mod traces;
mod user_list;
mod users;
