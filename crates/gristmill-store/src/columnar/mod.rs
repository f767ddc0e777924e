//! The columnar store: an LSM tree of user-clustered runs and parts.
//!
//! ```text
//!   commit ──▶ hot tail ──freeze──▶ frozen tail ──seal──▶ parts ──merge──▶ fewer, larger parts
//!              (memory)             (memory)              (Parquet)
//! ```
//!
//! A *view* names everything that is visible; it is replaced whole, so a snapshot that holds
//! one sees each event exactly once, whatever is sealed or merged meanwhile. Commits are in
//! memory; what they hold becomes durable when it is sealed, and until then the log is the truth.

mod batch;
mod cache;
#[cfg(test)]
mod cache_tests;
mod changes;
mod check;
mod chunk;
mod committer;
mod compaction;
mod digest;
mod events;
mod files;
mod filter;
#[cfg(test)]
mod giving_way_tests;
mod group_hours;
mod hot;
mod identity_set;
mod kept;
mod lexicon;
mod lookup;
mod manifest;
mod merge_rows;
mod merged_users;
mod open;
mod part;
mod part_reader;
mod part_users;
mod part_writer;
mod pieces;
mod row_group;
mod run;
mod run_users;
mod rush;
mod scan;
mod schema;
mod seal;
mod sessions;
mod shredded;
mod source;
mod taken;
#[cfg(test)]
mod tests;
mod texts;
mod tidying;
mod uuid_text;
mod view;
mod window;
mod work;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use gristmill_model::{Clock, Micros, Outcome, Partition, ProjectId, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use check::{CheckReport, check};
pub use compaction::Merger;
pub use seal::Sealer;

use crate::identity::{self, IdentityHasher};
use crate::outcomes::{self, Outcomes};
use crate::{
    Commit, Document, DocumentKey, Progress, Quarantined, Snapshot, Store, StoreError, StoreStats,
};
use cache::ColumnCache;
use committer::Committer;
use digest::Digests;
use files::Directory;
use manifest::{DocumentName, Manifest};
use view::{State, View};
use window::WindowLimits;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct ColumnarConfig {
    /// The directory, which is created if it is not there.
    pub dir: PathBuf,
    /// How many shards a new store has; an existing store keeps its number.
    pub shards: u32,
    /// The length of a slice of event time in a new store; an existing store keeps its own.
    pub slice: Micros,
    /// The hot tail is sealed when it takes this much memory, in bytes.
    pub seal_bytes: usize,
    /// The hot tail is sealed when its oldest commit is this old.
    pub seal_age: Micros,
    /// When nothing has been committed for so long, parts are merged as far as it pays.
    pub tidy_after: Micros,
    /// How long identities are remembered after their acceptance, memory permitting.
    pub window: Micros,
    /// The memory of the identity window, in bytes.
    pub window_bytes: usize,
    /// The memory of decoded columns and of digests of them that are kept for the next question, in
    /// bytes.
    pub cache_bytes: usize,
}

/// The columnar store.
pub struct ColumnarStore {
    shared: Arc<Shared>,
}

/// What the store, its sealer and its merger share.
struct Shared {
    config: ColumnarConfig,
    directory: Directory,
    clock: Arc<dyn Clock>,
    hasher: IdentityHasher,
    shards: u32,
    slice: Micros,
    next_file: AtomicU64,
    closed: AtomicBool,
    committer: Mutex<Committer>,
    /// The outcomes of recent records, apart from the committer so that asking never waits for a
    /// commit.
    outcomes: Mutex<Outcomes>,
    /// What the window holds and since when, as of the newest commit.
    window_identities: AtomicU64,
    window_start: AtomicI64,
    manifest: Mutex<Manifest>,
    state: Mutex<State>,
    cache: Arc<ColumnCache>,
    digests: Arc<Digests>,
    /// Wakes the sealer and the merger.
    work: Condvar,
    /// Wakes a commit that waits for the sealer, and whoever waits for compaction.
    settled: Notify,
    progress: watch::Sender<Progress>,
    /// Held for as long as the store is open.
    _lock: open::DirectoryLock,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcomes(&self) -> MutexGuard<'_, Outcomes> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committer(&self) -> MutexGuard<'_, Committer> {
        self.committer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.state().view)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn new_file(&self) -> u64 {
        self.next_file.fetch_add(1, Relaxed)
    }

