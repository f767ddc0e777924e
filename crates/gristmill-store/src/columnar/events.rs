//! The events of a shard in no order: row group by row group, run by run, with no look at users.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::Timestamp;

use super::chunk::Times;
use super::part::{RowGroup, UserKey};
use super::row_group::{GroupColumns, GroupReader};
use super::run::Run;
use super::run_users::append_codes;
use super::source::Walk;
use crate::{Dictionary, EventCursor, Events, StoreError};

/// How many rows are given at a time: few enough to stay in the fast caches of a core.
const BATCH_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };

/// The events of a walk.
pub(super) struct ShardEvents {
    walk: Arc<Walk>,
    /// The row groups that have not been begun.
    groups: Vec<(GroupReader, Range<usize>)>,
    runs: Vec<Arc<Run>>,
    /// Where the rows at hand are, and those that are left of them.
    source: Source,
    left: Range<usize>,
    dictionaries: Vec<Dictionary>,
    times: Vec<i64>,
    columns: Vec<Vec<u32>>,
    /// Which of the rows that were copied are in range.
    kept: Vec<usize>,
}

/// Which of several walks through the same parts this is.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) number: usize,
    pub(super) walks: usize,
}

enum Source {
    Group(Arc<Times>, GroupColumns),
    Run(Arc<Run>),
}

impl ShardEvents {
    pub(super) fn new(
        walk: Arc<Walk>,
        share: Share,
        parts: Vec<GroupReader>,
        runs: Vec<Arc<Run>>,
    ) -> Self {
        let groups = parts.into_iter().map(|part| {
            let groups = groups_of(&part, share);
            (part, groups)
        });
        let fields = walk.scan.fields.len();
        Self {
            groups: groups.collect(),
            runs,
            source: Source::Group(Arc::default(), GroupColumns::default()),
            left: 0..0,
            dictionaries: (0..fields).map(|_| Dictionary::default()).collect(),
            times: Vec::new(),
            columns: vec![Vec::new(); fields],
            kept: Vec::new(),
            walk,
        }
    }

    /// Goes on to the next row group or run that may have wanted rows.
    fn fill(&mut self) -> Result<bool, StoreError> {
        while self.left.is_empty() {
            if let Some((part, groups)) = self.groups.last_mut() {
                let part = part.clone();
                match groups.next() {
                    Some(group) => self.begin(&part, group)?,
                    None => drop(self.groups.pop()),
                }
            } else if let Some(run) = self.runs.pop() {
                let (first, last) = self.walk.hashes;
                let users = run.users_between(self.walk.scan.project.as_str(), first, last);
                self.left = run.rows_of(&users);
                self.source = Source::Run(run);
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn begin(&mut self, part: &GroupReader, group: usize) -> Result<(), StoreError> {
        let project = self.walk.scan.project.as_str();
        let RowGroup { rows, .. } = part.part.groups[group];
        let is_whole = |key: &UserKey| key.project == project;
        let ends = [part.part.groups[group].pages.first(), Some(&part.part.groups[group].last)];
        let rows = if ends.into_iter().flatten().all(is_whole) {
            0..rows
        } else {
            let users = part.users(group)?;
            users.rows_of(&users.between(project, 0, u64::MAX))
        };
        part.work.add_rows(rows.len());
        let (times, _) = part.times(group, &rows)?;
        if times.may_be_in(&self.walk.scan.range) && !rows.is_empty() {
            let columns = part.columns(group, &rows, &mut self.dictionaries)?;
            self.source = Source::Group(times, columns);
            self.left = rows;
        }
        Ok(())
    }

    /// Keeps of the rows that were copied those that are in range.
    fn cut(&mut self) {
        let is_inside = |row: &usize| self.walk.scan.range.contains(Timestamp(self.times[*row]));
        self.kept.clear();
        self.kept.extend((0..self.times.len()).filter(is_inside));
        keep(&mut self.times, &self.kept);
        self.columns.iter_mut().for_each(|column| keep(column, &self.kept));
    }
}

/// Keeps some rows of a column, which ascend.
fn keep<T: Copy>(column: &mut Vec<T>, kept: &[usize]) {
    for (to, from) in kept.iter().enumerate() {
        column[to] = column[*from];
    }
    column.truncate(kept.len());
}

/// Of the row groups that may have events of the project, those that one of several walks takes.
fn groups_of(part: &GroupReader, share: Share) -> Range<usize> {
    let project = part.walk.scan.project.as_str();
    let key = |hash| UserKey { project: project.to_owned(), hash };
    let groups = part.part.groups_of(&key(0), &key(u64::MAX));
    let until = |walks: usize| groups.start + groups.len() * walks / share.walks;
    until(share.number)..until(share.number + 1)
}

impl EventCursor for ShardEvents {
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError> {
        if !self.fill()? {
            return Ok(None);
        }
        let rows = self.left.start..self.left.end.min(self.left.start + BATCH_ROWS);
        self.left.start = rows.end;
        self.times.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        let targets = self.columns.iter_mut().zip(&mut self.dictionaries).enumerate();
        let all_inside = match &self.source {
            Source::Group(times, columns) => {
                for (index, (column, dictionary)) in targets {
                    columns.append(index, rows.clone(), dictionary, column);
                }
                self.times.extend_from_slice(&times.values[rows]);
                times.are_in(&self.walk.scan.range)
            }
            Source::Run(run) => {
                let fields = &self.walk.scan.fields;
                for (index, (column, dictionary)) in targets {
                    append_codes(run, rows.clone(), &fields[index], dictionary, column);
                }
                self.times.extend_from_slice(&run.rows.times[rows]);
                false
            }
        };
        if !all_inside {
            self.cut();
        }
        let columns = self.columns.iter().map(Vec::as_slice).collect();
        Ok(Some(Events { times: &self.times, columns, dictionaries: &self.dictionaries }))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
