//! Walks through the users of a digest: alone, or merged with those of runs and of other parts.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::TimeRange;

use super::super::batch::Names;
use super::super::sessions::{Mark, Sessions};
use super::super::source::{Passed, Place, SourceUser, UserRows, UserSource};
use super::block::{Block, Spread};
use super::{Covers, Digest};
use crate::{BatchUsers, Dictionary, HourRows, StoreError, UserBatch, UserCursor};

/// All users of a digest.
pub(in crate::columnar) struct DigestCursor {
    digest: Arc<Digest>,
    next: usize,
    spread: Spread,
}

impl DigestCursor {
    pub(in crate::columnar) fn of(digest: Arc<Digest>) -> Self {
        Self { digest, next: 0, spread: Spread::default() }
    }
}

impl UserCursor for DigestCursor {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        let Digest { blocks, dictionaries, .. } = &*self.digest;
        let Some(block) = blocks.get(self.next) else { return Ok(None) };
        self.next += 1;
        self.spread.fill(block);
        let events = block.events(&self.spread, &self.spread.hours, dictionaries);
        let batch = UserBatch::new(&block.users, events);
        Ok(Some(batch.with_hour_ends(&block.hour_ends)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.digest.dictionaries
    }
}

/// The users of a digest as one of several sources. The walk's dictionaries must have begun as those
/// of the digest.
pub(in crate::columnar) struct DigestUsers {
    digest: Arc<Digest>,
    range: TimeRange,
    covers: Covers,
    /// How many blocks have been begun.
    begun: usize,
    /// The last of them, and its users that are left.
    spread: Spread,
    left: Range<usize>,
}

impl DigestUsers {
    pub(in crate::columnar) fn of(digest: Arc<Digest>, range: TimeRange, covers: Covers) -> Self {
        Self { digest, range, covers, begun: 0, spread: Spread::default(), left: 0..0 }
    }

    /// The dictionaries that the walk is to begin with.
    pub(in crate::columnar) fn dictionaries(&self) -> Vec<Dictionary> {
        self.digest.dictionaries.clone()
    }

    fn block(&self) -> &Block {
        &self.digest.blocks[self.begun - 1]
    }

    fn user(&self) -> SourceUser {
        let (block, user) = (self.block(), self.left.start);
        let rows = match self.covers {
            Covers::All => block.of_user(user),
            Covers::Some => block.in_range(user, &self.range, &self.spread),
        };
        SourceUser { hash: block.hashes[user], rows, goes_on: false }
    }

    fn user_left(&self) -> Option<SourceUser> {
        (!self.left.is_empty()).then(|| self.user())
    }

    /// What the codes of sessions mean for the user of a row, in a column.
    fn marks(&self, column: usize, row: usize) -> &[Mark] {
        let (block, of_column) = (self.block(), &self.digest.session_columns);
        let marks = of_column.iter().zip(&block.sessions).find(|(own, _)| **own == column);
        marks.map_or(&[], |(_, marks)| marks.of(block.users.user_of(row)))
    }
}

impl UserSource for DigestUsers {
    fn fill(&mut self, _dictionaries: &mut [Dictionary]) -> Result<Option<SourceUser>, StoreError> {
        while let Some(block) = self.digest.blocks.get(self.begun) {
            self.begun += 1;
            if self.covers == Covers::All || block.may_be_in(&self.range) {
                self.spread.fill(block);
                self.left = 0..block.users.len();
                return Ok(self.user_left());
            }
        }
        Ok(None)
    }

    fn advance(&mut self) -> Option<SourceUser> {
        self.left.start += 1;
        self.user_left()
    }

    fn pass(
        &mut self,
        (below, rows): (u64, usize),
        start: usize,
        (into, names): (&mut BatchUsers, Names),
    ) -> Option<Passed> {
        let block = self.block();
        if self.covers == Covers::Some && !block.is_in(&self.range) {
            return None;
        }
        let first = block.of_user(self.left.start);
        let below = block.hashes[self.left.clone()].partition_point(|hash| *hash < below);
        let fitting = block.users.user_of(first.rows.start + rows);
        let users = self.left.start..fitting.min(self.left.start + below);
        if users.len() < 2 {
            return None;
        }
        for user in users.clone() {
            let name = match names {
                Names::Told => block.users.name(user),
                Names::LeftOut => "",
            };
            into.push(name, block.users.rows(user).end - first.rows.start + start);
        }
        let last = block.of_user(users.end - 1);
        let rows = first.rows.start..last.rows.end;
        let rows = UserRows { rows, hours: first.hours.start..last.hours.end };
        self.left.start = users.end;
        Some(Passed { rows, next: self.user_left() })
    }

    fn name(&self) -> &str {
        self.block().users.name(self.left.start)
    }

    fn times(&self, rows: &Range<usize>) -> &[i64] {
        &self.block().times[rows.clone()]
    }

    fn append_hours(&self, rows: &UserRows, start: usize, into: &mut Vec<HourRows>) {
        let UserRows { rows, hours } = rows;
        let shift = |row: u32| (row as usize - rows.start + start) as u32;
        let own = &self.spread.hours[hours.clone()];
        into.extend(own.iter().map(|hour| HourRows {
            hour: hour.hour,
            start: shift(hour.start),
            end: shift(hour.end),
        }));
    }

    fn append(
        &self,
        field: usize,
        rows: Range<usize>,
        _dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    ) {
        into.extend_from_slice(&self.spread.columns[field][rows]);
    }

    fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>) {
        into.extend_from_slice(&self.block().numbers[field][rows]);
    }

    fn append_counts(&self, rows: Range<usize>, into: &mut Vec<u32>) {
        into.extend_from_slice(&self.spread.counts[rows]);
    }

    fn own_sessions(&self, field: usize, rows: Range<usize>, into: &mut Vec<u32>) -> Option<usize> {
        into.extend_from_slice(&self.spread.columns[field][rows]);
        Some(self.digest.dictionaries[field].len())
    }

    fn append_sessions(
        &self,
        field: usize,
        rows: Range<usize>,
        sessions: &mut Sessions,
        into: &mut Vec<u32>,
    ) {
        let first = into.len();
        let marks = self.marks(field, rows.start);
        into.extend_from_slice(&self.spread.columns[field][rows]);
        sessions.translate(&mut into[first..], |code| marks.get(code).copied());
    }

    fn place(&self) -> Place {
        Place::Digest
    }
}
