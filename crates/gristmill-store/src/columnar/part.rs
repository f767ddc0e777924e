//! A part: an immutable Parquet file of one shard, sorted like a run, with a filter over its
//! identities beside it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{RecordBatch, RecordBatchReader};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use serde::{Deserialize, Serialize};

use super::files::{Directory, Kind, damaged};
use super::filter::Filter;
use super::manifest::PartRecord;
use super::schema::{self, BATCH_ROWS, INDEX_KEY, Texts, column};
use crate::StoreError;

/// A part that the store holds. Its files are removed when it is obsolete and nobody reads it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) record: PartRecord,
    directory: Directory,
    state: Mutex<State>,
    obsolete: AtomicBool,
}

/// What is known of a part's file.
#[derive(Debug, Default)]
struct State {
    opened: Option<Arc<OpenPart>>,
    /// Whether questions may read it: it was verified, or this process has written it.
    is_trusted: bool,
    is_verified: bool,
}

/// A part whose file has been opened.
#[derive(Debug)]
pub(super) struct OpenPart {
    /// The number of its file, which no other part ever has.
    pub(super) number: u64,
    file: PartFile,
    plain: ArrowReaderMetadata,
    coded: ArrowReaderMetadata,
    /// The properties that have a column, in the order of the columns.
    shredded: Vec<String>,
    pub(super) groups: Vec<RowGroup>,
    pub(super) filter: Filter,
}

/// Where the users of a row group are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RowGroup {
    pub(super) rows: usize,
    /// The user of every `PAGE_ROWS`th row, from the first on.
    pub(super) pages: Vec<UserKey>,
    /// The user of the last row.
    pub(super) last: UserKey,
}

/// Rows of a part that can be read without the others.
#[derive(Clone, Debug)]
pub(super) struct Selected {
    pub(super) groups: Vec<usize>,
    /// Which rows of these groups, counted through all of them; every row, if not said.
    rows: Option<Vec<Range<usize>>>,
    /// How many rows the groups have.
    total: usize,
}

/// A place in the order of users.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct UserKey {
    pub(super) project: String,
    pub(super) hash: u64,
}

impl Part {
    /// A part that was written before.
    pub(super) fn found(directory: &Directory, record: PartRecord) -> Arc<Self> {
        Self::new(directory, record, State::default())
    }

    /// A part that was just written, most likely still in memory: questions about the newest events need
    /// not wait until all of it has been read again.
    pub(super) fn written(directory: &Directory, record: PartRecord) -> Arc<Self> {
        Self::new(directory, record, State { is_trusted: true, ..State::default() })
    }

    fn new(directory: &Directory, record: PartRecord, state: State) -> Arc<Self> {
        Arc::new(Self {
            record,
            directory: directory.clone(),
            state: Mutex::new(state),
            obsolete: AtomicBool::new(false),
        })
    }

    /// The open part. The first call reads all of a file that was found to verify it.
    pub(super) fn open(&self) -> Result<Arc<OpenPart>, StoreError> {
        let mut state = self.state();
        if !state.is_trusted {
            self.verify(&mut state)?;
        }
        self.opened(&mut state)
    }

    /// The same, verified whoever has written it: what is made of it will replace it.
    pub(super) fn open_verified(&self) -> Result<Arc<OpenPart>, StoreError> {
        let mut state = self.state();
        if !state.is_verified {
            self.verify(&mut state)?;
        }
        self.opened(&mut state)
    }

    fn opened(&self, state: &mut State) -> Result<Arc<OpenPart>, StoreError> {
        if let Some(open) = &state.opened {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(OpenPart::open(&self.directory, &self.record)?);
        state.opened = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Reads all of the file and compares its checksum.
    fn verify(&self, state: &mut State) -> Result<(), StoreError> {
        let path = self.directory.file(self.record.file, Kind::Part);
        let file = PartFile::open(&path)?;
        if file.length != self.record.bytes || file.crc()? != self.record.crc {
            return Err(damaged(&path));
        }
        (state.is_trusted, state.is_verified) = (true, true);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the files go with the last reader.
    pub(super) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.directory.remove(self.record.file, Kind::Part);
            self.directory.remove(self.record.file, Kind::Filter);
        }
    }
}

impl OpenPart {
    fn open(directory: &Directory, record: &PartRecord) -> Result<Self, StoreError> {
        let path = directory.file(record.file, Kind::Part);
        let file = PartFile::open(&path)?;
        if file.length != record.bytes {
            return Err(damaged(&path));
        }
        let wrong = |error| StoreError::Damaged(format!("{}: {error}", path.display()));
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let plain = ArrowReaderMetadata::load(&file, options.clone()).map_err(wrong)?;
        let shredded = schema::shredded(plain.schema());
        let [plain, coded] = [Texts::Plain, Texts::Coded].map(|texts| {
            let options = options.clone().with_schema(schema::schema(texts, &shredded));
            ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).map_err(wrong)
        });
        let (plain, coded) = (plain?, coded?);
        let groups = row_groups(&plain).ok_or_else(|| damaged(&path))?;
        let filter = Filter::open(&directory.file(record.file, Kind::Filter))?;
        Ok(Self { number: record.file, file, plain, coded, shredded, groups, filter })
    }

