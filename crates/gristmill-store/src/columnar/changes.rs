//! When users were changed last, by ranges of their hashes.

use super::run::{hashes_of, shard_of};

/// How many ranges are told apart. Each commit copies a number for each.
const RANGES: u32 = 1 << 12;

/// The numbers of the newest commits of users, counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    commits: u64,
    /// The newest commit of each range of hashes; 0 where there is none.
    newest: Vec<u64>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { commits: 0, newest: vec![0; RANGES as usize] }
    }
}

impl Changes {
    /// The same and one more commit, with events of users of these hashes.
    pub(super) fn with_commit(&self, hashes: impl Iterator<Item = u64>) -> Self {
        let mut next = self.clone();
        next.commits += 1;
        for hash in hashes {
            next.newest[shard_of(hash, RANGES) as usize] = next.commits;
        }
        next
    }

    /// The newest commit of users whose hashes are in a piece of so many, or in a range that reaches
    /// into it.
    pub(super) fn newest_of(&self, piece: u32, pieces: u32) -> u64 {
        let (first, last) = hashes_of(piece, pieces);
        let ranges = shard_of(first, RANGES) as usize..=shard_of(last, RANGES) as usize;
        self.newest[ranges].iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_commit_is_the_newest_of_the_pieces_of_its_users(
            commits in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..4), 0..20),
            pieces in 1..3_000_u32,
        ) {
            let mut changes = Changes::default();
            let mut newest = vec![0; pieces as usize];
            for (number, hashes) in (1..).zip(&commits) {
                changes = changes.with_commit(hashes.iter().copied());
                for hash in hashes {
                    newest[shard_of(*hash, pieces) as usize] = number;
                }
            }
            for (piece, newest) in (0..).zip(newest) {
                prop_assert!(changes.newest_of(piece, pieces) >= newest);
            }
            let changed = (0..256).filter(|piece| changes.newest_of(*piece, 256) > 0);
            prop_assert!(changed.count() <= commits.iter().flatten().count());
        }
    }
}
