//! The hot tail: what is committed and not yet sealed, as small sorted runs per shard.

use std::sync::Arc;

use gristmill_model::{Positions, Timestamp};

use super::identity::Identity;
use super::manifest::{Totals, WindowRecord};
use super::merge_rows::{merge, single};
use super::run::{Run, RunBuilder, TextBytes, shard_of, user_hash};
use crate::{Quarantined, Row, StoreError};

/// Runs are merged with their neighbours until they reach this size. Larger ones stay: a scan
/// merges a few of them as it goes, which is cheaper than to copy them again and again.
const RUN_ROWS: usize = 2 * 1024;

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
    /// The runs that left the window when the tail was frozen; their files go with its seal.
    pub(super) expired: Vec<WindowRecord>,
    /// When the window began then.
    pub(super) window_start: Timestamp,
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
    let mut builder = RunBuilder::new();
    merge(vec![single(Arc::clone(older)), single(Arc::clone(newer))], |chunk| {
        builder.extend(chunk);
        Ok(())
    })?;
    Ok(builder.finish())
}

/// Sorts rows into one run per shard. `rows` are pairs of a row and its identity.
pub(super) fn runs_of(rows: &[(&Row<'_>, Identity)], shards: u32) -> Vec<Option<Run>> {
    let mut by_shard: Vec<Vec<SortKey>> = vec![Vec::new(); shards as usize];
    for (index, (row, _)) in rows.iter().enumerate() {
        let hash = user_hash(row.event.user.as_str());
        let key = SortKey { hash, time: row.event.time.0, index: index as u32 };
        by_shard[shard_of(hash, shards) as usize].push(key);
    }
    by_shard.into_iter().map(|shard| (!shard.is_empty()).then(|| run_of(rows, shard))).collect()
}

/// What nearly always decides the order of two rows, without looking at the rows.
#[derive(Clone, Copy, Debug)]
struct SortKey {
    hash: u64,
    time: i64,
    index: u32,
}

fn run_of(rows: &[(&Row<'_>, Identity)], mut order: Vec<SortKey>) -> Run {
    let of = |key: &SortKey| rows[key.index as usize].0;
    let project = |key: &SortKey| of(key).event.project.as_str();
    let first = project(&order[0]);
    let is_one_project = order.iter().all(|key| project(key) == first);
    let within_hash = |a: &SortKey, b: &SortKey| {
        let (first, second) = (of(a), of(b));
        (first.event.user.as_str().cmp(second.event.user.as_str()))
            .then(a.time.cmp(&b.time))
            .then_with(|| first.position.cmp(&second.position))
    };
    if is_one_project {
        order.sort_unstable_by(|a, b| a.hash.cmp(&b.hash).then_with(|| within_hash(a, b)));
    } else {
        order.sort_unstable_by(|a, b| {
            let projects = project(a).cmp(project(b));
            projects.then(a.hash.cmp(&b.hash)).then_with(|| within_hash(a, b))
        });
    }
    let mut bytes = TextBytes::default();
    order.iter().for_each(|key| bytes.add(&of(key).event));
    let mut builder = RunBuilder::with_capacity(order.len(), bytes);
    for key in order {
        let (row, identity) = &rows[key.index as usize];
        builder.push_event(key.hash, row.position, *identity, &row.event);
    }
    builder.finish()
}
