//! Opening a store: lock, manifest, window; whatever the manifest does not name is removed.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};

use gristmill_model::{Clock, Entropy, Positions, Timestamp, limits};
use tokio::sync::{Notify, watch};

use super::cache::ColumnCache;
use super::committer::Committer;
use super::digest::Digests;
use super::files::{Directory, Kind};
use super::hot::Hot;
use super::identity::IdentityHasher;
use super::lookup::Lookup;
use super::manifest::{Contents, Created, FORMAT, Manifest};
use super::outcomes::Outcomes;
use super::part::Part;
use super::rush::Rush;
use super::view::{State, View};
use super::window::Window;
use super::{ColumnarConfig, ColumnarStore, Merger, Sealer, Shared};
use crate::{Progress, StoreError};

impl ColumnarStore {
    /// Opens a store or creates it, and gives its two loops, each to be run on a thread of its
    /// own: without the sealer nothing becomes durable and commits stop when memory is used up,
    /// without the merger reading becomes slower and slower.
    pub fn open(
        config: ColumnarConfig,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<(Arc<Self>, Sealer, Merger), StoreError> {
        let directory = Directory::create(&config.dir)?;
        let lock = lock(directory.path())?;
        let manifest = Manifest::open(&directory, created(&config, entropy))?;
        let contents = manifest.contents();
        let created = contents.created.clone().unwrap_or_else(|| created(&config, entropy));
        if (created.shards, created.slice_micros) != (config.shards, config.slice) {
            tracing::warn!(
                shards = created.shards,
                slice_micros = created.slice_micros,
                "the store keeps the shards and the slice it was created with"
            );
        }
        remove_garbage(&directory, contents)?;
        let view = view_of(&directory, contents, created.shards)?;
        let window_start = contents.window_start.map_or(Timestamp::MIN, Timestamp);
        let window = Window::load(&directory, contents.windows.values().cloned(), window_start)?;
        let progress =
            Progress { committed: view.committed.clone(), durable: view.durable.clone() };
        let cache = Arc::new(ColumnCache::new(config.cache_bytes));
        let room = cache.bytes() as u64;
        let digests =
            Digests::open(Arc::clone(&cache), (&config.dir.join("digests"), room), |file| {
                contents.parts.contains_key(&file)
            });
        let shared = Arc::new(Shared {
            hasher: IdentityHasher::new(identity_key(&created)?),
            shards: created.shards,
            slice: created.slice_micros,
            next_file: AtomicU64::new(contents.next_file),
            closed: AtomicBool::new(false),
            window_identities: AtomicU64::new(window.len()),
            window_start: AtomicI64::new(window.start().0),
            outcomes: Mutex::new(Outcomes::default()),
            committer: Mutex::new(Committer { window, lookup: Lookup::default() }),
            manifest: Mutex::new(manifest),
            state: Mutex::new(State {
                view: Arc::new(view),
                hot_since: None,
                rush: Rush::default(),
                compactions_wanted: 0,
                compactions_done: 0,
                compaction_target: Positions::start(),
                compacting: None,
                is_disk_full: false,
            }),
            cache,
            digests: Arc::new(digests),
            work: Condvar::new(),
            settled: Notify::new(),
            progress: watch::Sender::new(progress),
            directory,
            clock,
            config,
            _lock: lock,
        });
        let store = Arc::new(Self { shared: Arc::clone(&shared) });
        Ok((store, Sealer::new(Arc::clone(&shared)), Merger::new(shared)))
    }
}

/// The lock of a directory.
#[derive(Debug)]
pub(super) struct DirectoryLock(File);

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a child process that is being started has it too for a moment.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

pub(super) fn lock(directory: &Path) -> Result<DirectoryLock, StoreError> {
    let path = directory.join("lock");
    let file = File::create(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock(file)),
        Err(TryLockError::Error(error)) => Err(error.into()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Io(std::io::Error::other(format!(
            "{} is in use by another process",
            directory.display()
        )))),
    }
}

pub(super) fn identity_key(created: &Created) -> Result<u128, StoreError> {
    u128::from_str_radix(&created.identity_key, 16)
        .map_err(|_| StoreError::Damaged("the manifest's identity key is not a number".into()))
}

fn created(config: &ColumnarConfig, entropy: &dyn Entropy) -> Created {
    Created {
        format: FORMAT,
        shards: config.shards.clamp(1, limits::SHARDS),
        slice_micros: config.slice.max(1),
        identity_key: format!("{:032x}", entropy.next_u128()),
    }
}

fn view_of(directory: &Directory, contents: &Contents, shards: u32) -> Result<View, StoreError> {
    let durable: Positions = contents.durable.parse().map_err(|_| {
        StoreError::Damaged("the manifest's position is not a position token".into())
    })?;
    let parts = contents.parts.values().map(|record| Part::found(directory, record.clone()));
    let parts: Vec<_> = parts.collect();
    for part in &parts {
        let path = directory.file(part.record.file, Kind::Part);
        let filter = directory.file(part.record.file, Kind::Filter);
        if !filter.try_exists()? {
            return Err(StoreError::Damaged(format!(
                "{} is missing: restore it from a backup",
                filter.display()
            )));
        }
        let length = std::fs::metadata(&path).map(|metadata| metadata.len()).ok();
        if length != Some(part.record.bytes) {
            return Err(StoreError::Damaged(format!(
                "{} should have {} bytes and has {}: restore it from a backup",
                path.display(),
                part.record.bytes,
                length.map_or("none".to_owned(), |length| length.to_string())
            )));
        }
    }
    Ok(View {
        committed: durable.clone(),
        durable,
        parts: Arc::new(parts),
        frozen: Vec::new(),
        hot: Hot::empty(shards),
        quarantines: Arc::new(contents.quarantines.clone()),
        totals: contents.totals,
        changes: Arc::default(),
    })
}

fn remove_garbage(directory: &Directory, contents: &Contents) -> Result<(), StoreError> {
    for (number, kind) in directory.list()? {
        let named = match kind {
            Kind::Part | Kind::Filter => contents.parts.contains_key(&number),
            Kind::Window => contents.windows.contains_key(&number),
            Kind::Quarantine => contents.quarantines.contains(&number),
        };
        if !named {
            directory.remove(number, kind);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_though_its_file_is_open_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let _elsewhere = held.0.try_clone().unwrap();
        assert!(lock(folder.path()).is_err());
        drop(held);
        lock(folder.path()).unwrap();
    }
}
