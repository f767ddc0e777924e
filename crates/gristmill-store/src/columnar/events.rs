//! The events of a shard in no order: row group by row group, run by run, with no look at users.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{TimeRange, Timestamp};
use smallvec::SmallVec;

use super::chunk::Times;
use super::group_hours::GroupHours;
use super::part::{RowGroup, UserKey};
use super::row_group::{GroupColumns, GroupReader};
use super::run::Run;
use super::run_users::{append_codes, append_numbers};
use super::source::Walk;
use crate::hours::{append_hours, cuts_hours};
use crate::{
    Dictionaries, Dictionary, EventCursor, Events, HourRows, Precision, Scan, Span, StoreError,
    Wanted,
};

/// How many rows are given at a time: few enough to stay in the fast caches of a core.
const BATCH_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };

/// The events of a walk.
pub(super) struct ShardEvents {
    walk: Arc<Walk>,
    /// The row groups that have not been begun.
    groups: Vec<(GroupReader, usize)>,
    runs: Vec<Arc<Run>>,
    /// Where the rows at hand are, those that are left of them, and the range that is wanted of them.
    source: Source,
    left: Range<usize>,
    range: TimeRange,
    dictionaries: Vec<Dictionary>,
    columns: Vec<Vec<u32>>,
    numbers: Vec<Vec<f64>>,
    /// The times of the rows that are given next.
    times: Vec<i64>,
    cut: Cut,
    hours: Vec<HourRows>,
    /// The place of the hour that has the first row left.
    hour: usize,
}

/// Which of several walks through the same parts this is.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) number: usize,
    pub(super) walks: usize,
}

enum Source {
    Nothing,
    Group(Arc<Times>, GroupColumns),
    /// The same with hours, and with times where the range cuts an hour.
    Hours(Arc<GroupHours>, Arc<Times>, GroupColumns),
    /// Only the rows that have a number; those left are places among these.
    Listed(Arc<Times>, GroupColumns, Arc<[u32]>),
    Run(Arc<Run>),
}

impl ShardEvents {
    pub(super) fn new(
        walk: Arc<Walk>,
        share: Share,
        parts: &[GroupReader],
        runs: Vec<Arc<Run>>,
    ) -> Self {
        // The row groups are dealt out one by one. Which walk has one must not depend on what other
        // parts there are, for another walk may have some of them in a digest.
        let all = parts.iter().flat_map(|part| groups_of(part).map(move |group| (part, group)));
        let is_own = |(part, group): &(&GroupReader, usize)| {
            // Parts of a shard may have every eighth number.
            let mixed = part.part.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            (mixed as usize + group) % share.walks == share.number
        };
        let own = all.filter(is_own);
        let groups = own.map(|(part, group)| (part.clone(), group)).collect();
        let fields = walk.scan.fields.len();
        Self {
            groups,
            runs,
            source: Source::Nothing,
            left: 0..0,
            range: walk.scan.range,
            dictionaries: (0..fields).map(|_| Dictionary::default()).collect(),
            columns: vec![Vec::new(); fields],
            numbers: vec![Vec::new(); walk.scan.numbers.len()],
            times: Vec::new(),
            cut: Cut::default(),
            hours: Vec::new(),
            hour: 0,
            walk,
        }
    }

