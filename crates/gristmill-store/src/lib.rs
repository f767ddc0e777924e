//! What we remember: the store port and its adapters.
//!
//! [`Store`] is the port, written as a contract; every adapter passes the suite in
//! `conformance` (feature `testing`).

pub mod cache;
pub mod columnar;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod dictionary;
mod document;
mod hours;
mod identity;
mod memory;
mod outcomes;
mod port;
pub mod postgres;
mod property;
mod version;
mod walk;

pub use dictionary::{ABSENT, Dictionary};
pub use document::{Document, DocumentKey};
pub use hours::{HourRows, Precision, is_whole_hour};
pub use memory::MemoryStore;
pub use port::{
    Commit, PageCount, Pieces, Progress, Quarantined, Row, Snapshot, Store, StoreError, StoreStats,
    Unacceptable, Work,
};
pub use property::{elements, number, property};
pub use version::{Feed, Present, Version, VersionParseError};
pub use walk::{
    BatchUsers, Dictionaries, EventCursor, Events, PieceCursor, Scan, Span, Ties, UserBatch,
    UserCursor, UserRun, Wanted,
};
