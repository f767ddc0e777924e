//! The column cache: decoded columns of parts, so that a question asked again decodes nothing.
//!
//! Kept are whole row groups of columns whose values repeat, short columns of one user's rows, and
//! digests, to which columns give way. What is cached never shows in an answer: a column that is not
//! there is decoded from its part, by one walk while the others that want it wait.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::{Field, Position};

use super::chunk::{self, Coded, Numbers, Times, Users};
use super::digest::{Digest, DigestKey, FoundDigest};
use super::group_hours::GroupHours;
use super::kept::{Kept, Rank};
use super::lexicon::Lexicon;
use super::part::OpenPart;
use crate::StoreError;

/// What a column takes, about; the number of columns that the cache expects follows from it.
const USUAL_BYTES: usize = 64 * 1024;

/// Decoded columns and digests of them under a budget of bytes.
pub(super) struct ColumnCache {
    columns: Kept<Key, Column>,
    /// Those of one user's rows.
    of_users: Kept<Key, Column>,
    lexicons: Mutex<HashMap<Field, Lexicon>>,
}

/// One of so many bytes is for columns of one user's rows.
const SHARE_OF_USERS: usize = 16;
/// Longer ones are not kept.
const PIECE_BYTES: usize = 1 << 16;
/// What the cache itself takes for a column, about.
const ENTRY_BYTES: usize = 256;

/// How many fields have a lexicon at most.
const LEXICONS: usize = 32;

/// Which column of which row group, or which digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Column { file: u64, group: usize, what: What },
    Digest(DigestKey),
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
    Digest(FoundDigest),
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
            Column::Digest(digest) => digest.as_deref().map_or(0, Digest::memory),
        };
        column + ENTRY_BYTES
    }

    /// The same for a column of one user's rows, where a long one is more than there is room for.
    fn memory_of_user(&self) -> usize {
        let memory = self.memory();
        if memory > PIECE_BYTES { usize::MAX } else { memory }
    }
}

/// A column, and whether it was in the cache.
pub(super) struct Found<T> {
    pub(super) column: Arc<T>,
    pub(super) was_cached: bool,
}

impl ColumnCache {
    pub(super) fn new(bytes: usize) -> Self {
        let for_users = bytes / SHARE_OF_USERS;
        Self {
            columns: Kept::new(bytes - for_users, bytes / USUAL_BYTES),
            of_users: Kept::new(for_users, for_users / ENTRY_BYTES),
            lexicons: Mutex::default(),
        }
    }

    /// The budget, but for columns of one user's rows.
    pub(super) fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// Begins another question: what the last ones used is kept.
    pub(super) fn begin_question(&self) {
        self.columns.begin_question();
    }

    /// Begins a question about one user.
    pub(super) fn begin_question_of_user(&self) {
        self.of_users.begin_question();
    }

    /// Forgets what is of parts that have been merged away.
    pub(super) fn forget(&self, files: &[u64]) {
        let is_gone = |key: &Key| match key {
            Key::Column { file, .. } => files.contains(file),
            Key::Digest(key) => key.is_of(files),
        };
        self.columns.forget(is_gone);
        self.of_users.forget(is_gone);
    }

    /// A digest and whether it was there. Otherwise it is made, by one walk for all that want it.
    /// Columns give way to it.
    pub(super) fn digest(
        &self,
        key: &DigestKey,
        make: impl FnOnce() -> Result<FoundDigest, StoreError>,
    ) -> Result<(FoundDigest, bool), StoreError> {
        let key = Key::Digest(key.clone());
        let read = || make().map(Column::Digest);
        let found = self.columns.get_or_read((&key, Rank::High), read, Column::memory)?;
        match found {
            (Column::Digest(digest), was_there) => Ok((digest, was_there)),
            _ => Err(mixed_up()),
        }
    }

    /// Whether a digest is kept.
    pub(super) fn has_digest(&self, key: &DigestKey) -> bool {
        self.columns.get(&Key::Digest(key.clone())).is_some()
    }

    /// Forgets a digest.
    pub(super) fn forget_digest(&self, key: &DigestKey) {
        self.columns.forget(|known| matches!(known, Key::Digest(known) if known == key));
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
            let times = Key::Column { file: part.number, group, what: What::Times };
            let known = self.columns.get(&times);
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
        match self.columns.get(&Key::Column { file: part.number, group, what }) {
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
        let is_of_user = matches!(what, What::TimesOf(_) | What::CodedOf(..));
        let key = Key::Column { file: part.number, group, what };
        let key = (&key, Rank::Low);
        let (column, was_cached) = if is_of_user {
            self.of_users.get_or_read(key, read, Column::memory_of_user)?
        } else {
            self.columns.get_or_read(key, read, Column::memory)?
        };
        let column = of_kind(column).ok_or_else(mixed_up)?;
        Ok(Found { column, was_cached })
    }
}

fn mixed_up() -> StoreError {
    StoreError::Damaged("the column cache mixed up its columns".to_owned())
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
