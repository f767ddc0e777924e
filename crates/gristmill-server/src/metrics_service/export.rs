//! Metrics as text.

use gristmill_model::EventMetric;
use serde_json::json;

use super::http::body;
use super::{Question, Reading, carried, families, readings};
use crate::analytics::{choice, csv};
use crate::app::App;
use crate::exposition::{Family, Kind, Number, Sample, written};
use crate::json;
use crate::problem::Problem;

/// What a metric is called in Prometheus' format whose name an event gives. Names of events may be any
/// text, so they are labels.
const OF_EVENTS: &str = "gristmill_event_metric";

/// What metrics may be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Prometheus,
    Json,
    Csv,
}

pub(super) const FORMATS: [(&str, Format); 3] =
    [("prometheus", Format::Prometheus), ("json", Format::Json), ("csv", Format::Csv)];

/// Metrics as text.
pub(crate) struct Exported {
    pub(crate) text: String,
    pub(crate) content_type: &'static str,
    /// How many there are.
    pub(crate) count: usize,
}

/// The formats by the names of their media types.
pub(super) const MEDIA: [(&str, Format); 4] = [
    ("text/plain", Format::Prometheus),
    ("*/*", Format::Prometheus),
    ("application/json", Format::Json),
    ("text/csv", Format::Csv),
];

impl Format {
    /// The format that a text names in any case; Prometheus', if it is empty.
    pub(crate) fn named(text: &str) -> Result<Self, Problem> {
        if text.is_empty() {
            return Ok(Self::Prometheus);
        }
        choice("format", &text.to_ascii_lowercase(), &FORMATS).map(|(_, format)| format)
    }
}

/// Writes the metrics that are asked for.
pub(crate) async fn exported(
    app: &App,
    question: &Question,
    format: Format,
) -> Result<Exported, Problem> {
    if format == Format::Prometheus {
        return prometheus(app, question).await;
    }
    let readings = readings(app, question).await?;
    let count = readings.len();
    Ok(match format {
        Format::Csv => {
            Exported { text: table(&readings).into_text(), content_type: csv::MEDIA_TYPE, count }
        }
        Format::Json | Format::Prometheus => {
            let text = json::text(&body(question, &readings));
            let text = String::from_utf8(text).unwrap_or_default();
            Exported { text, content_type: "application/json", count }
        }
    })
}

async fn prometheus(app: &App, question: &Question) -> Result<Exported, Problem> {
    question.check()?;
    let carried = carried(app, question).await?;
    let mut families = families(app, question);
    families.extend(family(carried));
    let count = families.iter().map(|family| family.samples.len()).sum();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Exported { text: written(&families), content_type, count })
}

/// The metrics of events as one of Prometheus; none, if there are none.
fn family(metrics: Vec<EventMetric>) -> Option<Family> {
    let sample = |EventMetric { name, unit, value, .. }: EventMetric| Sample {
        suffix: "",
        labels: vec![("name", name), ("unit", unit)],
        value: Number::Real(value.unwrap_or(f64::NAN)),
    };
    let samples: Vec<_> = metrics.into_iter().map(sample).collect();
    (!samples.is_empty()).then(|| Family {
        name: OF_EVENTS.to_owned(),
        kind: Kind::Gauge,
        help: "The sum of what custom events carry, by the names that they give.",
        samples,
    })
}

/// The metrics as a table. Labels are a JSON object.
pub(super) fn table(readings: &[Reading]) -> csv::Table {
    let columns = ["name", "type", "value", "unit", "timestamp", "source", "labels"];
    let mut table = csv::Table::new(&columns);
    for reading in readings {
        table.text(&reading.name);
        table.text(reading.kind.name());
        match reading.value {
            Some(value) => table.number(value),
            None => table.text(""),
        }
        table.text(&reading.unit);
        table.text(&reading.time.to_string());
        table.text(reading.source.tag());
        table.text(&json!(reading.labels).to_string());
        table.end_row();
    }
    table
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn formats_are_named_in_any_case() {
        assert_eq!(Format::named("").unwrap(), Format::Prometheus);
        assert_eq!(Format::named("CSV").unwrap(), Format::Csv);
        let problem = Format::named("xml").unwrap_err();
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        assert_eq!(problem.detail(), "`format` must be one of prometheus, json, csv");
    }
}
