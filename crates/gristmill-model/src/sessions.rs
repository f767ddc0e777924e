//! Sessions: the question and its answer.

use crate::{Grouping, Interval, Micros, Selection, Timestamp};

/// How many sessions there are, how long they last, and where they begin and end.
///
/// A user's selected events with a session id form one session for each id, however long their
/// pauses are. Those without one form sessions of their own, cut where the pause between two of
/// them is longer than the gap. Events of one moment are in log order. A session belongs to the
/// bucket and to the group of its first event.
#[derive(Clone, Debug)]
pub struct SessionsQuery {
    /// Which events. Only these make up sessions.
    pub selection: Selection,
    /// The longest pause within a session without an id.
    pub gap: Micros,
    /// How many entry pages, exit pages and groups at most.
    pub limit: usize,
    /// The buckets to count by as well, if any.
    pub series: Option<SessionSeries>,
    /// What to count by as well, if anything.
    pub group_by: Option<Grouping>,
}

/// The buckets of a series of sessions.
#[derive(Clone, Debug)]
pub struct SessionSeries {
    /// How wide a bucket is.
    pub interval: Interval,
    /// The IANA time zone in which buckets are cut.
    pub zone: String,
}

/// Answers a `SessionsQuery`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionsAnswer {
    /// All sessions.
    pub totals: SessionTotals,
    /// How many users have a session.
    pub users: u64,
    /// The median duration; `None` without sessions. Quantiles are those of ClickHouse's
    /// `quantileExact`: of n durations in order the one with the index ⌊n · level⌋.
    pub median_duration: Option<Micros>,
    /// The duration that 95 % of the sessions do not exceed; `None` without sessions.
    pub p95_duration: Option<Micros>,
    /// The first pages of sessions, most sessions first, ties by page.
    pub entry_pages: Vec<SessionPage>,
    /// The last pages of sessions, in the same order.
    pub exit_pages: Vec<SessionPage>,
    /// All buckets in order, if a series was asked for.
    pub series: Vec<SessionBucket>,
    /// The largest groups, most sessions first, ties by value, if groups were asked for.
    pub groups: Vec<SessionGroup>,
    /// All other groups together, if there are any.
    pub other_groups: Option<SessionTotals>,
}

/// What some sessions add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// How many sessions.
    pub sessions: u64,
    /// How many events they have.
    pub events: u64,
    /// How many of these have a page that is not empty.
    pub page_views: u64,
    /// How many sessions have exactly one page view.
    pub bounces: u64,
    /// The sum of their durations, each from the first event to the last, in microseconds.
    pub duration: i128,
}

impl SessionTotals {
    /// Adds other sessions.
    pub fn add(&mut self, other: &SessionTotals) {
        self.sessions += other.sessions;
        self.events += other.events;
        self.page_views += other.page_views;
        self.bounces += other.bounces;
        self.duration += other.duration;
    }

    /// The mean duration, rounded down; `None` without sessions.
    pub fn mean_duration(&self) -> Option<Micros> {
        (self.sessions > 0).then(|| (self.duration / i128::from(self.sessions)) as Micros)
    }
}

/// A page where sessions begin or end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// The page.
    pub page: String,
    /// How many sessions.
    pub sessions: u64,
    /// How many distinct users have them.
    pub users: u64,
}

/// The sessions of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBucket {
    /// Where the bucket starts.
    pub start: Timestamp,
    /// Its sessions.
    pub totals: SessionTotals,
}

/// The sessions of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGroup {
    /// What the first events of the sessions have in the grouping field; `None` if they do not
    /// have it.
    pub value: Option<String>,
    /// Its sessions.
    pub totals: SessionTotals,
}
