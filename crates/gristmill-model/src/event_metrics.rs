//! Metrics that custom events carry: the question and its answer.

use crate::{Aggregate, Selection, Timestamp};

/// What the metrics come to that events carry in `custom_event.metrics`, by name and unit.
#[derive(Clone, Debug)]
pub struct EventMetricsQuery {
    /// Which events.
    pub selection: Selection,
    /// The names of the metrics; empty means all.
    pub names: Vec<String>,
    /// What their values are reduced to.
    pub reduction: Reduction,
}

/// What the values of a metric are reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// How many there are.
    Count,
    /// What the numbers come to.
    Of(Aggregate),
}

/// Answers an `EventMetricsQuery`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventMetricsAnswer {
    /// The metrics that at least one of the events carries, by name and then by unit.
    pub metrics: Vec<EventMetric>,
}

/// What the values of one name and unit come to.
#[derive(Clone, Debug, PartialEq)]
pub struct EventMetric {
    /// The name.
    pub name: String,
    /// The unit; empty if the events do not say.
    pub unit: String,
    /// The value; `None` if no floating-point number can say it.
    pub value: Option<f64>,
    /// How many values it is made of.
    pub count: u64,
    /// The time of the latest event that carries one of them.
    pub latest: Timestamp,
}
