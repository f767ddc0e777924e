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
