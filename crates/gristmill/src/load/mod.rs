//! Load: a generator cheap enough to share two cores with the server that it measures.
//!
//! Requests are built once and patched in place; connections speak just enough HTTP/1.1 to send
//! them and to read what was accepted. One thread drives all connections.

mod baseline;
mod connection;
mod drive;
mod freshness;
mod grpc;
mod grpc_baseline;
mod latency;
mod machine;
mod payload;
mod report;
mod schedule;
mod stream;
mod target;
mod upkeep;

pub(crate) use baseline::serve_baseline;
pub(crate) use drive::{Driven, Workload, drive};
pub(crate) use freshness::{Freshness, measure_freshness};
pub(crate) use grpc::{EVENTS_UNDER_WAY, GrpcDriven, drive_single, drive_unary};
pub(crate) use grpc_baseline::serve_grpc_baseline;
pub(crate) use latency::Latencies;
pub(crate) use machine::{Sizes, SyncProbe, is_memory_only, memory, probe_sync, sizes};
pub(crate) use payload::{LEAST_EVENT_BYTES, MOST_USERS, PayloadShape};
pub(crate) use report::{KillReport, Report};
pub(crate) use schedule::Schedule;
pub(crate) use stream::drive_stream;
pub(crate) use target::{ServerProcess, free_address};
pub(crate) use upkeep::{Look, StoreTotals, store_totals, watch_store};
