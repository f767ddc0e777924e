//! Columns of a part's row group, decoded: what the column cache keeps.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch};
use gristmill_model::{Field, Origin, Partition, Position, TimeRange, Timestamp};

use super::lexicon::Lexicon;
use super::part::{OpenPart, Selected, unreadable};
use super::part_reader::{event_ids, micros, strings, uuids};
use super::run::user_hash;
use super::schema::{Texts as Wanted, column};
use super::sessions::{Mark, mark};
use super::texts::Texts;
use crate::property::{PropertyAt, finite_number};
use crate::{ABSENT, StoreError};

/// The users of some rows, in order.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// The projects, each with the place of its first user.
    projects: Vec<(String, usize)>,
    hashes: Vec<u64>,
    names: Texts,
    /// Where each user's rows begin, and where the last one's end.
    first_rows: Vec<u32>,
}

/// The times of rows, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) values: Vec<i64>,
    /// The lowest and the highest.
    pub(super) first: i64,
    pub(super) last: i64,
}

/// A column of texts as codes.
#[derive(Debug, Default)]
pub(super) struct Coded {
    codes: Codes,
    /// The texts by code; the code of an absent value is the number of texts.
    texts: Texts,
    /// The number that the lexicon of the field has for each text; for no text if it is full.
    numbers: Vec<u32>,
    /// Of a column of session ids, the mark of each.
    marks: Vec<Mark>,
}

/// What a column of texts means as numbers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// By code, that of the absent value last; NaN for what is no number.
    pub(super) by_code: Vec<f64>,
    /// The rows that have a number, ascending, if they are few.
    pub(super) rows: Option<Arc<[u32]>>,
}

/// Rows with a number are few if they are at most one of so many.
const ROWS_BY_FEW: usize = 4;

/// Codes in as few bytes as they need.
#[derive(Debug)]
enum Codes {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
}

impl Default for Codes {
    fn default() -> Self {
        Codes::One(Vec::new())
    }
}

impl Users {
    pub(super) fn read(part: &OpenPart, rows: Selected) -> Result<Self, StoreError> {
        let batch = part.read_whole(Wanted::Coded, [column::PROJECT, column::USER_ID], rows)?;
        let (projects, users) = (dictionary(&batch, 0)?, dictionary(&batch, 1)?);
        let (project_keys, user_keys) = (projects.keys().values(), users.keys().values());
        let mut found = Self {
            projects: Vec::new(),
            hashes: Vec::new(),
            names: Texts::default(),
            first_rows: Vec::new(),
        };
        for row in 0..batch.num_rows() {
            let same_codes = row > 0
                && user_keys[row] == user_keys[row - 1]
                && project_keys[row] == project_keys[row - 1];
            if !same_codes {
                found.start(text_at(projects, row)?, text_at(users, row)?, row as u32);
            }
        }
        found.first_rows.push(batch.num_rows() as u32);
        found.projects.shrink_to_fit();
        found.hashes.shrink_to_fit();
        found.names.shrink();
        found.first_rows.shrink_to_fit();
        Ok(found)
    }

    /// Begins a user unless it is the one at hand.
    fn start(&mut self, project: &str, user: &str, row: u32) {
        let same_project = self.projects.last().is_some_and(|(last, _)| last == project);
        let last = self.hashes.len().checked_sub(1);
        if same_project && last.is_some_and(|last| self.names.text(last) == user) {
            return;
        }
        if !same_project {
            self.projects.push((project.to_owned(), self.hashes.len()));
        }
        self.hashes.push(user_hash(user));
        self.names.push(user);
        self.first_rows.push(row);
    }

    pub(super) fn hash(&self, user: usize) -> u64 {
        self.hashes[user]
    }

    pub(super) fn name(&self, user: usize) -> &str {
        self.names.text(user)
    }

    pub(super) fn rows(&self, user: usize) -> Range<usize> {
        self.first_rows[user] as usize..self.first_rows[user + 1] as usize
    }

    /// The rows of several users.
    pub(super) fn rows_of(&self, users: &Range<usize>) -> Range<usize> {
        self.first_rows[users.start] as usize..self.first_rows[users.end] as usize
    }

