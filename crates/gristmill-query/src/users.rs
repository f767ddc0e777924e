//! The users who made selected events, in an order, a page at a time.
//!
//! Each shard keeps the first users behind the page's start in a heap that is as large as the
//! page, so that the number of users does not matter.

use std::collections::BinaryHeap;

use gristmill_model::{
    ListedUser, Timestamp, UserListAnswer, UserListQuery, UserOrder, UserPlace, limits,
};
use gristmill_store::{Dictionaries, UserRun};

use crate::QueryError;
use crate::fold::{Fold, UserFold, View};
use crate::select::{Matcher, Plan};

pub(crate) async fn answer(
    view: &View,
    query: &UserListQuery,
) -> Result<UserListAnswer, QueryError> {
    let (limit, most) = (query.limit, limits::LISTED_USERS);
    if !(1..=most).contains(&limit) {
        return Err(QueryError::Invalid(format!("`limit` must be from 1 to {most}")));
    }
    let plan = Plan::new(&query.selection)?;
    let start = || UsersFold {
        matcher: plan.matcher.clone(),
        min_events: query.min_events,
        max_events: query.max_events,
        order: query.order,
        after: query.after.clone(),
        // One more tells whether there is another page.
        most: limit + 1,
        total: 0,
        first: BinaryHeap::new(),
    };
    let mut page = view.fold(&plan, start).await?;
    page.users.sort_unstable();
    let has_more = page.users.len() > limit;
    page.users.truncate(limit);
    let users = page.users.into_iter().map(Entry::listed).collect();
    Ok(UserListAnswer { total_users: page.total, users, has_more })
}

/// A user, ordered by place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    rank: i64,
    user: String,
    events: u64,
    first: i64,
    last: i64,
}

impl Entry {
    fn listed(self) -> ListedUser {
        ListedUser {
            user: self.user,
            events: self.events,
            first_seen: Timestamp(self.first),
            last_seen: Timestamp(self.last),
        }
    }
}

/// The first users of some shards.
#[derive(Default)]
struct Page {
    most: usize,
    total: u64,
    users: Vec<Entry>,
}

struct UsersFold {
    matcher: Matcher,
    min_events: u64,
    max_events: u64,
    order: UserOrder,
    after: Option<UserPlace>,
    most: usize,
    total: u64,
    /// The greatest on top.
    first: BinaryHeap<Entry>,
}

impl Fold for UsersFold {
    type Partial = Page;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Page {
        Page { most: self.most, total: self.total, users: self.first.into_vec() }
    }

    fn merge(into: &mut Page, other: Page) {
        into.most = into.most.max(other.most);
        into.total += other.total;
        into.users.extend(other.users);
        if into.users.len() > into.most {
            into.users.select_nth_unstable(into.most);
            into.users.truncate(into.most);
        }
    }
}

