//! Answers.

use std::collections::BTreeMap;

use crate::Timestamp;

/// Answers a `SummaryQuery`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryAnswer {
    /// How many events.
    pub total_events: u64,
    /// How many distinct users.
    pub unique_users: u64,
    /// How many distinct (user, session id).
    pub sessions: u64,
    /// Events of each type.
    pub events_by_type: BTreeMap<String, u64>,
    /// The earliest event's time.
    pub first_event: Option<Timestamp>,
    /// The latest event's time.
    pub last_event: Option<Timestamp>,
}

/// Answers a `SeriesQuery`: points ordered by group, then time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesAnswer {
    /// The points. Without grouping, every bucket of the range is there, empty ones with 0; with
    /// grouping, only buckets that have events.
    pub points: Vec<SeriesPoint>,
}

/// One bucket of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesPoint {
    /// Where the bucket starts.
    pub start: Timestamp,
    /// The value of the grouping field; `None` if not grouped or if the field is absent.
    pub group: Option<String>,
    /// What was counted.
    pub value: u64,
}

/// Answers a `TopQuery`: most events first, ties by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopAnswer {
    /// The values.
    pub values: Vec<TopValue>,
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopValue {
    /// The value.
    pub value: String,
    /// How many events have it.
    pub count: u64,
    /// How many distinct users made them.
    pub unique_users: u64,
}

/// Answers a `UserQuery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAnswer {
    /// The profile; `None` if the user has no selected event.
    pub profile: Option<UserProfile>,
    /// The newest events, newest first.
    pub events: Vec<UserEvent>,
}

/// What is known of a user from the selected events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserProfile {
    /// The earliest event's time.
    pub first_seen: Timestamp,
    /// The latest event's time.
    pub last_seen: Timestamp,
    /// How many events.
    pub total_events: u64,
    /// How many distinct session ids.
    pub total_sessions: u64,
}

/// An event in a user's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    /// The event's id.
    pub id: String,
    /// Its session, if any.
    pub session: Option<String>,
    /// Its type.
    pub event_type: String,
    /// When it happened.
    pub time: Timestamp,
    /// The application that sent it.
    pub source: String,
    /// The page.
    pub page_url: String,
    /// The text of a JSON object.
    pub properties: String,
}

/// Answers a `RetentionQuery`: one cohort per bucket, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionAnswer {
    /// The cohorts, also those that nobody belongs to.
    pub cohorts: Vec<RetentionCohort>,
}

/// The users who entered in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionCohort {
    /// The first moment of the bucket.
    pub start: Timestamp,
    /// How many users entered.
    pub users: u64,
    /// How many of them were retained in this bucket, in the next, and so on to the last.
    pub retained: Vec<u64>,
}
