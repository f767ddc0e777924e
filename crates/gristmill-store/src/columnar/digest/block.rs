//! Some thousand rows of a digest, which are given together: packed as they are kept, and spread out as
//! they are made and given.

use std::ops::Range;

use gristmill_model::{TimeRange, Timestamp};

use super::super::sessions::Mark;
use super::narrow::Narrow;
use crate::{BatchUsers, Dictionaries, Dictionary, Events, HourRows, Span};

/// Rows as they are kept.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Whose they are; nobody's if the digest is one of events.
    pub(super) users: BatchUsers,
    pub(super) hashes: Vec<u64>,
    pub(super) rows: usize,
    pub(super) times: Vec<i64>,
    /// The first hour, and how many hours after it each is.
    pub(super) first_hour: i32,
    pub(super) hours: Narrow,
    /// How many rows each hour has; none if each has one.
    pub(super) rows_of_hours: Narrow,
    /// If there are hours, for each user where they end.
    pub(super) hour_ends: Vec<u32>,
    /// How many events each row is; none with times.
    pub(super) counts: Narrow,
    pub(super) columns: Vec<Narrow>,
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

/// What of a block is spread out.
#[derive(Default)]
pub(super) struct Spread {
    pub(super) hours: Vec<HourRows>,
    pub(super) counts: Vec<u32>,
    pub(super) columns: Vec<Vec<u32>>,
    /// Room for hours and their rows before they are put together.
    after_first: Vec<u32>,
    rows_of_hours: Vec<u32>,
}

/// Rows of a user, and its hours that have them.
pub(super) struct UserRows {
    pub(super) rows: Range<usize>,
    pub(super) hours: Range<usize>,
}

impl SessionMarks {
    /// The marks of a user by code.
    pub(super) fn of(&self, user: usize) -> &[Mark] {
        &self.marks[range(&self.ends, user)]
    }
}

impl Block {
    /// The users of these hashes, the lowest and the highest.
    pub(super) fn users_between(&self, (first, last): (u64, u64)) -> Range<usize> {
        let before = |hash: &u64| *hash < first;
        let up_to = |hash: &u64| *hash <= last;
        self.hashes.partition_point(before)..self.hashes.partition_point(up_to)
    }

    /// Its rows, and those of the hours that are told.
    pub(super) fn events<'a>(
        &'a self,
        spread: &'a Spread,
        hours: &'a [HourRows],
        dictionaries: &'a [Dictionary],
    ) -> Events<'a> {
        Events {
            rows: self.rows,
            times: &self.times,
            hours,
            counts: &spread.counts,
            columns: spread.columns.iter().map(Vec::as_slice).collect(),
            numbers: self.numbers.iter().map(Vec::as_slice).collect(),
            dictionaries: Dictionaries::of(dictionaries),
        }
    }

    /// A user's rows.
    pub(super) fn of_user(&self, user: usize) -> UserRows {
        let hours = if self.hour_ends.is_empty() { 0..0 } else { range(&self.hour_ends, user) };
        UserRows { rows: self.users.rows(user), hours }
    }

    /// Those of a user's rows that are in a range. A range that cuts an hour must hold all of them.
    pub(super) fn in_range(&self, user: usize, range: &TimeRange, spread: &Spread) -> UserRows {
        let UserRows { mut rows, mut hours } = self.of_user(user);
        if !self.times.is_empty() {
            let cut = cut_times(&self.times[rows.clone()], range);
            rows = rows.start + cut.start..rows.start + cut.end;
        } else if !hours.is_empty() {
            let cut = cut_hours(&spread.hours[hours.clone()], range);
            hours = hours.start + cut.start..hours.start + cut.end;
            rows = match &spread.hours[hours.clone()] {
                [] => rows.start..rows.start,
                [one] => one.rows(),
                [first, .., last] => first.rows().start..last.rows().end,
            };
        }
        UserRows { rows, hours }
    }

    /// Whether all rows are in a range.
    pub(super) fn is_in(&self, range: &TimeRange) -> bool {
        self.span.is_none_or(|(first, last)| {
            range.contains(Timestamp(first)) && range.contains(Timestamp(last))
        })
    }

    /// Whether any rows may be in a range.
    pub(super) fn may_be_in(&self, range: &TimeRange) -> bool {
        self.span.is_none_or(|(first, last)| range.overlaps(Timestamp(first), Timestamp(last)))
    }

    /// The memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(Narrow::memory).sum();
        let numbers: usize = self.numbers.iter().map(Vec::capacity).sum();
        let marks =
            |one: &SessionMarks| one.marks.capacity() * size_of::<Mark>() + one.ends.capacity() * 4;
        size_of::<Self>()
            + self.users.memory()
            + 8 * (self.hashes.capacity() + self.times.capacity() + numbers)
            + self.hours.memory()
            + self.rows_of_hours.memory()
            + 4 * self.hour_ends.capacity()
            + self.counts.memory()
            + columns
            + self.sessions.iter().map(marks).sum::<usize>()
    }
}

impl Spread {
    /// Spreads a block out.
    pub(super) fn fill(&mut self, block: &Block) {
        let Self { hours, after_first, rows_of_hours, .. } = self;
        hours.clear();
        after_first.clear();
        block.hours.append_all(after_first);
        let hour = |after: &u32| block.first_hour.wrapping_add_unsigned(*after);
        if block.rows_of_hours.len() == 0 {
            let of_hour =
                |(start, after): (u32, &u32)| HourRows { hour: hour(after), start, end: start + 1 };
            hours.extend((0..).zip(&*after_first).map(of_hour));
        } else {
            rows_of_hours.clear();
            block.rows_of_hours.append_all(rows_of_hours);
            let mut start = 0;
            hours.extend(after_first.iter().zip(rows_of_hours).map(|(after, rows)| {
                let of_hour = HourRows { hour: hour(after), start, end: start + *rows };
                start += *rows;
                of_hour
            }));
        }
        self.counts.clear();
        block.counts.append_all(&mut self.counts);
        self.columns.resize_with(block.columns.len(), Vec::new);
        for (column, narrow) in self.columns.iter_mut().zip(&block.columns) {
            column.clear();
            narrow.append_all(column);
        }
    }
}

/// Of hours in order those that begin in a range, which cuts none of them.
pub(super) fn cut_hours(hours: &[HourRows], range: &TimeRange) -> Range<usize> {
    let first = range.start.map_or(0, |start| hours.partition_point(|hour| hour.ends() <= start.0));
    let end =
        range.end.map_or(hours.len(), |end| hours.partition_point(|hour| hour.begins() < end.0));
    first..end.max(first)
}

/// Of times in order those in a range.
fn cut_times(times: &[i64], range: &TimeRange) -> Range<usize> {
    let first = range.start.map_or(0, |start| times.partition_point(|time| *time < start.0));
    let end = range.end.map_or(times.len(), |end| times.partition_point(|time| *time < end.0));
    first..end.max(first)
}

/// What lies between two ends.
fn range(ends: &[u32], index: usize) -> Range<usize> {
    let start = index.checked_sub(1).map_or(0, |before| ends[before]);
    start as usize..ends[index] as usize
}
