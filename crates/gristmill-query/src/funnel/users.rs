//! Who reached a step of a funnel, page by page.
//!
//! Users are listed by name, and a page goes on after the last name of the page before. So a user
//! who is there all the time is never left out, whatever arrives between two pages. Each walk
//! keeps only as many names as the page has room for, and one more, which tells that it is not
//! the last.

use std::collections::BinaryHeap;
use std::ops::RangeInclusive;

use gristmill_model::{FunnelOutcome, FunnelUser, FunnelUsersAnswer, FunnelUsersQuery, limits};
use gristmill_store::{ABSENT, Dictionaries, UserRun};

use super::{Climber, Column, plan};
use crate::QueryError;
use crate::fold::{Fold, UserFold, View};
use crate::select::Matcher;

pub(crate) async fn answer(
    view: &View,
    query: &FunnelUsersQuery,
) -> Result<FunnelUsersAnswer, QueryError> {
    let (plan, column) = plan(&query.funnel)?;
    check(query)?;
    let last_level = match query.outcome {
        FunnelOutcome::Reached => query.funnel.steps.len(),
        FunnelOutcome::Dropped => query.step,
    };
    let start = || UsersFold {
        matcher: plan.matcher.clone(),
        climber: Climber::of(&query.funnel),
        levels: query.step..=last_level,
        after: query.after.clone(),
        column,
        room: query.limit + 1,
        first: BinaryHeap::new(),
    };
    let Page { mut users, .. } = view.fold(&plan, start).await?;
    let has_more = users.len() > query.limit;
    users.truncate(query.limit);
    let next = users.last().filter(|_| has_more).map(|last| last.user.clone());
    Ok(FunnelUsersAnswer { users, next })
}

fn check(query: &FunnelUsersQuery) -> Result<(), QueryError> {
    let last_step = match query.outcome {
        FunnelOutcome::Reached => query.funnel.steps.len(),
        FunnelOutcome::Dropped => query.funnel.steps.len() - 1,
    };
    let most = limits::FUNNEL_USERS;
    let wrong = if !(1..=most).contains(&query.limit) {
        format!("`limit` must be from 1 to {most}")
    } else if query.step < 1 || query.step > query.funnel.steps.len() {
        format!("`step` must be from 1 to {last_step}")
    } else if query.step > last_step {
        format!("`step` must be from 1 to {last_step}: nobody drops out after the last one")
    } else {
        return Ok(());
    };
    Err(QueryError::Invalid(wrong))
}

struct UsersFold {
    matcher: Matcher,
    climber: Climber,
    /// The levels of the users who are asked for.
    levels: RangeInclusive<usize>,
    after: Option<String>,
    column: Option<Column>,
    room: usize,
    /// The first users by name, with level and code; the last of them on top.
    first: BinaryHeap<(String, usize, u32)>,
}

impl Fold for UsersFold {
    type Partial = Page;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Page {
        let value = |code| {
            let dictionary = &dictionaries[self.column?.column];
            dictionary.text(code).map(str::to_owned)
        };
        let user = |(user, level, code)| FunnelUser { user, level, value: value(code) };
        let users = self.first.into_sorted_vec().into_iter().map(user).collect();
        Page { room: self.room, users }
    }

    fn merge(into: &mut Page, other: Page) {
        into.room = into.room.max(other.room);
        into.users.extend(other.users);
        into.users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        into.users.truncate(into.room);
    }
}

impl UserFold for UsersFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let is_before = self.after.as_deref().is_some_and(|after| run.user <= after);
        let is_full = self.first.len() == self.room;
        let is_behind =
            is_full && self.first.peek().is_some_and(|(last, ..)| run.user > last.as_str());
        if is_before || is_behind {
            return Ok(());
        }
        let sets = self.matcher.sets(&run.events);
        let Some(journey) = self.climber.journey(run.events.times, sets) else { return Ok(()) };
        if !self.levels.contains(&journey.level) {
            return Ok(());
        }
        let code =
            self.column.map_or(ABSENT, |column| journey.way.code(column, &run.events.columns));
        if is_full {
            self.first.pop();
        }
        self.first.push((run.user.to_owned(), journey.level, code));
        Ok(())
    }
}

/// The first users by name.
#[derive(Default)]
struct Page {
    room: usize,
    users: Vec<FunnelUser>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use gristmill_store::{MemoryStore, Store};

    use super::*;
    use crate::funnel::tests::funnel;
    use crate::testing::{World, batch, event};
    use crate::{Query, QueryConfig};

    fn first_page(limit: usize) -> FunnelUsersQuery {
        let funnel = funnel(gristmill_model::FunnelOrder::Ordered, "ab", 10);
        let outcome = FunnelOutcome::Dropped;
        FunnelUsersQuery { funnel, step: 1, outcome, limit, after: None }
    }

    #[tokio::test]
    async fn nobody_is_left_out_while_users_come_and_go() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(3));
        let config = QueryConfig { threads: 2, deadline: Duration::from_secs(60) };
        let service = Query::new(config, Arc::clone(&store));
        let mut next = 0;
        let mut make = async |kind: &'static str, users: &[&'static str]| {
            let event = |(id, user): (u64, &&'static str)| {
                let id = id.to_string();
                gristmill_model::Event { event_type: kind.into(), ..event(user, id, 1) }
            };
            let events: Vec<_> = (next..).zip(users).map(event).collect();
            store.commit(batch(next, &events)).await.unwrap();
            next += events.len() as u64;
        };
        let names = |answer: &FunnelUsersAnswer| {
            let names: Vec<_> = answer.users.iter().map(|user| user.user.clone()).collect();
            names.join(" ")
        };

        make("a", &["f", "b", "d", "h", ""]).await;
        let mut query = first_page(2);
        let first = service.funnel_users(query.clone()).await.unwrap();
        assert_eq!(names(&first), " b");
        // Some come before the next page, some into it, and one leaves.
        make("a", &["a", "c", "e"]).await;
        make("b", &["b", "f"]).await;
        query.after = first.next;
        let second = service.funnel_users(query.clone()).await.unwrap();
        assert_eq!(names(&second), "c d");
        query.after = second.next;
        let third = service.funnel_users(query.clone()).await.unwrap();
        assert_eq!(names(&third), "e h");
        assert_eq!(third.next, None);
    }

    #[test]
    fn wrong_steps_are_refused() {
        let world = World::of(["a", "b"].map(|user| event(user, "1".to_owned(), 1)).into());
        let ask = |query: &FunnelUsersQuery| {
            let answer = world.ask(async |service| service.funnel_users(query.clone()).await);
            answer.map_err(|error| error.to_string())
        };
        let query = first_page(1);
        let after = ask(&query).unwrap().next;
        let next = FunnelUsersQuery { after, ..query.clone() };
        assert_eq!(ask(&next).unwrap().users[0].user, "b");

        let wrong = |step, outcome, limit| {
            ask(&FunnelUsersQuery { step, outcome, limit, ..query.clone() }).unwrap_err()
        };
        let (reached, dropped) = (FunnelOutcome::Reached, FunnelOutcome::Dropped);
        assert_eq!(wrong(0, reached, 1), "`step` must be from 1 to 2");
        assert_eq!(wrong(3, reached, 1), "`step` must be from 1 to 2");
        assert!(wrong(2, dropped, 1).starts_with("`step` must be from 1 to 1: nobody drops out"));
        assert_eq!(wrong(1, reached, 0), "`limit` must be from 1 to 10000");
        assert_eq!(wrong(1, reached, 10_001), "`limit` must be from 1 to 10000");
    }
}
