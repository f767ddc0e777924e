//! Walks through the users of a digest: alone, or merged with those of runs and of other parts.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::TimeRange;

use super::super::batch::Names;
use super::super::sessions::{Mark, Sessions};
use super::super::source::{Passed, Place, SourceUser, UserRows, UserSource};
use super::block::Block;
use super::{Covers, Digest};
use crate::{BatchUsers, Dictionary, HourRows, StoreError, UserBatch, UserCursor};

/// All users of a digest.
pub(in crate::columnar) struct DigestCursor {
    digest: Arc<Digest>,
    next: usize,
}

impl DigestCursor {
    pub(in crate::columnar) fn of(digest: Arc<Digest>) -> Self {
        Self { digest, next: 0 }
    }
}

impl UserCursor for DigestCursor {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        let Digest { blocks, dictionaries, .. } = &*self.digest;
        let Some(block) = blocks.get(self.next) else { return Ok(None) };
        self.next += 1;
        let events = block.events(&block.hours, dictionaries);
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
    /// Whether all rows are known to be in range.
    is_covered: bool,
    /// How many blocks have been begun.
    begun: usize,
    /// The users of the last of them that are left.
    left: Range<usize>,
}

impl DigestUsers {
    pub(in crate::columnar) fn of(digest: Arc<Digest>, range: TimeRange, covers: Covers) -> Self {
        let is_covered = covers == Covers::All;
        Self { digest, range, is_covered, begun: 0, left: 0..0 }
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
        let rows = block.of_user(user, &self.range);
        SourceUser { hash: block.hashes[user], rows, goes_on: false }
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
            if block.may_be_in(&self.range) {
                self.left = 0..block.users.len();
                return Ok(Some(self.user()));
            }
        }
        Ok(None)
    }

    fn advance(&mut self) -> Option<SourceUser> {
        self.left.start += 1;
        (!self.left.is_empty()).then(|| self.user())
    }

    fn pass(&mut self, below: u64, rows: usize) -> Option<Passed> {
        let (block, first) = (self.block(), self.left.start);
        if !self.is_covered && !block.is_in(&self.range) {
            return None;
        }
        let start = block.users.rows(first).start;
        let hashes = &block.hashes[self.left.clone()];
        let most = first + hashes.partition_point(|hash| *hash < below);
        let fitting = block.users.user_of(start + rows);
        let users = first..most.min(fitting).min(self.left.end);
        if users.len() < 2 {
            return None;
        }
        let (first, last) = (block.of_user(users.start, &TimeRange::ALL), users.end - 1);
        let last = block.of_user(last, &TimeRange::ALL);
        let rows = first.rows.start..last.rows.end;
        self.left.start = users.end;
        Some(Passed { users, rows: UserRows { rows, hours: first.hours.start..last.hours.end } })
    }

    fn again(&self) -> Option<SourceUser> {
        (!self.left.is_empty()).then(|| self.user())
    }

    fn tell_passed(&self, passed: &Passed, start: usize, names: Names, into: &mut BatchUsers) {
        let users = &self.block().users;
        for user in passed.users.clone() {
            let name = match names {
                Names::Told => users.name(user),
                Names::LeftOut => "",
            };
            into.push(name, users.rows(user).end - passed.rows.rows.start + start);
        }
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
        let own = &self.block().hours[hours.clone()];
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
        into.extend_from_slice(&self.block().columns[field][rows]);
    }

    fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>) {
        into.extend_from_slice(&self.block().numbers[field][rows]);
    }

    fn append_counts(&self, rows: Range<usize>, into: &mut Vec<u32>) {
        into.extend_from_slice(&self.block().counts[rows]);
    }

    fn own_sessions(&self, field: usize, rows: Range<usize>, into: &mut Vec<u32>) -> Option<usize> {
        into.extend_from_slice(&self.block().columns[field][rows]);
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
        into.extend_from_slice(&self.block().columns[field][rows]);
        sessions.translate(&mut into[first..], |code| marks.get(code).copied());
    }

    fn place(&self) -> Place {
        Place::Digest
    }
}
