//! Rows of the server as the columns that a walk gives.

use std::borrow::Cow;
use std::ops::Range;

use gristmill_model::{Field, Origin};
use tokio_postgres::Row;

use super::session::column;
use super::types::JsonText;
use crate::property::finite_number;
use crate::walk::Told;
use crate::{Dictionaries, Dictionary, Events, Precision, Scan, StoreError, property};

/// Where the user and the time stand in every row; the other columns follow.
const USER: usize = 0;
const TIME: usize = 1;

/// The columns of the table that a walk needs, each once.
pub(super) fn selected(scan: &Scan) -> String {
    needed(scan).join(", ")
}

/// Rows that were fetched and not given yet.
pub(super) struct Columns {
    times: Vec<i64>,
    codes: Vec<Vec<u32>>,
    numbers: Vec<Vec<f64>>,
    dictionaries: Vec<Dictionary>,
    fields: Vec<Source>,
    numeric: Vec<Source>,
    precision: Precision,
    told: Told,
}

/// A field, and the column of the rows that it is read from.
struct Source {
    field: Field,
    index: usize,
}

impl Columns {
    pub(super) fn of(scan: &Scan) -> Self {
        let needed = needed(scan);
        let source = |field: &Field| {
            let index = needed.iter().position(|name| *name == column_of(field)).unwrap_or(USER);
            Source { field: field.clone(), index }
        };
        Self {
            times: Vec::new(),
            codes: vec![Vec::new(); scan.fields.len()],
            numbers: vec![Vec::new(); scan.numbers.len()],
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            fields: scan.fields.iter().map(source).collect(),
            numeric: scan.numbers.iter().map(source).collect(),
            precision: scan.precision,
            told: Told::default(),
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &Row) -> Result<(), StoreError> {
        self.times.push(column(row, TIME)?);
        let targets = self.codes.iter_mut().zip(&mut self.dictionaries);
        for (source, (codes, dictionary)) in self.fields.iter().zip(targets) {
            codes.push(dictionary.code_of(source.text(row)?.as_deref()));
        }
        for (source, numbers) in self.numeric.iter().zip(&mut self.numbers) {
            numbers.push(finite_number(source.text(row)?.as_deref()));
        }
        Ok(())
    }

    /// Drops the first rows.
    pub(super) fn forget(&mut self, rows: usize) {
        self.times.drain(..rows);
        for codes in &mut self.codes {
            codes.drain(..rows);
        }
        for numbers in &mut self.numbers {
            numbers.drain(..rows);
        }
    }

    /// The first rows, which are those of some users.
    pub(super) fn events(
        &mut self,
        rows: usize,
        users: impl Iterator<Item = Range<usize>>,
    ) -> Events<'_> {
        let (times, hours) = self.told.tell(self.precision, &self.times[..rows], users);
        Events {
            rows,
            times,
            hours,
            counts: &[],
            columns: self.codes.iter().map(|codes| &codes[..rows]).collect(),
            numbers: self.numbers.iter().map(|numbers| &numbers[..rows]).collect(),
            dictionaries: Dictionaries::of(&self.dictionaries),
        }
    }

    pub(super) fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}

impl Source {
    /// What a row has in the field.
    fn text<'a>(&self, row: &'a Row) -> Result<Option<Cow<'a, str>>, StoreError> {
        let text = match &self.field {
            Field::Origin => {
                let number: i16 = column(row, self.index)?;
                let origin = u8::try_from(number).ok().and_then(Origin::from_number);
                let origin = origin.ok_or_else(|| {
                    StoreError::Damaged(format!("an event in PostgreSQL has the origin {number}"))
                })?;
                Some(origin.as_str())
            }
            Field::Properties => Some(column::<JsonText<'_>>(row, self.index)?.0),
            Field::Property(path) => {
                return Ok(property(column::<JsonText<'_>>(row, self.index)?.0, path));
            }
            Field::EventType
            | Field::UserId
            | Field::SessionId
            | Field::SessionWithinUser
            | Field::Source
            | Field::PageUrl
            | Field::EventId => column(row, self.index)?,
        };
        Ok(text.map(Cow::Borrowed))
    }
}

fn needed(scan: &Scan) -> Vec<&'static str> {
    let mut needed = vec!["user_id", "time_us"];
    for name in scan.fields.iter().chain(&scan.numbers).map(column_of) {
        if !needed.contains(&name) {
            needed.push(name);
        }
    }
    needed
}

fn column_of(field: &Field) -> &'static str {
    match field {
        Field::EventType => "event_type",
        Field::UserId => "user_id",
        Field::SessionId | Field::SessionWithinUser => "session_id",
        Field::Source => "source",
        Field::PageUrl => "page_url",
        Field::Origin => "origin",
        Field::EventId => "event_id",
        Field::Properties | Field::Property(_) => "properties",
    }
}
