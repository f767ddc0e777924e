//! Questions.

use std::borrow::Cow;

use crate::{Filter, ProjectId, TimeRange};

/// Something an event can be filtered or grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The event type.
    EventType,
    /// The user id.
    UserId,
    /// The session id; absent where the event has none.
    SessionId,
    /// The session id, for telling one user's sessions apart: its codes hold within one user's
    /// run only and have no texts, so that a walk over many users need not remember all sessions.
    SessionWithinUser,
    /// The source.
    Source,
    /// The page.
    PageUrl,
    /// The dialect's name.
    Origin,
    /// The event id.
    EventId,
    /// The raw JSON text of all properties.
    Properties,
    /// One property by its key: a string's text, or the JSON text of any other value. Absent
    /// where the event has no such key.
    Property(String),
}

impl Field {
    /// The field that a name means: built-in fields first, then properties.
    pub fn from_name(name: &str) -> Field {
        match name {
            "event_type" => Field::EventType,
            "user_id" => Field::UserId,
            "session_id" => Field::SessionId,
            "source" => Field::Source,
            "page_url" => Field::PageUrl,
            "origin" => Field::Origin,
            "id" | "event_id" => Field::EventId,
            other => Field::Property(other.strip_prefix("properties.").unwrap_or(other).to_owned()),
        }
    }

    /// The name that labels of an answer carry.
    pub fn name(&self) -> &str {
        match self {
            Field::EventType => "event_type",
            Field::UserId => "user_id",
            Field::SessionId | Field::SessionWithinUser => "session_id",
            Field::Source => "source",
            Field::PageUrl => "page_url",
            Field::Origin => "origin",
            Field::EventId => "event_id",
            Field::Properties => "properties",
            Field::Property(key) => key,
        }
    }
}

/// What events are grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The value of a field. Events without it are a group too.
    Field(Field),
    /// Whether the user belongs to the saved cohort of this id: the value is [`Grouping::IN`] or
    /// [`Grouping::OUT`].
    Cohort(String),
}

impl Grouping {
    /// The value of users who belong.
    pub const IN: &str = "in";
    /// The value of users who do not.
    pub const OUT: &str = "out";

    /// What comes before a cohort's id in a name.
    const COHORT: &str = "cohort:";

    /// What a name means: `cohort:` and an id, else a field.
    pub fn from_name(name: &str) -> Self {
        match name.strip_prefix(Self::COHORT) {
            Some(id) => Grouping::Cohort(id.to_owned()),
            None => Grouping::Field(Field::from_name(name)),
        }
    }

    /// The name that labels of an answer carry.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Grouping::Field(field) => field.name().into(),
            Grouping::Cohort(id) => format!("{}{id}", Self::COHORT).into(),
        }
    }
}

/// Which events a question is about.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The project.
    pub project: ProjectId<'static>,
    /// The range of event times.
    pub range: TimeRange,
    /// The event types; empty means all.
    pub event_types: Vec<String>,
    /// All must hold.
    pub filters: Vec<Filter>,
}

/// Totals: events, users, sessions, and events by type.
#[derive(Clone, Debug)]
pub struct SummaryQuery {
    /// Which events.
    pub selection: Selection,
}

/// The width of a series' buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// A minute.
    Minute,
    /// An hour of the zone's clock.
    Hour,
    /// A day of the zone.
    Day,
    /// A week of the zone, from Monday.
    Week,
    /// A calendar month of the zone.
    Month,
}

/// The most frequent values of a field.
#[derive(Clone, Debug)]
pub struct TopQuery {
    /// Which events.
    pub selection: Selection,
    /// Whose values.
    pub field: Field,
    /// How many values at most.
    pub limit: usize,
}

/// How many events a user made on a page.
#[derive(Clone, Debug)]
pub struct PageCountQuery {
    /// The project.
    pub project: ProjectId<'static>,
    /// Who.
    pub user: String,
    /// Where.
    pub page_url: String,
}

/// Which events of a selection something is about.
#[derive(Clone, Debug, Default)]
pub struct EventMatch {
    /// The event types; empty means all.
    pub event_types: Vec<String>,
    /// What else must hold for the event.
    pub filters: Vec<Filter>,
}

/// Which cohorts a user belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// That of the first start event ever, which may lie before the selection's range: then none.
    FirstTime,
    /// Those of all buckets in which the user has a start event.
    Recurring,
}

/// When a user counts as retained after some buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// A return event lies in that very bucket.
    Exact,
    /// A return event lies in that bucket or a later one.
    Rolling,
}

/// How many users of each cohort came back, bucket by bucket.
///
/// A cohort is the users who entered in one bucket. A return event counts if it is not before the
/// start event with which its user entered the cohort; one event may be both.
#[derive(Clone, Debug)]
pub struct RetentionQuery {
    /// Which events.
    pub selection: Selection,
    /// The events that enter a cohort.
    pub start: EventMatch,
    /// The events that count as a return.
    pub returning: EventMatch,
    /// Which cohorts a user belongs to.
    pub entry: Entry,
    /// When a user counts as retained.
    pub counting: Return,
    /// How wide a bucket is.
    pub interval: Interval,
    /// The IANA time zone in which buckets are cut.
    pub zone: String,
}