    /// How many users there are.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The users of a project with a hash from `first` to `last`, both included.
    pub(super) fn between(&self, project: &str, first: u64, last: u64) -> Range<usize> {
        let Some(place) = self.projects.iter().position(|(name, _)| name == project) else {
            return 0..0;
        };
        let start = self.projects[place].1;
        let end = self.projects.get(place + 1).map_or(self.hashes.len(), |(_, first)| *first);
        let hashes = &self.hashes[start..end];
        let low = hashes.partition_point(|hash| *hash < first);
        let high = hashes.partition_point(|hash| *hash <= last);
        start + low..start + high
    }

    pub(super) fn memory(&self) -> usize {
        self.names.memory() + self.hashes.capacity() * 8 + self.first_rows.capacity() * 4
    }
}

impl Times {
    pub(super) fn read(part: &OpenPart, rows: Selected) -> Result<Self, StoreError> {
        let batch = part.read_whole(Wanted::Plain, [column::TIME], rows)?;
        let values = micros(&batch, 0).values().to_vec();
        let ends = |(first, last): (i64, i64), time: &i64| (first.min(*time), last.max(*time));
        let (first, last) = values.iter().fold((i64::MAX, i64::MIN), ends);
        Ok(Self { values, first, last })
    }

    /// Whether all of them are in a range.
    pub(super) fn are_in(&self, range: &TimeRange) -> bool {
        range.contains(Timestamp(self.first)) && range.contains(Timestamp(self.last))
    }

    /// Whether any of them may be in a range.
    pub(super) fn may_be_in(&self, range: &TimeRange) -> bool {
        range.overlaps(Timestamp(self.first), Timestamp(self.last))
    }

    pub(super) fn memory(&self) -> usize {
        self.values.capacity() * 8
    }
}

/// The places of rows in the log.
pub(super) fn positions(part: &OpenPart, rows: Selected) -> Result<Vec<Position>, StoreError> {
    let batch = part.read_whole(Wanted::Plain, [column::PARTITION, column::OFFSET], rows)?;
    let partitions = batch.column(0).as_primitive_opt::<UInt32Type>().ok_or_else(unexpected)?;
    let offsets = batch.column(1).as_primitive_opt::<UInt64Type>().ok_or_else(unexpected)?;
    let position = |(partition, offset): (&u32, &u64)| Position {
        partition: Partition(*partition),
        offset: *offset,
    };
    Ok(partitions.values().iter().zip(offsets.values()).map(position).collect())
}

impl Numbers {
    pub(super) fn memory(&self) -> usize {
        self.by_code.capacity() * 8 + self.rows.as_ref().map_or(0, |rows| rows.len() * 4)
    }
}

impl Coded {
    /// Reads what rows have in a field.
    pub(super) fn read(part: &OpenPart, rows: Selected, field: &Field) -> Result<Self, StoreError> {
        let plain = |index| part.read_whole(Wanted::Plain, [index], rows.clone());
        let coded = |index| {
            let batch = part.read_whole(Wanted::Coded, [index], rows.clone())?;
            Self::of_dictionary(dictionary(&batch, 0)?)
        };
        match field {
            Field::EventType => coded(column::EVENT_TYPE),
            Field::UserId => coded(column::USER_ID),
            Field::SessionId | Field::SessionWithinUser => {
                let mut sessions = coded(column::SESSION_ID)?;
                let ids = (0..sessions.texts.len()).map(|code| sessions.texts.text(code));
                sessions.marks = ids.map(mark).collect();
                Ok(sessions)
            }
            Field::Source => coded(column::SOURCE),
            Field::PageUrl => coded(column::PAGE_URL),
            Field::Origin => Self::of_origins(plain(column::ORIGIN)?.column(0)),
            Field::EventId => {
                let columns = [column::EVENT_UUID, column::EVENT_ID];
                let batch = part.read_whole(Wanted::Plain, columns, rows)?;
                let ids = event_ids(uuids(&batch, 0)?, strings(&batch, 1)?);
                Ok(Self::of_texts((0..ids.len()).map(|row| Some(ids.text(row)))))
            }
            Field::Properties => {
                let batch = plain(column::PROPERTIES)?;
                Ok(Self::of_texts(strings(&batch, 0)?.iter()))
            }
            Field::Property(name) => match part.property_column(name) {
                Some(index) => coded(index),
                None => Self::of_property(&plain(column::PROPERTIES)?, name),
            },
        }
    }

