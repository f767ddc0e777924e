//! A place for answers that have been worked out, and the two that there are: memory of this
//! process, and a Redis that several share.
//!
//! A cache is never asked whether an answer still holds: what it gives says which version of the
//! store it is about, and whoever asks compares that with what the store says now
//! (docs/adr/0012). So it may be empty, old, restored from anywhere, or gone.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod link;
mod memory;
mod redis;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::limits;

pub use self::memory::MemoryCache;
pub use self::redis::{RedisAddress, RedisCache, RedisConfig};
use crate::Version;

/// Keeps entries by key for as long as it likes.
///
/// # Contract
///
/// An entry is given as it was put, version and value together, or not at all. Of two entries
/// under one key the one of the later version stays, whichever comes last, as far as their
/// versions can be compared: a version of another lineage takes the place of any. Beyond that it
/// promises nothing: any entry may be gone at any time, and be there again at a later time.
///
/// Nothing fails. What goes wrong within is a miss, or an entry that is not kept, and counted; it
/// is over in a bounded time, however many ask at once. Keys and values beyond
/// [`CACHE_KEY_BYTES`](limits::CACHE_KEY_BYTES), [`CACHE_VALUE_BYTES`](limits::CACHE_VALUE_BYTES)
/// and [`CACHE_VERSION_BYTES`](limits::CACHE_VERSION_BYTES) are not kept.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// What is kept under a key.
    async fn get(&self, key: &str) -> Option<Entry>;

    /// Keeps an entry, unless one of a later version is there.
    async fn put(&self, key: &str, entry: Entry);

    /// How it fares, for the operator.
    fn stats(&self) -> CacheStats;
}

/// An answer and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The state of the store that was asked.
    pub version: Version,
    /// The answer.
    pub value: Bytes,
}

/// What a cache tells the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// How many times it did not do what it should have.
    pub errors: u64,
    /// Whether it is being left alone because it was slow, or could not be reached.
    pub is_shunned: bool,
    /// The size of what is kept in this process, in bytes.
    pub bytes: u64,
}

/// Whether an entry is small enough to be kept.
fn fits(key: &str, value: &[u8], version: &str) -> bool {
    key.len() <= limits::CACHE_KEY_BYTES
        && value.len() <= limits::CACHE_VALUE_BYTES
        && version.len() <= limits::CACHE_VERSION_BYTES
}

/// Whether an entry stays when another one is put in its place.
fn stays(held: &Version, new: &Version) -> bool {
    held.lineage() == new.lineage() && held.records() > new.records()
}
