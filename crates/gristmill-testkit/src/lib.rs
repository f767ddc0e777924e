//! Help for tests, never shipped: a clock and randomness that a test decides, the real binary
//! as a server that can be killed, a small HTTP client that sends exactly what it is told, databases
//! of a real PostgreSQL, and a ledger that proves what became of every event.

mod ambient;
mod curl;
mod database;
pub mod http;
mod ledger;
mod outside;
mod server;

pub use ambient::{ManualClock, SeededEntropy};
pub use curl::Curl;
pub use database::{TestDatabase, TestPostgres};
pub use http::{Connection, Request, Response};
pub use ledger::{Ledger, Tally};
pub use outside::{Stopwatch, data_file, pause, raise_open_files_limit, setting, wait_until};
pub use server::{ServerOptions, TestServer};
