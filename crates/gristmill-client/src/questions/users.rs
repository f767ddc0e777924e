//! Who: one user, and lists of users.

use gristmill_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::asked::encode;
use super::selection::{maybe_time, time};
use super::{Asked, Question, Selection};

/// One user: a profile, and a page of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// Who.
    pub user_id: String,
    /// Events on a page; 100 if missing.
    pub limit: Option<usize>,
    /// `desc`, newest first, if missing; or `asc`.
    pub order: Option<String>,
    /// A token of another page.
    pub page_token: Option<String>,
    /// Whether sessions are told.
    pub include_sessions: Option<bool>,
    /// An IANA zone; UTC if missing.
    pub tz: Option<String>,
    /// Which events.
    pub select: Selection,
}

impl User {
    /// The user of this id.
    pub fn of(user_id: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), ..Self::default() }
    }
}

impl Question for User {
    type Answer = UserAnswer;

    fn asked(&self) -> Asked {
        let mut path = "/v1/analytics/users/".to_owned();
        encode(&self.user_id, &mut path);
        let (limit, sessions) = (self.limit.map(|n| n.to_string()), self.include_sessions);
        let sessions = sessions.map(|told| if told { "true" } else { "false" });
        self.select
            .add_to(Asked::get(&path))
            .with_some("limit", limit.as_deref())
            .with_some("order", self.order.as_deref())
            .with_some("page_token", self.page_token.as_deref())
            .with_some("include_sessions", sessions)
            .with_some("tz", self.tz.as_deref())
    }
}

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct UserAnswer {
    pub user_profile: UserProfile,
    pub metrics: UserMetrics,
    pub events: Vec<StoredEvent>,
    pub sessions: Vec<UserSession>,
    pub next_page_token: Option<String>,
    pub previous_page_token: Option<String>,
}

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct UserProfile {
    pub user_id: String,
    #[serde(deserialize_with = "maybe_time")]
    pub first_seen: Option<Timestamp>,
    #[serde(deserialize_with = "maybe_time")]
    pub last_seen: Option<Timestamp>,
    pub total_sessions: u64,
    pub total_events: u64,
}

/// Numbers about a user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct UserMetrics {
    pub engagement_score: f64,
    pub days_active: u64,
    pub avg_session_duration: Option<f64>,
    pub total_transactions: u64,
    pub total_revenue: Option<f64>,
    pub top_pages: Vec<UserPage>,
}

/// A page that a user was on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct UserPage {
    pub page_url: String,
    pub count: u64,
}

/// An event as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct StoredEvent {
    pub id: String,
    pub user_id: String,
    pub session_id: Option<String>,
    pub event_type: String,
    #[serde(deserialize_with = "time")]
    pub timestamp: Timestamp,
    pub source: Option<String>,
    pub page_url: Option<String>,
    pub properties: Option<Map<String, Value>>,
}

/// A session of a user. Members beside these depend on the server's version.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct UserSession {
    pub session_id: String,
    #[serde(deserialize_with = "maybe_time")]
    pub start_time: Option<Timestamp>,
    #[serde(deserialize_with = "maybe_time")]
    pub end_time: Option<Timestamp>,
    pub event_count: u64,
}

/// The users who have a selected event.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UserList {
    /// At least so many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_events: Option<u64>,
    /// At most so many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_events: Option<u64>,
    /// `user_id` if missing, `events`, `last_seen` or `first_seen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// Users on a page; 100 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The token of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
    /// Which events.
    #[serde(flatten)]
    pub select: Selection,
}

impl Question for UserList {
    type Answer = UserListAnswer;

    fn asked(&self) -> Asked {
        Asked::post("/v1/analytics/users", self)
    }
}

/// A page of users.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct UserListAnswer {
    pub users: Vec<ListedUser>,
    pub total_users: u64,
    pub next_page_token: Option<String>,
}

/// A user of a list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct ListedUser {
    pub user_id: String,
    pub events: u64,
    #[serde(deserialize_with = "maybe_time")]
    pub first_seen: Option<Timestamp>,
    #[serde(deserialize_with = "maybe_time")]
    pub last_seen: Option<Timestamp>,
}
