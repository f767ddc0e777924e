//! Reads a part back as a stream of runs, and the identities of single row groups.

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray};
use gristmill_model::{Partition, Position};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::identity::{Identity, IdentityHasher};
use super::part::{OpenPart, Selected, unreadable};
use super::run::{Run, RunBuilder, user_hash};
use super::schema::{Texts as Wanted, column};
use super::texts::Texts;
use super::uuid_text;
use crate::StoreError;

/// The rows of a part in order, as runs of a few thousand.
pub(super) struct PartRuns {
    reader: ParquetRecordBatchReader,
    hasher: IdentityHasher,
}

impl PartRuns {
    pub(super) fn of(part: &OpenPart, hasher: IdentityHasher) -> Result<Self, StoreError> {
        let reader = part.read(Wanted::Plain, column::PROJECT..=column::PROPERTIES, part.all())?;
        Ok(Self { reader, hasher })
    }
}

impl Iterator for PartRuns {
    type Item = Result<Run, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.map_err(unreadable).and_then(|batch| run_of(&batch, &self.hasher)))
    }
}

/// The identities of some rows.
pub(super) fn identities(
    part: &OpenPart,
    rows: Selected,
    hasher: &IdentityHasher,
) -> Result<Vec<Identity>, StoreError> {
    let columns = [column::PROJECT, column::USER_ID, column::EVENT_UUID, column::EVENT_ID];
    let mut found = Vec::new();
    for batch in part.read(Wanted::Plain, columns, rows)? {
        let batch = batch.map_err(unreadable)?;
        let projects = strings(&batch, 0)?;
        let users = strings(&batch, 1)?;
        let ids = event_ids(uuids(&batch, 2)?, strings(&batch, 3)?);
        for row in 0..batch.num_rows() {
            found.push(hasher.identity(projects.value(row), users.value(row), ids.text(row)));
        }
    }
    Ok(found)
}

fn run_of(batch: &RecordBatch, hasher: &IdentityHasher) -> Result<Run, StoreError> {
    let projects = strings(batch, column::PROJECT)?;
    let users = strings(batch, column::USER_ID)?;
    let partitions = batch.column(column::PARTITION).as_primitive::<UInt32Type>();
    let offsets = batch.column(column::OFFSET).as_primitive::<UInt64Type>();
    let event_ids = event_ids(uuids(batch, column::EVENT_UUID)?, strings(batch, column::EVENT_ID)?);
    let mut builder = RunBuilder::new();
    for row in 0..batch.num_rows() {
        let (project, user) = (projects.value(row), users.value(row));
        let same_user =
            row > 0 && user == users.value(row - 1) && project == projects.value(row - 1);
        if !same_user {
            builder.start_user(project, user_hash(user), user);
        }
        let rows = builder.rows_mut();
        rows.identities.push(hasher.identity(project, user, event_ids.text(row)));
        let partition = Partition(partitions.value(row));
        rows.positions.push(Position { partition, offset: offsets.value(row) });
        // A user's span begins at the number of times so far, so times grow with the rows.
        rows.times.push(micros(batch, column::TIME).value(row));
    }
    let text = |index: usize| strings(batch, index).map(Texts::from_arrow);
    let rows = builder.rows_mut();
    rows.received.extend_from_slice(micros(batch, column::RECEIVED).values());
    rows.origins
        .extend_from_slice(batch.column(column::ORIGIN).as_primitive::<UInt8Type>().values());
    rows.event_ids = event_ids;
    rows.sessions = text(column::SESSION_ID)?;
    rows.event_types = text(column::EVENT_TYPE)?;
    rows.sources = text(column::SOURCE)?;
    rows.page_urls = text(column::PAGE_URL)?;
    rows.properties = text(column::PROPERTIES)?;
    Ok(builder.finish())
}

/// The ids as texts, whichever of the two columns they are in.
pub(super) fn event_ids(uuids: &FixedSizeBinaryArray, others: &StringArray) -> Texts {
    let mut texts = Texts::with_capacity(uuids.len(), uuids.len() * 36);
    let mut text = String::with_capacity(36);
    for row in 0..uuids.len() {
        match <&[u8; 16]>::try_from(uuids.value(row)) {
            Ok(uuid) if uuids.is_valid(row) => {
                text.clear();
                uuid_text::write(uuid, &mut text);
                texts.push(&text);
            }
            _ => texts.push(others.value(row)),
        }
    }
    texts
}

pub(super) fn micros(
    batch: &RecordBatch,
    index: usize,
) -> &arrow_array::PrimitiveArray<TimestampMicrosecondType> {
    batch.column(index).as_primitive::<TimestampMicrosecondType>()
}

pub(super) fn strings(batch: &RecordBatch, index: usize) -> Result<&StringArray, StoreError> {
    batch.column(index).as_string_opt::<i32>().ok_or_else(|| unexpected(index))
}

pub(super) fn uuids(
    batch: &RecordBatch,
    index: usize,
) -> Result<&FixedSizeBinaryArray, StoreError> {
    batch.column(index).as_fixed_size_binary_opt().ok_or_else(|| unexpected(index))
}

fn unexpected(index: usize) -> StoreError {
    unreadable(format_args!("column {index} is not of the expected type"))
}