    fn of_dictionary(array: &DictionaryArray<Int32Type>) -> Result<Self, StoreError> {
        let values = array.values().as_string_opt::<i32>().ok_or_else(unexpected)?;
        let mut coder = Coder::default();
        // The values are those of the whole row group, and one user's rows have few of them.
        let mut known = vec![None; values.len()];
        let code = |key: Option<i32>| {
            let Some(key) = key else { return Ok(ABSENT) };
            let known = known.get_mut(key as usize).ok_or_else(unexpected)?;
            let value = || values.is_valid(key as usize).then(|| values.value(key as usize));
            Ok(*known.get_or_insert_with(|| coder.code(value())))
        };
        let codes: Result<Vec<u32>, StoreError> = array.keys().iter().map(code).collect();
        let codes = codes?;
        Ok(coder.finish(&codes))
    }

    fn of_texts<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut coder = Coder::default();
        let codes: Vec<u32> = texts.map(|text| coder.code(text)).collect();
        coder.finish(&codes)
    }

    fn of_origins(numbers: &ArrayRef) -> Result<Self, StoreError> {
        let numbers = numbers.as_primitive_opt::<UInt8Type>().ok_or_else(unexpected)?;
        let name = |number: &u8| Origin::from_number(*number).map(Origin::as_str);
        Ok(Self::of_texts(numbers.values().iter().map(name)))
    }

    fn of_property(batch: &RecordBatch, name: &str) -> Result<Self, StoreError> {
        let mut coder = Coder::default();
        let property = PropertyAt::new(name);
        let value = |properties: Option<&str>| {
            let value = properties.and_then(|properties| property.of(properties));
            coder.code(value.as_deref())
        };
        let codes: Vec<u32> = strings(batch, 0)?.iter().map(value).collect();
        Ok(coder.finish(&codes))
    }

    /// Numbers the texts by a lexicon.
    pub(super) fn number(&mut self, lexicon: &mut Lexicon) {
        let texts = (0..self.texts.len()).map(|code| self.texts.text(code));
        self.numbers = texts.map_while(|text| lexicon.number(text)).collect();
    }

    /// The number that the lexicon of the field has for the text of a code, if it has one.
    pub(super) fn number_of(&self, code: usize) -> Option<u32> {
        self.numbers.get(code).copied()
    }

    /// The mark of the session of a code.
    pub(super) fn mark_of(&self, code: usize) -> Option<Mark> {
        self.marks.get(code).copied()
    }

    /// How many different texts there are.
    pub(super) fn distinct(&self) -> usize {
        self.texts.len()
    }

    /// The text of a code that is not the absent one.
    pub(super) fn text_of(&self, code: usize) -> &str {
        self.texts.text(code)
    }

    /// The text of a row.
    pub(super) fn text_at(&self, row: usize) -> Option<&str> {
        let code = match &self.codes {
            Codes::One(codes) => usize::from(codes[row]),
            Codes::Two(codes) => usize::from(codes[row]),
            Codes::Four(codes) => codes[row] as usize,
        };
        (code < self.texts.len()).then(|| self.texts.text(code))
    }

    /// Appends what the codes of rows mean: `meanings` has one entry for each text and
    /// one for the absent value.
    pub(super) fn translate<T: Copy>(&self, rows: Range<usize>, meanings: &[T], into: &mut Vec<T>) {
        match &self.codes {
            Codes::One(codes) => {
                into.extend(codes[rows].iter().map(|code| meanings[usize::from(*code)]));
            }
            Codes::Two(codes) => {
                into.extend(codes[rows].iter().map(|code| meanings[usize::from(*code)]));
            }
            Codes::Four(codes) => {
                into.extend(codes[rows].iter().map(|code| meanings[*code as usize]));
            }
        }
    }

    /// What the column means as numbers.
    pub(super) fn numbers(&self) -> Numbers {
        let texts = (0..self.texts.len()).map(|code| Some(self.texts.text(code)));
        let by_code: Vec<f64> = texts.chain([None]).map(finite_number).collect();
        let rows = match &self.codes {
            Codes::One(codes) => rows_with_number(codes, &by_code),
            Codes::Two(codes) => rows_with_number(codes, &by_code),
            Codes::Four(codes) => rows_with_number(codes, &by_code),
        };
        Numbers { by_code, rows }
    }

    /// Appends what the codes of single rows mean, as [`translate`](Self::translate) does.
    pub(super) fn translate_at<T: Copy>(&self, rows: &[u32], meanings: &[T], into: &mut Vec<T>) {
        let rows = rows.iter().map(|row| *row as usize);
        match &self.codes {
            Codes::One(codes) => into.extend(rows.map(|row| meanings[usize::from(codes[row])])),
            Codes::Two(codes) => into.extend(rows.map(|row| meanings[usize::from(codes[row])])),
            Codes::Four(codes) => into.extend(rows.map(|row| meanings[codes[row] as usize])),
        }
    }

    /// Appends the codes of rows as they are.
    pub(super) fn append(&self, rows: Range<usize>, into: &mut Vec<u32>) {
        let absent = self.texts.len() as u32;
        let code = |code: u32| if code == absent { ABSENT } else { code };
        match &self.codes {
            Codes::One(codes) => into.extend(codes[rows].iter().map(|&own| code(own.into()))),
            Codes::Two(codes) => into.extend(codes[rows].iter().map(|&own| code(own.into()))),
            Codes::Four(codes) => into.extend(codes[rows].iter().map(|&own| code(own))),
        }
    }

    pub(super) fn memory(&self) -> usize {
        let codes = match &self.codes {
            Codes::One(codes) => codes.capacity(),
            Codes::Two(codes) => codes.capacity() * 2,
            Codes::Four(codes) => codes.capacity() * 4,
        };
        codes
            + self.texts.memory()
            + self.numbers.capacity() * 4
            + self.marks.capacity() * size_of::<Mark>()
    }
}

