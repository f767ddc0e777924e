//! The digests that there are, under a budget of bytes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::kept::Kept;
use super::shelf::Shelf;
use super::{Digest, Found, Shape};
use crate::StoreError;

/// What a digest takes, about.
const USUAL_BYTES: usize = 1 << 20;
/// How many shapes of questions are remembered.
const SHAPES: usize = 1 << 10;
/// After so many questions it is tried again to find room for the digests of a shape.
const NO_ROOM_FOR: u64 = 64;

/// Digests, and the questions that were asked.
pub(in crate::columnar) struct Digests {
    kept: Kept<DigestKey, Found>,
    shelf: Shelf,
    /// The number of the latest question.
    question: Mutex<u64>,
    /// For each shape the question that it may be digested after.
    asked: Mutex<HashMap<Shape, u64>>,
}

/// Which digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::columnar) struct DigestKey {
    pub(in crate::columnar) shape: Shape,
    /// The walk, and how many there are.
    pub(in crate::columnar) shard: u32,
    pub(in crate::columnar) shards: u32,
    /// The files of the parts that it is of.
    pub(in crate::columnar) files: Vec<u64>,
}

impl Digests {
    /// Those for which there is memory, and as much room in files of a directory, where some may be from
    /// before; `is_part` says which files of parts there are.
    pub(in crate::columnar) fn open(
        directory: &Path,
        bytes: usize,
        is_part: impl Fn(u64) -> bool,
    ) -> Self {
        let kept = Kept::new(bytes, bytes / USUAL_BYTES);
        let shelf = Shelf::open(directory, bytes as u64, is_part);
        Self { kept, shelf, question: Mutex::default(), asked: Mutex::default() }
    }

    /// Begins another question, and gives its number.
    pub(in crate::columnar) fn begin_question(&self) -> u64 {
        self.kept.begin_question();
        let mut question = self.question.lock().unwrap_or_else(PoisonError::into_inner);
        *question += 1;
        *question
    }

    /// Whether a question of a digest's shape was asked before this one, which is noted.
    pub(in crate::columnar) fn was_asked(&self, key: &DigestKey, question: u64) -> bool {
        self.was_asked_since_start(&key.shape, question) || self.shelf.has(key)
    }

    fn was_asked_since_start(&self, shape: &Shape, question: u64) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = asked.get(shape) {
            return *before < question;
        }
        if asked.len() >= SHAPES {
            // What was asked once only is the more likely not to be asked again.
            let oldest = asked.values().copied().min().unwrap_or_default();
            asked.retain(|_, before| *before != oldest);
        }
        asked.insert(shape.clone(), question);
        false
    }

    /// A digest and whether it was there. Otherwise it is made, by one walk for all that want it.
    pub(in crate::columnar) fn get(
        &self,
        key: &DigestKey,
        question: u64,
        make: impl FnOnce() -> Result<Found, StoreError>,
    ) -> Result<(Found, bool), StoreError> {
        let bytes =
            |digest: &Found| size_of::<DigestKey>() + digest.as_deref().map_or(0, Digest::memory);
        let find = || -> Result<Found, StoreError> {
            if let Some(digest) = self.shelf.take(key) {
                return Ok(Some(Arc::new(digest)));
            }
            let made = make()?;
            if let Some(digest) = &made {
                self.shelf.put(key, digest);
            }
            Ok(made)
        };
        let (digest, was_there) = self.kept.get_or_read(key, find, bytes)?;
        if !was_there && self.kept.get(key).is_none() {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(key.shape.clone(), question + NO_ROOM_FOR);
        }
        Ok((digest, was_there))
    }

    /// Forgets the digests of parts that have been merged away.
    pub(in crate::columnar) fn forget(&self, files: &[u64]) {
        self.kept.forget(|key| key.files.iter().any(|file| files.contains(file)));
        self.shelf.forget(files);
    }
}
