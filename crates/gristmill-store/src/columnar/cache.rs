//! The column cache: decoded columns of parts, so that a question asked again decodes nothing.
//!
//! Kept are whole row groups, of columns whose values repeat, and all columns of one user's rows. What
//! is cached never
//! shows in an answer: a column that is not there is decoded from its part, by one walk while the
//! others that want it wait.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::{Field, Position};

use super::chunk::{self, Coded, Numbers, Times, Users};
use super::group_hours::GroupHours;
use super::kept::Kept;
use super::lexicon::Lexicon;
use super::part::OpenPart;
use crate::StoreError;

/// What a column takes, about; the number of columns that the cache expects follows from it.
const USUAL_BYTES: usize = 64 * 1024;

/// Decoded columns under a budget of bytes.
pub(super) struct ColumnCache {
    columns: Kept<Key, Column>,
    lexicons: Mutex<HashMap<Field, Lexicon>>,
}

/// How many fields have a lexicon at most.
const LEXICONS: usize = 32;

/// Which column of which row group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    file: u64,
    group: usize,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Users,
    Times,
    Hours,
    Positions,
    Coded(Field),
    Numbers(Field),
    /// Of some rows, which are one user's.
    TimesOf(Range<usize>),
    CodedOf(Field, Range<usize>),
}

#[derive(Clone)]
enum Column {
    Users(Arc<Users>),
    Times(Arc<Times>),
    Hours(Arc<GroupHours>),
    Positions(Arc<Vec<Position>>),
    Coded(Arc<Coded>),
    Numbers(Arc<Numbers>),
}

impl Column {
    /// The memory it takes with its key, in bytes.
    fn memory(&self) -> usize {
        let column = match self {
            Column::Users(users) => users.memory(),
            Column::Times(times) => times.memory(),
            Column::Hours(hours) => hours.memory(),
            Column::Positions(positions) => positions.capacity() * size_of::<Position>(),
            Column::Coded(coded) => coded.memory(),
            Column::Numbers(numbers) => numbers.memory(),
        };
        column + size_of::<Key>() + size_of::<Column>()
    }
}

/// A column, and whether it was in the cache.
pub(super) struct Found<T> {
    pub(super) column: Arc<T>,
    pub(super) was_cached: bool,
}

impl ColumnCache {
    pub(super) fn new(bytes: usize) -> Self {
        Self { columns: Kept::new(bytes, bytes / USUAL_BYTES), lexicons: Mutex::default() }
    }

    /// Begins another question: what the last ones used is kept.
    pub(super) fn begin_question(&self) {
        self.columns.begin_question();
    }

    /// Forgets the columns of parts that have been merged away.
    pub(super) fn forget(&self, files: &[u64]) {
        self.columns.forget(|key| files.contains(&key.file));
    }

    /// The users of a row group.
    pub(super) fn users(&self, part: &OpenPart, group: usize) -> Result<Found<Users>, StoreError> {
        let read = || Users::read(part, part.group(group)).map(Arc::new).map(Column::Users);
        self.get(part, group, What::Users, read, |column| match column {
            Column::Users(users) => Some(users),
            _ => None,
        })
    }

    /// The times of a row group, in microseconds.
    pub(super) fn times(&self, part: &OpenPart, group: usize) -> Result<Found<Times>, StoreError> {
        let read = || Times::read(part, part.group(group)).map(Arc::new).map(Column::Times);
        self.get(part, group, What::Times, read, |column| match column {
            Column::Times(times) => Some(times),
            _ => None,
        })
    }

    /// The times of one user's rows.
    pub(super) fn times_of(
        &self,
        part: &OpenPart,
        group: usize,
        rows: &Range<usize>,
    ) -> Result<Found<Times>, StoreError> {
        let only = || part.group(group).only(rows.clone());
        let read = || Times::read(part, only()).map(Arc::new).map(Column::Times);
        self.get(part, group, What::TimesOf(rows.clone()), read, |column| match column {
            Column::Times(times) => Some(times),
            _ => None,
        })
    }

    /// The hours of a row group. Its times are not kept for that, but used if they are there.
    pub(super) fn hours(
        &self,
        part: &OpenPart,
        group: usize,
        users: &Users,
    ) -> Result<Found<GroupHours>, StoreError> {
        let read = || {
            let known = self.columns.get(&Key { file: part.number, group, what: What::Times });
            let hours = match known {
                Some(Column::Times(times)) => GroupHours::of(&times, users),
                _ => GroupHours::of(&Times::read(part, part.group(group))?, users),
            };
            Ok(Column::Hours(Arc::new(hours)))
        };
        self.get(part, group, What::Hours, read, |column| match column {
            Column::Hours(hours) => Some(hours),
            _ => None,
        })
    }