    /// Whether there is nothing to walk through any more.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && self.groups.is_empty() && self.runs.is_empty()
    }

    /// Has the codes mean what they mean elsewhere; nothing must have been given yet.
    pub(super) fn beginning_with(self, dictionaries: Vec<Dictionary>) -> Self {
        Self { dictionaries, ..self }
    }

    /// What the codes of the walk mean when it is over.
    pub(super) fn into_dictionaries(self) -> Vec<Dictionary> {
        self.dictionaries
    }

    /// Goes on to the next row group or run, which may have no wanted rows; `false` at the end.
    fn fill(&mut self) -> Result<bool, StoreError> {
        if !self.left.is_empty() {
            return Ok(true);
        }
        self.source = Source::Nothing;
        if let Some((part, group)) = self.groups.pop() {
            self.begin(&part, group)?;
        } else if let Some(run) = self.runs.pop() {
            self.range = self.walk.scan.range;
            let (first, last) = self.walk.hashes;
            let users = run.users_between(self.walk.scan.project.as_str(), first, last);
            self.left = run.rows_of(&users);
            self.source = Source::Run(run);
        } else {
            return Ok(false);
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
        if rows.is_empty() {
            return Ok(());
        }
        part.work.add_rows(rows.len());
        let Scan { precision, range, wanted, .. } = &part.walk.scan;
        self.range = *range;
        if *precision != Precision::Times {
            let hours = part.hours(group, &*part.users(group)?)?;
            let is_cut = cuts_hours(range) && !hours.are_in(range);
            if !is_cut || !hours.are_few() || !hours.may_be_in(range) {
                return self.begin_hours((part, group), rows, hours);
            }
        }
        let (times, _) = part.times(group, &rows)?;
        if times.may_be_in(range) {
            let columns = part.columns(group, &rows, &mut self.dictionaries)?;
            let may_list = *wanted == Wanted::WithNumber;
            let listed = columns.rows_with_number().filter(|_| may_list);
            (self.left, self.source) = match listed {
                Some(listed) => (places(&listed, &rows), Source::Listed(times, columns, listed)),
                None => (rows, Source::Group(times, columns)),
            };
        }
        Ok(())
    }

    /// Goes on to rows whose hours are told.
    fn begin_hours(
        &mut self,
        (part, group): (&GroupReader, usize),
        rows: Range<usize>,
        hours: Arc<GroupHours>,
    ) -> Result<(), StoreError> {
        if !hours.may_be_in(&self.range) {
            return Ok(());
        }
        if hours.are_in(&self.range) {
            // An hour that the range cuts is wanted as far as it is here.
            self.range = TimeRange::ALL;
        }
        let times = match cuts_hours(&self.range) {
            true => part.whole_times(group)?,
            false => Arc::default(),
        };
        let columns = part.columns(group, &rows, &mut self.dictionaries)?;
        self.hour = hours.place_of(rows.start);
        (self.left, self.source) = (rows, Source::Hours(hours, times, columns));
        Ok(())
    }

    /// Copies what rows at hand have in the fields of the walk.
    fn copy_columns(&mut self, rows: Range<usize>) {
        self.columns.iter_mut().for_each(Vec::clear);
        self.numbers.iter_mut().for_each(Vec::clear);
        let numbers = self.numbers.iter_mut().enumerate();
        let targets = self.columns.iter_mut().zip(&mut self.dictionaries).enumerate();
        match &self.source {
            Source::Nothing => {}
            Source::Group(_, columns) | Source::Hours(_, _, columns) => {
                for (index, (column, dictionary)) in targets {
                    columns.append(index, rows.clone(), dictionary, column);
                }
                for (index, numbers) in numbers {
                    columns.append_numbers(index, rows.clone(), numbers);
                }
            }
            Source::Listed(_, columns, listed) => {
                let rows = &listed[rows];
                for (index, (column, dictionary)) in targets {
                    columns.append_at(index, rows, dictionary, column);
                }
                for (index, numbers) in numbers {
                    columns.append_numbers_at(index, rows, numbers);
                }
            }
            Source::Run(run) => {
                let scan = &self.walk.scan;
                for (index, (column, dictionary)) in targets {
                    append_codes(run, rows.clone(), &scan.fields[index], dictionary, column);
                }
                for (index, numbers) in numbers {
                    append_numbers(run, rows.clone(), &scan.numbers[index], numbers);
                }
            }
        }
    }

    /// Copies the times of rows at hand, and says whether all are in range.
    fn copy_times(&mut self, rows: Range<usize>) -> bool {
        self.times.clear();
        match &self.source {
            Source::Nothing | Source::Hours(..) => {}
            Source::Group(times, _) => {
                self.times.extend_from_slice(&times.values[rows]);
                if times.are_in(&self.range) {
                    return true;
                }
            }
            Source::Listed(times, _, listed) => {
                self.times.extend(listed[rows].iter().map(|row| times.values[*row as usize]));
                if times.are_in(&self.range) {
                    return true;
                }
            }
            Source::Run(run) => self.times.extend_from_slice(&run.rows.times[rows]),
        }
        self.cut.find(&self.times, &self.range)
    }

    /// The rows whose columns have been copied, and their hours if the walk wants no times.
    fn events(&mut self, rows: usize) -> Events<'_> {
        let times = match self.walk.scan.precision {
            Precision::Times => self.times.as_slice(),
            Precision::Hours | Precision::Untold => &[],
        };
        Events {
            rows,
            times,
            hours: &self.hours,
            counts: &[],
            columns: slices(&self.columns),
            numbers: slices(&self.numbers),
            dictionaries: Dictionaries::of(&self.dictionaries),
        }
    }

    /// The first and the last time of the row group at hand, if it is wanted as a whole.
    fn whole_span(&self) -> Option<(i64, i64)> {
        let (rows, first, last) = match &self.source {
            Source::Group(times, _) => (times.values.len(), times.first, times.last),
            Source::Hours(hours, ..) => (hours.len(), hours.first, hours.last),
            Source::Nothing | Source::Listed(..) | Source::Run(_) => return None,
        };
        let range = &self.range;
        let are_inside = range.contains(Timestamp(first)) && range.contains(Timestamp(last));
        (self.left.len() == rows && are_inside).then_some((first, last))
    }
}

