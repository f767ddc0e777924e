//! Settle: read the log in order, set poison aside, commit, let the log go.
//!
//! Of a log that a process has for itself there is one [`Processor`]; of a shared log there may be
//! several, which divide its partitions. It starts at the store's position, never at one of its own,
//! so that a record is settled exactly once however often the process dies.

mod processor;

pub use processor::{OnSettled, ProcessError, Processor, Settled};
