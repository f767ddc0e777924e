//! Merges sorted sources of runs row by row.

use std::cmp::Ordering;
use std::sync::Arc;

use super::run::{Rows, Run, RunUser};
use crate::StoreError;

/// A sorted source of runs: a run of the hot tail, or a part.
pub(super) type Source = Box<dyn Iterator<Item = Result<Arc<Run>, StoreError>> + Send>;

/// A source that is one run.
pub(super) fn single(run: Arc<Run>) -> Source {
    Box::new(std::iter::once(Ok(run)))
}

/// Gives every row of all sources in the order of the store's key.
pub(super) fn merge(
    sources: Vec<Source>,
    mut take: impl FnMut(&RunUser<'_>, &Rows, usize) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut heap = Vec::with_capacity(sources.len());
    for source in sources {
        heap.extend(Cursor::start(source)?);
    }
    for index in (0..heap.len() / 2).rev() {
        sift_down(&mut heap, index);
    }
    while let Some(top) = heap.first_mut() {
        take(&top.user(), &top.run.rows, top.row)?;
        if !top.advance()? {
            heap.swap_remove(0);
        }
        sift_down(&mut heap, 0);
    }
    Ok(())
}

/// A place in a source.
struct Cursor {
    rest: Source,
    run: Arc<Run>,
    user: usize,
    user_end: usize,
    hash: u64,
    row: usize,
}

impl Cursor {
    fn start(mut rest: Source) -> Result<Option<Self>, StoreError> {
        let Some(run) = next_run(&mut rest)? else {
            return Ok(None);
        };
        let mut cursor = Self { rest, run, user: 0, user_end: 0, hash: 0, row: 0 };
        cursor.enter_user(0);
        Ok(Some(cursor))
    }

    fn user(&self) -> RunUser<'_> {
        self.run.user(self.user)
    }

    fn enter_user(&mut self, index: usize) {
        let user = self.run.user(index);
        (self.user, self.user_end, self.hash) = (index, user.end_row, user.hash);
    }

    /// Goes to the next row; `false` at the end.
    fn advance(&mut self) -> Result<bool, StoreError> {
        self.row += 1;
        if self.row < self.user_end {
            return Ok(true);
        }
        if self.user + 1 < self.run.user_count() {
            self.enter_user(self.user + 1);
            return Ok(true);
        }
        let Some(run) = next_run(&mut self.rest)? else {
            return Ok(false);
        };
        self.run = run;
        self.row = 0;
        self.enter_user(0);
        Ok(true)
    }

    fn order(&self, other: &Self) -> Ordering {
        let (mine, others) = (self.user(), other.user());
        let same_time = || {
            let (rows, other_rows) = (&self.run.rows, &other.run.rows);
            rows.times[self.row]
                .cmp(&other_rows.times[other.row])
                .then_with(|| rows.positions[self.row].cmp(&other_rows.positions[other.row]))
        };
        mine.project
            .cmp(others.project)
            .then_with(|| self.hash.cmp(&other.hash))
            .then_with(|| mine.user.cmp(others.user))
            .then_with(same_time)
    }
}

fn next_run(source: &mut Source) -> Result<Option<Arc<Run>>, StoreError> {
    for run in source {
        let run = run?;
        if run.row_count() > 0 {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

fn sift_down(heap: &mut [Cursor], mut parent: usize) {
    loop {
        let (left, right) = (2 * parent + 1, 2 * parent + 2);
        let mut least = parent;
        for child in [left, right] {
            if child < heap.len() && heap[child].order(&heap[least]) == Ordering::Less {
                least = child;
            }
        }
        if least == parent {
            return;
        }
        heap.swap(parent, least);
        parent = least;
    }
}
