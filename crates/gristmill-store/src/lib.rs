//! What we remember: the store port and its adapters.
//!
//! [`Store`] is the port, written as a contract; every adapter passes the suite in
//! `conformance` (feature `testing`).

pub mod columnar;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod memory;
mod port;
mod property;

pub use memory::MemoryStore;
pub use port::{
    ABSENT, Commit, Dictionary, Progress, Quarantined, Row, Scan, Snapshot, Store, StoreError,
    StoreStats, UserCursor, UserRun,
};
pub use property::property;
