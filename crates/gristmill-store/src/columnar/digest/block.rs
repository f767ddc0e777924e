//! Some thousand rows of a digest, which are given together.

use std::ops::Range;

use gristmill_model::{TimeRange, Timestamp};
use smallvec::SmallVec;

use super::super::sessions::Mark;
use super::super::source::UserRows;
use crate::{BatchUsers, Dictionaries, Dictionary, Events, HourRows, Span, hours};

/// Rows, column by column.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Whose they are; nobody's if the digest is one of events.
    pub(super) users: BatchUsers,
    pub(super) hashes: Vec<u64>,
    pub(super) rows: usize,
    pub(super) times: Vec<i64>,
    pub(super) hours: Vec<HourRows>,
    /// For each user where its hours end.
    pub(super) hour_ends: Vec<u32>,
    /// How many events each row is; none with times.
    pub(super) counts: Vec<u32>,
    pub(super) columns: Vec<Vec<u32>>,
    pub(super) numbers: Vec<Vec<f64>>,
    /// For each column of sessions what the codes of its users mean.
    pub(super) sessions: Vec<SessionMarks>,
    /// The first and the last moment; `None` if none is told.
    pub(super) span: Span,
}

/// What the codes of sessions mean, user by user.
#[derive(Debug, Default)]
pub(super) struct SessionMarks {
    pub(super) marks: Vec<Mark>,
    /// For each user where its marks end.
    pub(super) ends: Vec<u32>,
}

impl SessionMarks {
    /// The marks of a user by code.
    pub(super) fn of(&self, user: usize) -> &[Mark] {
        &self.marks[range(&self.ends, user)]
    }
}

impl Block {
    /// An empty one for so many columns, some of which are numbers and some sessions.
    pub(super) fn new(columns: usize, numbers: usize, sessions: usize) -> Self {
        Self {
            columns: vec![Vec::new(); columns],
            numbers: vec![Vec::new(); numbers],
            sessions: (0..sessions).map(|_| SessionMarks::default()).collect(),
            ..Self::default()
        }
    }

    /// Adds a row of another block, and its count if it has one.
    pub(super) fn push_from(&mut self, other: &Block, row: usize) {
        for (column, codes) in self.columns.iter_mut().zip(&other.columns) {
            column.push(codes[row]);
        }
        for (column, numbers) in self.numbers.iter_mut().zip(&other.numbers) {
            column.push(numbers[row]);
        }
        self.counts.extend(other.counts.get(row));
        self.rows += 1;
    }

    /// Its rows, and those of the hours that are told.
    pub(super) fn events<'a>(
        &'a self,
        hours: &'a [HourRows],
        dictionaries: &'a [Dictionary],
    ) -> Events<'a> {
        Events {
            rows: self.rows,
            times: &self.times,
            hours,
            counts: &self.counts,
            columns: self.columns.iter().map(Vec::as_slice).collect(),
            numbers: self.numbers.iter().map(Vec::as_slice).collect::<SmallVec<_>>(),
            dictionaries: Dictionaries::of(dictionaries),
        }
    }

    /// Those of a user's rows that are in a range. A range that cuts an hour must hold all of them.
    pub(super) fn of_user(&self, user: usize, range: &TimeRange) -> UserRows {
        let mut rows = self.users.rows(user);
        let mut hours = 0..0;
        if !self.times.is_empty() {
            let cut = cut(&self.times[rows.clone()], range, |time| *time..*time + 1);
            rows = rows.start + cut.start..rows.start + cut.end;
        } else if !self.hours.is_empty() {
            let own = self::range(&self.hour_ends, user);
            let cut = cut_hours(&self.hours[own.clone()], range);
            hours = own.start + cut.start..own.start + cut.end;
            rows = match &self.hours[hours.clone()] {
                [] => rows.start..rows.start,
                [first, .., last] => first.rows().start..last.rows().end,
                [one] => one.rows(),
            };
        }
        UserRows { rows, hours }
    }

    /// Whether all rows are in a range, and whether any may be.
    pub(super) fn is_in(&self, range: &TimeRange) -> bool {
        self.span.is_none_or(|(first, last)| {
            range.contains(Timestamp(first)) && range.contains(Timestamp(last))
        })
    }

    pub(super) fn may_be_in(&self, range: &TimeRange) -> bool {
        self.span.is_none_or(|(first, last)| range.overlaps(Timestamp(first), Timestamp(last)))
    }

    /// Ends it: finds its span and gives back what is not used.
    pub(super) fn close(&mut self) {
        let times = self.times.iter().map(|time| (*time, *time));
        let hours = self.hours.iter().map(|hour| (hour.begins(), hour.ends() - 1));
        self.span = times.chain(hours).reduce(super::join);
        self.users.shrink();
        self.hashes.shrink_to_fit();
        self.times.shrink_to_fit();
        self.hours.shrink_to_fit();
        self.hour_ends.shrink_to_fit();
        self.counts.shrink_to_fit();
        self.columns.iter_mut().for_each(Vec::shrink_to_fit);
        self.numbers.iter_mut().for_each(Vec::shrink_to_fit);
        for sessions in &mut self.sessions {
            sessions.marks.shrink_to_fit();
            sessions.ends.shrink_to_fit();
        }
    }

    pub(super) fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(Vec::capacity).sum();
        let numbers: usize = self.numbers.iter().map(Vec::capacity).sum();
        let marks =
            |one: &SessionMarks| one.marks.capacity() * size_of::<Mark>() + one.ends.capacity() * 4;
        size_of::<Self>()
            + self.users.memory()
            + 8 * (self.hashes.capacity() + self.times.capacity() + numbers)
            + size_of::<HourRows>() * self.hours.capacity()
            + 4 * (self.hour_ends.capacity() + self.counts.capacity() + columns)
            + self.sessions.iter().map(marks).sum::<usize>()
    }
}

/// Of hours in order those that begin in a range, which cuts none of them.
pub(super) fn cut_hours(of: &[HourRows], range: &TimeRange) -> Range<usize> {
    cut(of, range, |hour| hours::begin_of(hour.hour)..hours::end_of(hour.hour))
}

/// Of moments in order those that a range does not leave out as a whole.
fn cut<T>(moments: &[T], range: &TimeRange, times: impl Fn(&T) -> Range<i64>) -> Range<usize> {
    let is_before = |one: &T| range.start.is_some_and(|start| times(one).end <= start.0);
    let begins_in = |one: &T| range.end.is_none_or(|end| times(one).start < end.0);
    let (first, last) = (moments.partition_point(is_before), moments.partition_point(begins_in));
    first..last.max(first)
}

/// What lies between two ends.
fn range(ends: &[u32], index: usize) -> Range<usize> {
    let start = index.checked_sub(1).map_or(0, |before| ends[before]);
    start as usize..ends[index] as usize
}
