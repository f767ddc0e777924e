//! The client against small servers that do what a test says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod grpc_server;
mod http_server;
mod proxy;
mod retries;
mod sender;
mod spill;
mod stream;
mod support;
