use std::time::Duration;

use gristmill_model::{Event, FunnelOrder, FunnelQuery, FunnelStep, UserId};
use gristmill_store::{Store as _, Work};

use super::*;
use crate::columnar_testing::{Columnar, Layout, Memory};
use crate::testing::{all, batch, event};
use crate::{Query, QueryConfig, measured};

const USERS: u64 = 4_000;

/// A store in which each user has done `a` and then `b`, and who asks it.
struct Town {
    columnar: Columnar,
    query: Query,
    committed: u64,
}

impl Town {
    async fn new() -> Self {
        let columnar = Columnar::open(Layout::Merged, Memory::Digests);
        let config = QueryConfig { threads: 2, deadline: Duration::from_secs(60) };
        let query = Query::new(config, Arc::clone(&columnar.store) as _);
        let mut town = Self { columnar, query, committed: 0 };
        for user in 0..USERS {
            town.visit(&format!("user {user}"), 0).await;
        }
        town.columnar.store.compact().await.unwrap();
        town
    }

    /// A user does `a` and then `b`.
    async fn visit(&mut self, user: &str, time: i64) {
        let visit = |event_type: &'static str, time: i64| Event {
            user: UserId::new(user.to_owned()),
            event_type: event_type.into(),
            ..event("", format!("{event_type} {time}"), time)
        };
        let commit = batch(self.committed, &[visit("a", time), visit("b", time + 1)]);
        self.columnar.store.commit(commit).await.unwrap();
        self.committed += 2;
    }

    /// How many have done both, and what it took to find out.
    async fn ask(&self) -> (u64, Work) {
        let step = |event_type: &str| FunnelStep {
            name: event_type.to_owned(),
            event_type: event_type.to_owned(),
            filters: Vec::new(),
        };
        let query = FunnelQuery {
            selection: all(),
            steps: vec![step("a"), step("b")],
            order: FunnelOrder::Ordered,
            window: 1_000_000,
            step_timeout: None,
            exclusions: Vec::new(),
            breakdown: None,
        };
        let (answer, cost) = Box::pin(measured(self.query.funnel(query))).await;
        let answer = answer.unwrap();
        assert_eq!(answer.total_users, answer.steps[1].users);
        (answer.total_users, cost.work)
    }
}

#[tokio::test]
async fn only_pieces_that_have_changed_are_walked_through_again() {
    let mut town = Town::new().await;
    let recall = Recall::new(&RecallRoom::of(1 << 20));
    let (users, first) = recall.during(town.ask()).await;
    assert_eq!(users, USERS);
    let (users, nothing) = recall.during(town.ask()).await;
    assert_eq!((users, nothing.rows), (USERS, 0));

    town.visit("user 1", 1_000).await;
    town.visit("somebody else", 0).await;
    let (users, second) = recall.during(town.ask()).await;
    assert_eq!(users, USERS + 1);
    assert!(second.rows > 0 && second.rows * 20 < first.rows, "{second:?} of {first:?}");

    // What becomes of a hot tail and its files is no change.
    town.columnar.store.compact().await.unwrap();
    let (users, third) = recall.during(town.ask()).await;
    assert_eq!((users, third.rows), (USERS + 1, 0));

    let (users, plain) = town.ask().await;
    assert_eq!(users, USERS + 1);
    assert!(plain.rows >= first.rows / 2, "{plain:?}");
}

#[tokio::test]
async fn after_many_changes_all_is_walked_through() {
    let mut town = Town::new().await;
    let recall = Recall::new(&RecallRoom::of(1 << 20));
    recall.during(town.ask()).await;
    for user in 0..USERS / 8 {
        town.visit(&format!("new {user}"), 0).await;
    }
    let (users, work) = recall.during(town.ask()).await;
    assert_eq!(users, USERS + USERS / 8);
    assert!(work.rows > USERS, "{work:?}");
}

#[tokio::test]
async fn what_finds_no_room_is_asked_as_a_whole() {
    let mut town = Town::new().await;
    // There is too much of it, or others have taken the room.
    for room in [RecallRoom::of(0), RecallRoom::of(1 << 20)] {
        let all = room.left.available_permits() as u32;
        let _others = Arc::clone(&room.left).try_acquire_many_owned(all).unwrap();
        let recall = Recall::new(&room);
        let (users, first) = recall.during(town.ask()).await;
        assert!(!recall.keeps_any());
        assert!(recall.without_room.load(Relaxed) > 0, "it is not tried again at once");
        town.visit(&format!("user {users}"), 0).await;
        let (later, second) = recall.during(town.ask()).await;
        assert_eq!(later, users + 1);
        assert!(second.rows >= first.rows / 2, "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn what_is_too_much_after_a_change_is_joined_with_what_was_kept() {
    let mut town = Town::new().await;
    let recall = Recall::new(&RecallRoom::of(1 << 20));
    let (_, first) = recall.during(town.ask()).await;
    town.visit("user 7", 1_000).await;
    town.visit("somebody else", 0).await;
    let crowded = Recall { room: RecallRoom::of(0), ..Arc::into_inner(recall).unwrap() };
    let crowded = Arc::new(crowded);
    let (users, work) = crowded.during(town.ask()).await;
    assert_eq!(users, USERS + 1);
    // Only the second of its walks is through all of them.
    assert!(work.rows < first.rows, "{work:?} after {first:?}");
    assert!(!crowded.keeps_any());
}

#[tokio::test]
async fn after_some_answers_room_is_looked_for_again() {
    let town = Town::new().await;
    let room = RecallRoom::of(1 << 20);
    let all = room.left.available_permits() as u32;
    let others = Arc::clone(&room.left).try_acquire_many_owned(all).unwrap();
    let recall = Recall::new(&room);
    recall.during(town.ask()).await;
    drop(others);
    for _ in 1..NO_ROOM_FOR {
        recall.during(async {}).await;
    }
    recall.during(town.ask()).await;
    assert!(recall.keeps_any());
}

#[tokio::test]
async fn room_is_given_back() {
    let town = Town::new().await;
    let room = RecallRoom::of(1 << 20);
    let recall = Recall::new(&room);
    for _ in 0..3 {
        recall.during(town.ask()).await;
    }
    assert!(room.left.available_permits() < room.bytes / ROOM_UNIT);
    // Walks that an answer does not use are forgotten.
    recall.during(async {}).await;
    assert_eq!(room.left.available_permits(), room.bytes / ROOM_UNIT);
    recall.during(town.ask()).await;
    drop(recall);
    assert_eq!(room.left.available_permits(), room.bytes / ROOM_UNIT);
}
