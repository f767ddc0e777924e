//! Users of a run or of a part, in order, with the rows that a walk wants.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gristmill_model::{Partition, Position, TimeRange, Timestamp};

use super::cache::ColumnCache;
use super::part::OpenPart;
use super::run::{Run, hashes_of, shard_of, user_hash};
use super::sessions::Mark;
use super::taken::Taken;
use crate::{Dictionary, Scan, StoreError};

/// So few times are counted one by one, without a branch that can hardly be foretold.
const FEW_TIMES: usize = 8;

/// Users in order of (hash, name), each once. Some are at hand at a time. Users and rows are given by
/// place, as long as they are at hand, and those that have just been taken still are.
pub(super) trait UserSource: Send {
    /// Goes on to the next users when none is left at hand; `false` at the end.
    fn fill(&mut self, dictionaries: &mut [Dictionary]) -> Result<bool, StoreError>;

    /// The users at hand that have not been taken.
    fn left(&self) -> Range<usize>;

    /// What comes after them.
    fn follows(&self) -> Follows;

    /// The hash of a user.
    fn hash(&self, user: usize) -> u64;

    /// The name of a user.
    fn name(&self, user: usize) -> &str;

    /// The rows of a user, in range or not.
    fn rows(&self, user: usize) -> Range<usize>;

    /// Takes so many users and adds those that have rows in range.
    fn take(&mut self, users: usize, into: &mut Taken);

    /// Appends the times of rows; not if the walk wants hours.
    fn append_times(&self, rows: Range<usize>, into: &mut Vec<i64>);

    /// Appends the codes that rows have in a field; not of the user's name. What codes of sessions
    /// mean is said by [`session`](Self::session).
    fn append(
        &self,
        field: usize,
        rows: Range<usize>,
        dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    );

    /// Appends the numbers that rows have in a field that is wanted as numbers; not of the user's
    /// name.
    fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>);

    /// Appends how many events each row is.
    fn append_counts(&self, rows: Range<usize>, into: &mut Vec<u32>) {
        into.resize(into.len() + rows.len(), 1);
    }

    /// If a user's sessions have one code each in a field, what all of these are below.
    fn sessions(&self, field: usize) -> Option<usize>;

    /// The session of a user that a code stands for in a field.
    fn session(&self, field: usize, user: usize, code: usize) -> Option<Mark>;

    /// Where the rows at hand are.
    fn place(&self) -> Place;
}

/// What comes after the users that a source has at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Nothing,
    /// Users with higher hashes.
    Others,
    /// Maybe more rows of the last user, or a user with the same hash, before any others.
    SameUser,
}

/// A source, which has users at hand.
pub(super) type Head = Box<dyn UserSource>;

/// The hash of the next user, if one is at hand.
pub(super) fn next_hash(head: &Head) -> Option<u64> {
    head.left().next().map(|user| head.hash(user))
}

/// Up to which hash a source has all users at hand with all their rows; `None` if not even the first.
pub(super) fn whole_up_to(head: &Head) -> Option<u64> {
    let last = head.left().next_back().map(|user| head.hash(user));
    match (head.follows(), last) {
        (Follows::Others, Some(last)) => Some(last),
        (Follows::SameUser, Some(last)) => last.checked_sub(1),
        _ => Some(u64::MAX),
    }
}

/// The users at hand up to a hash.
pub(super) fn users_up_to(head: &Head, hash: u64) -> Range<usize> {
    let left = head.left();
    let (mut low, mut high) = (left.start, left.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if head.hash(middle) <= hash { low = middle + 1 } else { high = middle }
    }
    left.start..low
}

/// How many rows these users have, in range or not.
pub(super) fn rows_up_to(head: &Head, hash: u64) -> u64 {
    let users = users_up_to(head, hash);
    let last = users.clone().next_back();
    last.map_or(0, |last| (head.rows(last).end - head.rows(users.start).start) as u64)
}

/// What a walk through some users wants.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) scan: Scan,
    /// The lowest and the highest hash of the users.
    pub(super) hashes: (u64, u64),
}

impl Walk {
    /// A walk through the users of one of so many shards.
    pub(super) fn of(scan: &Scan, shard: u32, shards: u32) -> Self {
        let scan = scan.clone();
        let hashes = match scan.user.as_deref().map(user_hash) {
            Some(hash) if shard_of(hash, shards) == shard => (hash, hash),
            // The user is not of this shard, so nobody is wanted.
            Some(_) => (u64::MAX, 0),
            None => hashes_of(shard, shards),
        };
        Self { scan, hashes }
    }

    /// Of the times of one user, which are the rows in range.
    pub(super) fn in_range(&self, times: &[i64]) -> Range<usize> {
        let TimeRange { start, end } = self.scan.range;
        let is_inside = |time: &i64| self.scan.range.contains(Timestamp(*time));
        if times.first().is_none_or(is_inside) && times.last().is_none_or(is_inside) {
            return 0..times.len();
        }
        let first = start.map_or(0, |start| count_before(times, start.0));
        let last = end.map_or(times.len(), |end| count_before(times, end.0));
        first..last.max(first)
    }
}

/// How many of some times, which are in order, are before a moment.
pub(super) fn count_before(times: &[i64], moment: i64) -> usize {
    if times.len() > FEW_TIMES {
        return times.partition_point(|time| *time < moment);
    }
    times.iter().filter(|time| **time < moment).count()
}

/// Where rows come from.
pub(super) enum Place {
    Run(Arc<Run>),
    RowGroup(Arc<OpenPart>, usize, GroupPositions),
    /// Whose walks take events of the same time in any order.
    Digest,
}

/// The log positions of a row group that is at hand, once they have been asked for.
pub(super) type GroupPositions = Arc<OnceLock<Arc<Vec<Position>>>>;

impl Place {
    /// Appends the log positions of rows.
    pub(super) fn append_positions(
        &self,
        rows: Range<usize>,
        cache: &ColumnCache,
        into: &mut Vec<Position>,
    ) -> Result<(), StoreError> {
        match self {
            Place::Digest => {
                let unknown = Position { partition: Partition(0), offset: 0 };
                into.resize(into.len() + rows.len(), unknown);
            }
            Place::Run(run) => into.extend_from_slice(&run.rows.positions[rows]),
            Place::RowGroup(part, group, known) => {
                let positions = match known.get() {
                    Some(positions) => positions,
                    None => {
                        let read = cache.positions(part, *group)?.column;
                        known.get_or_init(|| read)
                    }
                };
                into.extend_from_slice(&positions[rows]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gristmill_model::ProjectId;
    use proptest::prelude::*;

    use super::*;

    fn walk(shard: u32, shards: u32) -> (u64, u64) {
        Walk::of(&Scan::of(ProjectId::new("p")), shard, shards).hashes
    }

    proptest! {
        #[test]
        fn walks_meet_every_hash_once_and_within_its_shard(
            stored in 1..64_u32,
            walks in 1..17_u32,
            hash in any::<u64>(),
        ) {
            let shards = stored * walks;
            let shard = shard_of(hash, shards);
            prop_assert_eq!(shard / walks, shard_of(hash, stored));
            let (first, last) = walk(shard, shards);
            prop_assert!(first <= hash && hash <= last);
            prop_assert_eq!(first == 0, shard == 0);
            prop_assert_eq!(last == u64::MAX, shard + 1 == shards);
            if shard > 0 {
                prop_assert_eq!(walk(shard - 1, shards).1 + 1, first);
            }
        }
    }
}
