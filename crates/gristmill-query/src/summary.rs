//! Totals: events, users, sessions, events by type, first and last time; if asked for, events by
//! type in the range before too, from the same walk.

use std::collections::BTreeMap;
use std::ops::Range;

use gristmill_model::{ComparedSummary, Field, SummaryAnswer, SummaryQuery, TimeRange, Timestamp};
use gristmill_store::{ABSENT, Dictionaries, Dictionary, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, Fold, View};
use crate::marked::Marked;
use crate::select::{Matcher, Plan};
use crate::tally::{FewCounts, Tally, grow};

pub(crate) async fn answer(view: &View, query: &SummaryQuery) -> Result<SummaryAnswer, QueryError> {
    let plan = Plan::new(&query.selection)?;
    Ok(totals(view, plan, Timestamp(i64::MIN)).await?.summary)
}

/// The answer, and the event types of the range before.
pub(crate) async fn compared(
    view: &View,
    query: &SummaryQuery,
) -> Result<ComparedSummary, QueryError> {
    let mut plan = Plan::new(&query.selection)?;
    let Some((before, from)) = before(query.selection.range) else {
        let summary = totals(view, plan, Timestamp(i64::MIN)).await?.summary;
        return Ok(ComparedSummary { summary, previous_by_type: None });
    };
    plan.scan.range.start = Some(before);
    let Totals { summary, previous } = totals(view, plan, from).await?;
    Ok(ComparedSummary { summary, previous_by_type: Some(previous) })
}

/// Where the range of equal length before begins, and where it ends.
fn before(range: TimeRange) -> Option<(Timestamp, Timestamp)> {
    let (start, end) = (range.start?, range.end?);
    (start < end).then(|| (start.plus(-end.since(start)), start))
}

/// Walks through the events of a plan and counts those before `from` apart.
async fn totals(view: &View, mut plan: Plan, from: Timestamp) -> Result<Totals, QueryError> {
    let type_column = plan.column(&Field::EventType);
    let session_column = plan.column(&Field::SessionWithinUser);
    let start = || SummaryFold {
        matcher: plan.matcher.clone(),
        type_column,
        session_column,
        from,
        types: Vec::new(),
        previous_types: Vec::new(),
        sessions: SessionCount::default(),
        answer: SummaryAnswer::default(),
    };
    view.fold(&plan, start).await
}

#[derive(Default)]
struct Totals {
    summary: SummaryAnswer,
    previous: BTreeMap<String, u64>,
}

struct SummaryFold {
    matcher: Matcher,
    type_column: usize,
    session_column: usize,
    from: Timestamp,
    /// The events of each type's slot.
    types: Vec<u64>,
    previous_types: Vec<u64>,
    sessions: SessionCount,
    answer: SummaryAnswer,
}

impl Fold for SummaryFold {
    type Partial = Totals;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Totals {
        let types = &dictionaries[self.type_column];
        let mut summary = self.answer;
        summary.events_by_type = by_type(&self.types, types);
        summary.sessions = self.sessions.sessions;
        Totals { summary, previous: by_type(&self.previous_types, types) }
    }

    fn merge(into: &mut Totals, other: Totals) {
        let Totals { summary, previous } = other;
        into.summary.total_events += summary.total_events;
        into.summary.unique_users += summary.unique_users;
        into.summary.sessions += summary.sessions;
        add(&mut into.summary.events_by_type, summary.events_by_type);
        add(&mut into.previous, previous);
        if let (Some(first), Some(last)) = (summary.first_event, summary.last_event) {
            extend(&mut into.summary, first, last);
        }
    }
}

impl BatchFold for SummaryFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { matcher, types, previous_types, sessions, answer, .. } = self;
        let events = &batch.events;
        for types in [&mut *types, previous_types] {
            grow(types, events.dictionaries[self.type_column].len() + 1);
        }
        sessions.grow(events.dictionaries[self.session_column].len());
        let (types_of, sessions_of) =
            (events.columns[self.type_column], events.columns[self.session_column]);
        let kept = matcher.kept(events);
        let compares = self.from > Timestamp(i64::MIN);
        if !compares {
            count_types(types, types_of, 0..events.rows, kept);
        }
        for mut rows in batch.rows() {
            if compares {
                let is_before = |time: &i64| *time < self.from.0;
                let before = events.times[rows.clone()].partition_point(is_before);
                let first = rows.start + before;
                count_types(previous_types, types_of, rows.start..first, kept);
                count_types(types, types_of, first..rows.end, kept);
                rows.start = first;
            }
            let mut selected = rows.clone().filter(|row| kept.has(*row));
            let Some(first) = selected.next() else { continue };
            let last = selected.next_back().unwrap_or(first);
            sessions.add_user(sessions_of, rows.clone(), kept);
            answer.total_events += kept.count(rows) as u64;
            answer.unique_users += 1;
            extend(answer, Timestamp(events.times[first]), Timestamp(events.times[last]));
        }
        Ok(())
    }
}

/// Counts the events of each type.
fn count_types(counts: &mut [u64], codes: &[u32], rows: Range<usize>, kept: Marked<'_>) {
    if counts.len() > FewCounts::SLOTS || rows.len() < FewCounts::SLOTS {
        for row in rows {
            counts[Tally::slot(codes[row])] += u64::from(kept.has(row));
        }
        return;
    }
    let mut few = FewCounts::new();
    for row in rows {
        few.add(row, Tally::slot(codes[row]), u32::from(kept.has(row)));
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

fn add(into: &mut BTreeMap<String, u64>, other: BTreeMap<String, u64>) {
    for (event_type, count) in other {
        *into.entry(event_type).or_default() += count;
    }
}

fn extend(answer: &mut SummaryAnswer, first: Timestamp, last: Timestamp) {
    answer.first_event = Some(answer.first_event.map_or(first, |known| known.min(first)));
    answer.last_event = Some(answer.last_event.map_or(last, |known| known.max(last)));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, selection, worlds};

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
        #![proptest_config(ProptestConfig::with_cases(600))]
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
