//! Writes a part: rows in order, one row group after the other.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::{
    ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array, UInt32Array,
    UInt64Array,
};
use parquet::arrow::ArrowWriter;

use super::files::{Directory, Kind};
use super::filter::FilterBuilder;
use super::manifest::PartRecord;
use super::merge_rows::Chunk;
use super::part::{RowGroup, UserKey};
use super::run::{Rows, Run, RunBuilder};
use super::schema::{self, Effort, PAGE_ROWS, index_entry, writer_properties};
use super::shredded::shred;
use super::texts::Texts;
use super::uuid_text;
use crate::StoreError;

/// A part that is being written. Nothing refers to its files until the manifest names them.
pub(super) struct PartWriter {
    directory: Directory,
    writer: ArrowWriter<CrcFile>,
    group_rows: usize,
    shredded: Vec<String>,
    pending: RunBuilder,
    groups: Vec<RowGroup>,
    filter: FilterBuilder,
    record: PartRecord,
}

/// What a part will be like.
#[derive(Clone, Debug)]
pub(super) struct PartShape {
    /// About how many rows it will have.
    pub(super) rows: u64,
    /// How many rows are gathered into a row group.
    pub(super) group_rows: usize,
    /// The properties that get a column.
    pub(super) shredded: Vec<String>,
}

impl PartWriter {
    pub(super) fn create(
        directory: &Directory,
        file: u64,
        shard: u32,
        effort: Effort,
        shape: PartShape,
    ) -> Result<Self, StoreError> {
        let target = CrcFile {
            file: File::create(directory.file(file, Kind::Part))?,
            crc: crc32fast::Hasher::new(),
        };
        let schema = schema::schema(schema::Texts::Plain, &shape.shredded);
        let writer = ArrowWriter::try_new(target, schema, Some(writer_properties(effort)))
            .map_err(failed)?;
        let record = PartRecord {
            file,
            shard,
            rows: 0,
            bytes: 0,
            crc: 0,
            first_time: i64::MAX,
            last_time: i64::MIN,
            first_received: i64::MAX,
            last_received: i64::MIN,
            is_rest: false,
            is_lasting: effort == Effort::Lasting,
        };
        Ok(Self {
            directory: directory.clone(),
            writer,
            group_rows: shape.group_rows,
            shredded: shape.shredded,
            pending: RunBuilder::new(),
            groups: Vec::new(),
            filter: FilterBuilder::for_identities(shape.rows),
            record,
        })
    }

    /// Adds rows behind all others.
    pub(super) fn write(&mut self, chunk: &Chunk) -> Result<(), StoreError> {
        self.pending.extend(chunk);
        if self.pending.row_count() >= self.group_rows || !self.pending.has_room() {
            self.write_row_group()?;
        }
        Ok(())
    }

    /// Writes what is left, the filter, and makes both durable but for their names.
    pub(super) fn finish(mut self) -> Result<PartRecord, StoreError> {
        self.write_row_group()?;
        let index = serde_json::to_string(&self.groups).map_err(io::Error::other)?;
        self.writer.append_key_value_metadata(index_entry(index));
        let target = self.writer.into_inner().map_err(failed)?;
        target.file.sync_all()?;
        let number = self.record.file;
        self.directory.write(number, Kind::Filter, &self.filter.finish())?;
        self.record.bytes = target.file.metadata()?.len();
        self.record.crc = target.crc.finalize();
        Ok(self.record)
    }

    fn write_row_group(&mut self) -> Result<(), StoreError> {
        let run = std::mem::replace(&mut self.pending, RunBuilder::new()).finish();
        if run.row_count() == 0 {
            return Ok(());
        }
        self.groups.push(group_of(&run));
        run.rows.identities.iter().for_each(|&identity| self.filter.insert(identity));
        self.note_ranges(&run.rows);
        self.writer.write(&batch_of(run, &self.shredded)?).map_err(failed)?;
        self.writer.flush().map_err(failed)
    }

