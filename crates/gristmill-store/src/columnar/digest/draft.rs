//! Rows of a digest while it is made.

use super::block::{Block, SessionMarks, Spread};
use super::join;
use super::narrow::Narrow;
use crate::{BatchUsers, Events};

/// A block that is not packed yet.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) users: BatchUsers,
    pub(super) hashes: Vec<u64>,
    pub(super) rows: usize,
    pub(super) times: Vec<i64>,
    pub(super) hour_ends: Vec<u32>,
    pub(super) spread: Spread,
    pub(super) numbers: Vec<Vec<f64>>,
    pub(super) sessions: Vec<SessionMarks>,
}

impl Draft {
    /// An empty one for so many columns, some of which are numbers and some sessions.
    pub(super) fn new(columns: usize, numbers: usize, sessions: usize) -> Self {
        let mut spread = Spread::default();
        spread.columns.resize(columns, Vec::new());
        Self {
            spread,
            numbers: vec![Vec::new(); numbers],
            sessions: (0..sessions).map(|_| SessionMarks::default()).collect(),
            ..Self::default()
        }
    }

    /// Adds what an event has in its columns, and gives its row.
    pub(super) fn push(&mut self, events: &Events<'_>, row: usize) -> usize {
        for (column, codes) in self.spread.columns.iter_mut().zip(&events.columns) {
            column.push(codes[row]);
        }
        for (column, numbers) in self.numbers.iter_mut().zip(&events.numbers) {
            column.push(numbers[row]);
        }
        self.rows += 1;
        self.rows - 1
    }

    /// Adds a row of another one, and its count if it has one.
    pub(super) fn push_from(&mut self, other: &Draft, row: usize) {
        for (column, codes) in self.spread.columns.iter_mut().zip(&other.spread.columns) {
            column.push(codes[row]);
        }
        for (column, numbers) in self.numbers.iter_mut().zip(&other.numbers) {
            column.push(numbers[row]);
        }
        self.spread.counts.extend(other.spread.counts.get(row));
        self.rows += 1;
    }

    /// The memory it takes, about.
    pub(super) fn memory(&self) -> usize {
        let columns = self.spread.columns.len() * 4 + self.numbers.len() * 8;
        self.rows * (columns + size_of::<u32>() + size_of::<i64>())
    }

    /// Packs it.
    pub(super) fn pack(mut self) -> Block {
        let hours = &self.spread.hours;
        let of_times = self.times.iter().map(|time| (*time, *time));
        let of_hours = hours.iter().map(|hour| (hour.begins(), hour.ends() - 1));
        let span = of_times.chain(of_hours).reduce(join);
        let first_hour = hours.iter().map(|hour| hour.hour).min().unwrap_or(0);
        let rows_of_hours = hours.iter().map(|hour| hour.end - hour.start);
        let is_one_each = rows_of_hours.clone().all(|rows| rows == 1);
        let after_first = hours.iter().map(|hour| hour.hour.abs_diff(first_hour));
        self.users.shrink();
        self.hashes.shrink_to_fit();
        self.times.shrink_to_fit();
        self.hour_ends.shrink_to_fit();
        self.numbers.iter_mut().for_each(Vec::shrink_to_fit);
        for sessions in &mut self.sessions {
            sessions.marks.shrink_to_fit();
            sessions.ends.shrink_to_fit();
        }
        Block {
            hours: Narrow::of(after_first),
            rows_of_hours: match is_one_each {
                true => Narrow::default(),
                false => Narrow::of(rows_of_hours),
            },
            counts: Narrow::of(self.spread.counts.iter().copied()),
            columns: self.spread.columns.iter().map(|c| Narrow::of(c.iter().copied())).collect(),
            users: self.users,
            hashes: self.hashes,
            rows: self.rows,
            times: self.times,
            first_hour,
            hour_ends: self.hour_ends,
            numbers: self.numbers,
            sessions: self.sessions,
            span,
        }
    }
}
