//! Digests: what questions of one shape read of a shard's large parts, again and again.
//!
//! A question is mostly asked again, with other buckets, another range, other values to compare with:
//! a dashboard does little else. Each time the users of several parts are merged, and rows are walked
//! through that are alike in all that the question looks at. A digest is what comes out of that: users
//! whole, rows that are alike as one with their number, rows that nobody wants left out. It is made when
//! a question of its shape comes for the second time, holds no answers, and gives way like a column. It
//! is kept in a file too, for the time after a restart.

mod block;
mod bytes;
mod draft;
mod events;
mod kinds;
mod make;
mod narrow;
mod shape;
mod shelf;
mod store;
mod users;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use block::Block;

pub(super) use events::DigestEvents;
pub(super) use make::{digest_events, digest_users};
pub(super) use shape::{Covers, Shape, Walked};
pub(super) use store::{DigestKey, Digests};
pub(super) use users::{DigestCursor, DigestUsers};

use crate::Dictionary;

/// The merged rows of some parts.
#[derive(Debug, Default)]
pub(super) struct Digest {
    blocks: Vec<Block>,
    /// One for each field; codes of sessions have no texts.
    dictionaries: Vec<Dictionary>,
    /// The columns of sessions of a user.
    session_columns: Vec<usize>,
}

impl Digest {
    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// The first block that has a user of such a hash or of a higher one.
    fn first_block(&self, hash: u64) -> usize {
        self.blocks.partition_point(|block| block.hashes.last().is_some_and(|last| *last < hash))
    }

    /// A block, if there is one that begins with such a hash or with a lower one.
    fn block_up_to(&self, block: usize, hash: u64) -> Option<&Block> {
        let block = self.blocks.get(block)?;
        block.hashes.first().is_none_or(|first| *first <= hash).then_some(block)
    }

    /// How many rows the blocks have that have users of these hashes, the lowest and the highest.
    pub(super) fn rows_between(&self, (first, last): (u64, u64)) -> usize {
        let from_first = self.first_block(first)..self.blocks.len();
        from_first.map_while(|block| self.block_up_to(block, last)).map(|block| block.rows).sum()
    }

    /// The memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::memory).sum();
        blocks + self.dictionaries.iter().map(Dictionary::memory).sum::<usize>()
    }
}

/// A digest, or that it would hold nearly as much as the columns do.
pub(super) type FoundDigest = Option<Arc<Digest>>;

fn join(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}
