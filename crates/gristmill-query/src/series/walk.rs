//! The walk through the events of a period: takes each event of each series into its cell.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_model::{Field, Metric, Series, SeriesQuery, TimeRange, Totals, limits};
use gristmill_store::{ABSENT, Dictionaries, Events, UserBatch};

use super::cell::Cell;
use super::group::{Group, Kept, Slots, pair};
use super::state::{Accumulate, Column, Count, Place, State};
use super::too_many_points;
use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::{BatchFold, EventFold, Fold, View};
use crate::grid::{Grid, PAGE};
use crate::select::{Marked, Matcher, Plan, SELECTED};

/// What the events of each group came to: buckets in order, each with its cell.
pub(super) type Groups = HashMap<Group, Vec<(usize, Cell)>>;

/// A walk for some of a question's series.
pub(super) struct Walk {
    plan: Plan,
    group: Vec<usize>,
    lines: Vec<(u32, Metric, Column)>,
    totals: Totals,
    cut: Cut,
    numbers: Arc<NumberBudget>,
}

/// How time and groups are cut into cells.
#[derive(Clone)]
pub(super) enum Cut {
    /// All of the time is one bucket, all groups are told apart.
    Whole,
    /// Into buckets, and into the groups that are kept, if only some are.
    Buckets(Arc<Buckets>, Option<Arc<Kept>>),
}

impl Walk {
    /// A walk through the selected events of `range`.
    pub(super) fn new(
        query: &SeriesQuery,
        series: &[Series],
        range: TimeRange,
        cut: Cut,
    ) -> Result<Self, QueryError> {
        let mut plan = Plan::new(&query.selection)?;
        plan.scan.range = range;
        let group = query.group_by.iter().map(|grouping| plan.grouping(grouping)).collect();
        let mut lines = Vec::new();
        for (index, one) in series.iter().enumerate() {
            // The only series is a part of the selection, which may then have no condition.
            let bit = if series.len() == 1 { SELECTED } else { 1 << index };
            plan.keep_matching(bit, &one.events)?;
            let column = match &one.metric {
                Metric::Sessions => plan.column(&Field::SessionWithinUser),
                Metric::Number(_, field) => plan.numbers(field),
                Metric::Count | Metric::UniqueUsers | Metric::PerUserAverage => 0,
            };
            lines.push((bit, one.metric.clone(), Column(column)));
        }
        let is_number = |metric: &Metric| matches!(metric, Metric::Number(..));
        plan.scan.only_numbers = lines.iter().all(|(_, metric, _)| is_number(metric));
        let numbers = Arc::new(NumberBudget::default());
        Ok(Self { plan, group, lines, totals: query.totals, cut, numbers })
    }

    /// Walks, and gives the groups of each series.
    pub(super) async fn run(&self, view: &View) -> Result<Vec<Groups>, QueryError> {
        let asks_users = |metric: &Metric| match metric {
            Metric::Count | Metric::Number(..) => false,
            Metric::UniqueUsers | Metric::Sessions | Metric::PerUserAverage => true,
        };
        let mut groups = if self.lines.iter().any(|(_, metric, _)| asks_users(metric)) {
            view.fold(&self.plan, || self.start()).await?
        } else {
            view.fold_events(&self.plan, || self.start()).await?
        };
        groups.resize_with(self.lines.len(), Groups::default);
        Ok(groups)
    }

    fn start(&self) -> SeriesFold {
        let line = |(bit, metric, column): &(u32, Metric, Column)| Line {
            bit: *bit,
            cells: Cells::new(&self.group, &self.cut),
            state: State::new(metric, *column, self.totals),
        };
        SeriesFold {
            matcher: self.plan.matcher.clone(),
            group: self.group.clone(),
            lines: self.lines.iter().map(line).collect(),
            numbers: Arc::clone(&self.numbers),
        }
    }
}

/// How many numbers all walks of a question have kept.
#[derive(Default)]
struct NumberBudget(AtomicUsize);

