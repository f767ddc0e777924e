//! Who comes back.

use gristmill_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::selection::time;
use super::{Asked, Events, Question, Selection};

/// How many users of each cohort came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Retention {
    /// With what a user enters.
    pub start_event: Events,
    /// What counts as coming back.
    pub return_event: Events,
    /// `first_time` if missing, or `recurring`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// `exact` if missing, or `rolling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counting: Option<String>,
    /// `minute`, `hour`, `day`, `week` or `month`; `day` if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
    /// An IANA zone; UTC if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    /// Which events.
    #[serde(flatten)]
    pub select: Selection,
}

impl Question for Retention {
    type Answer = RetentionAnswer;

    fn asked(&self) -> Asked {
        Asked::post("/v1/analytics/retention", self)
    }
}

/// One cohort for each bucket of time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RetentionAnswer {
    /// In order.
    pub cohorts: Vec<RetentionCohort>,
}

/// The users who entered in a bucket of time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RetentionCohort {
    /// When the bucket begins.
    #[serde(deserialize_with = "time")]
    pub start: Timestamp,
    /// How many entered.
    pub users: u64,
    /// How many came back, in this bucket and those after it.
    pub retained: Vec<u64>,
    /// Their shares.
    pub rates: Vec<Option<f64>>,
}
