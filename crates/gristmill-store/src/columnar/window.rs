//! The identity window: the identities of everything accepted lately, in memory.
//!
//! Each seal writes the identities it covers to a file of its own, a *window run*, which the
//! manifest names; a restart loads the runs without reading a part. Runs are dropped whole,
//! oldest first, when they leave the window or when the memory budget is used up. Everything
//! accepted since [`Window::start`] is in memory.

use std::collections::VecDeque;

use gristmill_model::{Micros, Timestamp};

use super::files::{Directory, Kind, append_crc};
use super::identity::Identity;
use super::identity_set::{FETCHED, IdentitySet};
use super::manifest::WindowRecord;
use crate::StoreError;

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
    identities: IdentitySet,
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
        let runs: VecDeque<_> = runs.into_iter().collect();
        let mut identities = IdentitySet::new();
        for run in &runs {
            for some in read_run(directory, run.file)?.chunks(FETCHED) {
                identities.fetch(some);
                for &identity in some {
                    identities.insert(identity);
                }
            }
        }
        Ok(Self { identities, runs, start })
    }

    /// Looks at what is known of a few identities that are about to be added, all at a time.
    pub(super) fn fetch(&self, identities: &[Identity]) {
        self.identities.fetch(identities);
    }

    /// Adds an identity; `false` if it was there.
    pub(super) fn insert(&mut self, identity: Identity) -> bool {
        self.identities.insert(identity)
    }

    pub(super) fn remove(&mut self, identity: Identity) {
        self.identities.remove(identity);
    }

    /// Everything accepted at this time or later is remembered.
    pub(super) fn start(&self) -> Timestamp {
        self.start
    }

    /// How many identities are remembered.
    pub(super) fn len(&self) -> u64 {
        self.identities.len()
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
            if !too_old && self.len() <= IdentitySet::fitting(limits.bytes) {
                break;
            }
            let last_received = oldest.last_received;
            match read_run(directory, oldest.file) {
                Ok(identities) => {
                    for some in identities.chunks(FETCHED) {
                        self.identities.fetch(some);
                        some.iter().for_each(|&identity| self.identities.remove(identity));
                    }
                }
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
        let tight = WindowLimits { length: i64::MAX, bytes: 0 };
        let room = IdentitySet::fitting(tight.bytes) as Identity;
        for identity in 10..10 + room - 3 {
            window.insert(identity << 64 | identity);
        }
        assert_eq!(window.expire(&directory, &tight, Timestamp(200)).len(), 1);
        let again = Window::load(&directory, window.runs.clone(), window.start()).unwrap();
        assert_eq!((again.len(), again.start()), (2, Timestamp(51)));
    }
}
