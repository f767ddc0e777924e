//! Totals: events, users, sessions, events by type, first and last time; if asked for, events by
//! type in the range before too, from the same walk.

use std::collections::BTreeMap;

use gristmill_model::{ComparedSummary, Field, SummaryAnswer, SummaryQuery, TimeRange, Timestamp};
use gristmill_store::{ABSENT, Dictionary, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, Fold, View};
use crate::select::{Matcher, Plan};
use crate::tally::{Cell, Tally};

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
        types: Tally::default(),
        previous_types: Tally::default(),
        sessions: Tally::default(),
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
    types: Tally,
    previous_types: Tally,
    sessions: Tally,
    answer: SummaryAnswer,
}

impl Fold for SummaryFold {
    type Partial = Totals;

    fn finish(self, dictionaries: &[Dictionary]) -> Totals {
        let types = &dictionaries[self.type_column];
        let mut summary = self.answer;
        summary.events_by_type = by_type(&self.types, types);
        // A session is one of a user, so every user of a session id counts.
        let named = self.sessions.cells().filter(|(slot, _)| *slot != 0);
        summary.sessions = named.map(|(_, cell)| u64::from(cell.users)).sum();
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
            types.grow(events.dictionaries[self.type_column].len() + 1);
        }
        sessions.grow(events.dictionaries[self.session_column].len() + 1);
        let (type_codes, session_codes) =
            (events.columns[self.type_column], events.columns[self.session_column]);
        let kept = matcher.kept(events);
        for rows in batch.rows() {
            let before = events.times[rows.clone()].partition_point(|time| *time < self.from.0);
            let from = rows.start + before;
            for row in (rows.start..from).filter(|row| kept.has(*row)) {
                previous_types.add(Tally::slot(type_codes[row]));
            }
            sessions.next_user();
            let (mut count, mut first, mut last) = (0, usize::MAX, 0);
            let mut session = ABSENT;
            for row in (from..rows.end).filter(|row| kept.has(*row)) {
                types.add(Tally::slot(type_codes[row]));
                // Events of a session mostly follow each other, and only its users are counted.
                if session_codes[row] != session {
                    session = session_codes[row];
                    sessions.add(Tally::slot(session));
                }
                count += 1;
                first = first.min(row);
                last = row;
            }
            if count > 0 {
                answer.total_events += count;
                answer.unique_users += 1;
                extend(answer, Timestamp(events.times[first]), Timestamp(events.times[last]));
            }
        }
        Ok(())
    }
}

fn by_type(counts: &Tally, types: &Dictionary) -> BTreeMap<String, u64> {
    let count =
        |(slot, cell): (usize, Cell)| Some((types.text(Tally::code(slot))?.to_owned(), cell.count));
    counts.cells().filter_map(count).collect()
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
