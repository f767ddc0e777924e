//! Walks through some pieces of the users, and which pieces have changed.

use std::ops::Range;
use std::sync::Arc;

use super::digest::Walked;
use super::merged_users::MergedUsers;
use super::run::{hashes_of, shard_of};
use super::scan::{ColumnarSnapshot, DigestUse};
use super::source::Walk;
use crate::{
    Dictionary, PieceCursor, Pieces, Scan, Snapshot as _, StoreError, UserBatch, UserCursor as _,
};

/// About how many pieces there are at least and at most: enough that some hundred active users leave
/// most of them alone, and few enough to join what was found in each.
const PIECES: (u64, u64) = (1 << 8, 1 << 12);
/// About how many rows a piece of a large store has at least.
const PIECE_ROWS: u64 = 1 << 9;

impl Pieces for ColumnarSnapshot {
    fn piece_count(&self) -> u32 {
        self.shards() * self.pieces_per_shard()
    }

    fn last_change(&self, piece: u32) -> u64 {
        self.changes().newest_of(piece, self.piece_count())
    }

    fn scan_pieces(
        &self,
        pieces: Range<u32>,
        scan: &Scan,
    ) -> Result<Box<dyn PieceCursor + '_>, StoreError> {
        let count = self.piece_count();
        let shard = pieces.start / self.pieces_per_shard();
        let hashes = (hashes_of(pieces.start, count).0, hashes_of(pieces.end - 1, count).1);
        let walk = Arc::new(Walk { scan: scan.clone(), hashes });
        let digest_use = if pieces.len() as u32 == self.pieces_per_shard() {
            DigestUse::MadeIfAskedAgain
        } else {
            DigestUse::IfAtHand
        };
        let wanted = (Walked::Users, digest_use);
        let (digest, parts) = self.digested(wanted, (shard, scan), self.parts(shard, scan))?;
        let runs = self.runs(shard, scan).collect();
        let users = self.merged(&walk, digest, &parts, runs)?;
        Ok(Box::new(UsersOfPieces { users, count }))
    }
}

impl ColumnarSnapshot {
    fn pieces_per_shard(&self) -> u32 {
        // A power of two stays the same until there are twice as many rows.
        let pieces = (self.rows() / PIECE_ROWS).next_power_of_two().clamp(PIECES.0, PIECES.1);
        (pieces as u32 / self.shards()).max(1)
    }
}

/// Users in order, never those of two pieces at a time.
struct UsersOfPieces {
    users: MergedUsers,
    count: u32,
}

impl PieceCursor for UsersOfPieces {
    fn next_users(&mut self) -> Result<Option<(u32, UserBatch<'_>)>, StoreError> {
        let Some(next) = self.users.next_hash()? else { return Ok(None) };
        let piece = shard_of(next, self.count);
        let batch = self.users.next_up_to(hashes_of(piece, self.count).1)?;
        Ok(batch.map(|batch| (piece, batch)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        self.users.dictionaries()
    }
}
