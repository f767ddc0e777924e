//! What a snapshot shows, shard by shard.

use std::sync::{Arc, Once};

use gristmill_model::{Field, Positions, ProjectId, Timestamp};

use super::cache::ColumnCache;
use super::events::{ShardEvents, Share};
use super::merged_users::MergedUsers;
use super::part::Part;
use super::part_users::PartUsers;
use super::row_group::GroupReader;
use super::run::{Run, shard_of, user_hash};
use super::run_users::RunUsers;
use super::source::Walk;
use super::view::View;
use super::work::WorkDone;
use crate::walk::UserByUser;
use crate::{EventCursor, Scan, Snapshot, StoreError, UserCursor, Work};

/// About how many rows of one shard are walked at a time: enough to be worth a walk, and few
/// enough to keep all cores busy to the end.
const ROWS_PER_WALK: u64 = if cfg!(test) { 1 << 12 } else { 1 << 20 };
/// The most walks that a shard is cut into.
const WALKS_PER_SHARD: u64 = 16;

/// A view that somebody reads.
///
/// Large shards are cut into several by ranges of the users' hashes, so that there are more of
/// them than the store was created with.
pub(super) struct ColumnarSnapshot {
    view: Arc<View>,
    cache: Arc<ColumnCache>,
    /// Done when a walk has begun that reads whole columns.
    question: Once,
    work: Arc<WorkDone>,
    walks_per_shard: u32,
    shards: u32,
}

impl ColumnarSnapshot {
    pub(super) fn new(view: Arc<View>, cache: Arc<ColumnCache>, shards: u32) -> Self {
        let mut rows = vec![0; shards as usize];
        for part in view.parts.iter() {
            rows[part.record.shard as usize] += part.record.rows;
        }
        let most_rows = rows.into_iter().max().unwrap_or(0);
        let walks = (most_rows / ROWS_PER_WALK).clamp(1, WALKS_PER_SHARD);
        let work = Arc::default();
        let (question, walks_per_shard) = (Once::new(), walks as u32);
        Self { view, cache, question, work, walks_per_shard, shards }
    }
}

impl Snapshot for ColumnarSnapshot {
    fn committed(&self) -> &Positions {
        &self.view.committed
    }

    fn shards(&self) -> u32 {
        self.shards * self.walks_per_shard
    }

    fn scan(&self, shard: u32, scan: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError> {
        let walk = Arc::new(Walk::of(scan, shard, self.shards()));
        let mut users = MergedUsers::new(Arc::clone(&self.cache), scan);
        for part in self.parts(shard, &walk)? {
            users.add(PartUsers::of(part));
        }
        for run in self.runs(shard, scan) {
            users.add(RunUsers::of(run, Arc::clone(&walk)));
        }
        Ok(Box::new(users))
    }

    fn scan_events(
        &self,
        shard: u32,
        scan: &Scan,
    ) -> Result<Box<dyn EventCursor + '_>, StoreError> {
        let asks_users = |field: &Field| matches!(field, Field::UserId | Field::SessionWithinUser);
        let mut fields = scan.fields.iter().chain(&scan.numbers);
        if scan.user.is_some() || fields.any(asks_users) {
            return Ok(Box::new(UserByUser::of(self.scan(shard, scan)?)));
        }
        let walk = Arc::new(Walk::of(scan, shard, self.shards()));
        let share = Share {
            number: (shard % self.walks_per_shard) as usize,
            walks: self.walks_per_shard as usize,
        };
        let parts = self.parts(shard, &walk)?;
        Ok(Box::new(ShardEvents::new(walk, share, &parts, self.runs(shard, scan).collect())))
    }

    fn shard_of(&self, _project: &ProjectId<'_>, user: &str) -> u32 {
        shard_of(user_hash(user), self.shards())
    }

    fn work(&self) -> Work {
        self.work.so_far()
    }
}

impl ColumnarSnapshot {
    /// The parts that a walk reads.
    fn parts(&self, shard: u32, walk: &Arc<Walk>) -> Result<Vec<GroupReader>, StoreError> {
        if walk.scan.user.is_none() {
            self.question.call_once(|| self.cache.begin_question());
        }
        let stored_in = shard / self.walks_per_shard;
        let is_wanted = |part: &&Arc<Part>| {
            let record = &part.record;
            let (first, last) = (Timestamp(record.first_time), Timestamp(record.last_time));
            record.shard == stored_in && walk.scan.range.overlaps(first, last)
        };
        let read = |part: &Arc<Part>| {
            self.work.add_part();
            Ok(GroupReader {
                part: part.open()?,
                cache: Arc::clone(&self.cache),
                work: Arc::clone(&self.work),
                walk: Arc::clone(walk),
            })
        };
        let mut parts: Vec<_> = self.view.parts.iter().filter(is_wanted).collect();
        // Most users then have their events in order, part by part.
        parts.sort_by_key(|part| part.record.first_time);
        parts.into_iter().map(read).collect()
    }

    /// The runs that a walk reads.
    fn runs<'a>(&'a self, shard: u32, scan: &'a Scan) -> impl Iterator<Item = Arc<Run>> + 'a {
        let runs = self.view.runs((shard / self.walks_per_shard) as usize);
        runs.filter(|run| run.may_be_in(&scan.range)).cloned()
    }
}