impl UserFold for UsersFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let (mut events, mut first, mut last) = (0, 0, 0);
        self.matcher.for_each(&run.events, |row| {
            first = if events == 0 { row } else { first };
            last = row;
            events += 1;
        });
        if events == 0 || !(self.min_events..=self.max_events).contains(&events) {
            return Ok(());
        }
        self.total += 1;
        let (first, last) = (run.events.times[first], run.events.times[last]);
        let rank = self.order.rank(events, Timestamp(first), Timestamp(last));
        let is_before = |other: (i64, &str)| (rank, run.user) <= other;
        if self.after.as_ref().is_some_and(|place| is_before((place.rank, &place.user))) {
            return Ok(());
        }
        let entry = || Entry { rank, user: run.user.to_owned(), events, first, last };
        if self.first.len() < self.most {
            self.first.push(entry());
        } else if let Some(mut greatest) = self.first.peek_mut()
            && is_before((greatest.rank, &greatest.user))
        {
            *greatest = entry();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BTreeMap, HashSet};

    use gristmill_model::Selection;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, all, enough_worlds, event, selection, worlds};

    const ORDERS: &[UserOrder] =
        &[UserOrder::UserId, UserOrder::Events, UserOrder::FirstSeen, UserOrder::LastSeen];

    fn everybody(selection: Selection, order: UserOrder, limit: usize) -> UserListQuery {
        UserListQuery { selection, min_events: 1, max_events: u64::MAX, order, after: None, limit }
    }

    /// All users to list, in order.
    fn expected(world: &World, query: &UserListQuery) -> Vec<ListedUser> {
        let mut users: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        for event in world.selected(&query.selection) {
            users.entry(event.user.as_str()).or_default().push(event.time);
        }
        let listed = |(user, times): (&str, Vec<Timestamp>)| ListedUser {
            user: user.to_owned(),
            events: times.len() as u64,
            first_seen: *times.iter().min().unwrap(),
            last_seen: *times.iter().max().unwrap(),
        };
        let mut users: Vec<_> = users.into_iter().map(listed).collect();
        users.retain(|user| query.min_events <= user.events && user.events <= query.max_events);
        // The map gave them by id, and the sorts are stable.
        match query.order {
            UserOrder::UserId => {}
            UserOrder::Events => users.sort_by_key(|user| Reverse(user.events)),
            UserOrder::FirstSeen => users.sort_by_key(|user| Reverse(user.first_seen)),
            UserOrder::LastSeen => users.sort_by_key(|user| Reverse(user.last_seen)),
        }
        users
    }

    fn place(order: UserOrder, user: &ListedUser) -> UserPlace {
        let rank = order.rank(user.events, user.first_seen, user.last_seen);
        UserPlace { rank, user: user.user.clone() }
    }

    proptest! {
        #![proptest_config(enough_worlds(1))]
        #[test]
        fn pages_together_are_all_users_in_order(
            world in worlds(),
            selection in selection(),
            order in proptest::sample::select(ORDERS),
            (min_events, more_events) in (1..9_u64, 0..30_u64),
            limit in 1..5_usize,
        ) {
            let query = everybody(selection, order, limit);
            let max_events = min_events + more_events;
            let mut query = UserListQuery { min_events, max_events, ..query };
            let expected = expected(&world, &query);
            let mut users = Vec::new();
            loop {
                let answer = world.ask(async |service| service.users(query.clone()).await).unwrap();
                prop_assert_eq!(answer.total_users, expected.len() as u64);
                prop_assert!(answer.users.len() == limit || !answer.has_more);
                users.extend(answer.users);
                prop_assert_eq!(answer.has_more, users.len() < expected.len());
                let Some(last) = users.last().filter(|_| answer.has_more) else { break };
                query.after = Some(place(order, last));
            }
            prop_assert_eq!(users, expected);
        }
    }

    #[test]
    fn a_user_comes_once_while_events_arrive() {
        // Between two pages every user of the first one makes another event.
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut events: Vec<_> = names.iter().map(|user| event(user, "1".to_owned(), 1)).collect();
        let mut query = everybody(all(), UserOrder::UserId, 2);
        let mut met = HashSet::new();
        for round in 0..3 {
            let world = World::of(events.clone());
            let answer = world.ask(async |service| service.users(query.clone()).await).unwrap();
            for user in &answer.users {
                assert!(met.insert(user.user.clone()), "{user:?} comes twice");
                let name = names.iter().find(|name| **name == user.user).unwrap();
                events.push(event(name, format!("more {round}"), 5 + round));
            }
            query.after = answer.users.last().map(|user| place(query.order, user));
        }
        assert_eq!(met.len(), names.len());
    }

    #[test]
    fn a_limit_out_of_bounds_is_refused() {
        for limit in [0, limits::LISTED_USERS + 1] {
            let query = everybody(all(), UserOrder::UserId, limit);
            let answer = World::default().ask(async |service| service.users(query.clone()).await);
            assert_eq!(answer.unwrap_err().to_string(), "`limit` must be from 1 to 10000");
        }
    }
}