impl NumberBudget {
    fn spend(&self, numbers: usize) -> Result<(), QueryError> {
        let most = limits::SERIES_NUMBERS;
        if numbers == 0 || self.0.fetch_add(numbers, Ordering::Relaxed) + numbers <= most {
            return Ok(());
        }
        Err(QueryError::Invalid(format!(
            "the percentiles are of more than {most} numbers in `property`: ask for a shorter \
             range or add a filter"
        )))
    }
}

/// Refuses more groups than a limit.
pub(super) fn check_groups(groups: usize, most: usize) -> Result<(), QueryError> {
    if groups <= most {
        return Ok(());
    }
    let top = if most == limits::SERIES_GROUPS { "ask for the `top` ones, " } else { "" };
    Err(QueryError::Invalid(format!(
        "`group_by` makes more than {most} groups: {top}choose fields with fewer values or add a \
         filter"
    )))
}

struct SeriesFold {
    matcher: Matcher,
    /// The columns of the grouping fields.
    group: Vec<usize>,
    lines: Vec<Line>,
    numbers: Arc<NumberBudget>,
}

impl Fold for SeriesFold {
    type Partial = Vec<Groups>;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Vec<Groups> {
        self.lines.into_iter().map(|line| line.finish(dictionaries)).collect()
    }

    fn merge(into: &mut Vec<Groups>, other: Vec<Groups>) {
        if into.is_empty() {
            *into = other;
            return;
        }
        for (into, mut other) in into.iter_mut().zip(other) {
            if into.len() < other.len() {
                std::mem::swap(into, &mut other);
            }
            for (group, cells) in other {
                // With one more than this the question is refused.
                if into.len() > limits::SERIES_RANKED_GROUPS {
                    break;
                }
                match into.entry(group) {
                    Entry::Occupied(mut known) => join(known.get_mut(), cells),
                    Entry::Vacant(place) => drop(place.insert(cells)),
                }
            }
        }
    }
}

impl BatchFold for SeriesFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        self.take(&batch.events, &batch.rows())
    }
}

/// For metrics that ask for no users: the events are taken as those of one, and what is counted of
/// users means nothing.
impl EventFold for SeriesFold {
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        self.take(events, &std::iter::once(0..events.times.len()))
    }
}

impl SeriesFold {
    /// Takes in events, given the rows of each user.
    fn take(
        &mut self,
        events: &Events<'_>,
        users: &(impl Iterator<Item = Range<usize>> + Clone),
    ) -> Result<(), QueryError> {
        let Self { matcher, group, lines, .. } = self;
        let kept = matcher.kept(events);
        for line in &mut *lines {
            line.take(&Rows { events, kept: kept.of_bit(line.bit) }, group, users.clone());
        }
        let (mut cells, mut numbers) = (0, 0);
        for line in lines {
            line.cells.check_groups()?;
            cells += line.cells.in_buckets();
            numbers += line.state.take_fresh();
        }
        // Each page of cells has at least one point.
        if cells > limits::SERIES_POINTS * PAGE {
            return Err(too_many_points());
        }
        self.numbers.spend(numbers)
    }
}

/// Joins two lists of cells in order of their buckets.
fn join(into: &mut Vec<(usize, Cell)>, other: Vec<(usize, Cell)>) {
    let mut joined = Vec::with_capacity(into.len().max(other.len()));
    let mut other = other.into_iter().peekable();
    for (bucket, mut cell) in into.drain(..) {
        while let Some(before) = other.next_if(|(other, _)| *other < bucket) {
            joined.push(before);
        }
        if let Some((_, same)) = other.next_if(|(other, _)| *other == bucket) {
            cell.join(same);
        }
        joined.push((bucket, cell));
    }
    joined.extend(other);
    *into = joined;
}

/// One series.
struct Line {
    /// The bit of its events.
    bit: u32,
    cells: Cells,
    state: State,
}

