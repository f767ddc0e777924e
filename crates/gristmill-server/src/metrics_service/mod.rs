//! Metrics by their names, over HTTP and gRPC: those that the process exports for Prometheus, as they are
//! now, and those that custom events carry, over a range of event times.
//!
//! A name may be that of one of each kind; then both are answered. Every metric is tagged with where it
//! comes from.

mod changes;
mod export;
mod http;

use std::collections::BTreeMap;

use gristmill_model::{
    Aggregate, EventMetric, EventMetricsQuery, ProjectId, Reduction, Selection, TimeRange,
    Timestamp, limits,
};

use crate::analytics::filters;
use crate::app::App;
use crate::exposition::{self, Family, Kind, Sample};
use crate::problem::Problem;

pub(crate) use changes::Changes;
pub(crate) use export::{Format, exported};
pub(crate) use http::{describe_export, describe_get, export, get};

/// What values of events' metrics are reduced to, with its name.
pub(crate) type Aggregation = (&'static str, Reduction);

/// Every aggregation, in the order of the protocol's numbers. The first is meant if nobody says.
pub(crate) const AGGREGATIONS: [Aggregation; 7] = [
    ("sum", Reduction::Of(Aggregate::Sum)),
    ("avg", Reduction::Of(Aggregate::Average)),
    ("min", Reduction::Of(Aggregate::Minimum)),
    ("max", Reduction::Of(Aggregate::Maximum)),
    ("count", Reduction::Count),
    ("p95", Reduction::Of(Aggregate::Percentile(95))),
    ("p99", Reduction::Of(Aggregate::Percentile(99))),
];

/// Which metrics somebody wants.
pub(crate) struct Question {
    pub(crate) project: ProjectId<'static>,
    /// Empty means all. A histogram's name means all of its numbers.
    pub(crate) names: Vec<String>,
    /// Which events' metrics; those of the process are of now.
    pub(crate) range: TimeRange,
    /// What a metric of the process must have as labels, and an event as fields or properties.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) aggregation: Aggregation,
}

/// A metric with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) source: Source,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// `None` if no floating-point number can say it.
    pub(crate) value: Option<f64>,
    pub(crate) labels: BTreeMap<String, String>,
    /// When it was so: now, or the time of the latest event that carries it.
    pub(crate) time: Timestamp,
    /// Empty if nobody knows.
    pub(crate) unit: String,
    pub(crate) description: String,
}

/// Where a metric comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Process,
    Events,
}

impl Source {
    /// The tag of its metrics.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Events => "events",
        }
    }
}

impl Question {
    /// Makes sure that there are not too many names.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let (names, most) = (self.names.len(), limits::METRIC_NAMES);
        if names <= most {
            return Ok(());
        }
        let detail = format!("`metric_names` has {names} names, more than {most}");
        Err(Problem::argument(detail))
    }

    fn names(&self, name: &str) -> bool {
        self.names.iter().any(|wanted| wanted == name)
    }

    fn wants(&self, family: &Family, sample: &Sample) -> bool {
        let is_named = self.names.is_empty()
            || self.names(&family.name)
            || (!sample.suffix.is_empty() && self.names(&family.name_of(sample)));
        let has = |(name, value): (&String, &String)| {
            sample.labels.iter().any(|(label, has)| label == name && has == value)
        };
        is_named && self.labels.iter().all(has)
    }
}

/// The metrics now: those of the process, then those of events, each in their order.
pub(crate) async fn readings(app: &App, question: &Question) -> Result<Vec<Reading>, Problem> {
    question.check()?;
    let of_events = of_events(app, question).await?;
    let mut readings = of_process(app, question);
    readings.extend(of_events);
    Ok(readings)
}

/// The metrics that events carry.
async fn of_events(app: &App, question: &Question) -> Result<Vec<Reading>, Problem> {
    let (name, _) = question.aggregation;
    let reading = |metric: EventMetric| Reading {
        source: Source::Events,
        name: metric.name,
        kind: Kind::Gauge,
        value: metric.value,
        labels: question.labels.clone(),
        time: metric.latest,
        unit: metric.unit,
        description: format!("The {name} of what custom events carry."),
    };
    Ok(carried(app, question).await?.into_iter().map(reading).collect())
}

async fn carried(app: &App, question: &Question) -> Result<Vec<EventMetric>, Problem> {
    let (_, reduction) = question.aggregation;
    let selection = Selection {
        project: question.project.clone(),
        range: question.range,
        event_types: Vec::new(),
        filters: filters(question.labels.clone()),
    };
    let query = EventMetricsQuery { selection, names: question.names.clone(), reduction };
    Ok(app.services.query.event_metrics(query).await?.metrics)
}

/// The metrics of the process.
fn of_process(app: &App, question: &Question) -> Vec<Reading> {
    let now = app.now();
    let readings = |family: &Family| {
        let reading = |sample: &Sample| Reading {
            source: Source::Process,
            name: family.name_of(sample),
            kind: family.kind,
            value: Some(sample.value.value()),
            labels: labels(sample),
            time: now,
            unit: unit(&family.name, sample.suffix).to_owned(),
            description: family.help.to_owned(),
        };
        family.samples.iter().map(reading).collect::<Vec<_>>()
    };
    families(app, question).iter().flat_map(readings).collect()
}

/// The metrics of the process with those of their samples that are asked for.
fn families(app: &App, question: &Question) -> Vec<Family> {
    let mut families = exposition::families(app);
    for family in &mut families {
        let samples = std::mem::take(&mut family.samples);
        family.samples =
            samples.into_iter().filter(|sample| question.wants(family, sample)).collect();
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

fn labels(sample: &Sample) -> BTreeMap<String, String> {
    sample.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// The unit that the name of a metric ends with, as the names of Prometheus do.
fn unit(name: &str, suffix: &str) -> &'static str {
    if matches!(suffix, "_bucket" | "_count") {
        return "";
    }
    let name = name.strip_suffix("_total").unwrap_or(name);
    let units = [("_seconds", "seconds"), ("_bytes", "bytes")];
    units.iter().find(|(end, _)| name.ends_with(end)).map_or("", |(_, unit)| unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_what_names_end_with() {
        for (name, suffix, expected) in [
            ("x_bytes_total", "", "bytes"),
            ("x_seconds", "_sum", "seconds"),
            ("x_seconds", "_bucket", ""),
            ("x_seconds", "_count", ""),
            ("x_events_total", "", ""),
        ] {
            assert_eq!(unit(name, suffix), expected, "{name}{suffix}");
        }
    }
}
