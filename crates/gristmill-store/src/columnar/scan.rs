//! Walks through the users of a shard, merging runs and parts by user as it goes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Field, Positions, ProjectId, Timestamp};

use super::cache::ColumnCache;
use super::part_users::PartUsers;
use super::run::{shard_of, user_hash};
use super::source::{Gathered, RunUsers, UserSource, Walk};
use super::view::View;
use super::work::WorkDone;
use crate::{Dictionary, Scan, Snapshot, StoreError, UserCursor, UserRun, Work};

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
        Self { view, cache, work, walks_per_shard: walks as u32, shards }
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
        let stored_in = shard / self.walks_per_shard;
        let walk = Arc::new(Walk::of(scan, shard, self.shards()));
        let mut users = MergedUsers::new(Arc::clone(&self.cache), scan);
        for part in self.view.parts.iter().filter(|part| part.record.shard == stored_in) {
            let (first, last) =
                (Timestamp(part.record.first_time), Timestamp(part.record.last_time));
            if scan.range.overlaps(first, last) {
                self.work.add_part();
                let (cache, work) = (Arc::clone(&self.cache), Arc::clone(&self.work));
                let (part, walk) = (part.open()?, Arc::clone(&walk));
                let source = PartUsers::open(part, cache, work, walk, &mut users.dictionaries)?;
                users.add(source);
            }
        }
        for run in self.view.runs(stored_in as usize) {
            users.add(RunUsers::of(Arc::clone(run), Arc::clone(&walk)));
        }
        Ok(Box::new(users))
    }

    fn shard_of(&self, _project: &ProjectId<'_>, user: &str) -> u32 {
        shard_of(user_hash(user), self.shards())
    }

    fn work(&self) -> Work {
        self.work.so_far()
    }
}

struct MergedUsers {
    cache: Arc<ColumnCache>,
    sources: Vec<Box<dyn UserSource>>,
    /// The sources that have a user left, by the hash of their next user; not those that hold the
    /// user at hand.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    dictionaries: Vec<Dictionary>,
    /// The columns of codes that tell one user's sessions apart.
    of_sessions: Vec<usize>,
    gathered: Gathered,
    user: String,
    /// The source whose rows were given out where they are, and which has yet to skip them.
    lending: Option<usize>,
    /// The sources whose next user has the hash at hand.
    ties: Vec<usize>,
}

/// Where the rows of the user at hand are.
enum Rows {
    /// In a source, which ones.
    Lent(usize, Range<usize>),
    Gathered,
}

impl MergedUsers {
    fn new(cache: Arc<ColumnCache>, scan: &Scan) -> Self {
        let columns = vec![Vec::new(); scan.fields.len()];
        Self {
            cache,
            heap: BinaryHeap::new(),
            sources: Vec::new(),
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            of_sessions: (0..scan.fields.len())
                .filter(|&index| scan.fields[index] == Field::SessionWithinUser)
                .collect(),
            gathered: Gathered { columns, ..Gathered::default() },
            user: String::new(),
            lending: None,
            ties: Vec::new(),
        }
    }

    fn add(&mut self, source: impl UserSource + 'static) {
        if let Some((hash, _)) = source.head() {
            self.heap.push(Reverse((hash, self.sources.len())));
            self.sources.push(Box::new(source));
        }
    }

    /// Puts a source back among those that have a user left.
    fn requeue(&mut self, index: usize) {
        if let Some((hash, _)) = self.sources[index].head() {
            self.heap.push(Reverse((hash, index)));
        }
    }

    /// Finds the rows of the next user that has any; `None` at the end.
    fn next_rows(&mut self) -> Result<Option<Rows>, StoreError> {
        loop {
            if let Some(index) = self.lending.take() {
                self.sources[index].skip(&mut self.dictionaries)?;
                self.requeue(index);
            }
            let Some(Reverse((hash, index))) = self.heap.pop() else {
                return Ok(None);
            };
            let is_alone = self.heap.peek().is_none_or(|Reverse((next, _))| *next != hash);
            if is_alone && let Some(rows) = self.sources[index].lendable() {
                self.lending = Some(index);
                if rows.is_empty() {
                    continue;
                }
                return Ok(Some(Rows::Lent(index, rows)));
            }
            self.gather(hash, index)?;
            if !self.gathered.times.is_empty() {
                return Ok(Some(Rows::Gathered));
            }
        }
    }

    /// Gathers the rows of the first user with this hash; `index` is one of the sources that have
    /// such a user.
    fn gather(&mut self, hash: u64, index: usize) -> Result<(), StoreError> {
        self.ties.clear();
        self.ties.push(index);
        while let Some(&Reverse((next, index))) = self.heap.peek()
            && next == hash
        {
            self.ties.push(index);
            self.heap.pop();
        }
        // Different users may share a hash; their order is that of their names.
        let names = self.ties.iter().filter_map(|&index| self.sources[index].head());
        let least = names.map(|(_, user)| user).min().unwrap_or_default();
        self.user.clear();
        self.user.push_str(least);
        self.gathered.clear();
        // In this order pieces that do not overlap need no sorting.
        self.ties.sort_by_key(|&index| self.sources[index].first_time());
        for place in 0..self.ties.len() {
            let index = self.ties[place];
            let source = &mut self.sources[index];
            if source.head().is_some_and(|(_, user)| user == self.user) {
                source.take(&mut self.gathered, &mut self.dictionaries)?;
            }
            self.requeue(index);
        }
        let sessions = self.gathered.sessions.len();
        self.of_sessions.iter().for_each(|&index| self.dictionaries[index].number(sessions));
        self.gathered.sort(&self.cache)
    }
}

impl UserCursor for MergedUsers {
    fn next_user(&mut self) -> Result<Option<UserRun<'_>>, StoreError> {
        let Some(rows) = self.next_rows()? else {
            return Ok(None);
        };
        let lent = match rows {
            Rows::Lent(index, rows) => {
                let source = &self.sources[index];
                source.lend(rows, &mut self.dictionaries).zip(source.head())
            }
            Rows::Gathered => None,
        };
        let Some((rows, (_, user))) = lent else {
            return Ok(Some(UserRun {
                user: &self.user,
                times: &self.gathered.times,
                columns: self.gathered.columns.iter().map(Vec::as_slice).collect(),
                dictionaries: &self.dictionaries,
            }));
        };
        Ok(Some(UserRun {
            user,
            times: rows.times,
            columns: rows.columns,
            dictionaries: &self.dictionaries,
        }))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
