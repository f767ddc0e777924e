//! Lists of users.

use crate::{Selection, Timestamp};

/// The users who made selected events.
#[derive(Clone, Debug)]
pub struct UserListQuery {
    /// Which events. A user without any is not listed.
    pub selection: Selection,
    /// The fewest selected events that a listed user has.
    pub min_events: u64,
    /// The most.
    pub max_events: u64,
    /// In which order.
    pub order: UserOrder,
    /// Only users behind this place.
    pub after: Option<UserPlace>,
    /// How many users at most.
    pub limit: usize,
}

/// An order of users. Ties are in order of user ids, byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserOrder {
    /// By user id, byte by byte.
    UserId,
    /// Most events first.
    Events,
    /// Latest first event first.
    FirstSeen,
    /// Latest last event first.
    LastSeen,
}

impl UserOrder {
    /// What users are ordered by, ascending, before their ids.
    pub fn rank(self, events: u64, first_seen: Timestamp, last_seen: Timestamp) -> i64 {
        match self {
            UserOrder::UserId => 0,
            UserOrder::Events => -(events as i64),
            UserOrder::FirstSeen => -first_seen.0,
            UserOrder::LastSeen => -last_seen.0,
        }
    }
}

/// A user's place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPlace {
    /// The user's [`rank`](UserOrder::rank).
    pub rank: i64,
    /// Who.
    pub user: String,
}

/// Answers a `UserListQuery`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserListAnswer {
    /// How many users there are to list, on all pages.
    pub total_users: u64,
    /// The users of this page, in order.
    pub users: Vec<ListedUser>,
    /// Whether there are users behind this page.
    pub has_more: bool,
}

/// A user of a list, told from the selected events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// Who.
    pub user: String,
    /// How many events.
    pub events: u64,
    /// The earliest event's time.
    pub first_seen: Timestamp,
    /// The latest event's time.
    pub last_seen: Timestamp,
}
