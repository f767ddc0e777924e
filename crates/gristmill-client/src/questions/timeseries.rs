//! How it goes over time.

use std::collections::BTreeMap;

use gristmill_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::selection::{maybe_time, time};
use super::{Asked, Filter, Question, Selection};

/// One series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeSeries {
    /// Such as `count`, `unique_users`, `sum` or `p95`; `count` if missing.
    pub metric: Option<String>,
    /// What a metric of numbers is about.
    pub property: Option<String>,
    /// `minute`, `hour`, `day`, `week` or `month`; `day` if missing.
    pub granularity: Option<String>,
    /// An IANA zone; UTC if missing.
    pub tz: Option<String>,
    /// Up to two fields or properties.
    pub group_by: Vec<String>,
    /// How many groups to tell apart.
    pub top: Option<usize>,
    /// `previous_period`: also the period before.
    pub compare: Option<String>,
    /// Which events.
    pub select: Selection,
}

impl Question for TimeSeries {
    type Answer = SeriesAnswer;

    fn asked(&self) -> Asked {
        let top = self.top.map(|top| top.to_string());
        let mut asked = self.select.add_to(Asked::get("/v1/analytics/timeseries"));
        for field in &self.group_by {
            asked = asked.with("group_by", field);
        }
        asked
            .with_some("metric", self.metric.as_deref())
            .with_some("property", self.property.as_deref())
            .with_some("granularity", self.granularity.as_deref())
            .with_some("tz", self.tz.as_deref())
            .with_some("top", top.as_deref())
            .with_some("compare", self.compare.as_deref())
    }
}

/// Several series, and formulas over them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TimeSeriesMany {
    /// Up to 10.
    pub series: Vec<Series>,
    /// Up to 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formulas: Vec<Formula>,
    /// As of [`TimeSeries`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
    /// As of [`TimeSeries`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    /// As of [`TimeSeries`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<String>,
    /// As of [`TimeSeries`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
    /// Which events.
    #[serde(flatten)]
    pub select: Selection,
}

/// One of several series.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// What formulas call it; `A`, `B` and so on if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As of [`TimeSeries`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// As of [`TimeSeries`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// Of these types; of all if there are none.
    #[serde(rename = "event_type", skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// Those that pass it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

/// A formula over series.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Formula {
    /// The expression if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Such as `A / B * 100`.
    pub expression: String,
}

impl Question for TimeSeriesMany {
    type Answer = SeriesAnswer;

    fn asked(&self) -> Asked {
        Asked::post("/v1/analytics/timeseries", self)
    }
}

/// The points of all series.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SeriesAnswer {
    /// One entry for each.
    pub series: Vec<Point>,
}

/// A point.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Point {
    /// When its bucket begins.
    #[serde(deserialize_with = "time")]
    pub timestamp: Timestamp,
    /// Missing where there is none.
    pub value: Option<f64>,
    /// The values of the grouping fields.
    pub labels: BTreeMap<String, String>,
    /// Whether it stands for all groups beyond the top ones.
    pub other: bool,
    /// Which series, if several were asked for.
    pub series: Option<String>,
    /// `current` or `previous`, if they are compared.
    pub period: Option<String>,
    /// Of a previous one, the bucket that it is held against.
    #[serde(deserialize_with = "maybe_time")]
    pub compared_with: Option<Timestamp>,
}