impl Line {
    /// Takes in those of some users' events that are of the series.
    fn take(
        &mut self,
        rows: &Rows<'_, '_>,
        group: &[usize],
        users: impl Iterator<Item = Range<usize>>,
    ) {
        let columns = &rows.events.columns;
        match *group {
            [] => self.take_keyed(rows, users, |_| 0),
            [column] => {
                let codes = columns[column];
                self.take_keyed(rows, users, |row| u64::from(codes[row]));
            }
            [first, second, ..] => {
                let (first, second) = (columns[first], columns[second]);
                self.take_keyed(rows, users, |row| pair(first[row], second[row]));
            }
        }
    }

    fn take_keyed(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = Range<usize>>,
        key: impl Fn(usize) -> u64,
    ) {
        let Self { cells, state, .. } = self;
        let columns = &rows.events.columns;
        match state {
            State::Counts(tally) => cells.count(rows, users, key, tally),
            State::Arrivals(arrivals) => cells.count(rows, users, key, arrivals),
            State::Sessions(column, sessions) => {
                let codes = columns[column.0];
                let session = |row: usize| Some(codes[row]).filter(|code| *code != ABSENT);
                cells.walk(rows, users, key, session, sessions);
            }
            State::Sums(numbers, sums) => {
                cells.walk(rows, users, key, numbers.of(rows.events), sums);
            }
            State::Highest(numbers, highest) => {
                cells.walk(rows, users, key, numbers.of(rows.events), highest);
            }
            State::Lists(numbers, lists) => {
                cells.walk(rows, users, key, numbers.of(rows.events), lists);
            }
        }
    }

    fn finish(self, dictionaries: Dictionaries<'_>) -> Groups {
        let Self { cells: Cells { slots, layout }, mut state, .. } = self;
        let mut groups = Groups::new();
        let mut add = |slot: usize, first_bucket: usize, cells: Range<usize>| {
            let counted = cells.enumerate().filter_map(|(after, cell)| {
                let cell = state.take(cell)?;
                Some((first_bucket + after, cell))
            });
            groups.entry(slots.group(slot, dictionaries)).or_default().extend(counted);
        };
        match layout {
            Layout::Whole { met, .. } => {
                let slots = met.iter().enumerate().filter(|(_, met)| **met);
                slots.for_each(|(slot, _)| add(slot, 0, slot..slot + 1));
            }
            Layout::Buckets(_, grid) => {
                grid.pages().for_each(|(slot, first_bucket, cells)| add(slot, first_bucket, cells));
            }
        }
        groups
    }
}

/// Events, and which of them count.
struct Rows<'a, 'e> {
    events: &'a Events<'e>,
    kept: Marked<'a>,
}

/// Where the cell of each group and bucket lies.
struct Cells {
    slots: Slots,
    layout: Layout,
}

enum Layout {
    /// One cell for each slot, and whether it was met.
    Whole {
        met: Vec<bool>,
        groups: usize,
    },
    Buckets(Arc<Buckets>, Grid),
}

/// A bucket and the moments that it has.
#[derive(Default)]
struct Bucket {
    number: usize,
    times: Range<i64>,
}

impl Cells {
    fn new(group: &[usize], cut: &Cut) -> Self {
        let (kept, layout) = match cut {
            Cut::Whole => (None, Layout::Whole { met: Vec::new(), groups: 0 }),
            Cut::Buckets(buckets, kept) => {
                (kept.clone(), Layout::Buckets(Arc::clone(buckets), Grid::new(buckets.len())))
            }
        };
        Self { slots: Slots::new(group.to_vec(), kept), layout }
    }

