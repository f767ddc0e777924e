//! The manifest: the one place that says what the store holds.
//!
//! A file of lines, each a record: the CRC-32 of its JSON in eight hexadecimal digits, a space,
//! the JSON, a line feed. What the store holds is the sum of the records, and appending one, with
//! a sync, is the store's single durable commit point. When the file has grown far beyond what
//! its sum needs, it is replaced by one record that says the same.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use gristmill_model::{ProjectId, limits};

use super::files::{Directory, is_full};
use crate::document::Documents;
use crate::{Document, DocumentKey, StoreError};

/// Rewriting starts at this size.
const REWRITE_BYTES: u64 = 4 << 20;
/// The version of the directory's format.
pub(super) const FORMAT: u32 = 1;

/// One change, applied whole or not at all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Created>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) add_parts: Vec<PartRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remove_parts: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) add_windows: Vec<WindowRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remove_windows: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) add_quarantines: Vec<u64>,
    /// The time since which every acceptance is in a window run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window_start: Option<i64>,
    /// The position token of everything the store holds durably.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) durable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) totals: Option<Totals>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) put_documents: Vec<DocumentRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remove_documents: Vec<DocumentName>,
    /// The highest version that a document has ever had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document_version: Option<u64>,
    /// The lowest number that no file has ever had.
    pub(super) next_file: u64,
}

/// What is fixed when a store is created.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Created {
    pub(super) format: u32,
    pub(super) shards: u32,
    pub(super) slice_micros: i64,
    /// The key of the identity hash, in hexadecimal.
    pub(super) identity_key: String,
}

impl Created {
    fn is_possible(&self) -> bool {
        (1..=limits::SHARDS).contains(&self.shards) && self.slice_micros > 0
    }
}

/// What is known of a part without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub(super) file: u64,
    pub(super) shard: u32,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    pub(super) first_received: i64,
    pub(super) last_received: i64,
    /// Whether these are the rows that a merge left after giving slices parts of their own.
    #[serde(default)]
    pub(super) is_rest: bool,
    /// Whether it was written to stay.
    #[serde(default)]
    pub(super) is_lasting: bool,
}

/// A window run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowRecord {
    pub(super) file: u64,
    pub(super) identities: u64,
    pub(super) last_received: i64,
}

/// A document as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DocumentRecord {
    #[serde(flatten)]
    pub(super) name: DocumentName,
    pub(super) version: u64,
    pub(super) body: String,
}

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DocumentName {
    pub(super) project: String,
    pub(super) kind: String,
    pub(super) id: String,
}

impl DocumentName {
    pub(super) fn of(key: &DocumentKey<'_>) -> Self {
        let [project, kind, id] = [key.project.as_str(), key.kind, key.id].map(str::to_owned);
        Self { project, kind, id }
    }

    pub(super) fn key(&self) -> DocumentKey<'_> {
        DocumentKey { project: ProjectId::new(&self.project), kind: &self.kind, id: &self.id }
    }
}

impl DocumentRecord {
    fn of(document: &Document) -> Self {
        let Document { project, kind, id, version, body } = document;
        let name = DocumentName::of(&DocumentKey { project: project.borrowed(), kind, id });
        Self { name, version: *version, body: body.clone() }
    }

    fn into_document(self) -> Document {
        let Self { name: DocumentName { project, kind, id }, version, body } = self;
        Document { project: ProjectId::new(project), kind, id, version, body }
    }
}

/// Totals of outcomes since the store was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) stored: u64,
    pub(super) duplicate: u64,
    pub(super) quarantined: u64,
    pub(super) expired: u64,
}

/// The sum of all records.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) created: Option<Created>,
    pub(super) parts: BTreeMap<u64, PartRecord>,
    pub(super) windows: BTreeMap<u64, WindowRecord>,
    pub(super) quarantines: Vec<u64>,
    pub(super) window_start: Option<i64>,
    pub(super) durable: String,
    pub(super) totals: Totals,
    pub(super) documents: Documents,
    pub(super) next_file: u64,
}

impl Contents {
    fn apply(&mut self, record: Record) {
        self.created = record.created.or_else(|| self.created.take());
        self.parts.extend(record.add_parts.into_iter().map(|part| (part.file, part)));
        for file in record.remove_parts {
            self.parts.remove(&file);
        }
        self.windows.extend(record.add_windows.into_iter().map(|run| (run.file, run)));
        for file in record.remove_windows {
            self.windows.remove(&file);
        }
        self.quarantines.extend(record.add_quarantines);
        self.window_start = record.window_start.or(self.window_start);
        self.durable = record.durable.unwrap_or_else(|| std::mem::take(&mut self.durable));
        self.totals = record.totals.unwrap_or(self.totals);
        for document in record.put_documents {
            self.documents.put(document.into_document());
        }
        for name in &record.remove_documents {
            self.documents.remove(&name.key());
        }
        self.documents.note_version(record.document_version.unwrap_or(0));
        self.next_file = self.next_file.max(record.next_file);
    }