    /// The log positions of a row group.
    pub(super) fn positions(
        &self,
        part: &OpenPart,
        group: usize,
    ) -> Result<Found<Vec<Position>>, StoreError> {
        let read =
            || chunk::positions(part, part.group(group)).map(Arc::new).map(Column::Positions);
        self.get(part, group, What::Positions, read, |column| match column {
            Column::Positions(positions) => Some(positions),
            _ => None,
        })
    }

    /// What a row group has in a field.
    pub(super) fn coded(
        &self,
        part: &OpenPart,
        group: usize,
        field: &Field,
    ) -> Result<Found<Coded>, StoreError> {
        let read = || Coded::read(part, part.group(group), field);
        if !is_worth_keeping(field) {
            return read().map(|coded| Found { column: Arc::new(coded), was_cached: false });
        }
        let kept = shared_form(field);
        let what = What::Coded(kept.clone());
        let read = || {
            let mut coded = read()?;
            self.number(&mut coded, kept);
            Ok(Column::Coded(Arc::new(coded)))
        };
        self.get(part, group, what, read, |column| match column {
            Column::Coded(coded) => Some(coded),
            _ => None,
        })
    }

    /// What one user's rows have in a field.
    pub(super) fn coded_of(
        &self,
        part: &OpenPart,
        group: usize,
        field: &Field,
        rows: &Range<usize>,
    ) -> Result<Found<Coded>, StoreError> {
        let kept = shared_form(field);
        let only = || part.group(group).only(rows.clone());
        let read = || Coded::read(part, only(), field).map(Arc::new).map(Column::Coded);
        self.get(part, group, What::CodedOf(kept, rows.clone()), read, |column| match column {
            Column::Coded(coded) => Some(coded),
            _ => None,
        })
    }

    /// What a column means as numbers, which [`coded`](Self::coded) gave for a field.
    pub(super) fn numbers(
        &self,
        part: &OpenPart,
        group: usize,
        field: &Field,
        coded: &Coded,
    ) -> Result<Found<Numbers>, StoreError> {
        let read = || Ok(Column::Numbers(Arc::new(coded.numbers())));
        self.get(part, group, What::Numbers(field.clone()), read, |column| match column {
            Column::Numbers(numbers) => Some(numbers),
            _ => None,
        })
    }

    fn number(&self, coded: &mut Coded, field: Field) {
        // Nearly every row group has only new session ids, and a field that nobody has needs no
        // numbers.
        if field == Field::SessionId || coded.distinct() == 0 {
            return;
        }
        let mut lexicons = self.lexicons.lock().unwrap_or_else(PoisonError::into_inner);
        if lexicons.len() < LEXICONS || lexicons.contains_key(&field) {
            coded.number(lexicons.entry(field).or_default());
        }
    }

    /// What a row group has in a field, if that is in the cache.
    pub(super) fn known(&self, part: &OpenPart, group: usize, field: &Field) -> Option<Arc<Coded>> {
        let what = What::Coded(shared_form(field));
        match self.columns.get(&Key { file: part.number, group, what }) {
            Some(Column::Coded(coded)) => Some(coded),
            _ => None,
        }
    }

    fn get<T>(
        &self,
        part: &OpenPart,
        group: usize,
        what: What,
        read: impl FnOnce() -> Result<Column, StoreError>,
        of_kind: impl FnOnce(Column) -> Option<Arc<T>>,
    ) -> Result<Found<T>, StoreError> {
        let key = Key { file: part.number, group, what };
        let (column, was_cached) = self.columns.get_or_read(&key, read, Column::memory)?;
        let column = of_kind(column).ok_or_else(|| {
            StoreError::Damaged("the column cache mixed up its columns".to_owned())
        })?;
        Ok(Found { column, was_cached })
    }
}

/// Columns in which nearly every value is new are large, and gain nothing by being kept.
fn is_worth_keeping(field: &Field) -> bool {
    !matches!(field, Field::EventId | Field::Properties)
}

/// Fields that are read from the same column are kept once.
fn shared_form(field: &Field) -> Field {
    match field {
        Field::SessionWithinUser => Field::SessionId,
        field => field.clone(),
    }
}
