//! The hot tail: what is committed and not yet sealed, as small sorted runs per shard.

use std::sync::Arc;

use gristmill_model::Positions;

use super::identity::Identity;
use super::manifest::Totals;
use super::merge_rows::{merge, single};
use super::run::{Run, RunBuilder, shard_of, user_hash};
use crate::{Quarantined, Row, StoreError};

/// Runs are merged with their neighbours until they reach this size. Larger ones stay: a scan
/// merges a few of them as it goes, which is cheaper than to copy them again and again.
const RUN_ROWS: usize = 16 * 1024;

/// The hot tail at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Hot {
    /// The runs of each shard, oldest first.
    pub(super) shards: Vec<Vec<Arc<Run>>>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Quarantined records, oldest first.
    pub(super) quarantine: Vec<Arc<Quarantined>>,
    pub(super) last_received: i64,
}

/// A hot tail that takes no more rows and waits to be sealed.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) hot: Hot,
    /// Everything below is in this tail or sealed before it.
    pub(super) positions: Positions,
    /// The totals up to there.
    pub(super) totals: Totals,
}

impl Hot {
    pub(super) fn empty(shards: u32) -> Self {
        Self {
            shards: vec![Vec::new(); shards as usize],
            last_received: i64::MIN,
            ..Self::default()
        }
    }

    /// Adds a shard's run and merges small neighbours.
    pub(super) fn add(&mut self, shard: usize, run: Run) -> Result<(), StoreError> {
        self.rows += run.row_count();
        self.bytes += run.memory();
        self.last_received = run.rows.received.iter().copied().fold(self.last_received, i64::max);
        let runs = &mut self.shards[shard];
        runs.push(Arc::new(run));
        while let [.., older, newer] = runs.as_slice() {
            let rows = older.row_count() + newer.row_count();
            if older.row_count() > 2 * newer.row_count() || rows > RUN_ROWS {
                break;
            }
            let merged = merged(older, newer)?;
            self.bytes += merged.memory();
            self.bytes -= older.memory() + newer.memory();
            runs.truncate(runs.len() - 2);
            runs.push(Arc::new(merged));
        }
        Ok(())
    }

    /// All identities, in no order.
    pub(super) fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        self.shards.iter().flatten().flat_map(|run| run.rows.identities.iter().copied())
    }
}

fn merged(older: &Arc<Run>, newer: &Arc<Run>) -> Result<Run, StoreError> {
    let mut builder = RunBuilder::with_capacity(0);
    merge(vec![single(Arc::clone(older)), single(Arc::clone(newer))], |user, rows, row| {
        builder.push_row(user, rows, row);
        Ok(())
    })?;
    Ok(builder.finish())
}

/// Sorts rows into one run per shard. `rows` are pairs of a row and its identity.
pub(super) fn runs_of(rows: &[(&Row<'_>, Identity)], shards: u32) -> Vec<Option<Run>> {
    let mut by_shard: Vec<Vec<(u64, i64, usize)>> = vec![Vec::new(); shards as usize];
    for (index, (row, _)) in rows.iter().enumerate() {
        let hash = user_hash(row.event.user.as_str());
        by_shard[shard_of(hash, shards) as usize].push((hash, row.event.time.0, index));
    }
    by_shard.into_iter().map(|shard| (!shard.is_empty()).then(|| run_of(rows, shard))).collect()
}

fn run_of(rows: &[(&Row<'_>, Identity)], mut order: Vec<(u64, i64, usize)>) -> Run {
    let of = |index: usize| rows[index].0;
    order.sort_unstable_by(|a, b| {
        let (first, second) = (of(a.2), of(b.2));
        let projects = first.event.project.as_str().cmp(second.event.project.as_str());
        projects
            .then(a.0.cmp(&b.0))
            .then_with(|| first.event.user.as_str().cmp(second.event.user.as_str()))
            .then(a.1.cmp(&b.1))
            .then_with(|| first.position.cmp(&second.position))
    });
    let mut builder = RunBuilder::with_capacity(order.len());
    for (hash, _, index) in order {
        let (row, identity) = &rows[index];
        builder.push_event(hash, row.position, *identity, &row.event);
    }
    builder.finish()
}