    fn window_limits(&self) -> WindowLimits {
        WindowLimits { length: self.config.window, bytes: self.config.window_bytes }
    }

    /// Puts a new view in place and tells everybody.
    fn publish(&self, state: &mut State, view: View) {
        let progress =
            Progress { committed: view.committed.clone(), durable: view.durable.clone() };
        state.view = Arc::new(view);
        self.progress.send_replace(progress);
        self.settled.notify_waiters();
    }
}

impl ColumnarStore {
    /// Ends the loops of the sealer and the merger after what they are doing, and refuses further
    /// commits. What is not sealed is committed again from the log after the next start.
    pub fn close(&self) {
        self.shared.closed.store(true, std::sync::atomic::Ordering::Release);
        let _state = self.shared.state();
        self.shared.work.notify_all();
        self.shared.settled.notify_waiters();
    }

    /// Does something with the manifest on a thread that may wait, for the manifest is locked
    /// while a change of it becomes durable.
    async fn with_manifest<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Manifest) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let shared = Arc::clone(&self.shared);
        let mut task = JoinSet::new();
        task.spawn_blocking(move || work(&mut shared.manifest()));
        match task.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) | None => Err(StoreError::Closed),
        }
    }
}

#[async_trait]
impl Store for ColumnarStore {
    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        self.shared.wait_for_room().await?;
        self.shared.commit(&commit)
    }

    fn progress(&self) -> Progress {
        self.shared.progress.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let kept = (Arc::clone(&self.shared.cache), Arc::clone(&self.shared.digests));
        Ok(Box::new(scan::ColumnarSnapshot::new(self.shared.view(), kept, self.shared.shards)))
    }

    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        Ok(self.shared.outcomes().get(partition, offsets))
    }

    fn stats(&self) -> StoreStats {
        let view = self.shared.view();
        let start = Timestamp(self.shared.window_start.load(Relaxed));
        StoreStats {
            window_identities: self.shared.window_identities.load(Relaxed),
            window_start: (start > Timestamp::MIN).then_some(start),
            merge_debt_rows: compaction::debt_rows(&view, self.shared.slice),
            ..view.stats()
        }
    }

    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError> {
        let view = self.shared.view();
        let mut newest: Vec<_> = view.unsealed_quarantine().map(|q| (**q).clone()).collect();
        newest.truncate(limit);
        for &file in view.quarantines.iter().rev() {
            if newest.len() >= limit {
                break;
            }
            let mut older = seal::read_quarantine(&self.shared.directory, file)?;
            older.reverse();
            newest.extend(older);
        }
        newest.truncate(limit);
        Ok(newest)
    }

    async fn compact(&self) -> Result<(), StoreError> {
        let wanted = {
            let mut state = self.shared.state();
            state.compactions_wanted += 1;
            state.compaction_target = state.view.committed.clone();
            state.compacting = None;
            self.shared.work.notify_all();
            state.compactions_wanted
        };
        self.shared.wait_for_compaction(wanted).await
    }

    async fn put_document(
        &self,
        key: DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError> {
        let name = DocumentName::of(&key);
        self.with_manifest(move |manifest| manifest.put_document(&name.key(), expected, body)).await
    }

    async fn remove_document(&self, key: DocumentKey<'_>, expected: u64) -> Result<(), StoreError> {
        let name = DocumentName::of(&key);
        self.with_manifest(move |manifest| manifest.remove_document(&name.key(), expected)).await
    }

    async fn document(&self, key: DocumentKey<'_>) -> Result<Option<Document>, StoreError> {
        let name = DocumentName::of(&key);
        self.with_manifest(move |manifest| {
            Ok(manifest.contents().documents.get(&name.key()).cloned())
        })
        .await
    }

    async fn documents(
        &self,
        project: &ProjectId<'_>,
        kind: &str,
    ) -> Result<Vec<Document>, StoreError> {
        let (project, kind) = (project.clone().into_owned(), kind.to_owned());
        self.with_manifest(move |manifest| {
            Ok(manifest.contents().documents.of_kind(&project, &kind))
        })
        .await
    }
}
