//! The users of one run or one part, in order, with the columns that a scan wants.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch, StringArray};
use gristmill_model::{Field, Origin, Partition, Position, TimeRange, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::part::{OpenPart, Selected, UserKey, unreadable};
use super::part_reader::{event_ids, micros, strings, uuids};
use super::run::{Run, user_hash};
use super::scan::Gathered;
use super::schema::{Texts, column};
use super::texts;
use crate::{ABSENT, Dictionary, Scan, StoreError, property};

/// Users in order of (hash, name), each once.
pub(super) trait UserSource: Send {
    /// The next user and its hash.
    fn head(&self) -> Option<(u64, &str)>;

    /// Appends the rows of the next user that are in range, and goes on to the one after.
    fn take_user(
        &mut self,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError>;
}

/// The users of a run.
pub(super) struct RunUsers {
    run: Arc<Run>,
    next: usize,
    end: usize,
    range: TimeRange,
    fields: Vec<Field>,
}

impl RunUsers {
    pub(super) fn of(run: Arc<Run>, scan: &Scan) -> Self {
        let project = scan.project.as_str();
        let first_hash = scan.user.as_deref().map_or(0, user_hash);
        let mut next = run.first_user_from(project, first_hash);
        let belongs = |index: usize| {
            let user = run.user(index);
            let wanted = scan.user.as_deref();
            user.project == project && wanted.is_none_or(|_| user.hash == first_hash)
        };
        let mut end = next;
        while end < run.user_count() && belongs(end) {
            end += 1;
        }
        if let Some(wanted) = scan.user.as_deref() {
            let exact = (next..end).find(|&index| run.user(index).user == wanted);
            (next, end) = exact.map_or((end, end), |index| (index, index + 1));
        }
        Self { run, next, end, range: scan.range, fields: scan.fields.clone() }
    }
}

impl UserSource for RunUsers {
    fn head(&self) -> Option<(u64, &str)> {
        (self.next < self.end).then(|| {
            let user = self.run.user(self.next);
            (user.hash, user.user)
        })
    }

    fn take_user(
        &mut self,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError> {
        let user = self.run.user(self.next);
        let rows = &self.run.rows;
        for row in user.first_row..user.end_row {
            if !self.range.contains(Timestamp(rows.times[row])) {
                continue;
            }
            gathered.times.push(rows.times[row]);
            gathered.positions.push(rows.positions[row]);
            let targets = gathered.columns.iter_mut().zip(dictionaries.iter_mut());
            for (field, (column, dictionary)) in self.fields.iter().zip(targets) {
                let code = match field {
                    Field::EventType => dictionary.code(rows.event_types.text(row)),
                    Field::UserId => dictionary.code(user.user),
                    Field::SessionId | Field::SessionWithinUser => {
                        optional(dictionary, rows.sessions.option(row))
                    }
                    Field::Source => dictionary.code(rows.sources.text(row)),
                    Field::PageUrl => dictionary.code(rows.page_urls.text(row)),
                    Field::Origin => origin(dictionary, rows.origins[row]),
                    Field::EventId => dictionary.code(rows.event_ids.text(row)),
                    Field::Properties => dictionary.code(rows.properties.text(row)),
                    Field::Property(name) => {
                        let value = property(rows.properties.text(row), name);
                        optional(dictionary, value.as_deref())
                    }
                };
                column.push(code);
            }
        }
        self.next += 1;
        Ok(())
    }
}

/// The users of a part, decoded a few thousand rows at a time.
pub(super) struct PartUsers {
    reader: ParquetRecordBatchReader,
    batch: Option<Batch>,
    row: usize,
    project: String,
    user: Option<String>,
    range: TimeRange,
    fields: Vec<Field>,
    /// For each field, the column of the file that it is read from.
    sources: Vec<usize>,
    /// The columns that are read, ascending; a batch has them in this order.
    columns: Vec<usize>,
    /// For each field, what the codes of its column in the current row group mean.
    remaps: Vec<Remap>,
}

/// Some rows of a part.
struct Batch {
    rows: RecordBatch,
    projects: DictionaryArray<Int32Type>,
    users: DictionaryArray<Int32Type>,
    /// The ids as texts, if they are wanted.
    event_ids: Option<texts::Texts>,
    /// The hash of the user of the row at hand.
    hash: u64,
}

/// Translates the codes of a file's dictionary into those of the scan's.
#[derive(Default)]
struct Remap {
    values: Option<ArrayRef>,
    codes: Vec<u32>,
}

/// A code that has not been translated yet.
const UNKNOWN: u32 = u32::MAX - 1;

impl PartUsers {
    pub(super) fn open(part: &OpenPart, scan: &Scan) -> Result<Self, StoreError> {
        let project = scan.project.as_str().to_owned();
        let hash = scan.user.as_deref().map(user_hash);
        let key = |hash| UserKey { project: project.clone(), hash };
        let mut rows = part.between(&key(hash.unwrap_or(0)), &key(hash.unwrap_or(u64::MAX)));
        if let Some(user) = &scan.user {
            rows = rows_of_user(part, rows, &project, user)?;
        }
        let mut columns =
            vec![column::PROJECT, column::USER_ID, column::TIME, column::PARTITION, column::OFFSET];
        let sources: Vec<_> = scan.fields.iter().map(|field| column_of(part, field)).collect();
        columns.extend_from_slice(&sources);
        if scan.fields.contains(&Field::EventId) {
            columns.push(column::EVENT_UUID);
        }
        columns.sort_unstable();
        columns.dedup();
        let reader = part.read(Texts::Coded, columns.iter().copied(), rows)?;
        let mut users = Self {
            reader,
            batch: None,
            row: 0,
            project,
            user: scan.user.clone(),
            range: scan.range,
            fields: scan.fields.clone(),
            sources,
            columns,
            remaps: scan.fields.iter().map(|_| Remap::default()).collect(),
        };
        users.next_batch()?;
        users.skip_to_wanted()?;
        Ok(users)
    }

    fn next_batch(&mut self) -> Result<(), StoreError> {
        self.row = 0;
        self.batch = match self.reader.next() {
            None => None,
            Some(rows) => Some(self.batch_of(rows.map_err(unreadable)?)?),
        };
        Ok(())
    }

    fn batch_of(&self, rows: RecordBatch) -> Result<Batch, StoreError> {
        let coded = |column: usize| {
            rows.column(self.place(column)).as_dictionary_opt::<Int32Type>().cloned().ok_or_else(
                || unreadable(format_args!("column {column} is not of the expected type")),
            )
        };
        let event_ids = if self.fields.contains(&Field::EventId) {
            let uuids = uuids(&rows, self.place(column::EVENT_UUID))?;
            Some(event_ids(uuids, strings(&rows, self.place(column::EVENT_ID))?))
        } else {
            None
        };
        let (projects, users) = (coded(column::PROJECT)?, coded(column::USER_ID)?);
        let hash = text_at(&users, 0).map_or(0, user_hash);
        Ok(Batch { projects, users, event_ids, hash, rows })
    }

    fn place(&self, column: usize) -> usize {
        self.columns.iter().position(|&c| c == column).unwrap_or(0)
    }

    /// Moves to the row after the current user's rows in this batch; gives where that is.
    fn end_of_user(&self, batch: &Batch) -> usize {
        let (users, projects) = (batch.users.keys().values(), batch.projects.keys().values());
        let first = self.row;
        let mut end = first + 1;
        while end < users.len() {
            let same_codes = users[end] == users[first] && projects[end] == projects[first];
            let same = same_codes
                || (text_at(&batch.users, end) == text_at(&batch.users, first)
                    && text_at(&batch.projects, end) == text_at(&batch.projects, first));
            if !same {
                break;
            }
            end += 1;
        }
        end
    }

    /// Goes to `row`, into the next batch if this one ends there.
    fn go_to(&mut self, row: usize) -> Result<(), StoreError> {
        self.row = row;
        match &mut self.batch {
            Some(batch) if row < batch.rows.num_rows() => {
                batch.hash = text_at(&batch.users, row).map_or(0, user_hash);
                Ok(())
            }
            _ => self.next_batch(),
        }
    }

    /// Skips users of other projects and users that are not asked for.
    fn skip_to_wanted(&mut self) -> Result<(), StoreError> {
        while let Some(batch) = &self.batch {
            let is_wanted = text_at(&batch.projects, self.row) == Some(self.project.as_str())
                && (self.user.is_none() || text_at(&batch.users, self.row) == self.user.as_deref());
            if is_wanted {
                return Ok(());
            }
            let end = self.end_of_user(batch);
            self.go_to(end)?;
        }
        Ok(())
    }

    fn append_rows(
        &mut self,
        end: usize,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError> {
        let Some(batch) = &self.batch else {
            return Ok(());
        };
        let times = micros(&batch.rows, self.place(column::TIME)).values();
        let partitions =
            batch.rows.column(self.place(column::PARTITION)).as_primitive::<UInt32Type>();
        let offsets = batch.rows.column(self.place(column::OFFSET)).as_primitive::<UInt64Type>();
        let in_range: Vec<usize> =
            (self.row..end).filter(|&row| self.range.contains(Timestamp(times[row]))).collect();
        for &row in &in_range {
            let partition = Partition(partitions.value(row));
            gathered.times.push(times[row]);
            gathered.positions.push(Position { partition, offset: offsets.value(row) });
        }
        let columns: Vec<usize> = self.sources.iter().map(|&column| self.place(column)).collect();
        for (index, field) in self.fields.iter().enumerate() {
            let source = batch.rows.column(columns[index]);
            append_codes(
                &FieldRows { field, batch, source, rows: &in_range, user_row: self.row },
                &mut self.remaps[index],
                &mut dictionaries[index],
                &mut gathered.columns[index],
            )?;
        }
        Ok(())
    }
}

impl UserSource for PartUsers {
    fn head(&self) -> Option<(u64, &str)> {
        let batch = self.batch.as_ref()?;
        Some((batch.hash, text_at(&batch.users, self.row)?))
    }

    fn take_user(
        &mut self,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError> {
        let Some((_, user)) = self.head() else {
            return Ok(());
        };
        let user = user.to_owned();
        loop {
            let Some(batch) = &self.batch else {
                return Ok(());
            };
            let end = self.end_of_user(batch);
            self.append_rows(end, gathered, dictionaries)?;
            self.go_to(end)?;
            self.skip_to_wanted()?;
            // A user's rows may go on in the next batch.
            if self.head().is_none_or(|(_, next)| next != user) {
                return Ok(());
            }
        }
    }
}

/// The rows of one user whose codes of one field are wanted.
struct FieldRows<'a> {
    field: &'a Field,
    batch: &'a Batch,
    source: &'a ArrayRef,
    rows: &'a [usize],
    user_row: usize,
}

fn append_codes(
    from: &FieldRows<'_>,
    remap: &mut Remap,
    dictionary: &mut Dictionary,
    codes: &mut Vec<u32>,
) -> Result<(), StoreError> {
    let rows = from.rows.iter().copied();
    match from.field {
        Field::UserId => {
            let code = dictionary.code(text_at(&from.batch.users, from.user_row).unwrap_or(""));
            codes.extend(rows.map(|_| code));
        }
        Field::EventType | Field::SessionId | Field::Source | Field::PageUrl => {
            let array = from.source.as_dictionary_opt::<Int32Type>().ok_or_else(unexpected)?;
            remap.follow(array.values());
            codes.extend(rows.map(|row| remap.code(array, row, dictionary)));
        }
        Field::SessionWithinUser => {
            let array = from.source.as_dictionary_opt::<Int32Type>().ok_or_else(unexpected)?;
            codes.extend(rows.map(|row| {
                let text = array.is_valid(row).then(|| text_at(array, row)).flatten();
                optional(dictionary, text)
            }));
        }
        Field::Origin => {
            let numbers = from.source.as_primitive_opt::<UInt8Type>().ok_or_else(unexpected)?;
            codes.extend(rows.map(|row| origin(dictionary, numbers.value(row))));
        }
        Field::EventId => {
            let ids = from.batch.event_ids.as_ref().ok_or_else(unexpected)?;
            codes.extend(rows.map(|row| dictionary.code(ids.text(row))));
        }
        Field::Properties => {
            let texts = from.source.as_string_opt::<i32>().ok_or_else(unexpected)?;
            codes.extend(rows.map(|row| dictionary.code(texts.value(row))));
        }
        Field::Property(name) => {
            if let Some(array) = from.source.as_dictionary_opt::<Int32Type>() {
                remap.follow(array.values());
                codes.extend(rows.map(|row| remap.code(array, row, dictionary)));
                return Ok(());
            }
            let texts = from.source.as_string_opt::<i32>().ok_or_else(unexpected)?;
            codes.extend(
                rows.map(|row| optional(dictionary, property(texts.value(row), name).as_deref())),
            );
        }
    }
    Ok(())
}

impl Remap {
    /// Starts anew when the file's dictionary changes, which it does with each row group.
    fn follow(&mut self, values: &ArrayRef) {
        if !self.values.as_ref().is_some_and(|known| Arc::ptr_eq(known, values)) {
            self.values = Some(Arc::clone(values));
            self.codes.clear();
            self.codes.resize(values.len(), UNKNOWN);
        }
    }

    fn code(
        &mut self,
        array: &DictionaryArray<Int32Type>,
        row: usize,
        dictionary: &mut Dictionary,
    ) -> u32 {
        if array.is_null(row) {
            return ABSENT;
        }
        let Some(code) = self.codes.get_mut(array.keys().value(row) as usize) else {
            return ABSENT;
        };
        if *code == UNKNOWN {
            *code = optional(dictionary, text_at(array, row));
        }
        *code
    }
}

/// Finds one user's rows by reading nothing but users, so that the other columns are read for
/// these rows only.
fn rows_of_user(
    part: &OpenPart,
    rows: Selected,
    project: &str,
    user: &str,
) -> Result<Selected, StoreError> {
    let mut found: Option<Range<usize>> = None;
    let mut before = 0;
    for batch in part.read(Texts::Plain, [column::PROJECT, column::USER_ID], rows.clone())? {
        let batch = batch.map_err(unreadable)?;
        let (projects, users) = (strings(&batch, 0)?, strings(&batch, 1)?);
        let is_wanted = |row: &usize| users.value(*row) == user && projects.value(*row) == project;
        for row in (0..batch.num_rows()).filter(is_wanted).map(|row| before + row) {
            let start = found.map_or(row, |range| range.start);
            found = Some(start..row + 1);
        }
        before += batch.num_rows();
    }
    Ok(rows.only(found.unwrap_or(0..0)))
}

/// The column that a field is read from; the ids that are UUIDs are in a second one.
fn column_of(part: &OpenPart, field: &Field) -> usize {
    match field {
        Field::EventType => column::EVENT_TYPE,
        Field::UserId => column::USER_ID,
        Field::SessionId | Field::SessionWithinUser => column::SESSION_ID,
        Field::Source => column::SOURCE,
        Field::PageUrl => column::PAGE_URL,
        Field::Origin => column::ORIGIN,
        Field::EventId => column::EVENT_ID,
        Field::Properties => column::PROPERTIES,
        Field::Property(name) => part.property_column(name).unwrap_or(column::PROPERTIES),
    }
}

fn optional(dictionary: &mut Dictionary, text: Option<&str>) -> u32 {
    text.map_or(ABSENT, |text| dictionary.code(text))
}

fn origin(dictionary: &mut Dictionary, number: u8) -> u32 {
    optional(dictionary, Origin::from_number(number).map(Origin::as_str))
}

fn text_at(array: &DictionaryArray<Int32Type>, row: usize) -> Option<&str> {
    let values: &StringArray = array.values().as_string_opt::<i32>()?;
    let code = usize::try_from(*array.keys().values().get(row)?).ok()?;
    (code < values.len()).then(|| values.value(code))
}

fn unexpected() -> StoreError {
    unreadable("a column is not of the expected type")
}
