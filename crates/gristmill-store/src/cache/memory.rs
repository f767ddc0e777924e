//! Entries in the memory of this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache as Moka;
use moka::ops::compute::Op;

use super::{Cache, CacheStats, Entry, fits, stays};

/// What an entry takes beside its key and value: its version, and the cache's own books.
const OVERHEAD_BYTES: usize = 400;

/// Keeps what is asked often, up to a number of bytes.
pub struct MemoryCache {
    entries: Moka<Arc<str>, Entry>,
}

impl MemoryCache {
    /// An empty cache of at most so many bytes, in which nothing is kept for longer than that.
    pub fn new(bytes: u64, keep: Duration) -> Self {
        let weight = |key: &Arc<str>, entry: &Entry| {
            u32::try_from(key.len() + entry.value.len() + OVERHEAD_BYTES).unwrap_or(u32::MAX)
        };
        let entries =
            Moka::builder().max_capacity(bytes).weigher(weight).time_to_live(keep).build();
        Self { entries }
    }

    /// Does what is put off, such as dropping what there is no room for.
    #[cfg(test)]
    pub(super) async fn flush(&self) {
        self.entries.run_pending_tasks().await;
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).await
    }

    async fn put(&self, key: &str, entry: Entry) {
        if !fits(key, &entry.value, &entry.version.to_string()) {
            return;
        }
        // Two who put at once do it one after the other.
        let place = self.entries.entry(key.into());
        place
            .and_compute_with(async |held| match held {
                Some(held) if stays(&held.value().version, &entry.version) => Op::Nop,
                _ => Op::Put(entry),
            })
            .await;
    }

    fn stats(&self) -> CacheStats {
        CacheStats { bytes: self.entries.weighted_size(), ..CacheStats::default() }
    }
}
