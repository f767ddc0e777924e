//! The most frequent values of a field, with exact unique users. Events without the field are
//! left out.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use gristmill_model::{Field, TopAnswer, TopQuery, TopValue, limits};
use gristmill_store::{Dictionaries, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, Fold, View};
use crate::marked::Marked;
use crate::select::{Matcher, Plan};
use crate::tally::{FewCounts, Tally};

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
    if counts.len() > DISTINCT_VALUES {
        return Err(too_many_values(&field));
    }
    view.compute(move || ranked(counts, limit)).await
}

fn too_many_values(field: &Field) -> QueryError {
    QueryError::Invalid(format!(
        "`{}` has more than {DISTINCT_VALUES} values: ask for a shorter range or add a filter",
        field.name(),
    ))
}

/// Events and distinct users of every value.
type Counts = HashMap<String, (u64, u64)>;

fn ranked(counts: Counts, limit: usize) -> TopAnswer {
    let mut values: Vec<TopValue> = counts
        .into_iter()
        .map(|(value, (count, unique_users))| TopValue { value, count, unique_users })
        .collect();
    let order = |a: &TopValue, b: &TopValue| {
        (Reverse(a.count), &a.value).cmp(&(Reverse(b.count), &b.value))
    };
    if values.len() > limit {
        values.select_nth_unstable_by(limit, order);
        values.truncate(limit);
    }
    values.sort_unstable_by(order);
    TopAnswer { values }
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
        let value = |(slot, cell): (usize, crate::tally::Cell)| {
            let text = dictionaries[self.column].text(Tally::code(slot))?;
            Some((text.to_owned(), (cell.count, u64::from(cell.users))))
        };
        self.values.cells().filter_map(value).collect()
    }

    fn merge(into: &mut Counts, mut other: Counts) {
        if into.len() < other.len() {
            std::mem::swap(into, &mut other);
        }
        for (value, (count, users)) in other {
            let known = into.entry(value).or_default();
            known.0 += count;
            known.1 += users;
        }
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
