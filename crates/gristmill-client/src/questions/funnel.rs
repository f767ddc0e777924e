//! How far users get.

use serde::{Deserialize, Serialize};

use super::{Asked, Filter, Question, Selection};

/// How many users went through steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Funnel {
    /// 2 to 20.
    pub steps: Vec<FunnelStep>,
    /// `ordered` if missing, `strict` or `any`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// The longest time from the first step to the last, such as `1h`; unlimited if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The longest time between two steps; unlimited if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_timeout: Option<String>,
    /// Events that must not lie between.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<FunnelExclusion>,
    /// What users are told apart by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<FunnelBreakdown>,
    /// Which events.
    #[serde(flatten)]
    pub select: Selection,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunnelStep {
    /// The event type if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which event it is.
    pub event_type: String,
    /// Those that pass it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

impl FunnelStep {
    /// An event of this type.
    pub fn of(event_type: impl Into<String>) -> Self {
        Self { event_type: event_type.into(), ..Self::default() }
    }
}

/// An event that must not lie between steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunnelExclusion {
    /// Which event it is.
    pub event_type: String,
    /// Those that pass it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// From which step, from 1; the first if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_step: Option<usize>,
    /// To which step; the last if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_step: Option<usize>,
}

/// What users are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunnelBreakdown {
    /// A field or property, or `cohort:` and the id of a cohort.
    pub property: String,
    /// At which event: `first` if missing, `last` or `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// Which step, with `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// How many values are listed; 10 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
}

impl Question for Funnel {
    type Answer = FunnelAnswer;

    fn asked(&self) -> Asked {
        Asked::post("/v1/analytics/funnel", self)
    }
}

/// How many users went through the steps. Lengths of time are texts such as `930s`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct FunnelAnswer {
    pub steps: Vec<FunnelStepAnswer>,
    pub overall_conversion_rate: f64,
    pub overall_median_time_to_convert: Option<String>,
    pub breakdown: Option<FunnelGroups>,
}

/// How many users reached a step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct FunnelStepAnswer {
    pub name: String,
    pub users: u64,
    pub conversion_rate: f64,
    pub step_conversion_rate: f64,
    pub drop_off: Option<u64>,
    pub avg_time_to_convert: Option<String>,
    pub median_time_to_convert: Option<String>,
    pub time_to_convert: Option<Vec<TimesBelow>>,
}

/// Users who took less than a time, and at least that of the entry before.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct TimesBelow {
    pub below: Option<String>,
    pub users: u64,
}

/// A funnel's groups.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct FunnelGroups {
    pub property: String,
    pub attribution: String,
    pub values: Vec<FunnelGroup>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct FunnelGroup {
    pub value: Option<String>,
    pub overall_conversion_rate: f64,
    pub steps: Vec<FunnelStepAnswer>,
}

/// The users at a step of a funnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunnelUsers {
    /// Which step, from 1.
    pub step: usize,
    /// `reached` if missing, or `dropped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Users on a page; 100 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The token of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
    /// The funnel.
    #[serde(flatten)]
    pub funnel: Funnel,
}

impl Question for FunnelUsers {
    type Answer = FunnelUsersAnswer;

    fn asked(&self) -> Asked {
        Asked::post("/v1/analytics/funnel/users", self)
    }
}

/// A page of users at a step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct FunnelUsersAnswer {
    pub users: Vec<FunnelUser>,
    pub next_page_token: Option<String>,
}

/// A user at a step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct FunnelUser {
    pub user_id: String,
    pub reached_step: usize,
    pub value: Option<String>,
}
