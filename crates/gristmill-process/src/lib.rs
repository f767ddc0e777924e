//! Settle: read the log in order, set poison aside, commit, let the log go.
//!
//! There is one [`Processor`] per store. It starts at the store's position, never at one of its
//! own, so that a record is settled exactly once however often the process dies.

mod processor;

pub use processor::{ProcessError, Processor};
