//! Append, read, tail: the durable log.
//!
//! [`EventLog`] is the port, written as a contract; every adapter passes the suite in
//! `conformance`.

pub mod codec;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod embedded;
pub mod kafka;
mod memory;
mod port;

pub use memory::MemoryLog;
pub use port::{
    AppendError, Appended, BadRecord, Block, Committed, EventLog, LogBatch, LogPlace, LogReader,
    Offsets, Payload, ReadError, Record, SetAside, TrimError,
};
