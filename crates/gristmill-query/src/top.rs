//! The most frequent values of a field, with exact unique users. Events without the field are
//! left out.

use std::cmp::Reverse;
use std::ops::Range;

use gristmill_model::{Field, TopAnswer, TopQuery, TopValue, limits};
use gristmill_store::{Dictionaries, Dictionary, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, Fold, View};
use crate::marked::Marked;
use crate::select::{Matcher, Plan};
use crate::tally::{FewCounts, Tally, grow};

/// The most distinct values that are counted; each needs about a hundred bytes and its text.
const DISTINCT_VALUES: usize = 2_000_000;

pub(crate) async fn answer(view: &View, query: &TopQuery) -> Result<TopAnswer, QueryError> {
    let (limit, most) = (query.limit, limits::TOP_VALUES);
    if !(1..=most).contains(&limit) {
        return Err(QueryError::Invalid(format!("`limit` must be from 1 to {most}")));
    }
    let mut plan = Plan::new(&query.selection)?;
    let column = plan.column(&query.field);
    plan.tell_no_moments();
    let field = query.field.clone();
    let start = || TopFold {
        matcher: plan.matcher.clone(),
        field: field.clone(),
        column,
        values: Tally::default(),
    };
    let counts = view.fold(&plan, start).await?;
    if counts.cells.len() > DISTINCT_VALUES {
        return Err(too_many_values(&field));
    }
    view.compute(move || counts.ranked(limit)).await
}

fn too_many_values(field: &Field) -> QueryError {
    QueryError::Invalid(format!(
        "`{}` has more than {DISTINCT_VALUES} values: ask for a shorter range or add a filter",
        field.name(),
    ))
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
        let order = |a: &(&str, (u64, u64)), b: &(&str, (u64, u64))| {
            (Reverse(a.1.0), a.0).cmp(&(Reverse(b.1.0), b.0))
        };
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
    field: Field,
    column: usize,
    values: Tally,
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
}

impl BatchFold for TopFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { values, column, matcher, .. } = self;
        let events = &batch.events;
        let slots = events.dictionaries[*column].len() + 1;
        values.grow(slots);
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
        if self.values.used() > DISTINCT_VALUES {
            return Err(too_many_values(&self.field));
        }
        Ok(())
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
    use std::collections::{BTreeMap, BTreeSet};

    use gristmill_model::{Event, UserId};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, all, event, field, selection, text, worlds};

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
