//! The commands, one file each.

pub(crate) mod bench;
mod bench_stream;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod config;
pub(crate) mod generate;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod openapi;
pub(crate) mod serve;
pub(crate) mod tls;
