//! Help for tests, never shipped: a clock and randomness that a test decides, the real binary
//! as a server that can be killed, a small HTTP client that sends exactly what it is told, databases
//! of a real PostgreSQL, topics of a real Kafka, a real Redis, and a ledger that proves what became of
//! every event.

mod ambient;
mod certificates;
mod curl;
mod database;
mod deployment;
pub mod http;
mod kafka;
mod ledger;
mod outside;
mod redis;
mod server;

pub use ambient::{ManualClock, SeededEntropy};
pub use certificates::{Authority, Issued};
pub use curl::Curl;
pub use database::{TestDatabase, TestPostgres};
pub use deployment::{Behind, Deployment};
pub use http::{Connection, Request, Response};
pub use kafka::{KafkaRecord, TestKafka, TestTopic};
pub use ledger::{Ledger, Tally};
pub use outside::{
    Stopwatch, data_file, pause, raise_open_files_limit, repository, setting, wait_until,
};
pub use redis::{TestRedis, shared_redis};
pub use server::{ServerOptions, TestServer};
