//! The identity window: the identities of everything accepted lately, in memory.
//!
//! Each seal writes the identities it covers to a file of its own, a *window run*, which the
//! manifest names; a restart loads the runs without reading a part. Runs are dropped whole,
//! oldest first, when they leave the window or when the memory budget is used up. Everything
//! accepted since [`Window::start`] is in memory.

use std::collections::VecDeque;

use gristmill_model::{Micros, Timestamp};
use hashbrown::HashTable;

use super::files::{Directory, Kind, append_crc};
use super::identity::Identity;
use super::manifest::WindowRecord;
use crate::StoreError;

/// Growing one table moves all its entries; many small tables keep that short.
const TABLES: usize = 64;
/// What one entry takes with its control byte.
const SLOT_BYTES: usize = size_of::<Identity>() + 1;

/// How much the window remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowLimits {
    /// How long after its acceptance an identity is remembered at least, memory permitting.
    pub(super) length: Micros,
    /// The memory of all identities, in bytes.
    pub(super) bytes: usize,
}

/// The identities of the window.
#[derive(Debug)]
pub(super) struct Window {
    tables: Vec<HashTable<Identity>>,
    runs: VecDeque<WindowRecord>,
    start: Timestamp,
}

impl Window {
    /// Loads the runs that the manifest names, oldest first.
    pub(super) fn load(
        directory: &Directory,
        runs: impl IntoIterator<Item = WindowRecord>,
        start: Timestamp,
    ) -> Result<Self, StoreError> {
        let tables = (0..TABLES).map(|_| HashTable::new()).collect();
        let mut window = Self { tables, runs: runs.into_iter().collect(), start };
        let expected: u64 = window.runs.iter().map(|run| run.identities).sum();
        for table in &mut window.tables {
            table.reserve(expected as usize / TABLES, |identity| *identity as u64);
        }
        for index in 0..window.runs.len() {
            for identity in read_run(directory, window.runs[index].file)? {
                window.insert(identity);
            }
        }
        Ok(window)
    }

    /// Adds an identity; `false` if it was there.
    pub(super) fn insert(&mut self, identity: Identity) -> bool {
        let table = &mut self.tables[table_of(identity)];
        let hash = |identity: &Identity| *identity as u64;
        match table.entry(identity as u64, |held| *held == identity, hash) {
            hashbrown::hash_table::Entry::Occupied(_) => false,
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(identity);
                true
            }
        }
    }

    pub(super) fn remove(&mut self, identity: Identity) {
        let table = &mut self.tables[table_of(identity)];
        if let Ok(entry) = table.find_entry(identity as u64, |held| *held == identity) {
            entry.remove();
        }
    }

    /// Everything accepted at this time or later is remembered.
    pub(super) fn start(&self) -> Timestamp {
        self.start
    }

    /// How many identities are remembered.
    pub(super) fn len(&self) -> u64 {
        self.tables.iter().map(|table| table.len() as u64).sum()
    }

    /// Notes that a run has become durable.
    pub(super) fn sealed(&mut self, run: WindowRecord) {
        self.runs.push_back(run);
    }

    /// Forgets the runs that are beyond the limits and gives them, oldest first. A run whose file
    /// cannot be read stays: to remember more than was asked for does no harm.
    pub(super) fn expire(
        &mut self,
        directory: &Directory,
        limits: &WindowLimits,
        now: Timestamp,
    ) -> Vec<WindowRecord> {
        let mut dropped = Vec::new();
        while let Some(oldest) = self.runs.front() {
            let too_old = oldest.last_received < now.0.saturating_sub(limits.length);
            if !too_old && self.len() as usize * SLOT_BYTES * 8 / 7 <= limits.bytes {
                break;
            }
            let last_received = oldest.last_received;
            match read_run(directory, oldest.file) {
                Ok(identities) => identities.into_iter().for_each(|identity| self.remove(identity)),
                Err(error) => {
                    tracing::error!(%error, "cannot read a window run, it stays in memory");
                    break;
                }
            }
            self.start = self.start.max(Timestamp(last_received.saturating_add(1)));
            dropped.extend(self.runs.pop_front());
        }
        dropped
    }
}

fn table_of(identity: Identity) -> usize {
    // hashbrown takes its buckets from the low bits and its tags from the top seven of the low
    // half, so the tables are told apart by bits of the high half.
    (identity >> 64) as usize % TABLES
}

/// Writes the identities of a seal.
pub(super) fn write_run(
    directory: &Directory,
    file: u64,
    identities: impl Iterator<Item = Identity>,
) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    for identity in identities {
        bytes.extend_from_slice(&identity.to_le_bytes());
    }
    append_crc(&mut bytes);
    Ok(directory.write(file, Kind::Window, &bytes)?)
}

/// Reads the identities of a seal.
pub(super) fn read_run(directory: &Directory, file: u64) -> Result<Vec<Identity>, StoreError> {
    let bytes = directory.read_checked(file, Kind::Window)?;
    Ok(bytes.as_chunks::<16>().0.iter().map(|chunk| Identity::from_le_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WindowLimits = WindowLimits { length: 100, bytes: 1 << 20 };

    fn window_of_two_runs(directory: &Directory) -> Window {
        let mut window = Window::load(directory, [], Timestamp(0)).unwrap();
        for (file, identities, last_received) in [(1, [1, 2], 50), (2, [3, 4], 150)] {
            for identity in identities {
                assert!(window.insert(identity));
            }
            write_run(directory, file, identities.into_iter()).unwrap();
            window.sealed(WindowRecord { file, identities: 2, last_received });
        }
        window
    }

    #[test]
    fn runs_leave_by_age_and_the_start_moves_behind_them() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let mut window = window_of_two_runs(&directory);
        assert!(!window.insert(1) && !window.insert(4));
        let dropped = window.expire(&directory, &LIMITS, Timestamp(200));
        assert_eq!(dropped.iter().map(|run| run.file).collect::<Vec<_>>(), [1]);
        assert_eq!(window.start(), Timestamp(51));
        assert!(window.insert(1) && !window.insert(3));
    }

    #[test]
    fn runs_leave_by_memory_and_reload_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let mut window = window_of_two_runs(&directory);
        let tight = WindowLimits { length: i64::MAX, bytes: 2 * SLOT_BYTES * 8 / 7 };
        assert_eq!(window.expire(&directory, &tight, Timestamp(200)).len(), 1);
        let again = Window::load(&directory, window.runs.clone(), window.start()).unwrap();
        assert_eq!((again.len(), again.start()), (2, Timestamp(51)));
    }
}
