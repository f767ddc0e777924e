//! One user's profile and newest events.
//!
//! Two walks over one snapshot: the first reads times and sessions only and finds the moment from
//! which the newest events are, the second reads whole events from there on, so that a long
//! history costs little memory.

use std::collections::BTreeSet;

use gristmill_model::{Field, Timestamp, UserAnswer, UserEvent, UserProfile, UserQuery, limits};
use gristmill_store::{Dictionary, UserRun};

use crate::QueryError;
use crate::fold::{UserFold, View};
use crate::select::{Matcher, Plan};

pub(crate) async fn answer(view: &View, query: &UserQuery) -> Result<UserAnswer, QueryError> {
    let (limit, most) = (query.limit, limits::USER_EVENTS);
    if limit > most {
        return Err(QueryError::Invalid(format!("`limit` must be at most {most}")));
    }
    let mut plan = Plan::new(&query.selection)?;
    plan.keep_user(&query.user)?;
    let mut newest = plan.clone();
    let sessions = plan.column(&Field::SessionId);
    let start = || ProfileFold { matcher: plan.matcher.clone(), sessions, limit, found: None };
    let Some((profile, since)) = view.fold(&plan, start).await? else {
        return Ok(UserAnswer { profile: None, events: Vec::new() });
    };
    newest.scan.range.start = Some(since);
    let columns = FIELDS.map(|field| newest.column(&field));
    let start = || NewestFold { matcher: newest.matcher.clone(), columns, limit, rows: Vec::new() };
    let events = view.fold(&newest, start).await?;
    Ok(UserAnswer { profile: Some(profile), events })
}

struct ProfileFold {
    matcher: Matcher,
    sessions: usize,
    limit: usize,
    found: Option<(UserProfile, Timestamp)>,
}

impl UserFold for ProfileFold {
    /// The profile, and the time of the oldest of the newest events.
    type Partial = Option<(UserProfile, Timestamp)>;

    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let (mut rows, mut sessions) = (Vec::new(), BTreeSet::new());
        let session_codes = run.columns[self.sessions];
        let session = &run.dictionaries[self.sessions];
        self.matcher.for_each(run, |row| {
            rows.push(row);
            sessions.insert(session_codes[row]);
        });
        let time = |row: &usize| Timestamp(run.times[*row]);
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            let profile = UserProfile {
                first_seen: time(first),
                last_seen: time(last),
                total_events: rows.len() as u64,
                total_sessions: sessions.iter().filter_map(|code| session.text(*code)).count()
                    as u64,
            };
            let oldest = rows.len().saturating_sub(self.limit).min(rows.len() - 1);
            self.found = Some((profile, time(&rows[oldest])));
        }
        Ok(())
    }

    fn finish(self, _dictionaries: &[Dictionary]) -> Self::Partial {
        self.found
    }

    fn merge(into: &mut Self::Partial, other: Self::Partial) {
        *into = into.take().or(other);
    }
}

/// The columns of a whole event, in the order in which [`NewestFold::finish`] takes them.
const FIELDS: [Field; 6] = [
    Field::EventId,
    Field::SessionId,
    Field::EventType,
    Field::Source,
    Field::PageUrl,
    Field::Properties,
];

struct NewestFold {
    matcher: Matcher,
    columns: [usize; 6],
    limit: usize,
    rows: Vec<(Timestamp, [u32; 6])>,
}

impl UserFold for NewestFold {
    type Partial = Vec<UserEvent>;

    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let mut rows = Vec::new();
        self.matcher.for_each(run, |row| rows.push(row));
        let newest = rows.into_iter().rev().take(self.limit);
        let codes = |row: usize| self.columns.map(|column| run.columns[column][row]);
        self.rows = newest.map(|row| (Timestamp(run.times[row]), codes(row))).collect();
        Ok(())
    }

    fn finish(self, dictionaries: &[Dictionary]) -> Vec<UserEvent> {
        let event = |(time, codes): (Timestamp, [u32; 6])| {
            let text = |field: usize| {
                let dictionary = &dictionaries[self.columns[field]];
                dictionary.text(codes[field]).map(str::to_owned)
            };
            UserEvent {
                id: text(0).unwrap_or_default(),
                session: text(1),
                event_type: text(2).unwrap_or_default(),
                time,
                source: text(3).unwrap_or_default(),
                page_url: text(4).unwrap_or_default(),
                properties: text(5).unwrap_or_default(),
            }
        };
        self.rows.into_iter().map(event).collect()
    }

    fn merge(into: &mut Vec<UserEvent>, other: Vec<UserEvent>) {
        into.extend(other);
    }
}

#[cfg(test)]
mod tests {
    use gristmill_model::Event;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{USERS, World, all, selection, worlds};

    fn expected(world: &World, query: &UserQuery) -> UserAnswer {
        let mut events = world.selected(&query.selection);
        events.retain(|event| event.user.as_str() == query.user);
        // The world keeps events in log order, and the sort is stable.
        events.sort_by_key(|event| event.time);
        let sessions: BTreeSet<&str> =
            events.iter().filter_map(|event| Some(event.session.as_ref()?.as_str())).collect();
        let profile = events.first().map(|first| UserProfile {
            first_seen: first.time,
            last_seen: events[events.len() - 1].time,
            total_events: events.len() as u64,
            total_sessions: sessions.len() as u64,
        });
        let event = |event: &&Event<'_>| UserEvent {
            id: event.id.to_string(),
            session: event.session.as_ref().map(ToString::to_string),
            event_type: event.event_type.to_string(),
            time: event.time,
            source: event.source.to_string(),
            page_url: event.page_url.to_string(),
            properties: event.properties.to_string(),
        };
        let newest = events.iter().rev().take(query.limit);
        UserAnswer { profile, events: newest.map(event).collect() }
    }

    proptest! {
        #[test]
        fn agrees_with_sorting(
            world in worlds(),
            selection in selection(),
            user in proptest::sample::select(USERS),
            limit in 0_usize..12,
        ) {
            let query = UserQuery { selection, user: user.to_owned(), limit };
            let answer = world.ask(async |service| service.user(query.clone()).await);
            prop_assert_eq!(answer.unwrap(), expected(&world, &query));
        }
    }

    #[test]
    fn too_many_events_are_refused() {
        let limit = limits::USER_EVENTS + 1;
        let query = UserQuery { selection: all(), user: "a".to_owned(), limit };
        let answer = World::default().ask(async |service| service.user(query.clone()).await);
        assert_eq!(answer.unwrap_err().to_string(), "`limit` must be at most 10000");
    }
}
