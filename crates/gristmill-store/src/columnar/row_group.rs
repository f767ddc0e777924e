//! Reads a row group for a walk: its columns come from the cache, and their codes are brought into
//! the dictionaries of the walk.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::Field;

use super::cache::{ColumnCache, Found};
use super::chunk::{Coded, Numbers, Times, Users};
use super::group_hours::GroupHours;
use super::part::OpenPart;
use super::source::Walk;
use super::work::WorkDone;
use crate::{ABSENT, Dictionary, StoreError};

/// What row groups of a part are read with.
#[derive(Clone)]
pub(super) struct GroupReader {
    pub(super) part: Arc<OpenPart>,
    pub(super) cache: Arc<ColumnCache>,
    pub(super) work: Arc<WorkDone>,
    pub(super) walk: Arc<Walk>,
}

/// What some rows of a row group have in the fields of a walk.
#[derive(Default)]
pub(super) struct GroupColumns {
    columns: Vec<Column>,
    numbers: Vec<NumberColumn>,
}

/// A column that is wanted as numbers, and which row of the row group is its first.
struct NumberColumn {
    coded: Arc<Coded>,
    first_row: usize,
    numbers: Arc<Numbers>,
}

/// A column, and which row of the row group is its first.
struct Column {
    coded: Arc<Coded>,
    first_row: usize,
    meaning: Meaning,
}

/// What the codes of a column mean to the walk.
enum Meaning {
    /// By code, that of the absent value last.
    Known(Vec<u32>),
    /// There are more texts than rows, so only those of the rows are looked up.
    LookedUp,
    /// They tell the sessions of a user apart.
    Sessions,
    /// It is that of the users' names, which are known. It is never appended.
    User,
}

impl GroupReader {
    pub(super) fn users(&self, group: usize) -> Result<Arc<Users>, StoreError> {
        Ok(self.counted(self.cache.users(&self.part, group)?))
    }

    /// The times of rows, and which row of the row group is their first. For one user the column is
    /// not read whole.
    pub(super) fn times(
        &self,
        group: usize,
        rows: &Range<usize>,
    ) -> Result<(Arc<Times>, usize), StoreError> {
        match self.walk.scan.user {
            Some(_) => {
                let found = self.cache.times_of(&self.part, group, rows)?;
                Ok((self.counted(found), rows.start))
            }
            None => Ok((self.whole_times(group)?, 0)),
        }
    }

    /// The times of all rows.
    pub(super) fn whole_times(&self, group: usize) -> Result<Arc<Times>, StoreError> {
        Ok(self.counted(self.cache.times(&self.part, group)?))
    }

    pub(super) fn hours(&self, group: usize, users: &Users) -> Result<Arc<GroupHours>, StoreError> {
        Ok(self.counted(self.cache.hours(&self.part, group, users)?))
    }

    /// What rows have in the fields of the walk.
    pub(super) fn columns(
        &self,
        group: usize,
        rows: &Range<usize>,
        dictionaries: &mut [Dictionary],
    ) -> Result<GroupColumns, StoreError> {
        let fields = self.walk.scan.fields.iter().zip(dictionaries);
        let column = |(field, dictionary): (&Field, &mut Dictionary)| {
            self.column(group, rows, field, dictionary)
        };
        let columns = fields.map(column).collect::<Result<_, _>>()?;
        let numbers = self.walk.scan.numbers.iter();
        let numbers = numbers.map(|field| self.numbers(group, rows, field));
        Ok(GroupColumns { columns, numbers: numbers.collect::<Result<_, _>>()? })
    }

    fn numbers(
        &self,
        group: usize,
        rows: &Range<usize>,
        field: &Field,
    ) -> Result<NumberColumn, StoreError> {
        if *field == Field::UserId {
            return Ok(NumberColumn {
                coded: Arc::default(),
                first_row: 0,
                numbers: Arc::default(),
            });
        }
        let (coded, first_row) = self.coded(group, field, rows)?;
        let numbers = match self.walk.scan.user {
            Some(_) => Arc::new(coded.numbers()),
            None => self.counted(self.cache.numbers(&self.part, group, field, &coded)?),
        };
        Ok(NumberColumn { coded, first_row, numbers })
    }

