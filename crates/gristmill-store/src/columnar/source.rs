//! Users of a run or of a part, in order, with the rows that a walk wants.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gristmill_model::{Partition, Position, TimeRange, Timestamp};

use super::batch::Names;
use super::cache::ColumnCache;
use super::part::OpenPart;
use super::run::{Run, shard_of, user_hash};
use super::sessions::Sessions;
use crate::{BatchUsers, Dictionary, HourRows, Scan, StoreError};

/// Users in order of (hash, name), each once. Some are at hand at a time; what is asked about a
/// user is about the next one of these, and rows are given by place as long as they are at hand.
pub(super) trait UserSource: Send {
    /// Goes on to the next users, and gives the first; `None` at the end.
    fn fill(&mut self, dictionaries: &mut [Dictionary]) -> Result<Option<SourceUser>, StoreError>;

    /// Goes on to the next user at hand; `None` if there is none.
    fn advance(&mut self) -> Option<SourceUser>;

    /// Passes over users at hand whose hashes are below some and whose rows lie side by side and are
    /// wanted whole, up to so many rows, and adds them to `into`, where their rows begin at `start`.
    /// `None` if it passes over none.
    fn pass(
        &mut self,
        _limits: (u64, usize),
        _start: usize,
        _into: (&mut BatchUsers, Names),
    ) -> Option<Passed> {
        None
    }

    /// The name of the user.
    fn name(&self) -> &str;

    /// The times of rows; not if the walk wants hours.
    fn times(&self, rows: &Range<usize>) -> &[i64];

    /// Appends the hours of rows, which are to begin at `start`.
    fn append_hours(&self, rows: &UserRows, start: usize, into: &mut Vec<HourRows>);

    /// Appends the codes that rows have in a field; not of the user's name or sessions.
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

    /// Appends codes of sessions that hold for these rows only, and says below what they are;
    /// `None` if the source has no such codes.
    fn own_sessions(&self, field: usize, rows: Range<usize>, into: &mut Vec<u32>) -> Option<usize>;

    /// Appends the codes of the sessions of one user's rows.
    fn append_sessions(
        &self,
        field: usize,
        rows: Range<usize>,
        sessions: &mut Sessions,
        into: &mut Vec<u32>,
    );

    /// Where the rows at hand are.
    fn place(&self) -> Place;
}

/// A user of a source.
#[derive(Clone)]
pub(super) struct SourceUser {
    pub(super) hash: u64,
    pub(super) rows: UserRows,
    /// Whether the user may have more rows, which come first when there are others at hand.
    pub(super) goes_on: bool,
}

/// Users of a source that were passed over: their rows, and the user after them.
pub(super) struct Passed {
    pub(super) rows: UserRows,
    pub(super) next: Option<SourceUser>,
}

/// A source and its next user, if it has users at hand.
pub(super) struct Head {
    pub(super) source: Box<dyn UserSource>,
    pub(super) user: Option<SourceUser>,
}

/// The rows of a user that are in range.
#[derive(Clone)]
pub(super) struct UserRows {
    pub(super) rows: Range<usize>,
    /// If the walk wants hours, where the source has them.
    pub(super) hours: Range<usize>,
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
            None => {
                let first = |shard: u32| (u64::from(shard) << 32).div_ceil(u64::from(shards));
                let last = ((first(shard + 1) - 1) << 32) | u64::from(u32::MAX);
                (first(shard) << 32, last)
            }
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
        let first = start.map_or(0, |start| times.partition_point(|time| *time < start.0));
        let last = end.map_or(times.len(), |end| times.partition_point(|time| *time < end.0));
        first..last.max(first)
    }
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