/// Which of some rows are in range.
#[derive(Default)]
pub(super) struct Cut {
    rows: Vec<usize>,
    times: Vec<i64>,
}

impl Cut {
    /// Finds those whose times are in range, and says whether all are.
    pub(super) fn find(&mut self, times: &[i64], range: &TimeRange) -> bool {
        self.rows.resize(times.len(), 0);
        let mut count = 0;
        // Which rows are in range can hardly be foretold, so nothing branches on it.
        for (row, time) in times.iter().enumerate() {
            self.rows[count] = row;
            count += usize::from(range.contains(Timestamp(*time)));
        }
        self.rows.truncate(count);
        self.times.clear();
        self.times.extend(self.rows.iter().map(|row| times[*row]));
        count == times.len()
    }

    /// The times of those that are.
    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    /// Keeps of a column what these rows have.
    pub(super) fn keep<T: Copy>(&self, column: &mut Vec<T>) {
        for (to, from) in self.rows.iter().enumerate() {
            column[to] = column[*from];
        }
        column.truncate(self.rows.len());
    }
}

fn slices<'a, A: smallvec::Array<Item = &'a [T]>, T: 'a>(columns: &'a [Vec<T>]) -> SmallVec<A> {
    columns.iter().map(Vec::as_slice).collect()
}

/// The places of rows in a list, which is ascending.
fn places(listed: &[u32], rows: &Range<usize>) -> Range<usize> {
    let before = |end: usize| listed.partition_point(|row| (*row as usize) < end);
    before(rows.start)..before(rows.end)
}

/// The row groups that may have events of the project.
fn groups_of(part: &GroupReader) -> Range<usize> {
    let project = part.walk.scan.project.as_str();
    let key = |hash| UserKey { project: project.to_owned(), hash };
    part.part.groups_of(&key(0), &key(u64::MAX))
}

impl EventCursor for ShardEvents {
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError> {
        if !self.fill()? {
            return Ok(None);
        }
        let rows = self.left.start..self.left.end.min(self.left.start + BATCH_ROWS);
        self.left.start = rows.end;
        self.hours.clear();
        if let Source::Hours(hours, times, _) = &self.source {
            // There are rows out of range, which are of no hour.
            let within = (&self.range, times.values.as_slice());
            self.hour = hours.append_within(self.hour, &rows, within, &mut self.hours);
            self.copy_columns(rows.clone());
            return Ok(Some(self.events(rows.len())));
        }
        let are_all = self.copy_times(rows.clone());
        if are_all || !self.cut.times().is_empty() {
            self.copy_columns(rows);
        } else {
            self.copy_columns(0..0);
        }
        if !are_all {
            self.times.clone_from(&self.cut.times);
            self.columns.iter_mut().for_each(|column| self.cut.keep(column));
            self.numbers.iter_mut().for_each(|numbers| self.cut.keep(numbers));
        }
        if self.walk.scan.precision != Precision::Times {
            append_hours(&self.times, 0, &mut self.hours);
        }
        Ok(Some(self.events(self.times.len())))
    }

    fn pass_over(&mut self, (first, last): (i64, i64)) -> Result<bool, StoreError> {
        let is_known =
            self.fill()? && self.whole_span().is_some_and(|own| first <= own.0 && own.1 <= last);
        if is_known {
            self.left.start = self.left.end;
        }
        Ok(is_known)
    }

    /// For row groups that are wanted as a whole no time is looked at.
    fn next_span(&mut self) -> Result<Option<Span>, StoreError> {
        if !self.fill()? {
            return Ok(None);
        }
        if let Some(span) = self.whole_span() {
            self.left.start = self.left.end;
            return Ok(Some(Some(span)));
        }
        Ok(self.next_events()?.map(|events| events.span()))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
