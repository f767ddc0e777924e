//! How many: the summary, and the most frequent values.

use std::collections::BTreeMap;

use gristmill_model::Timestamp;
use serde::Deserialize;

use super::selection::maybe_time;
use super::{Asked, Question, Selection};

/// How many events, users and sessions there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Which events.
    pub select: Selection,
    /// How many event types are compared with the range before; 5 if missing.
    pub top: Option<usize>,
}

impl Question for Summary {
    type Answer = SummaryAnswer;

    fn asked(&self) -> Asked {
        let top = self.top.map(|top| top.to_string());
        let asked = self.select.add_to(Asked::get("/v1/analytics/summary"));
        asked.with_some("top", top.as_deref())
    }
}

/// How many events, users and sessions there are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct SummaryAnswer {
    pub total_events: u64,
    pub unique_users: u64,
    pub sessions: u64,
    pub events_by_type: BTreeMap<String, u64>,
    pub top_metrics: Vec<TopMetric>,
    #[serde(deserialize_with = "maybe_time")]
    pub first_event: Option<Timestamp>,
    #[serde(deserialize_with = "maybe_time")]
    pub last_event: Option<Timestamp>,
}

/// One of the most frequent event types.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TopMetric {
    /// The event type.
    pub name: String,
    /// Its events.
    pub value: f64,
    /// What is counted.
    pub unit: String,
    /// The change from the range before, in percent.
    pub change_percentage: Option<f64>,
}

/// The most frequent values of a field or property.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Top {
    /// The field or property.
    pub property: String,
    /// How many values; 10 if missing.
    pub limit: Option<usize>,
    /// Which events.
    pub select: Selection,
}

impl Question for Top {
    type Answer = TopAnswer;

    fn asked(&self) -> Asked {
        let limit = self.limit.map(|limit| limit.to_string());
        let asked = Asked::get("/v1/analytics/top").with("property", &self.property);
        self.select.add_to(asked).with_some("limit", limit.as_deref())
    }
}

/// The most frequent values, most events first.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TopAnswer {
    /// One entry for each.
    pub values: Vec<TopValue>,
}

/// A frequent value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TopValue {
    /// The value.
    pub value: String,
    /// Events that have it.
    pub count: u64,
    /// Distinct users of them.
    pub unique_users: u64,
}
