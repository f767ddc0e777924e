//! Counts what walks cost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Work;

/// What the walks through one snapshot have cost so far.
#[derive(Debug, Default)]
pub(super) struct WorkDone {
    rows: AtomicU64,
    parts: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
}

impl WorkDone {
    pub(super) fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Relaxed);
    }

    pub(super) fn add_part(&self) {
        self.parts.fetch_add(1, Relaxed);
    }

    /// Counts a piece of a column, which was in the cache or had to be decoded.
    pub(super) fn add_column(&self, was_cached: bool) {
        let count = if was_cached { &self.cache_hits } else { &self.cache_misses };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn so_far(&self) -> Work {
        Work {
            rows: self.rows.load(Relaxed),
            parts: self.parts.load(Relaxed),
            cache_hits: self.cache_hits.load(Relaxed),
            cache_misses: self.cache_misses.load(Relaxed),
        }
    }
}
