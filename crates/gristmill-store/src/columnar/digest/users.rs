//! Walks through the users of a digest: alone, or merged with those of runs and of other parts.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::TimeRange;

use super::super::sessions::Mark;
use super::super::source::{Follows, Place, UserSource, Walk};
use super::super::taken::Taken;
use super::block::{Block, Spread, UserRows};
use super::{Covers, Digest};
use crate::{Dictionary, HourRows, Precision, StoreError, UserBatch, UserCursor};

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
    precision: Precision,
    /// The lowest and the highest hash of the users.
    hashes: (u64, u64),
    /// How many blocks have been begun or passed over.
    begun: usize,
    /// The last of them, and its users that are left.
    spread: Spread,
    left: Range<usize>,
}

impl DigestUsers {
    /// The users of a walk, with what they have in a range.
    pub(in crate::columnar) fn of(
        digest: Arc<Digest>,
        (range, covers): (TimeRange, Covers),
        walk: &Walk,
    ) -> Self {
        let (spread, left) = (Spread::default(), 0..0);
        let (precision, hashes) = (walk.scan.precision, walk.hashes);
        let begun = digest.first_block(hashes.0);
        Self { digest, range, covers, precision, hashes, begun, spread, left }
    }

    /// The dictionaries that the walk is to begin with.
    pub(in crate::columnar) fn dictionaries(&self) -> Vec<Dictionary> {
        self.digest.dictionaries.clone()
    }

    fn block(&self) -> &Block {
        &self.digest.blocks[self.begun - 1]
    }

    /// The rows of a user that are in range.
    fn in_range(&self, user: usize) -> UserRows {
        match self.covers {
            Covers::All => self.block().of_user(user),
            Covers::Some => self.block().in_range(user, &self.range, &self.spread),
        }
    }
}

impl UserSource for DigestUsers {
    fn fill(&mut self, _dictionaries: &mut [Dictionary]) -> Result<bool, StoreError> {
        let digest = Arc::clone(&self.digest);
        while let Some(block) = digest.block_up_to(self.begun, self.hashes.1) {
            self.begun += 1;
            let users = block.users_between(self.hashes);
            let has_any = self.covers == Covers::All || block.may_be_in(&self.range);
            if has_any && !users.is_empty() {
                self.spread.fill(block);
                self.left = users;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn left(&self) -> Range<usize> {
        self.left.clone()
    }

    fn follows(&self) -> Follows {
        let next = self.digest.block_up_to(self.begun, self.hashes.1);
        let Some(next) = next else { return Follows::Nothing };
        // Another user may have the same hash.
        if next.hashes.first() == self.block().hashes.last() {
            Follows::SameUser
        } else {
            Follows::Others
        }
    }

    fn hash(&self, user: usize) -> u64 {
        self.block().hashes[user]
    }

    fn name(&self, user: usize) -> &str {
        self.block().users.name(user)
    }

    fn rows(&self, user: usize) -> Range<usize> {
        self.block().users.rows(user)
    }

    fn take(&mut self, users: usize, into: &mut Taken) {
        let first = self.left.start;
        self.left.start += users;
        for user in first..first + users {
            let UserRows { rows, hours } = self.in_range(user);
            if rows.is_empty() {
                continue;
            }
            let within = |row: u32| row - rows.start as u32;
            let hours = if self.precision == Precision::Hours { hours } else { 0..0 };
            into.hours.extend(self.spread.hours[hours].iter().map(|hour| HourRows {
                hour: hour.hour,
                start: within(hour.start),
                end: within(hour.end),
            }));
            into.add(self.block().hashes[user], user, rows);
        }
    }

    fn append_times(&self, rows: Range<usize>, into: &mut Vec<i64>) {
        into.extend_from_slice(&self.block().times[rows]);
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

    fn sessions(&self, field: usize) -> Option<usize> {
        Some(self.digest.dictionaries[field].len())
    }

    fn session(&self, field: usize, user: usize, code: usize) -> Option<Mark> {
        let mut of_columns = self.digest.session_columns.iter().zip(&self.block().sessions);
        let (_, marks) = of_columns.find(|(column, _)| **column == field)?;
        marks.of(user).get(code).copied()
    }

    fn place(&self) -> Place {
        Place::Digest
    }
}