    fn column(
        &self,
        group: usize,
        rows: &Range<usize>,
        field: &Field,
        dictionary: &mut Dictionary,
    ) -> Result<Column, StoreError> {
        if *field == Field::UserId {
            return Ok(Column { coded: Arc::default(), first_row: 0, meaning: Meaning::User });
        }
        let (coded, first_row) = self.coded(group, field, rows)?;
        let meaning = if *field == Field::SessionWithinUser {
            Meaning::Sessions
        } else if rows.len() < coded.distinct() {
            Meaning::LookedUp
        } else {
            let code = |code| match coded.number_of(code) {
                Some(number) => dictionary.code_by_number(number, || coded.text_of(code)),
                None => dictionary.code(coded.text_of(code)),
            };
            Meaning::Known((0..coded.distinct()).map(code).chain([ABSENT]).collect())
        };
        Ok(Column { coded, first_row, meaning })
    }

    /// What rows have in a field, and the row that the column begins with. For one user the
    /// column is not read whole, unless it is known.
    fn coded(
        &self,
        group: usize,
        field: &Field,
        rows: &Range<usize>,
    ) -> Result<(Arc<Coded>, usize), StoreError> {
        if self.walk.scan.user.is_none() {
            return Ok((self.counted(self.cache.coded(&self.part, group, field)?), 0));
        }
        if let Some(known) = self.cache.known(&self.part, group, field) {
            self.work.add_column(true);
            return Ok((known, 0));
        }
        let found = self.cache.coded_of(&self.part, group, field, rows)?;
        Ok((self.counted(found), rows.start))
    }

    fn counted<T>(&self, found: Found<T>) -> Arc<T> {
        self.work.add_column(found.was_cached);
        found.column
    }
}

impl GroupColumns {
    /// Appends the codes of rows in a field.
    pub(super) fn append(
        &self,
        field: usize,
        rows: Range<usize>,
        dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    ) {
        let Column { coded, first_row, meaning } = &self.columns[field];
        let rows = rows.start - first_row..rows.end - first_row;
        match meaning {
            Meaning::Known(meanings) => coded.translate(rows, meanings, into),
            Meaning::LookedUp => {
                into.extend(rows.map(|row| dictionary.code_of(coded.text_at(row))));
            }
            Meaning::Sessions => coded.append(rows, into),
            Meaning::User => {}
        }
    }

    /// Appends the numbers of rows in a field that is wanted as numbers.
    pub(super) fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>) {
        let NumberColumn { coded, first_row, numbers } = &self.numbers[field];
        let rows = rows.start - first_row..rows.end - first_row;
        coded.translate(rows, &numbers.by_code, into);
    }

    /// The rows that have the only field that is wanted as a number, if they are few.
    pub(super) fn rows_with_number(&self) -> Option<Arc<[u32]>> {
        match self.numbers.as_slice() {
            [NumberColumn { numbers, .. }] => numbers.rows.clone(),
            _ => None,
        }
    }

    /// As [`append`](Self::append), for single rows of a whole row group.
    pub(super) fn append_at(
        &self,
        field: usize,
        rows: &[u32],
        dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    ) {
        let Column { coded, meaning, .. } = &self.columns[field];
        match meaning {
            Meaning::Known(meanings) => coded.translate_at(rows, meanings, into),
            Meaning::LookedUp => {
                let code = |row: &u32| dictionary.code_of(coded.text_at(*row as usize));
                into.extend(rows.iter().map(code));
            }
            Meaning::Sessions | Meaning::User => {}
        }
    }

    /// As [`append_numbers`](Self::append_numbers), for single rows of a whole row group.
    pub(super) fn append_numbers_at(&self, field: usize, rows: &[u32], into: &mut Vec<f64>) {
        let NumberColumn { coded, numbers, .. } = &self.numbers[field];
        coded.translate_at(rows, &numbers.by_code, into);
    }

    /// The column of a field.
    pub(super) fn coded(&self, field: usize) -> &Coded {
        &self.columns[field].coded
    }
}