    fn note_ranges(&mut self, rows: &Rows) {
        let record = &mut self.record;
        record.rows += rows.times.len() as u64;
        for &time in &rows.times {
            record.first_time = record.first_time.min(time);
            record.last_time = record.last_time.max(time);
        }
        for &received in &rows.received {
            record.first_received = record.first_received.min(received);
            record.last_received = record.last_received.max(received);
        }
    }
}

fn group_of(run: &Run) -> RowGroup {
    let rows = run.row_count();
    let mut users = (0..run.user_count()).map(|index| run.user(index)).peekable();
    let mut key_at = |row: usize| {
        while users.next_if(|user| user.end_row <= row).is_some() {}
        let user = users.peek();
        UserKey {
            project: user.map_or("", |user| user.project).to_owned(),
            hash: user.map_or(0, |user| user.hash),
        }
    };
    let pages = (0..rows).step_by(PAGE_ROWS).map(&mut key_at).collect();
    RowGroup { rows, pages, last: key_at(rows - 1) }
}

fn batch_of(run: Run, shredded: &[String]) -> Result<RecordBatch, StoreError> {
    let row_count = run.row_count();
    let mut projects = Texts::with_capacity(row_count, row_count * 8);
    let mut users = Texts::with_capacity(row_count, row_count * 16);
    for index in 0..run.user_count() {
        let user = run.user(index);
        for _ in user.first_row..user.end_row {
            projects.push(user.project);
            users.push(user.user);
        }
    }
    let rows = run.rows;
    let (uuids, ids) = split_event_ids(&rows.event_ids)?;
    let time = |times: Vec<i64>| {
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef
    };
    let partitions = rows.positions.iter().map(|position| position.partition.0);
    let offsets = rows.positions.iter().map(|position| position.offset);
    let property_columns = shred(shredded, &rows.properties);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(projects.into_arrow()?),
        Arc::new(users.into_arrow()?),
        time(rows.times),
        Arc::new(UInt32Array::from_iter_values(partitions)),
        Arc::new(UInt64Array::from_iter_values(offsets)),
        time(rows.received),
        uuids,
        Arc::new(ids),
        Arc::new(rows.sessions.into_arrow()?),
        Arc::new(rows.event_types.into_arrow()?),
        Arc::new(rows.sources.into_arrow()?),
        Arc::new(rows.page_urls.into_arrow()?),
        Arc::new(UInt8Array::from(rows.origins)),
        Arc::new(rows.properties.into_arrow()?),
    ];
    for column in property_columns {
        columns.push(Arc::new(column.into_arrow()?));
    }
    let schema = schema::schema(schema::Texts::Plain, shredded);
    RecordBatch::try_new(schema, columns).map_err(failed)
}

/// Ids that are UUIDs in their canonical text take 16 bytes in a column of their own.
fn split_event_ids(texts: &Texts) -> Result<(ArrayRef, StringArray), StoreError> {
    let mut uuids = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    let mut others = Texts::with_capacity(texts.len(), 0);
    for row in 0..texts.len() {
        let text = texts.text(row);
        match uuid_text::parse(text) {
            Some(uuid) => {
                uuids.append_value(uuid).map_err(failed)?;
                others.push_option(None);
            }
            None => {
                uuids.append_null();
                others.push(text);
            }
        }
    }
    Ok((Arc::new(uuids.finish()), others.into_arrow()?))
}

/// What went wrong with the device is kept as such, above all that it is full.
fn failed(error: impl Error + Send + Sync + 'static) -> StoreError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return StoreError::Io(io::Error::new(io.kind(), io.to_string()));
        }
        cause = current.source();
    }
    StoreError::Io(io::Error::other(error))
}

/// A file that knows the checksum of what was written to it.
struct CrcFile {
    file: File,
    crc: crc32fast::Hasher,
}

impl Write for CrcFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.crc.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
