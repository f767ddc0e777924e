//! Users that are taken from sources for a batch, source by source, before they are brought together.

use std::ops::Range;

use crate::HourRows;

/// Rows of a source that are copied together may have so many among them that nobody wants: to begin
/// another copy costs as much as to copy these.
const GAP: usize = 16;

/// Users, those of each source in order, and what is to be copied for them.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) users: Vec<TakenUser>,
    /// The hours of each user, its first row as row 0, if the walk wants hours.
    pub(super) hours: Vec<HourRows>,
    pub(super) stretches: Vec<Stretch>,
    /// The source at hand.
    source: u32,
}

/// A user of a source, with rows in range.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenUser {
    pub(super) hash: u64,
    pub(super) source: u32,
    /// Its place in the source.
    pub(super) user: u32,
    first_row: u32,
    rows: u32,
    /// Where its first row is among all that are copied.
    copied_to: u32,
    first_hour: u32,
    end_hour: u32,
}

/// Rows of a source that are copied together.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) source: usize,
    pub(super) rows: Range<usize>,
    /// Where the first row is among all that are copied.
    copied_to: usize,
}

impl TakenUser {
    /// Its rows in the source.
    pub(super) fn rows(&self) -> Range<usize> {
        self.first_row as usize..(self.first_row + self.rows) as usize
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows as usize
    }

    /// Where its rows are among all that are copied.
    pub(super) fn copied(&self) -> Range<usize> {
        self.copied_to as usize..(self.copied_to + self.rows) as usize
    }

    /// Which of the hours are its own.
    pub(super) fn hours(&self) -> Range<usize> {
        self.first_hour as usize..self.end_hour as usize
    }
}

impl Taken {
    pub(super) fn clear(&mut self) {
        self.users.clear();
        self.hours.clear();
        self.stretches.clear();
    }

    /// Goes on to a source.
    pub(super) fn begin(&mut self, source: usize) {
        self.source = source as u32;
    }

    /// Adds the next user of the source at hand, whose hours have been added.
    pub(super) fn add(&mut self, hash: u64, user: usize, rows: Range<usize>) {
        let first_hour = self.users.last().map_or(0, |before| before.end_hour);
        let taken = TakenUser {
            hash,
            source: self.source,
            user: user as u32,
            first_row: rows.start as u32,
            rows: rows.len() as u32,
            copied_to: self.copy(rows) as u32,
            first_hour,
            end_hour: self.hours.len() as u32,
        };
        self.users.push(taken);
    }

    /// How many rows are copied.
    pub(super) fn rows(&self) -> usize {
        self.stretches.last().map_or(0, |last| last.copied_to + last.rows.len())
    }

    /// Has rows of the source at hand copied, and says where the first one will be.
    fn copy(&mut self, rows: Range<usize>) -> usize {
        let (source, copied_to) = (self.source as usize, self.rows());
        match self.stretches.last_mut() {
            Some(last)
                if last.source == source
                    && (last.rows.end..=last.rows.end + GAP).contains(&rows.start) =>
            {
                last.rows.end = rows.end;
                last.copied_to + rows.start - last.rows.start
            }
            _ => {
                self.stretches.push(Stretch { source, rows, copied_to });
                copied_to
            }
        }
    }
}