    /// Reads columns of row groups, a few thousand rows at a time.
    pub(super) fn read(
        &self,
        texts: Texts,
        columns: impl IntoIterator<Item = usize>,
        selected: Selected,
    ) -> Result<ParquetRecordBatchReader, StoreError> {
        self.reader(texts, columns, selected, BATCH_ROWS)
    }

    /// Reads columns, in the order of the file, of all selected rows at once.
    pub(super) fn read_whole(
        &self,
        texts: Texts,
        columns: impl IntoIterator<Item = usize>,
        selected: Selected,
    ) -> Result<RecordBatch, StoreError> {
        let rows = selected.row_count();
        let mut reader = self.reader(texts, columns, selected, rows.max(1))?;
        let batch = reader.next().map_or_else(
            || Ok(RecordBatch::new_empty(reader.schema())),
            |batch| batch.map_err(unreadable),
        )?;
        if batch.num_rows() == rows { Ok(batch) } else { Err(unreadable("rows are missing")) }
    }

    fn reader(
        &self,
        texts: Texts,
        columns: impl IntoIterator<Item = usize>,
        selected: Selected,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, StoreError> {
        let metadata = match texts {
            Texts::Plain => &self.plain,
            Texts::Coded => &self.coded,
        };
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), columns);
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), metadata.clone())
                .with_projection(mask)
                .with_row_groups(selected.groups)
                .with_batch_size(batch_rows);
        let builder = match selected.rows {
            Some(ranges) => builder.with_row_selection(RowSelection::from_consecutive_ranges(
                ranges.into_iter(),
                selected.total,
            )),
            None => builder,
        };
        builder.build().map_err(unreadable)
    }

    /// The column of a property, if it has one.
    pub(super) fn property_column(&self, name: &str) -> Option<usize> {
        let place = self.shredded.iter().position(|shredded| shredded == name)?;
        Some(column::PROPERTIES + 1 + place)
    }

    /// All rows.
    pub(super) fn all(&self) -> Selected {
        let total = self.groups.iter().map(|group| group.rows).sum();
        Selected { groups: (0..self.groups.len()).collect(), rows: None, total }
    }

    /// All rows of one group.
    pub(super) fn group(&self, index: usize) -> Selected {
        Selected { groups: vec![index], rows: None, total: self.groups[index].rows }
    }

    /// The row groups that may have users from `first` to `last`, both included.
    pub(super) fn groups_of(&self, first: &UserKey, last: &UserKey) -> Range<usize> {
        let start = self.groups.partition_point(|group| group.last < *first);
        let end = self
            .groups
            .partition_point(|group| group.pages.first().is_some_and(|first| first <= last));
        start..end.max(start)
    }
}

impl Selected {
    fn row_count(&self) -> usize {
        self.rows.as_ref().map_or(self.total, |ranges| ranges.iter().map(Range::len).sum())
    }

    /// Of these rows, in the order in which they are read, only some.
    pub(super) fn only(self, wanted: Range<usize>) -> Self {
        let everything = 0..self.total;
        let mut before = 0;
        let narrow = |range: Range<usize>| {
            let start = (range.start + wanted.start.saturating_sub(before)).min(range.end);
            let end = (range.start + wanted.end.saturating_sub(before)).min(range.end);
            before += range.len();
            start..end
        };
        let ranges = self.rows.unwrap_or_else(|| vec![everything]);
        Selected { rows: Some(ranges.into_iter().map(narrow).collect()), ..self }
    }
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("cannot read a part: {error}"))
}

fn row_groups(metadata: &ArrowReaderMetadata) -> Option<Vec<RowGroup>> {
    let file = metadata.metadata().file_metadata();
    let entry = file.key_value_metadata()?.iter().find(|entry| entry.key == INDEX_KEY)?;
    let groups: Vec<RowGroup> = serde_json::from_str(entry.value.as_ref()?).ok()?;
    (groups.len() == metadata.metadata().num_row_groups()).then_some(groups)
}

/// The file of a part, read by position so that readers do not move each other.
#[derive(Clone, Debug)]
struct PartFile {
    file: Arc<File>,
    length: u64,
}

impl PartFile {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| {
            StoreError::Damaged(format!("cannot open {}: {error}", path.display()))
        })?;
        Ok(Self { length: file.metadata()?.len(), file: Arc::new(file) })
    }

    fn crc(&self) -> io::Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let mut reader = PartReader { file: Arc::clone(&self.file), position: 0 };
        let mut buffer = vec![0; 256 << 10];
        loop {
            match io::Read::read(&mut reader, &mut buffer)? {
                0 => return Ok(hasher.finalize()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}

impl Length for PartFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for PartFile {
    type T = io::BufReader<PartReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(io::BufReader::new(PartReader { file: Arc::clone(&self.file), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads a part's file from a place on.
struct PartReader {
    file: Arc<File>,
    position: u64,
}

impl io::Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
