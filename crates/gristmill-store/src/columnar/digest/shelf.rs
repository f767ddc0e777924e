//! Digests in files, so that questions that were asked again and again before a restart are as quick
//! after it.
//!
//! ```text
//! "GMDIGST1"  CRC-32 of all that follows  the key as text  the numbers of the parts' files  the digest
//! ```
//!
//! Losing a file costs nothing but time: it is not synced, and one that is damaged is removed. The first
//! eight bytes change with what the rest means, which includes how properties are read, which row
//! group is of which walk, and what users and sessions are told by.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::{Digest, DigestKey, bytes};

const MAGIC: &[u8; 8] = b"GMDIGST1";
const CRC: usize = 4;
const EXTENSION: &str = "digest";
/// The key and the numbers of the parts lie within so many bytes.
const START: u64 = 1 << 18;

/// The files of digests in a directory.
pub(super) struct Shelf {
    directory: PathBuf,
    /// The most bytes that they may have.
    budget: u64,
    /// By the hash of the key.
    files: Mutex<HashMap<u64, OnShelf>>,
    /// How many were put there or taken from there.
    uses: AtomicU64,
}

struct OnShelf {
    bytes: u64,
    /// The number of the latest use.
    used: u64,
    /// The files of the parts that it is of.
    parts: Vec<u64>,
}

impl Shelf {
    /// Those that are there and of parts that are, and have room.
    pub(super) fn open(directory: &Path, budget: u64, is_part: impl Fn(u64) -> bool) -> Self {
        let (files, uses) = (Mutex::default(), AtomicU64::new(0));
        let shelf = Self { directory: directory.to_owned(), budget, files, uses };
        if let Err(error) = shelf.find(is_part) {
            tracing::warn!(%error, directory = %directory.display(), "cannot read kept digests");
        }
        shelf
    }

    /// Whether there is one.
    pub(super) fn has(&self, key: &DigestKey) -> bool {
        self.files().contains_key(&hash(&text(key)))
    }

    /// A digest, if it is there and whole.
    pub(super) fn take(&self, key: &DigestKey) -> Option<Digest> {
        let text = text(key);
        let hash = hash(&text);
        self.files().get_mut(&hash)?.used = self.next_use();
        let digest = fs::read(self.path(hash)).ok().and_then(|bytes| {
            let (key, digest) = contents(&bytes)?;
            (key == text).then(|| bytes::read(digest)).flatten()
        });
        if digest.is_none() {
            tracing::warn!(path = %self.path(hash).display(), "a kept digest is not whole, and is made anew");
            self.remove(|number, _| number == hash);
        }
        digest
    }

    /// Puts a digest there; what was not used for longest gives way.
    pub(super) fn put(&self, key: &DigestKey, digest: &Digest) {
        let text = text(key);
        let mut file = Vec::with_capacity(digest.memory());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&[0; CRC]);
        bytes::put_bytes(text.as_bytes(), &mut file);
        bytes::put_all(key.parts.iter().map(|(file, _)| file.to_le_bytes()), &mut file);
        bytes::append(digest, &mut file);
        let (head, rest) = file.split_at_mut(MAGIC.len() + CRC);
        head[MAGIC.len()..].copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
        let (number, size) = (hash(&text), file.len() as u64);
        let mut files = self.files();
        if !self.make_room(&mut files, size) {
            return;
        }
        if let Err(error) = self.write(number, &file) {
            tracing::warn!(%error, path = %self.path(number).display(), "cannot keep a digest");
            return;
        }
        let parts = key.parts.iter().map(|(file, _)| *file).collect();
        files.insert(number, OnShelf { bytes: size, used: self.next_use(), parts });
    }

    /// Removes those of parts that are no more.
    pub(super) fn forget(&self, parts: &[u64]) {
        self.remove(|_, file| file.parts.iter().any(|part| parts.contains(part)));
    }

    fn find(&self, is_part: impl Fn(u64) -> bool) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut room = self.budget;
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let number = number_of(&path);
            let parts = number.and_then(|_| parts_of(&path));
            match (number, parts) {
                (Some(number), Some((bytes, parts)))
                    if bytes <= room && parts.iter().all(|part| is_part(*part)) =>
                {
                    room -= bytes;
                    self.files().insert(number, OnShelf { bytes, used: 0, parts });
                }
                _ => remove(&path),
            }
        }
        Ok(())
    }

    /// A file that is there under its name is whole, unless the machine has crashed.
    fn write(&self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(number);
        let unfinished = path.with_extension("unfinished");
        let written = File::create(&unfinished).and_then(|mut file| file.write_all(bytes));
        if written.is_err() {
            // What it has taken of a full disk is given back.
            let _ = fs::remove_file(&unfinished);
        }
        written.and_then(|()| fs::rename(unfinished, path))
    }

    /// Makes room for some bytes, and says whether there is any.
    fn make_room(&self, files: &mut HashMap<u64, OnShelf>, bytes: u64) -> bool {
        let mut by_use: Vec<_> =
            files.iter().map(|(number, file)| (file.used, *number, file.bytes)).collect();
        let mut taken: u64 = by_use.iter().map(|(_, _, bytes)| bytes).sum();
        by_use.sort_unstable();
        for (_, oldest, freed) in by_use {
            if bytes > self.budget || taken + bytes <= self.budget {
                break;
            }
            files.remove(&oldest);
            remove(&self.path(oldest));
            taken -= freed;
        }
        taken + bytes <= self.budget
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Relaxed) + 1
    }

    fn remove(&self, is_old: impl Fn(u64, &OnShelf) -> bool) {
        let mut files = self.files();
        files.retain(|number, file| {
            let goes = is_old(*number, file);
            if goes {
                remove(&self.path(*number));
            }
            !goes
        });
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016x}.{EXTENSION}"))
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, OnShelf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove a kept digest");
    }
}

/// A key as text: another form of it in another version only makes files that nobody finds.
fn text(key: &DigestKey) -> String {
    format!("{key:?}")
}

fn hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

fn number_of(path: &Path) -> Option<u64> {
    let is_one = path.extension().is_some_and(|extension| extension == EXTENSION);
    let stem = path.file_stem().filter(|_| is_one)?.to_str()?;
    u64::from_str_radix(stem, 16).ok()
}

/// The bytes of a file, and the parts that its digest is of.
fn parts_of(path: &Path) -> Option<(u64, Vec<u64>)> {
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    file.take(START).read_to_end(&mut start).ok()?;
    let mut reader = bytes::Reader { left: start.strip_prefix(MAGIC)?.get(CRC..)? };
    reader.text()?;
    Some((bytes, reader.all(u64::from_le_bytes)?))
}

/// The key and the digest of a file that is whole.
fn contents(file: &[u8]) -> Option<(&str, &[u8])> {
    let rest = file.strip_prefix(MAGIC)?;
    let (crc, rest) = rest.split_first_chunk::<CRC>()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
        return None;
    }
    let mut reader = bytes::Reader { left: rest };
    let key = reader.text()?;
    reader.all(u64::from_le_bytes)?;
    Some((key, reader.left))
}