    fn as_one_record(&self) -> Record {
        Record {
            created: self.created.clone(),
            add_parts: self.parts.values().cloned().collect(),
            add_windows: self.windows.values().cloned().collect(),
            add_quarantines: self.quarantines.clone(),
            window_start: self.window_start,
            durable: Some(self.durable.clone()),
            totals: Some(self.totals),
            put_documents: self.documents.all().map(DocumentRecord::of).collect(),
            document_version: Some(self.documents.last_version()).filter(|version| *version > 0),
            next_file: self.next_file,
            ..Record::default()
        }
    }
}

/// The manifest of an open store.
#[derive(Debug)]
pub(super) struct Manifest {
    directory: Directory,
    file: File,
    bytes: u64,
    rewritten_bytes: u64,
    contents: Contents,
    /// Whether nobody knows what the file says since a change that failed.
    is_unclear: bool,
}

impl Manifest {
    /// Opens the manifest, or creates it with `created` as its first record.
    pub(super) fn open(directory: &Directory, created: Created) -> Result<Self, StoreError> {
        let path = directory.manifest();
        let mut contents = Contents::default();
        if path.try_exists()? {
            let (read, intact_bytes) = read(&path)?;
            contents = read;
            let file = OpenOptions::new().write(true).open(&path)?;
            if file.metadata()?.len() > intact_bytes {
                tracing::warn!(path = %path.display(), "a record that was not completed is dropped");
                file.set_len(intact_bytes)?;
                file.sync_all()?;
            }
        }
        if contents.created.is_none() {
            if !directory.list()?.is_empty() {
                return Err(StoreError::Damaged(format!(
                    "{} is missing or empty, and there are files of a store beside it: restore the \
                     data directory from a backup",
                    path.display()
                )));
            }
            contents.apply(Record { created: Some(created), next_file: 1, ..Record::default() });
            put_in_place(directory, &write_fresh(directory, &contents)?)?;
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let directory = directory.clone();
        Ok(Self { directory, file, bytes, rewritten_bytes: 0, contents, is_unclear: false })
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Makes a change durable. [`io::ErrorKind::StorageFull`] means that it did not happen; after
    /// any other error that is known only when the manifest is opened anew, and nothing more can
    /// be appended.
    pub(super) fn append(&mut self, record: Record) -> Result<(), StoreError> {
        if self.is_unclear {
            return Err(unclear(&io::Error::other("a change before failed")).into());
        }
        let appended = self.try_append(record);
        self.is_unclear = appended.as_ref().is_err_and(|error| !is_full(error));
        appended
    }

    /// Puts a document and gives its version.
    pub(super) fn put_document(
        &mut self,
        key: &DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError> {
        let document = self.contents.documents.next(key, expected, body)?;
        let put_documents = vec![DocumentRecord::of(&document)];
        self.append(Record { put_documents, ..Record::default() })?;
        Ok(document.version)
    }

    /// Removes a document.
    pub(super) fn remove_document(
        &mut self,
        key: &DocumentKey<'_>,
        expected: u64,
    ) -> Result<(), StoreError> {
        self.contents.documents.expect(key, Some(expected))?;
        let remove_documents = vec![DocumentName::of(key)];
        self.append(Record { remove_documents, ..Record::default() })
    }

    fn try_append(&mut self, record: Record) -> Result<(), StoreError> {
        let line = line_of(&record)?;
        if let Err(error) = self.file.write_all(&line) {
            // A full disk is no reason to end, so half a record must not stay behind.
            self.file.set_len(self.bytes)?;
            return Err(error.into());
        }
        self.file.sync_data().map_err(|error| unclear(&error))?;
        self.bytes += line.len() as u64;
        self.contents.apply(record);
        if self.bytes > REWRITE_BYTES && self.bytes > 4 * self.rewritten_bytes {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Puts one record in the place of all. The change before is durable already, so this may not
    /// fail for lack of room: it is left for later.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        let fresh = match write_fresh(&self.directory, &self.contents) {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::warn!(%error, "the manifest is not rewritten now");
                self.rewritten_bytes = self.bytes;
                return Ok(());
            }
        };
        self.rewritten_bytes =
            put_in_place(&self.directory, &fresh).map_err(|error| unclear(&error))?;
        self.bytes = self.rewritten_bytes;
        let reopened = OpenOptions::new().append(true).open(self.directory.manifest());
        self.file = reopened.map_err(|error| unclear(&error))?;
        Ok(())
    }
}

/// Reads a manifest: its sum, and how many bytes of it are complete records.
///
/// An incomplete last line is a record that never happened. Anything else that does not match
/// its checksum is damage.
pub(super) fn read(path: &Path) -> Result<(Contents, u64), StoreError> {
    let bytes = fs::read(path)?;
    let mut contents = Contents::default();
    let mut start = 0;
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let is_last = start + line.len() == bytes.len();
        match record_of(line) {
            Some(record) => contents.apply(record),
            None if is_last && was_cut_short(line) => break,
            None => {
                return Err(StoreError::Damaged(format!(
                    "{} is damaged in line {}: restore the data directory from a backup",
                    path.display(),
                    number + 1
                )));
            }
        }
        start += line.len();
    }
    match &contents.created {
        Some(created) if created.format != FORMAT => Err(StoreError::Damaged(format!(
            "{} has format {}, this version reads format {FORMAT}",
            path.display(),
            created.format
        ))),
        Some(created) if !created.is_possible() => Err(StoreError::Damaged(format!(
            "{} tells of {} shards and slices of {} microseconds, which no store has: restore the \
             data directory from a backup",
            path.display(),
            created.shards,
            created.slice_micros
        ))),
        _ => Ok((contents, start as u64)),
    }
}

/// Whether a line that is no record lacks its end, and not just its line feed to damage.
fn was_cut_short(line: &[u8]) -> bool {
    let Some((last, rest)) = line.split_last() else { return true };
    *last != b'\n' && record_of(&[rest, b"\n"].concat()).is_none()
}

fn line_of(record: &Record) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(record).map_err(io::Error::other)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn record_of(line: &[u8]) -> Option<Record> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = std::str::from_utf8(crc).ok()?.strip_suffix(' ')?;
    let intact = u32::from_str_radix(crc, 16).ok()? == crc32fast::hash(json);
    if intact { serde_json::from_slice(json).ok() } else { None }
}

