//! The walk through the events of a period: takes each event of each series into its cell.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_model::{Field, Metric, Series, SeriesQuery, TimeRange, Totals, limits};
use gristmill_store::{ABSENT, Dictionaries, Events, Precision, UserBatch, Wanted};

use super::cell::Cell;
use super::cells::{Cells, Keys, Layout, NoKeys, OfUser, OneKey, Rows, TwoKeys};
use super::group::{Group, Kept};
use super::state::{Column, State};
use super::too_many_points;
use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::{BatchFold, EventFold, Fold, PieceFold, View};
use crate::grid::PAGE;
use crate::select::{Matcher, Plan, SELECTED};

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
#[derive(Clone, PartialEq)]
pub(super) enum Cut {
    /// All of the time is one bucket, all groups are told apart. Moments are told as for the walk that
    /// follows.
    Whole(Precision),
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
        let are_numbers = lines.iter().all(|(_, metric, _)| is_number(metric));
        if are_numbers {
            plan.scan.wanted = Wanted::WithNumber;
        }
        let hours_do = match &cut {
            Cut::Whole(precision) => *precision == Precision::Hours,
            Cut::Buckets(buckets, _) => buckets.are_of_whole_hours(),
        };
        if hours_do && !are_numbers {
            plan.tell_hours();
        }
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
            view.refold(&self.plan, self.cut.clone(), || self.start()).await?
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
            counts: Vec::new(),
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
    /// Room for how many of the rows at hand count.
    counts: Vec<u32>,
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
        self.take(&batch.events, &batch.rows().zip(batch.moments()))
    }
}

impl PieceFold for SeriesFold {
    /// Buckets and groups may follow from the events.
    type Setting = Cut;

    fn matcher(&mut self) -> &mut Matcher {
        &mut self.matcher
    }

    fn bytes(partial: &Vec<Groups>) -> usize {
        let of_group = |(group, cells): (&Group, &Vec<(usize, Cell)>)| {
            let numbers = cells.iter().map(|(_, cell)| cell.numbers()).sum::<usize>();
            let cells = cells.capacity() * size_of::<(usize, Cell)>();
            group.bytes() + size_of::<Vec<(usize, Cell)>>() + cells + numbers * size_of::<f64>()
        };
        let groups = partial.iter().flatten().map(of_group).sum::<usize>();
        size_of_val(partial) + size_of_val(partial.as_slice()) + groups
    }
}

/// For metrics that ask for no users: the events are taken as those of one, and what is counted of
/// users means nothing.
impl EventFold for SeriesFold {
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        let moments = events.times.len().max(events.hours.len());
        self.take(events, &std::iter::once((0..events.rows, 0..moments)))
    }
}

impl SeriesFold {
    /// Takes in events, given the rows and the moments of each user.
    fn take(
        &mut self,
        events: &Events<'_>,
        users: &(impl Iterator<Item = OfUser> + Clone),
    ) -> Result<(), QueryError> {
        let Self { matcher, group, lines, counts, .. } = self;
        let kept = matcher.kept(events);
        for line in &mut *lines {
            let rows = Rows { events, kept: kept.of_bit(line.bit) };
            line.take(&rows, group, users.clone(), counts);
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
    /// Takes in those of some users' events that are of the series, with room for how many count.
    fn take(
        &mut self,
        rows: &Rows<'_, '_>,
        group: &[usize],
        users: impl Iterator<Item = OfUser>,
        counts: &mut Vec<u32>,
    ) {
        let columns = &rows.events.columns;
        match *group {
            [] => self.take_keyed(rows, users, &NoKeys, counts),
            [column] => self.take_keyed(rows, users, &OneKey(columns[column]), counts),
            [first, second, ..] => {
                let keys = TwoKeys(columns[first], columns[second]);
                self.take_keyed(rows, users, &keys, counts);
            }
        }
    }

    fn take_keyed(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = OfUser>,
        keys: &impl Keys,
        counts: &mut Vec<u32>,
    ) {
        let Self { cells, state, .. } = self;
        let columns = &rows.events.columns;
        match state {
            State::Counts(tally) => cells.count(rows, users, keys, (counts, tally)),
            State::Arrivals(arrivals) => cells.count(rows, users, keys, (counts, arrivals)),
            State::Sessions(column, sessions) => {
                let codes = columns[column.0];
                let session = |row: usize| Some(codes[row]).filter(|code| *code != ABSENT);
                cells.walk(rows, users, keys, session, sessions);
            }
            State::Sums(numbers, sums) => {
                cells.walk(rows, users, keys, numbers.of(rows.events), sums);
            }
            State::Highest(numbers, highest) => {
                cells.walk(rows, users, keys, numbers.of(rows.events), highest);
            }
            State::Lists(numbers, lists) => {
                cells.walk(rows, users, keys, numbers.of(rows.events), lists);
            }
        }
    }

    fn finish(self, dictionaries: Dictionaries<'_>) -> Groups {
        let Self { cells: Cells { slots, layout, .. }, mut state, .. } = self;
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
