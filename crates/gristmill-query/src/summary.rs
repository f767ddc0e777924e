//! Totals: events, users, sessions, events by type, first and last time; if asked for, events by
//! type in the range before too.

use std::collections::BTreeMap;
use std::ops::Range;

use gristmill_model::{ComparedSummary, Field, SummaryAnswer, SummaryQuery, TimeRange, Timestamp};
use gristmill_store::{ABSENT, Dictionaries, Dictionary, Events, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, EventFold, Fold, PieceFold, View};
use crate::marked::Marked;
use crate::select::{Matcher, Plan};
use crate::span::event_span;
use crate::tally::{FewCounts, Tally, grow};

pub(crate) async fn answer(view: &View, query: &SummaryQuery) -> Result<SummaryAnswer, QueryError> {
    let plan = Plan::new(&query.selection)?;
    let mut answer = totals(view, plan.clone()).await?;
    // When the first and the last of them happened is known of most files without a look at events.
    if let Some((first, last)) = event_span(view, &plan).await? {
        (answer.first_event, answer.last_event) = (Some(Timestamp(first)), Some(Timestamp(last)));
    }
    Ok(answer)
}

/// The answer, and the event types of the range before.
pub(crate) async fn compared(
    view: &View,
    query: &SummaryQuery,
) -> Result<ComparedSummary, QueryError> {
    let summary = answer(view, query).await?;
    let previous_by_type = match before(query.selection.range) {
        None => None,
        Some(range) => {
            let mut plan = Plan::new(&query.selection)?;
            plan.scan.range = range;
            Some(types(view, plan).await?)
        }
    };
    Ok(ComparedSummary { summary, previous_by_type })
}

/// The range of equal length before.
fn before(range: TimeRange) -> Option<TimeRange> {
    let (start, end) = (range.start?, range.end?);
    let before = TimeRange { start: Some(start.plus(-end.since(start))), end: Some(start) };
    (start < end).then_some(before)
}

/// Counts users, sessions and events in one walk, and the events of each type in another: rows that
/// need not tell both are fewer.
async fn totals(view: &View, plan: Plan) -> Result<SummaryAnswer, QueryError> {
    let events_by_type = types(view, plan.clone()).await?;
    let mut plan = plan;
    let column = plan.column(&Field::SessionWithinUser);
    plan.tell_no_moments();
    let start = || UserCount {
        matcher: plan.matcher.clone(),
        column,
        sessions: SessionCount::default(),
        answer: SummaryAnswer::default(),
    };
    let answer = view.refold(&plan, (), start).await?;
    Ok(SummaryAnswer { events_by_type, ..answer })
}

/// How many events of each type there are.
async fn types(view: &View, mut plan: Plan) -> Result<BTreeMap<String, u64>, QueryError> {
    let column = plan.column(&Field::EventType);
    plan.tell_hours();
    let start = || TypeCount { matcher: plan.matcher.clone(), column, types: Vec::new() };
    view.fold_events(&plan, start).await
}

struct UserCount {
    matcher: Matcher,
    /// The column of sessions.
    column: usize,
    sessions: SessionCount,
    answer: SummaryAnswer,
}

impl Fold for UserCount {
    type Partial = SummaryAnswer;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> SummaryAnswer {
        SummaryAnswer { sessions: self.sessions.sessions, ..self.answer }
    }

    fn merge(into: &mut SummaryAnswer, other: SummaryAnswer) {
        into.total_events += other.total_events;
        into.unique_users += other.unique_users;
        into.sessions += other.sessions;
    }
}

impl BatchFold for UserCount {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { matcher, column, sessions, answer } = self;
        let events = &batch.events;
        sessions.grow(events.dictionaries[*column].len());
        let kept = matcher.kept(events);
        for rows in batch.rows() {
            sessions.add_user(events.columns[*column], rows.clone(), kept);
            let count = kept.count(rows);
            answer.total_events += count as u64;
            answer.unique_users += u64::from(count > 0);
        }
        Ok(())
    }
}

impl PieceFold for UserCount {
    type Setting = ();

    fn matcher(&mut self) -> &mut Matcher {
        &mut self.matcher
    }

    /// It has no events by type.
    fn bytes(_: &SummaryAnswer) -> usize {
        size_of::<SummaryAnswer>()
    }
}

struct TypeCount {
    matcher: Matcher,
    /// The column of event types.
    column: usize,
    /// The events of each type's slot.
    types: Vec<u64>,
}

impl Fold for TypeCount {
    type Partial = BTreeMap<String, u64>;

