//! One user: what is known of it, and its events page by page.

use crate::{Micros, Selection, Timestamp};

/// One user's profile and a page of the user's events.
#[derive(Clone, Debug)]
pub struct UserQuery {
    /// Which events, of this user only.
    pub selection: Selection,
    /// Who.
    pub user: String,
    /// The IANA time zone in which days are cut.
    pub zone: String,
    /// The time now. Engagement looks back from here, or from the end of the selection's range if
    /// that is earlier.
    pub now: Timestamp,
    /// Which of the events are given.
    pub page: EventPage,
    /// How many events at most.
    pub limit: usize,
}

/// Which of a user's events a page holds. Events are in order of time, and those of one moment in
/// the order in which they were taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPage {
    /// The last ones.
    Newest,
    /// The first ones.
    Oldest,
    /// The last ones before an event.
    OlderThan(EventPlace),
    /// The first ones after an event.
    NewerThan(EventPlace),
}

/// An event's place among those of its user. New events do not move it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlace {
    /// When it happened.
    pub time: Timestamp,
    /// Its id, which no other event of the user at that time has.
    pub id: String,
}

/// Answers a `UserQuery`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserAnswer {
    /// The profile; `None` if the user has no selected event.
    pub profile: Option<UserProfile>,
    /// The events of the page, oldest first.
    pub events: Vec<UserEvent>,
    /// Whether there are selected events before those of the page.
    pub has_older: bool,
    /// Whether there are selected events after those of the page.
    pub has_newer: bool,
}

/// What is known of a user from the selected events.
#[derive(Clone, Debug, PartialEq)]
pub struct UserProfile {
    /// The earliest event's time.
    pub first_seen: Timestamp,
    /// The latest event's time.
    pub last_seen: Timestamp,
    /// How many events.
    pub total_events: u64,
    /// How many distinct session ids.
    pub total_sessions: u64,
    /// The sessions that began last, latest first.
    pub sessions: Vec<UserSession>,
    /// The mean time from the first to the last event of a session; `None` without sessions.
    pub mean_session_duration: Option<Micros>,
    /// How many days have an event.
    pub active_days: u64,
    /// How many of the last [`ENGAGEMENT_DAYS`](Self::ENGAGEMENT_DAYS) days have an event.
    pub engaged_days: u64,
    /// How many events are transactions.
    pub transactions: u64,
    /// The sum of their amounts, refunds subtracted, whatever their currency.
    pub revenue: f64,
    /// The pages with the most events, most first, ties by page.
    pub top_pages: Vec<UserPage>,
}

impl UserProfile {
    /// How many days engagement looks back, today included.
    pub const ENGAGEMENT_DAYS: u64 = 28;

    /// The share of the last [`ENGAGEMENT_DAYS`](Self::ENGAGEMENT_DAYS) days that have an event.
    pub fn engagement(&self) -> f64 {
        self.engaged_days as f64 / Self::ENGAGEMENT_DAYS as f64
    }
}

/// The events of a user with one session id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSession {
    /// The session id.
    pub id: String,
    /// The first event's time.
    pub start: Timestamp,
    /// The last event's time.
    pub end: Timestamp,
    /// How many events.
    pub events: u64,
}

/// A page that a user was on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPage {
    /// The page.
    pub page_url: String,
    /// How many events the user made there.
    pub events: u64,
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
