//! Totals: events, users, sessions, events by type, first and last time.

use gristmill_model::{Field, SummaryAnswer, SummaryQuery, Timestamp};
use gristmill_store::{Dictionary, UserRun};

use crate::QueryError;
use crate::fold::{UserFold, View};
use crate::select::{Matcher, Plan};
use crate::tally::Tally;

pub(crate) async fn answer(view: &View, query: &SummaryQuery) -> Result<SummaryAnswer, QueryError> {
    let mut plan = Plan::new(&query.selection)?;
    let type_column = plan.column(&Field::EventType);
    let session_column = plan.column(&Field::SessionWithinUser);
    let start = || SummaryFold {
        matcher: plan.matcher.clone(),
        type_column,
        session_column,
        types: Tally::default(),
        sessions: Tally::default(),
        answer: SummaryAnswer::default(),
    };
    view.fold(&plan, start).await
}

struct SummaryFold {
    matcher: Matcher,
    type_column: usize,
    session_column: usize,
    types: Tally,
    sessions: Tally,
    answer: SummaryAnswer,
}

impl UserFold for SummaryFold {
    type Partial = SummaryAnswer;

    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { types, sessions, answer, .. } = self;
        types.next_user();
        types.grow(run.dictionaries[self.type_column].len() + 1);
        sessions.next_user();
        sessions.grow(run.dictionaries[self.session_column].len() + 1);
        let (type_codes, session_codes) =
            (run.columns[self.type_column], run.columns[self.session_column]);
        let (mut count, mut first, mut last) = (0, usize::MAX, 0);
        self.matcher.for_each(run, |row| {
            types.add(Tally::slot(type_codes[row]));
            sessions.add(Tally::slot(session_codes[row]));
            count += 1;
            first = first.min(row);
            last = row;
        });
        if count > 0 {
            answer.total_events += count;
            answer.unique_users += 1;
            extend(answer, Timestamp(run.times[first]), Timestamp(run.times[last]));
        }
        Ok(())
    }

    fn finish(self, dictionaries: &[Dictionary]) -> SummaryAnswer {
        let mut answer = self.answer;
        for (slot, cell) in self.types.cells() {
            if let Some(text) = dictionaries[self.type_column].text(Tally::code(slot)) {
                answer.events_by_type.insert(text.to_owned(), cell.count);
            }
        }
        // A session is one of a user, so every user of a session id counts.
        let named = self.sessions.cells().filter(|(slot, _)| *slot != 0);
        answer.sessions = named.map(|(_, cell)| u64::from(cell.users)).sum();
        answer
    }

    fn merge(into: &mut SummaryAnswer, other: SummaryAnswer) {
        into.total_events += other.total_events;
        into.unique_users += other.unique_users;
        into.sessions += other.sessions;
        for (event_type, count) in other.events_by_type {
            *into.events_by_type.entry(event_type).or_default() += count;
        }
        if let (Some(first), Some(last)) = (other.first_event, other.last_event) {
            extend(into, first, last);
        }
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
        #[test]
        fn agrees_with_counting(world in worlds(), selection in selection()) {
            let query = SummaryQuery { selection };
            let answer = world.ask(async |service| service.summary(query.clone()).await);
            prop_assert_eq!(answer.unwrap(), expected(&world, &query));
        }
    }
}
