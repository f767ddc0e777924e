//! The most frequent values of a field, with exact unique users. Events without the field are
//! left out.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use gristmill_model::{TopAnswer, TopQuery, TopValue, limits};
use gristmill_store::{Dictionaries, Dictionary, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, Fold, View};
use crate::marked::Marked;
use crate::select::{Matcher, Plan};
use crate::tally::{FewCounts, Tally, grow};

/// How many values are held at a time.
const MOST_VALUES: usize = if cfg!(test) { 400 } else { limits::TOP_DISTINCT_VALUES };
/// How many times everything is walked through when there are more values.
const PASSES: u64 = 8;

pub(crate) async fn answer(view: &View, query: &TopQuery) -> Result<TopAnswer, QueryError> {
    let (limit, most) = (query.limit, limits::TOP_VALUES);
    if !(1..=most).contains(&limit) {
        return Err(QueryError::Invalid(format!("`limit` must be from 1 to {most}")));
    }
    let mut plan = Plan::new(&query.selection)?;
    let column = plan.column(&query.field);
    plan.tell_no_moments();
    view.find_cohorts(&plan).await?;
    match in_passes(view, &plan, column, limit, 1).await {
        // All that a walk calls invalid is that there are too many values.
        Err(QueryError::Invalid(_)) => in_passes(view, &plan, column, limit, PASSES).await,
        answer => answer,
    }
}

/// Walks through everything several times, and counts other values each time.
async fn in_passes(
    view: &View,
    plan: &Plan,
    column: usize,
    limit: usize,
    passes: u64,
) -> Result<TopAnswer, QueryError> {
    let mut top = TopAnswer { values: Vec::new() };
    for number in 0..passes {
        let pass = Pass { number, of: passes };
        let counts = view.walk(plan, || TopFold::new(plan.matcher.clone(), column, pass)).await?;
        top.values.extend(view.compute(move || counts.ranked(limit)).await?.values);
        top.values.sort_unstable_by(|a, b| order((a.count, &a.value), (b.count, &b.value)));
        top.values.truncate(limit);
    }
    Ok(top)
}

/// The order of values with their counts of events.
fn order(a: (u64, &str), b: (u64, &str)) -> Ordering {
    b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1))
}

/// One of several passes through everything, each of which counts other values, so that fewer are
/// held at a time.
#[derive(Clone, Copy)]
struct Pass {
    number: u64,
    of: u64,
}

impl Pass {
    /// Whether it counts a value.
    fn counts(self, value: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish() % self.of == self.number
    }
}

fn check_size(values: usize) -> Result<(), QueryError> {
    if values <= MOST_VALUES {
        return Ok(());
    }
    Err(QueryError::Invalid(format!(
        "`property` has too many different values, more than {MOST_VALUES} at a time in each of \
         {PASSES} passes: ask for a shorter range or add a filter"
    )))
}

/// Events and distinct users of every value.
#[derive(Default)]
struct Counts {
    values: Dictionary,
    /// By the code of the value.
    cells: Vec<(u64, u64)>,
}

impl Counts {
    fn add(&mut self, value: &str, (count, users): (u64, u64)) {
        let code = self.values.code(value) as usize;
        grow(&mut self.cells, code + 1);
        self.cells[code].0 += count;
        self.cells[code].1 += users;
    }

    fn iter(&self) -> impl Iterator<Item = (&str, (u64, u64))> {
        let value = |code: usize| self.values.text(code as u32).unwrap_or_default();
        self.cells.iter().enumerate().map(move |(code, cell)| (value(code), *cell))
    }

    fn ranked(&self, limit: usize) -> TopAnswer {
        let mut values: Vec<_> = self.iter().collect();
        let order =
            |a: &(&str, (u64, u64)), b: &(&str, (u64, u64))| order((a.1.0, a.0), (b.1.0, b.0));
        if values.len() > limit {
            values.select_nth_unstable_by(limit, order);
            values.truncate(limit);
        }
        values.sort_unstable_by(order);
        let value = |(value, (count, unique_users)): (&str, (u64, u64))| TopValue {
            value: value.to_owned(),
            count,
            unique_users,
        };
        TopAnswer { values: values.into_iter().map(value).collect() }
    }
}

