//! Merges sorted sources of runs.

use std::cmp::Ordering;
use std::sync::Arc;

use hashbrown::HashMap;

use super::run::Run;
use crate::StoreError;

/// A sorted source of runs: a run of the hot tail, or a part.
pub(super) type Source = Box<dyn Iterator<Item = Result<Arc<Run>, StoreError>> + Send>;

/// A source that is one run.
pub(super) fn single(run: Arc<Run>) -> Source {
    Box::new(std::iter::once(Ok(run)))
}

/// Rows of several runs in the order of the store's key.
///
/// Rows are named and not copied, so that whoever copies them can do so column by column, which
/// reads each run's memory in order.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) runs: Vec<Arc<Run>>,
    pub(super) rows: Vec<RowRef>,
}

/// One row of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef {
    /// The index of its run in the chunk.
    pub(super) run: u32,
    /// The index of its user in the run.
    pub(super) user: u32,
    /// The row in the run.
    pub(super) row: u32,
}

/// How many rows a chunk has at most.
const CHUNK_ROWS: usize = 8 * 1024;

/// Gives all rows of all sources in order, chunk by chunk.
pub(super) fn merge(
    sources: Vec<Source>,
    mut take: impl FnMut(&Chunk) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut projects = Projects::default();
    let mut heap = Vec::with_capacity(sources.len());
    for source in sources {
        heap.extend(Cursor::start(source, &mut projects)?);
    }
    for index in (0..heap.len() / 2).rev() {
        sift_down(&mut heap, index);
    }
    let mut chunk = Chunk::default();
    while let Some(top) = heap.first_mut() {
        chunk.rows.push(top.name_in(&mut chunk.runs));
        if !top.advance(&mut projects)? {
            heap.swap_remove(0);
        }
        sift_down(&mut heap, 0);
        if chunk.rows.len() == CHUNK_ROWS {
            take(&chunk)?;
            chunk.rows.clear();
            chunk.runs.clear();
            heap.iter_mut().for_each(|cursor| cursor.named = None);
        }
    }
    if chunk.rows.is_empty() { Ok(()) } else { take(&chunk) }
}

/// Numbers the projects, so that two of them are seldom compared as texts.
#[derive(Default)]
struct Projects {
    numbers: HashMap<String, u32>,
}

impl Projects {
    fn number(&mut self, name: &str) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry_ref(name).or_insert(next)
    }
}

/// A place in a source.
struct Cursor {
    rest: Source,
    run: Arc<Run>,
    user: usize,
    user_end: usize,
    /// The number of the user's project, and the user's hash.
    project: u32,
    hash: u64,
    row: usize,
    /// The index of the run in the chunk at hand, once a row of it was taken.
    named: Option<u32>,
}

impl Cursor {
    fn start(mut rest: Source, projects: &mut Projects) -> Result<Option<Self>, StoreError> {
        let Some(run) = next_run(&mut rest)? else {
            return Ok(None);
        };
        let (project, hash) = (0, 0);
        let mut cursor =
            Self { rest, run, user: 0, user_end: 0, project, hash, row: 0, named: None };
        cursor.enter_user(0, projects);
        Ok(Some(cursor))
    }

    fn name_in(&mut self, runs: &mut Vec<Arc<Run>>) -> RowRef {
        let run = *self.named.get_or_insert_with(|| {
            runs.push(Arc::clone(&self.run));
            runs.len() as u32 - 1
        });
        RowRef { run, user: self.user as u32, row: self.row as u32 }
    }

    fn name(&self) -> &str {
        self.run.user(self.user).user
    }

    /// Goes to a user of the run: its first, or the one after the user at hand.
    fn enter_user(&mut self, user: usize, projects: &mut Projects) {
        let project = self.run.project(user);
        if user == 0 || project != self.run.project(user - 1) {
            self.project = projects.number(project);
        }
        (self.user, self.user_end, self.hash) = (user, self.run.end_row(user), self.run.hash(user));
    }

    /// Goes to the next row; `false` at the end.
    fn advance(&mut self, projects: &mut Projects) -> Result<bool, StoreError> {
        self.row += 1;
        if self.row < self.user_end {
            return Ok(true);
        }
        if self.user + 1 < self.run.user_count() {
            self.enter_user(self.user + 1, projects);
            return Ok(true);
        }
        let Some(run) = next_run(&mut self.rest)? else {
            return Ok(false);
        };
        self.run = run;
        self.row = 0;
        self.named = None;
        self.enter_user(0, projects);
        Ok(true)
    }

    fn order(&self, other: &Self) -> Ordering {
        let projects = || match self.project == other.project {
            true => Ordering::Equal,
            false => self.run.project(self.user).cmp(other.run.project(other.user)),
        };
        let same_time = || {
            let (rows, other_rows) = (&self.run.rows, &other.run.rows);
            rows.times[self.row]
                .cmp(&other_rows.times[other.row])
                .then_with(|| rows.positions[self.row].cmp(&other_rows.positions[other.row]))
        };
        projects()
            .then_with(|| self.hash.cmp(&other.hash))
            .then_with(|| self.name().cmp(other.name()))
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