    fn finish(self, dictionaries: Dictionaries<'_>) -> BTreeMap<String, u64> {
        by_type(&self.types, &dictionaries[self.column])
    }

    fn merge(into: &mut BTreeMap<String, u64>, other: BTreeMap<String, u64>) {
        for (event_type, count) in other {
            *into.entry(event_type).or_default() += count;
        }
    }
}

impl EventFold for TypeCount {
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        let Self { matcher, column, types } = self;
        grow(types, events.dictionaries[*column].len() + 1);
        let kept = matcher.kept(events);
        if events.times.is_empty() {
            // Rows that no hour has are not of the walk.
            for hour in events.hours {
                count_types(types, events.columns[*column], hour.rows(), kept);
            }
        } else {
            count_types(types, events.columns[*column], 0..events.rows, kept);
        }
        Ok(())
    }
}

/// Counts the events of each type.
fn count_types(counts: &mut [u64], codes: &[u32], rows: Range<usize>, kept: Marked<'_>) {
    if counts.len() > FewCounts::SLOTS || rows.len() < FewCounts::SLOTS {
        for row in rows {
            counts[Tally::slot(codes[row])] += u64::from(kept.events(row));
        }
        return;
    }
    let mut few = FewCounts::new();
    for row in rows {
        few.add(row, Tally::slot(codes[row]), kept.events(row));
    }
    few.sums().for_each(|(slot, count)| counts[slot] += count);
}

/// Counts the sessions of users who come one after another.
#[derive(Default)]
struct SessionCount {
    /// The user who had an event of each code last.
    latest_user: Vec<u32>,
    user: u32,
    sessions: u64,
}

impl SessionCount {
    /// Makes room for codes below `codes`.
    fn grow(&mut self, codes: usize) {
        grow(&mut self.latest_user, codes);
    }

    /// Counts the sessions that some of the next user's events are of.
    fn add_user(&mut self, codes: &[u32], rows: Range<usize>, kept: Marked<'_>) {
        self.user += 1;
        let mut latest = ABSENT;
        for row in rows {
            let code = codes[row];
            // Events of a session mostly follow each other.
            if code != latest && code != ABSENT && kept.has(row) {
                latest = code;
                let user = &mut self.latest_user[code as usize];
                self.sessions += u64::from(*user != self.user);
                *user = self.user;
            }
        }
    }
}

fn by_type(counts: &[u64], types: &Dictionary) -> BTreeMap<String, u64> {
    let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let text =
        |(slot, count): (usize, &u64)| Some((types.text(Tally::code(slot))?.to_owned(), *count));
    counted.filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, enough_worlds, selection, worlds};

    fn expected(world: &World, query: &SummaryQuery) -> SummaryAnswer {
        let events = world.selected(&query.selection);
        let mut answer = SummaryAnswer {
            total_events: events.len() as u64,
            first_event: events.iter().map(|event| event.time).min(),
            last_event: events.iter().map(|event| event.time).max(),
            ..SummaryAnswer::default()
        };
        let users: BTreeSet<_> = events.iter().map(|event| event.user.as_str()).collect();
        let sessions: BTreeSet<_> = events
            .iter()
            .filter_map(|event| Some((event.user.as_str(), event.session.as_ref()?.as_str())))
            .collect();
        answer.unique_users = users.len() as u64;
        answer.sessions = sessions.len() as u64;
        for event in &events {
            *answer.events_by_type.entry(event.event_type.to_string()).or_default() += 1;
        }
        answer
    }

    proptest! {
        #![proptest_config(enough_worlds(2))]
        #[test]
        fn agrees_with_counting(world in worlds(), selection in selection()) {
            let query = SummaryQuery { selection };
            let answer = world.ask(async |service| service.summary(query.clone()).await);
            prop_assert_eq!(answer.unwrap(), expected(&world, &query));
        }

        #[test]
        fn comparing_agrees_with_counting(world in worlds(), selection in selection()) {
            let query = SummaryQuery { selection };
            let answer = world.ask(async |service| service.compared_summary(query.clone()).await);
            let answer = answer.unwrap();
            prop_assert_eq!(answer.summary, expected(&world, &query));
            let mut earlier = query;
            let range = &mut earlier.selection.range;
            match (range.start, range.end) {
                (Some(start), Some(end)) if start < end => {
                    let before = Timestamp(start.0 - (end.0 - start.0));
                    *range = TimeRange { start: Some(before), end: Some(start) };
                    let types = expected(&world, &earlier).events_by_type;
                    prop_assert_eq!(answer.previous_by_type, Some(types));
                }
                _ => prop_assert_eq!(answer.previous_by_type, None),
            }
        }
    }
}
