//! Which digests there are to be: those of questions that were asked before, in the column cache and in
//! files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::cache::ColumnCache;
use super::shelf::Shelf;
use super::{FoundDigest, Shape};
use crate::StoreError;

/// How many keys are remembered of what was asked.
const ASKED: usize = 1 << 14;
/// After so many questions it is tried again to find room for a digest.
const NO_ROOM_FOR: u64 = 64;
/// How many files of parts are remembered that have been merged away.
const GONE: usize = 1 << 12;

/// Digests, and the questions that were asked.
pub(in crate::columnar) struct Digests {
    cache: Arc<ColumnCache>,
    shelf: Shelf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the latest question.
    question: u64,
    /// For each key the question that it may be digested after.
    asked: HashMap<DigestKey, u64>,
    /// Files of parts that have been merged away, which older snapshots may still read.
    gone: Vec<u64>,
}

/// Which digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::columnar) struct DigestKey {
    pub(in crate::columnar) shape: Shape,
    /// The walk, and how many there are.
    pub(in crate::columnar) shard: u32,
    pub(in crate::columnar) shards: u32,
    /// The parts that it is of: the numbers of their files and their checksums.
    pub(in crate::columnar) parts: Vec<(u64, u32)>,
}

impl DigestKey {
    /// The files of the parts.
    fn files(&self) -> Vec<u64> {
        self.parts.iter().map(|(file, _)| *file).collect()
    }

    /// Whether one of the parts has one of these files.
    pub(in crate::columnar) fn is_of(&self, files: &[u64]) -> bool {
        self.parts.iter().any(|(file, _)| files.contains(file))
    }
}

impl Digests {
    /// Those in a cache, and as many as have room in files of a directory, where some may be from
    /// before; `is_part` says which files of parts there are.
    pub(in crate::columnar) fn open(
        cache: Arc<ColumnCache>,
        (directory, bytes): (&Path, u64),
        is_part: impl Fn(u64) -> bool,
    ) -> Self {
        Self { cache, shelf: Shelf::open(directory, bytes, is_part), state: Mutex::default() }
    }

    /// Begins another question, and gives its number.
    pub(in crate::columnar) fn begin_question(&self) -> u64 {
        self.cache.begin_question();
        let mut state = self.state();
        state.question += 1;
        state.question
    }

    /// Whether there is to be a digest for a question: one before needed it too, which is noted, and it
    /// was not without room lately.
    pub(in crate::columnar) fn are_for(&self, key: &DigestKey, question: u64) -> bool {
        let mut state = self.state();
        if let Some(before) = state.asked.get(key).copied() {
            drop(state);
            // A question may walk twice, and have found it the first time.
            return before < question || self.cache.has_digest(key);
        }
        if state.asked.len() >= ASKED {
            state.asked.clear();
        }
        state.asked.insert(key.clone(), question);
        drop(state);
        // Somebody may have asked before a restart.
        self.cache.has_digest(key) || self.shelf.has(key)
    }

    /// Whether a digest is at hand.
    pub(in crate::columnar) fn is_at_hand(&self, key: &DigestKey) -> bool {
        self.cache.has_digest(key)
    }

    /// A digest and whether it was there. Otherwise it is made, by one walk for all that want it.
    pub(in crate::columnar) fn get(
        &self,
        key: &DigestKey,
        question: u64,
        make: impl FnOnce() -> Result<FoundDigest, StoreError>,
    ) -> Result<(FoundDigest, bool), StoreError> {
        let mut is_made = false;
        let find = || match self.shelf.take(key) {
            Some(digest) => Ok(Some(Arc::new(digest))),
            None => {
                is_made = true;
                make()
            }
        };
        let (digest, was_there) = self.cache.digest(key, find)?;
        if was_there {
            return Ok((digest, was_there));
        }
        if self.is_gone(key) {
            self.cache.forget_digest(key);
        } else if !self.cache.has_digest(key) {
            self.state().asked.insert(key.clone(), question + NO_ROOM_FOR);
        } else if let Some(digest) = digest.as_deref().filter(|_| is_made) {
            self.shelf.put(key, digest);
            if self.is_gone(key) {
                self.shelf.forget(&key.files());
            }
        }
        Ok((digest, was_there))
    }

    /// Whether one of the parts has been merged away, so that nobody will ask for this again.
    fn is_gone(&self, key: &DigestKey) -> bool {
        key.is_of(&self.state().gone)
    }

    /// Forgets the digests of parts that have been merged away.
    pub(in crate::columnar) fn forget(&self, files: &[u64]) {
        let mut state = self.state();
        state.gone.extend_from_slice(files);
        let surplus = state.gone.len().saturating_sub(GONE);
        state.gone.drain(..surplus);
        state.asked.retain(|key, _| !key.is_of(files));
        drop(state);
        self.shelf.forget(files);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
