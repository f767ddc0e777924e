//! Views piece by piece, of stores that have them.

use std::collections::BTreeMap;
use std::ops::Range;

use gristmill_model::ProjectId;

use super::view::{Seen, seen};
use super::{Subject, batch, event};
use crate::{Pieces, Scan, Snapshot};

/// Walks through shards and through single pieces give each user once, in the same piece.
pub(super) fn check_pieces(
    snapshot: &dyn Snapshot,
    scan: &Scan,
    users: &BTreeMap<String, Vec<Seen>>,
) {
    let Some(pieces) = snapshot.pieces() else { return };
    let of_shard = pieces.piece_count() / snapshot.shards();
    assert_eq!(pieces.piece_count() % snapshot.shards(), 0);
    let mut found = BTreeMap::new();
    for shard in 0..snapshot.shards() {
        found.extend(walk(pieces, shard * of_shard..(shard + 1) * of_shard, scan));
    }
    let all: BTreeMap<_, _> = found.values().flat_map(BTreeMap::clone).collect();
    assert_eq!(all, *users);
    for (piece, users) in found {
        assert_eq!(walk(pieces, piece..piece + 1, scan), BTreeMap::from([(piece, users)]));
    }
}

/// A piece has the number of the newest commit of its users, whatever the store does meanwhile.
pub(super) async fn pieces_change_with_commits(mut subject: impl Subject) {
    let scan = Scan::of(ProjectId::new("default"));
    let snapshot = subject.store().snapshot().await.unwrap();
    let mut known = vec![0; snapshot.pieces().map_or(0, Pieces::piece_count) as usize];
    for (offset, user) in (0..).zip(["a", "b", "a", "c"]) {
        let id = ["1", "2", "3", "4"][offset as usize];
        subject.store().commit(batch(offset, vec![event(user, id, 5)])).await.unwrap();
        let snapshot = subject.store().snapshot().await.unwrap();
        let Some(pieces) = snapshot.pieces() else { return };
        let now = newest(pieces);
        let has_changed = |piece: &u32| known.get(*piece as usize) != now.get(*piece as usize);
        let changed: Vec<u32> = (0..pieces.piece_count()).filter(has_changed).collect();
        let has_user = |piece: &u32| {
            let found = walk(pieces, *piece..*piece + 1, &scan);
            found.values().any(|users| users.contains_key(user))
        };
        assert!(changed.iter().any(has_user), "the piece of {user} has changed");
        assert!(changed.len() <= 2, "and a neighbour at most");
        subject.settle().await;
        let snapshot = subject.store().snapshot().await.unwrap();
        let pieces = snapshot.pieces().unwrap();
        // The subject may have opened the store again, which counts anew.
        known = newest(pieces);
        assert!(known.iter().zip(&now).all(|(after, before)| after <= before));
    }
}

fn newest(pieces: &dyn Pieces) -> Vec<u64> {
    (0..pieces.piece_count()).map(|piece| pieces.last_change(piece)).collect()
}

/// The users of each piece that has any.
fn walk(
    pieces: &dyn Pieces,
    range: Range<u32>,
    scan: &Scan,
) -> BTreeMap<u32, BTreeMap<String, Vec<Seen>>> {
    let mut found: BTreeMap<u32, BTreeMap<String, Vec<Seen>>> = BTreeMap::new();
    let mut cursor = pieces.scan_pieces(range.clone(), scan).unwrap();
    while let Some((piece, batch)) = cursor.next_users().unwrap() {
        assert!(range.contains(&piece));
        for run in batch.runs() {
            let known = found.entry(piece).or_default();
            assert!(known.insert(run.user.to_owned(), seen(&run.events, scan)).is_none());
        }
    }
    found
}