/// The rows whose codes mean a number, if they are few.
fn rows_with_number<C: Copy + TryInto<usize>>(codes: &[C], by_code: &[f64]) -> Option<Arc<[u32]>> {
    let number = |code: C| code.try_into().ok().and_then(|code: usize| by_code.get(code));
    let has_number = |code: &C| number(*code).is_some_and(|number| !number.is_nan());
    let count = codes.iter().filter(|code| has_number(code)).count();
    let rows = (0..).zip(codes).filter(|(_, code)| has_number(code)).map(|(row, _)| row);
    (count * ROWS_BY_FEW <= codes.len()).then(|| rows.collect())
}

/// Numbers texts in the order in which they come.
#[derive(Default)]
struct Coder {
    texts: Texts,
    codes: hashbrown::HashTable<u32>,
}

impl Coder {
    fn code(&mut self, text: Option<&str>) -> u32 {
        let Some(text) = text else { return ABSENT };
        let hash = |text: &str| xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let texts = &self.texts;
        let entry = self.codes.entry(
            hash(text),
            |&code| texts.text(code as usize) == text,
            |&code| hash(texts.text(code as usize)),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(place) => {
                let code = self.texts.len() as u32;
                place.insert(code);
                self.texts.push(text);
                code
            }
        }
    }

    fn finish(mut self, codes: &[u32]) -> Coded {
        self.texts.shrink();
        let absent = self.texts.len() as u32;
        let codes = codes.iter().map(|&code| code.min(absent));
        let codes = match absent {
            0..=0xff => Codes::One(codes.map(|code| code as u8).collect()),
            0x100..=0xffff => Codes::Two(codes.map(|code| code as u16).collect()),
            _ => Codes::Four(codes.collect()),
        };
        Coded { codes, texts: self.texts, numbers: Vec::new(), marks: Vec::new() }
    }
}

fn dictionary(
    batch: &RecordBatch,
    index: usize,
) -> Result<&DictionaryArray<Int32Type>, StoreError> {
    batch.column(index).as_dictionary_opt::<Int32Type>().ok_or_else(unexpected)
}

fn text_at(array: &DictionaryArray<Int32Type>, row: usize) -> Result<&str, StoreError> {
    let values = array.values().as_string_opt::<i32>().ok_or_else(unexpected)?;
    let code = array.keys().value(row) as usize;
    if code < values.len() { Ok(values.value(code)) } else { Err(unexpected()) }
}

fn unexpected() -> StoreError {
    unreadable("a column is not of the expected type")
}
