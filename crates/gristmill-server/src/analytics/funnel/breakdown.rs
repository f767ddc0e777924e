//! A funnel's users by value.

use std::borrow::Cow;

use gristmill_model::{
    Attribution, FunnelAnswer, FunnelBreakdown, FunnelGroup, FunnelGroups, FunnelOther,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::rates::{RatesBody, overall, rates};

#[derive(JsonSchema, Serialize)]
pub(super) struct BreakdownBody<'a> {
    property: Cow<'a, str>,
    attribution: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    values: Vec<ValueBody<'a>>,
    other: Option<OtherBody<'a>>,
}

#[derive(JsonSchema, Serialize)]
struct ValueBody<'a> {
    value: Option<&'a str>,
    steps: Vec<RatesBody<'a>>,
    overall_conversion_rate: f64,
}

#[derive(JsonSchema, Serialize)]
struct OtherBody<'a> {
    /// How many values these are.
    values: usize,
    steps: Vec<RatesBody<'a>>,
    overall_conversion_rate: f64,
}

impl<'a> BreakdownBody<'a> {
    pub(super) fn of(
        asked: &'a FunnelBreakdown,
        groups: &'a FunnelGroups,
        answer: &'a FunnelAnswer,
    ) -> Self {
        let (attribution, step) = attribution(asked.attribution);
        let value = |group: &'a FunnelGroup| ValueBody {
            value: group.value.as_deref(),
            steps: rates(answer, &group.users),
            overall_conversion_rate: overall(&group.users),
        };
        let other = |other: &FunnelOther| OtherBody {
            values: other.groups,
            steps: rates(answer, &other.users),
            overall_conversion_rate: overall(&other.users),
        };
        Self {
            property: asked.by.name(),
            attribution,
            step,
            values: groups.groups.iter().map(value).collect(),
            other: groups.other.as_ref().map(other),
        }
    }
}

/// The name of an attribution, and the step that it is about.
fn attribution(attribution: Attribution) -> (&'static str, Option<usize>) {
    match attribution {
        Attribution::First => ("first", None),
        Attribution::Last => ("last", None),
        Attribution::Step(step) => ("step", Some(step)),
    }
}