struct TopFold {
    matcher: Matcher,
    column: usize,
    values: Tally,
    pass: Pass,
    /// Whether this pass counts the values of the dictionary, if there are several passes.
    is_counted: Vec<bool>,
}

impl TopFold {
    fn new(matcher: Matcher, column: usize, pass: Pass) -> Self {
        Self { matcher, column, values: Tally::default(), pass, is_counted: Vec::new() }
    }

    /// Counts the values of this pass. The walk holds the texts of those of all passes, so that they are
    /// bounded too.
    fn count_some(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { values, column, matcher, pass, is_counted } = self;
        let events = &batch.events;
        let dictionary = &events.dictionaries[*column];
        check_size(dictionary.len() / 2)?;
        for code in is_counted.len()..dictionary.len() {
            is_counted.push(dictionary.text(code as u32).is_some_and(|text| pass.counts(text)));
        }
        let (kept, codes) = (matcher.kept(events), events.columns[*column]);
        let counts = |row: &usize| is_counted.get(codes[*row] as usize).copied().unwrap_or(false);
        for user in batch.rows() {
            values.next_user();
            for row in user.filter(|row| kept.has(*row)).filter(counts) {
                values.add_many(Tally::slot(codes[row]), kept.events(row) as usize);
            }
        }
        check_size(values.used())
    }
}

impl Fold for TopFold {
    type Partial = Counts;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Counts {
        let mut counts = Counts::default();
        for (slot, cell) in self.values.cells() {
            if let Some(value) = dictionaries[self.column].text(Tally::code(slot)) {
                counts.add(value, (cell.count, u64::from(cell.users)));
            }
        }
        counts
    }

    fn merge(into: &mut Counts, mut other: Counts) {
        if into.cells.len() < other.cells.len() {
            std::mem::swap(into, &mut other);
        }
        other.iter().for_each(|(value, cell)| into.add(value, cell));
    }

    fn check(counts: &Counts) -> Result<(), QueryError> {
        check_size(counts.cells.len())
    }
}

impl BatchFold for TopFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let events = &batch.events;
        let slots = events.dictionaries[self.column].len() + 1;
        self.values.grow(slots);
        if self.pass.of > 1 {
            return self.count_some(batch);
        }
        let Self { values, column, matcher, .. } = self;
        let (kept, codes) = (matcher.kept(events), events.columns[*column]);
        if slots <= FewCounts::SLOTS {
            count_few(values, codes, kept, batch.rows());
        } else {
            for user in batch.rows() {
                values.next_user();
                for row in user.filter(|row| kept.has(*row)) {
                    values.add_many(Tally::slot(codes[row]), kept.events(row) as usize);
                }
            }
        }
        check_size(self.values.used())
    }
}

