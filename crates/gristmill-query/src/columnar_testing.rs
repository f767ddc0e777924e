//! The columnar store in tests of folds: with events in memory, in several files and in merged
//! ones, in all mixtures.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use gristmill_model::{Clock, Entropy, Positions, Timestamp};
use gristmill_store::columnar::{ColumnarConfig, ColumnarStore};
use gristmill_store::{Store, StoreError};
use tempfile::TempDir;

/// Where the events of a world come to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In memory.
    Hot,
    /// In a file for each commit and shard.
    Sealed,
    /// In merged files, one for each slice of time, and behind them in memory.
    MergedAndHot,
    /// In merged files.
    Merged,
    /// In merged files, and behind them in files that are not.
    MergedAndSealed,
}

impl Layout {
    pub(crate) const ALL: [Layout; 5] = [
        Layout::Hot,
        Layout::Sealed,
        Layout::MergedAndHot,
        Layout::Merged,
        Layout::MergedAndSealed,
    ];
}

/// What a store remembers of the questions before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing.
    None,
    /// Decoded columns, and the question is the first.
    Cold,
    /// Decoded columns and digests, and the question was asked before.
    Digests,
}

impl Memory {
    /// Digests twice, because only merged files have them.
    pub(crate) const ALL: [Memory; 4] =
        [Memory::None, Memory::Cold, Memory::Digests, Memory::Digests];

    /// How often a question is asked.
    pub(crate) fn asks(self) -> usize {
        if self == Memory::Digests { 3 } else { 1 }
    }
}

/// Of so many worlds one is asked about in a columnar store, which takes longer.
#[expect(clippy::disallowed_methods, reason = "a setting of the tests")]
pub(crate) fn columnar_share() -> usize {
    let share = std::env::var("GRISTMILL_COLUMNAR_SHARE").ok();
    share.and_then(|share| share.parse().ok()).unwrap_or(8)
}

/// A columnar store in a directory of its own.
pub(crate) struct Columnar {
    pub(crate) store: Arc<ColumnarStore>,
    layout: Layout,
    loops: Vec<JoinHandle<Result<(), StoreError>>>,
    _dir: TempDir,
}

struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

struct OneNumber;

impl Entropy for OneNumber {
    fn next_u128(&self) -> u128 {
        7
    }
}

impl Columnar {
    #[expect(clippy::disallowed_methods, reason = "the test is the supervisor of the loops")]
    pub(crate) fn open(layout: Layout, memory: Memory) -> Self {
        // What is in memory only need not be waited for.
        let in_memory = Path::new("/dev/shm");
        let dir = if in_memory.is_dir() { TempDir::new_in(in_memory) } else { TempDir::new() };
        let dir = dir.unwrap();
        let seals_each_commit = matches!(layout, Layout::Sealed | Layout::MergedAndSealed);
        let config = ColumnarConfig {
            dir: dir.path().to_owned(),
            shards: 3,
            slice: 20 * Timestamp::SECOND,
            seal_bytes: if seals_each_commit { 1 } else { 64 << 20 },
            seal_age: Timestamp::DAY,
            tidy_after: Timestamp::DAY,
            window: Timestamp::DAY,
            window_bytes: 1 << 20,
            cache_bytes: if memory == Memory::None { 0 } else { 1 << 20 },
        };
        let (store, sealer, merger) =
            ColumnarStore::open(config, Arc::new(StandingClock), &OneNumber).unwrap();
        let loops = vec![
            std::thread::spawn(move || sealer.run()),
            std::thread::spawn(move || merger.run()),
        ];
        Self { store, layout, loops, _dir: dir }
    }

    /// Rearranges the store after a commit.
    pub(crate) async fn settle(&self) {
        let commits = self.store.progress().committed;
        match self.layout {
            Layout::Hot | Layout::Merged => {}
            // A commit that has nothing new is sealed with the next one.
            Layout::Sealed if self.store.stats().hot_rows == 0 => {}
            Layout::Sealed => {
                let mut progress = self.store.watch();
                progress.wait_for(|progress| progress.durable == commits).await.unwrap();
            }
            // The last commits stay as they are.
            Layout::MergedAndHot | Layout::MergedAndSealed => {
                if commits.records_since(&Positions::start()) <= 80 {
                    self.store.compact().await.unwrap();
                }
            }
        }
    }

    /// Rearranges the store after the last commit.
    pub(crate) async fn finish(&self) {
        if self.layout == Layout::Merged {
            self.store.compact().await.unwrap();
        }
    }
}

impl Drop for Columnar {
    fn drop(&mut self) {
        self.store.close();
        for handle in self.loops.drain(..) {
            let outcome = handle.join();
            assert!(std::thread::panicking() || matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        }
    }
}
