//! Walks through the users of a shard, merging runs and parts by user as it goes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use gristmill_model::{Field, Position, Positions, ProjectId};

use super::run::{shard_of, user_hash};
use super::source::{PartUsers, RunUsers, UserSource};
use super::view::View;
use crate::{Dictionary, Scan, Snapshot, StoreError, UserCursor, UserRun};

/// A view that somebody reads.
pub(super) struct ColumnarSnapshot {
    view: Arc<View>,
    shards: u32,
}

impl ColumnarSnapshot {
    pub(super) fn new(view: Arc<View>, shards: u32) -> Self {
        Self { view, shards }
    }
}

impl Snapshot for ColumnarSnapshot {
    fn committed(&self) -> &Positions {
        &self.view.committed
    }

    fn shards(&self) -> u32 {
        self.shards
    }

    fn scan(&self, shard: u32, scan: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError> {
        let mut sources: Vec<Box<dyn UserSource>> = Vec::new();
        for part in self.view.parts.iter().filter(|part| part.record.shard == shard) {
            let (first, last) = (part.record.first_time, part.record.last_time);
            if scan
                .range
                .overlaps(gristmill_model::Timestamp(first), gristmill_model::Timestamp(last))
            {
                sources.push(Box::new(PartUsers::open(&*part.open()?, scan)?));
            }
        }
        for run in self.view.runs(shard as usize) {
            sources.push(Box::new(RunUsers::of(Arc::clone(run), scan)));
        }
        Ok(Box::new(MergedUsers::over(sources, scan)))
    }

    fn shard_of(&self, _project: &ProjectId<'_>, user: &str) -> u32 {
        shard_of(user_hash(user), self.shards)
    }
}

/// The rows of one user, gathered from the sources.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) times: Vec<i64>,
    pub(super) positions: Vec<Position>,
    /// One column of codes per wanted field.
    pub(super) columns: Vec<Vec<u32>>,
}

impl Gathered {
    fn clear(&mut self) {
        self.times.clear();
        self.positions.clear();
        self.columns.iter_mut().for_each(Vec::clear);
    }

    /// Each source gives its rows in order; several sources together do not.
    fn sort(&mut self) {
        let key = |row: usize| (self.times[row], self.positions[row]);
        if (1..self.times.len()).all(|row| key(row - 1) <= key(row)) {
            return;
        }
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|&row| key(row));
        self.times = order.iter().map(|&row| self.times[row]).collect();
        self.positions = order.iter().map(|&row| self.positions[row]).collect();
        for column in &mut self.columns {
            *column = order.iter().map(|&row| column[row]).collect();
        }
    }
}

struct MergedUsers {
    sources: Vec<Box<dyn UserSource>>,
    /// The sources that have a user left, by the hash of their next user.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    dictionaries: Vec<Dictionary>,
    /// The columns whose codes hold within one user only.
    of_one_user: Vec<usize>,
    gathered: Gathered,
    user: String,
    /// The sources whose next user has the hash at hand.
    ties: Vec<usize>,
}

impl MergedUsers {
    fn over(sources: Vec<Box<dyn UserSource>>, scan: &Scan) -> Self {
        let heads = sources.iter().enumerate();
        let heap = heads.filter_map(|(index, source)| Some(Reverse((source.head()?.0, index))));
        let heap = heap.collect();
        let columns = vec![Vec::new(); scan.fields.len()];
        Self {
            heap,
            sources,
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            of_one_user: (0..scan.fields.len())
                .filter(|&index| scan.fields[index] == Field::SessionWithinUser)
                .collect(),
            gathered: Gathered { columns, ..Gathered::default() },
            user: String::new(),
            ties: Vec::new(),
        }
    }

    /// Gathers the rows of the next user; `false` at the end.
    fn gather(&mut self) -> Result<bool, StoreError> {
        let Some(&Reverse((hash, _))) = self.heap.peek() else {
            return Ok(false);
        };
        self.ties.clear();
        while let Some(&Reverse((next, index))) = self.heap.peek()
            && next == hash
        {
            self.ties.push(index);
            self.heap.pop();
        }
        // Different users may share a hash; their order is that of their names.
        let names = self.ties.iter().filter_map(|&index| self.sources[index].head());
        let Some((_, least)) = names.min_by_key(|(_, user)| *user) else {
            return Ok(false);
        };
        self.user.clear();
        self.user.push_str(least);
        self.gathered.clear();
        self.of_one_user.iter().for_each(|&index| self.dictionaries[index].clear());
        for &index in &self.ties {
            let source = &mut self.sources[index];
            if source.head().is_some_and(|(_, user)| user == self.user) {
                source.take_user(&mut self.gathered, &mut self.dictionaries)?;
            }
            if let Some((hash, _)) = source.head() {
                self.heap.push(Reverse((hash, index)));
            }
        }
        self.gathered.sort();
        Ok(true)
    }
}

impl UserCursor for MergedUsers {
    fn next_user(&mut self) -> Result<Option<UserRun<'_>>, StoreError> {
        loop {
            if !self.gather()? {
                return Ok(None);
            }
            if !self.gathered.times.is_empty() {
                break;
            }
        }
        Ok(Some(UserRun {
            user: &self.user,
            times: &self.gathered.times,
            columns: self.gathered.columns.iter().map(Vec::as_slice).collect(),
            dictionaries: &self.dictionaries,
        }))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
