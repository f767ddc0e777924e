//! Which events a question is about.

use gristmill_model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::Asked;

/// Which events a question is about; all if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Selection {
    /// From when.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "time_out")]
    pub start: Option<Timestamp>,
    /// Until before when.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "time_out")]
    pub end: Option<Timestamp>,
    /// Of these types; of all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// Those that pass it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The position of a receipt or report: the answer waits until it covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<String>,
}

impl Selection {
    /// All events.
    pub fn all() -> Self {
        Self::default()
    }

    /// Events of a type.
    pub fn of(event_type: impl Into<String>) -> Self {
        Self { event_types: vec![event_type.into()], ..Self::default() }
    }

    /// Keeps what happened from `start` until before `end`.
    #[must_use]
    pub fn between(self, start: Timestamp, end: Timestamp) -> Self {
        Self { start: Some(start), end: Some(end), ..self }
    }

    /// Keeps what passes a filter.
    #[must_use]
    pub fn matching(self, filter: Filter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Waits until the answer covers a position.
    #[must_use]
    pub fn at_least(self, position: impl Into<String>) -> Self {
        Self { at_least: Some(position.into()), ..self }
    }

    /// Adds it to a target.
    pub(super) fn add_to(&self, mut asked: Asked) -> Asked {
        let (start, end) = (self.start.map(text), self.end.map(text));
        asked = asked.with_some("start", start.as_deref()).with_some("end", end.as_deref());
        for event_type in &self.event_types {
            asked = asked.with("event_type", event_type);
        }
        let filter = self.filter.as_ref().map(|filter| filter.0.to_string());
        asked = asked.with_some("where", filter.as_deref());
        asked.with_some("at_least", self.at_least.as_deref())
    }
}

/// Which events something within a question is about: an anchor, a start, a return.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Events {
    /// Of these types; of all if there are none.
    #[serde(rename = "event_type", skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// Those that pass it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

impl Events {
    /// Any event.
    pub fn any() -> Self {
        Self::default()
    }

    /// Events of a type.
    pub fn of(event_type: impl Into<String>) -> Self {
        Self { event_types: vec![event_type.into()], filter: None }
    }
}

/// A condition on a field or property, or conditions put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Filter(Value);

impl Filter {
    /// The field has this value.
    pub fn is(field: &str, value: impl Into<Value>) -> Self {
        Self(json!({"field": field, "value": value.into()}))
    }

    /// The field compares so, by one of the operators of the API, such as `>=` or `starts_with`.
    pub fn compare(field: &str, op: &str, value: impl Into<Value>) -> Self {
        Self(json!({"field": field, "op": op, "value": value.into()}))
    }

    /// The field exists.
    pub fn exists(field: &str) -> Self {
        Self(json!({"field": field, "op": "exists"}))
    }

    /// The user belongs to a saved cohort.
    pub fn cohort(id: &str) -> Self {
        Self(json!({"cohort": id}))
    }

    /// All of them hold.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self(json!({"and": filters.into_iter().map(|filter| filter.0).collect::<Vec<_>>()}))
    }

    /// One of them holds.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self(json!({"or": filters.into_iter().map(|filter| filter.0).collect::<Vec<_>>()}))
    }

    /// It does not hold.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(json!({"not": self.0}))
    }
}

pub(super) fn text(time: Timestamp) -> String {
    time.to_string()
}

fn time_out<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// Reads a time that is there.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Reads a time that may be `null`.
pub(super) fn maybe_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}