    /// Counts the rows of each cell. Those that follow each other are mostly of one cell, and are
    /// counted together.
    fn count(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = Range<usize>>,
        key: impl Fn(usize) -> u64,
        into: &mut impl Count,
    ) {
        let times = rows.events.times;
        let mut bucket = Bucket::default();
        for user in users {
            into.next_user();
            let mut first = user.start;
            while first < user.end {
                let key_of_first = key(first);
                bucket = self.layout.bucket(times[first], bucket);
                let is_alike =
                    |row: &usize| bucket.times.contains(&times[*row]) && key(*row) == key_of_first;
                // An event that does not count may lie outside all buckets.
                let next = (first + 1..user.end).find(|row| !is_alike(row)).unwrap_or(user.end);
                let count = rows.kept.count(first..next);
                if count > 0 {
                    let place = self.place(key_of_first, bucket.number, rows.events.dictionaries);
                    into.grow(place.slot, self.layout.cells());
                    into.add(place, count);
                }
                first = next;
            }
        }
    }

    /// Takes the rows that have an item into their cells.
    fn walk<Item, Into: Accumulate<Item>>(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = Range<usize>>,
        key: impl Fn(usize) -> u64,
        item: impl Fn(usize) -> Option<Item>,
        into: &mut Into,
    ) {
        let times = rows.events.times;
        let mut bucket = Bucket::default();
        let (mut current, mut place) = (None, Place::default());
        for user in users {
            into.next_user();
            for row in user {
                if !rows.kept.has(row) {
                    continue;
                }
                let Some(item) = item(row) else { continue };
                let key = key(row);
                if !bucket.times.contains(&times[row]) || current != Some(key) {
                    bucket = self.layout.bucket(times[row], bucket);
                    current = Some(key);
                    place = self.place(key, bucket.number, rows.events.dictionaries);
                    into.grow(place.slot, self.layout.cells());
                }
                into.add(place, item);
            }
            into.end_user();
        }
    }

    /// Where events with a key belong.
    fn place(&mut self, key: u64, bucket: usize, dictionaries: Dictionaries<'_>) -> Place {
        let slot = self.slots.slot(key, dictionaries);
        Place { slot, cell: self.layout.cell(slot, bucket) }
    }

    fn check_groups(&self) -> Result<(), QueryError> {
        match &self.layout {
            Layout::Whole { groups, .. } => check_groups(*groups, limits::SERIES_RANKED_GROUPS),
            Layout::Buckets(_, grid) if self.slots.tell_all() => {
                check_groups(grid.rows(), limits::SERIES_GROUPS)
            }
            Layout::Buckets(..) => Ok(()),
        }
    }

    /// How many cells there are in buckets.
    fn in_buckets(&self) -> usize {
        match &self.layout {
            Layout::Whole { .. } => 0,
            Layout::Buckets(_, grid) => grid.cells(),
        }
    }
}

impl Layout {
    /// The bucket of a moment, which may be the one that was found before.
    fn bucket(&self, time: i64, found: Bucket) -> Bucket {
        if found.times.contains(&time) {
            return found;
        }
        match self {
            Layout::Whole { .. } => Bucket { number: 0, times: i64::MIN..i64::MAX },
            Layout::Buckets(buckets, _) => {
                let number = buckets.find(time);
                Bucket { number, times: buckets.start(number).0..buckets.end(number) }
            }
        }
    }

    /// The cell of a bucket in the group of a slot.
    fn cell(&mut self, slot: usize, bucket: usize) -> usize {
        match self {
            Layout::Whole { met, groups } => {
                if met.len() <= slot {
                    met.resize(slot + 1, false);
                }
                *groups += usize::from(!met[slot]);
                met[slot] = true;
                slot
            }
            Layout::Buckets(_, grid) => grid.cell(slot, bucket),
        }
    }

    fn cells(&self) -> usize {
        match self {
            Layout::Whole { met, .. } => met.len(),
            Layout::Buckets(_, grid) => grid.cells(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_up_to_a_limit() {
        let budget = NumberBudget::default();
        assert!(budget.spend(limits::SERIES_NUMBERS).is_ok());
        assert!(budget.spend(0).is_ok());
        let error = budget.spend(1).unwrap_err().to_string();
        assert!(error.starts_with("the percentiles are of more than 20000000 numbers"), "{error}");
    }
}
