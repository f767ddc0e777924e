//! How visits go.

use gristmill_model::Timestamp;
use serde::Deserialize;

use super::selection::time;
use super::{Asked, Question, Selection};

/// How many sessions there are, how long they last, where they begin and end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    /// The longest pause within a session, such as `45m`; `30m` if missing.
    pub gap: Option<String>,
    /// How many pages and groups are listed at most; 10 if missing.
    pub limit: Option<usize>,
    /// If there shall be a series.
    pub granularity: Option<String>,
    /// An IANA zone; UTC if missing.
    pub tz: Option<String>,
    /// If there shall be groups.
    pub group_by: Option<String>,
    /// Which events.
    pub select: Selection,
}

impl Question for Sessions {
    type Answer = SessionsAnswer;

    fn asked(&self) -> Asked {
        let limit = self.limit.map(|limit| limit.to_string());
        self.select
            .add_to(Asked::get("/v1/analytics/sessions"))
            .with_some("gap", self.gap.as_deref())
            .with_some("limit", limit.as_deref())
            .with_some("granularity", self.granularity.as_deref())
            .with_some("tz", self.tz.as_deref())
            .with_some("group_by", self.group_by.as_deref())
    }
}

/// How visits go. Lengths of time are texts such as `375s`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct SessionsAnswer {
    pub unique_users: u64,
    #[serde(flatten)]
    pub totals: SessionTotals,
    pub median_duration: Option<String>,
    pub p95_duration: Option<String>,
    pub entry_pages: Vec<SessionPage>,
    pub exit_pages: Vec<SessionPage>,
    pub series: Vec<SessionBucket>,
    pub groups: Vec<SessionGroup>,
    pub other_groups: Option<SessionTotals>,
}

/// Numbers of some sessions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct SessionTotals {
    pub sessions: u64,
    pub events: u64,
    pub page_views: u64,
    pub events_per_session: Option<f64>,
    pub pages_per_session: Option<f64>,
    pub bounces: u64,
    pub bounce_rate: Option<f64>,
    pub avg_duration: Option<String>,
}

/// A page that sessions begin or end on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct SessionPage {
    pub page_url: String,
    pub sessions: u64,
    pub unique_users: u64,
}

/// The sessions of a bucket of time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct SessionBucket {
    #[serde(deserialize_with = "time")]
    pub timestamp: Timestamp,
    #[serde(flatten)]
    pub totals: SessionTotals,
}

/// The sessions of a group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct SessionGroup {
    pub value: Option<String>,
    #[serde(flatten)]
    pub totals: SessionTotals,
}