/// Writes a manifest of one record beside the old one.
fn write_fresh(directory: &Directory, contents: &Contents) -> Result<PathBuf, StoreError> {
    let fresh = directory.manifest().with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&line_of(&contents.as_one_record())?)?;
    file.sync_all()?;
    Ok(fresh)
}

/// Replaces the manifest and gives the size of the new one.
fn put_in_place(directory: &Directory, fresh: &Path) -> io::Result<u64> {
    let path = directory.manifest();
    fs::rename(fresh, &path)?;
    directory.sync()?;
    Ok(fs::metadata(&path)?.len())
}

/// An error after which nobody knows what the manifest says.
fn unclear(error: &io::Error) -> io::Error {
    io::Error::other(format!("the manifest could not be made durable: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Created {
        Created { format: FORMAT, shards: 4, slice_micros: 1, identity_key: "7".into() }
    }

    fn with_durable(token: &str) -> Record {
        Record { durable: Some(token.into()), ..Record::default() }
    }

    #[test]
    fn sums_up_and_drops_only_an_incomplete_last_record() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let mut manifest = Manifest::open(&directory, created()).unwrap();
        manifest.append(with_durable("p0-1")).unwrap();
        manifest.append(with_durable("p0-2")).unwrap();
        let whole = fs::read(directory.manifest()).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            fs::write(directory.manifest(), &whole[..end]).unwrap();
            let manifest = Manifest::open(&directory, created()).unwrap();
            assert_eq!(manifest.contents().durable, "p0-1", "cut at {end}");
            assert_eq!(manifest.contents().created.as_ref().unwrap().shards, 4);
        }
    }

    #[test]
    fn a_store_that_cannot_be_is_refused_before_anything_is_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        for (shards, slice_micros) in [(0, 1), (u32::MAX, 1), (4, 0), (4, -1)] {
            let created = Some(Created { shards, slice_micros, ..created() });
            let line = line_of(&Record { created, ..Record::default() }).unwrap();
            fs::write(directory.manifest(), line).unwrap();
            let opened = Manifest::open(&directory, self::created());
            assert!(matches!(opened, Err(StoreError::Damaged(_))), "{shards} {slice_micros}");
        }
    }

    #[test]
    fn one_record_says_the_same_of_documents() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let mut manifest = Manifest::open(&directory, created()).unwrap();
        let key = |id| DocumentKey { project: ProjectId::new("p"), kind: "k", id };
        let first = manifest.put_document(&key("a"), None, "x".to_owned()).unwrap();
        let last = manifest.put_document(&key("b"), None, "y".to_owned()).unwrap();
        manifest.remove_document(&key("b"), last).unwrap();
        manifest.rewrite().unwrap();
        let mut manifest = Manifest::open(&directory, created()).unwrap();
        let documents = &manifest.contents().documents;
        assert_eq!(documents.get(&key("a")).map(|document| document.version), Some(first));
        assert_eq!(documents.get(&key("b")), None);
        assert!(manifest.put_document(&key("b"), None, "z".to_owned()).unwrap() > last);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let mut manifest = Manifest::open(&directory, created()).unwrap();
        manifest.append(with_durable("p0-1")).unwrap();
        let whole = fs::read(directory.manifest()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(directory.manifest(), bytes).unwrap();
            let unchanged = read(&directory.manifest()).is_ok_and(|(sum, _)| sum.durable == "p0-1");
            let same_case = (whole[bit / 8] as char).is_ascii_hexdigit() && bit % 8 == 5;
            assert!(!unchanged || same_case, "bit {bit}");
        }
    }
}
