//! What is visible, and what the store's loops wait for.

use std::collections::BTreeSet;
use std::sync::Arc;

use gristmill_model::{Positions, Timestamp};

use super::changes::Changes;
use super::hot::{Frozen, Hot};
use super::manifest::Totals;
use super::part::Part;
use super::run::Run;
use super::rush::Rush;
use crate::{Quarantined, StoreStats};

/// Everything that is visible at one moment. Each event is in exactly one of its places.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) committed: Positions,
    pub(super) durable: Positions,
    pub(super) parts: Arc<Vec<Arc<Part>>>,
    /// Tails that wait to be sealed, oldest first.
    pub(super) frozen: Vec<Arc<Frozen>>,
    pub(super) hot: Hot,
    /// Files of quarantined records, oldest first.
    pub(super) quarantines: Arc<Vec<u64>>,
    pub(super) totals: Totals,
    /// When users were changed last.
    pub(super) changes: Arc<Changes>,
}

impl View {
    /// The runs in memory of one shard.
    pub(super) fn runs(&self, shard: usize) -> impl Iterator<Item = &Arc<Run>> {
        let frozen = self.frozen.iter().flat_map(move |frozen| &frozen.hot.shards[shard]);
        frozen.chain(&self.hot.shards[shard])
    }

    /// How many records were committed since the newest freeze.
    pub(super) fn unfrozen_records(&self) -> u64 {
        let frozen = self.frozen.last().map_or(&self.durable, |frozen| &frozen.positions);
        self.committed.records_since(frozen)
    }

    /// Quarantined records that are not sealed, newest first.
    pub(super) fn unsealed_quarantine(&self) -> impl Iterator<Item = &Arc<Quarantined>> {
        let frozen = self.frozen.iter().rev().flat_map(|frozen| frozen.hot.quarantine.iter().rev());
        self.hot.quarantine.iter().rev().chain(frozen)
    }

    /// The totals and sizes that the view knows.
    pub(super) fn stats(&self) -> StoreStats {
        let tails = || self.frozen.iter().map(|frozen| &frozen.hot).chain([&self.hot]);
        StoreStats {
            stored: self.totals.stored,
            duplicate: self.totals.duplicate,
            quarantined: self.totals.quarantined,
            expired: self.totals.expired,
            hot_rows: tails().map(|tail| tail.rows as u64).sum(),
            hot_bytes: tails().map(|tail| tail.bytes as u64).sum(),
            parts: self.parts.len() as u64,
            part_bytes: self.parts.iter().map(|part| part.record.bytes).sum(),
            ..StoreStats::default()
        }
    }
}

/// The view, and what the sealer and the merger are asked to do.
#[derive(Debug)]
pub(super) struct State {
    pub(super) view: Arc<View>,
    /// When the oldest commit of the hot tail came.
    pub(super) hot_since: Option<Timestamp>,
    /// Whether tails fill up fast.
    pub(super) rush: Rush,
    pub(super) compactions_wanted: u64,
    pub(super) compactions_done: u64,
    /// What must be durable before the newest compaction can be done.
    pub(super) compaction_target: Positions,
    /// The parts that the newest compaction is about: those that there were when its target had
    /// become durable, and what they were merged into. Later parts are not its business, so it
    /// comes to an end while more is sealed.
    pub(super) compacting: Option<BTreeSet<u64>>,
    /// Whether the sealer waits for room on the disk.
    pub(super) is_disk_full: bool,
}

impl State {
    /// Whether ingestion needs the processors more than merges do. Somebody who waits for compaction needs
    /// them, though, and on a full disk they may make room.
    pub(super) fn ingestion_comes_first(&self, now: Timestamp) -> bool {
        let is_compacting = self.compactions_wanted > self.compactions_done;
        let is_pressed = !self.view.frozen.is_empty() || self.rush.is_on(now);
        is_pressed && !self.is_disk_full && !is_compacting
    }

    /// Whether compaction waits for commits to be sealed.
    pub(super) fn compaction_needs_seal(&self) -> bool {
        self.compactions_wanted > self.compactions_done
            && !self.view.durable.covers(&self.compaction_target)
    }
}