/// Counts values that have few slots, and users by a bit for each slot.
fn count_few(
    values: &mut Tally,
    codes: &[u32],
    kept: Marked<'_>,
    users: impl Iterator<Item = Range<usize>>,
) {
    let mut counts = FewCounts::new();
    values.grow(FewCounts::SLOTS);
    for user in users {
        values.next_user();
        let mut met = 0_u64;
        let mut add = |(row, code): (usize, &u32), count: u32| {
            let slot = Tally::slot(*code) % FewCounts::SLOTS;
            counts.add(row, slot, count);
            met |= u64::from(count > 0) << slot;
        };
        let first = user.start;
        let rows = codes[user].iter().enumerate();
        // Two loops, so that neither asks for each row which of them it is.
        if kept.are_rows() {
            rows.for_each(|row| add(row, 1));
        } else {
            rows.for_each(|row| add(row, kept.events(first + row.0)));
        }
        values.meet(met);
    }
    counts.sums().for_each(|(slot, count)| values.add_events(slot, count));
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BTreeMap, BTreeSet};

    use gristmill_model::{Event, Field, UserId};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, all, enough_worlds, event, field, selection, text, worlds};

    fn expected(world: &World, query: &TopQuery) -> Vec<TopValue> {
        let mut values: BTreeMap<String, (u64, BTreeSet<&str>)> = BTreeMap::new();
        for event in world.selected(&query.selection) {
            if let Some(value) = text(event, &query.field) {
                let entry = values.entry(value).or_default();
                entry.0 += 1;
                entry.1.insert(event.user.as_str());
            }
        }
        let mut values: Vec<TopValue> = values
            .into_iter()
            .map(|(value, (count, users))| TopValue {
                value,
                count,
                unique_users: users.len() as u64,
            })
            .collect();
        // The map gave them by value, and the sort is stable.
        values.sort_by_key(|value| Reverse(value.count));
        values.truncate(query.limit);
        values
    }

    proptest! {
        #![proptest_config(enough_worlds(1))]
        #[test]
        fn agrees_with_counting(
            world in worlds(),
            selection in selection(),
            field in field(),
            limit in 1_usize..6,
        ) {
            let query = TopQuery { selection, field, limit };
            let answer = world.ask(async |service| service.top(query.clone()).await);
            prop_assert_eq!(answer.unwrap().values, expected(&world, &query));
        }
    }

    #[test]
    fn values_become_many_on_the_way() {
        // Each user has a page of its own, and all have one together.
        let of_user = |user: i64| {
            let at = |page: String, id: i64| {
                let user = UserId::new(format!("u{user}"));
                Event { user, page_url: page.into(), ..event("", id.to_string(), id) }
            };
            [at(format!("/{user}"), 2 * user), at("/all".to_owned(), 2 * user + 1)]
        };
        let world = World::of((0..300).flat_map(of_user).collect());
        let query = TopQuery { selection: all(), field: Field::PageUrl, limit: 1_000 };
        let answer = world.ask(async |service| service.top(query.clone()).await).unwrap();
        assert_eq!(answer.values.len(), 301);
        assert_eq!(answer.values, expected(&world, &query));
    }

    /// A world with so many pages, of which every third was seen by three users, the others by one.
    fn pages(count: usize) -> World {
        let of = |number: usize| {
            let at = move |by: i64| Event {
                user: UserId::new(format!("u{number}-{by}")),
                page_url: format!("/{number}").into(),
                ..event("", by.to_string(), by)
            };
            (0..if number.is_multiple_of(3) { 3 } else { 1 }).map(at)
        };
        World::of((0..count).flat_map(of).collect())
    }

    #[test]
    fn more_values_than_are_held_at_a_time_are_counted_in_several_passes() {
        // No shard has too many of the first, all of them together do. The second need several passes.
        for values in [MOST_VALUES + 100, 4 * MOST_VALUES] {
            let world = pages(values);
            let query = TopQuery { selection: all(), field: Field::PageUrl, limit: MOST_VALUES };
            let answer = world.ask(async |service| service.top(query.clone()).await).unwrap();
            assert_eq!(answer.values, expected(&world, &query), "{values}");
        }
    }

    #[test]
    fn far_more_values_are_refused() {
        let query = TopQuery { selection: all(), field: Field::PageUrl, limit: 1 };
        let world = pages(10 * MOST_VALUES);
        let error = world.ask(async |service| service.top(query.clone()).await).unwrap_err();
        let named = "`property` has too many different values, more than 400 at a time";
        assert!(error.to_string().starts_with(named), "{error}");
    }

    #[test]
    fn a_limit_out_of_bounds_is_refused() {
        for limit in [0, limits::TOP_VALUES + 1] {
            let selection = crate::testing::all();
            let query = TopQuery { selection, field: Field::PageUrl, limit };
            let error = World::default().ask(async |service| service.top(query.clone()).await);
            assert_eq!(error.unwrap_err().to_string(), "`limit` must be from 1 to 10000");
        }
    }
}
