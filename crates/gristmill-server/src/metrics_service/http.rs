//! `GET /v1/metrics` and `GET /v1/metrics/export`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Extensions, HeaderValue, Request, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::export::{FORMATS, Format as ExportFormat, MEDIA, exported, table};
use super::{AGGREGATIONS, Aggregation, Question, Reading, readings};
use crate::analytics::{
    Format, RangeBody, accepted, at_least, at_least_term, choice, format, range, range_parameters,
};
use crate::app::App;
use crate::caller::project_of;
use crate::json::{self, Number, Time};
use crate::openapi::{Answer, Operation, Parameter, Tag, Term};
use crate::parameters::Parameters;
use crate::problem::Problem;

/// The schema of the answer in the document.
const SCHEMA: &str = "MetricsAnswer";
/// What names of aggregations begin with in the protocol.
const PREFIX: &str = "metric_aggregation_";

#[derive(JsonSchema, Serialize)]
pub(super) struct AnswerBody<'a> {
    metrics: Vec<MetricBody<'a>>,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct MetricBody<'a> {
    name: &'a str,
    r#type: &'static str,
    /// Nothing if no number can say it.
    #[schemars(with = "Option<f64>")]
    value: Number,
    labels: &'a BTreeMap<String, String>,
    timestamp: Time,
    unit: &'a str,
    metadata: DescriptionBody<'a>,
}

#[derive(JsonSchema, Serialize)]
struct DescriptionBody<'a> {
    description: &'a str,
    /// Where the metric comes from: `process` or `events`.
    tags: [&'static str; 1],
    sample_rate: u64,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    total_metrics: usize,
    time_range: RangeBody,
    aggregation: &'static str,
}

/// What the document says of [`get`].
pub(crate) fn describe_get() -> Operation {
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let about = "a label that a metric of the process must have, and a field or property that must equal a \
        text in an event; also as `labels.NAME=VALUE`";
    let aggregation = "what values that events carry are reduced to";
    let answer = Answer::json::<AnswerBody<'_>>(SCHEMA, "The metrics.").or_csv();
    Operation::new(Tag::Analytics, "Metrics of the process, and those that events carry")
        .called("getMetricsByName")
        .answers(StatusCode::OK, answer)
        .takes([
            Term::new("labels", about, labels).in_target_as_map(),
            Term::choice("aggregation", aggregation, &AGGREGATIONS).by_default("sum").in_target(),
        ])
        .takes(shared_parameters())
}

/// What the document says of [`export`].
pub(crate) fn describe_export() -> Operation {
    let answer = Answer::json::<AnswerBody<'_>>(SCHEMA, "The metrics, as `format` says.")
        .or("text/csv", &json!({"type": "string"}))
        .or("text/plain", &json!({"type": "string"}));
    let about = "what they are written as; what `Accept` says, if it is missing";
    let format = Term::choice("format", about, &FORMATS);
    Operation::new(Tag::Analytics, "The same as text for Prometheus, as JSON or as a table")
        .answers(StatusCode::OK, answer)
        .takes([format.in_target()])
        .takes(shared_parameters())
}

fn shared_parameters() -> impl Iterator<Item = Parameter> {
    let about = "the names of metrics; all of them, if none is given";
    let items = json!({"type": "string"});
    let names = Term::new("metric_names", about, json!({"type": "array", "items": items}));
    let range = range_parameters().into_iter().chain([at_least_term().in_target()]);
    [names.in_target()].into_iter().chain(range.map(Parameter::shared))
}

/// Metrics by their names.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::of(request.uri())?;
    let aggregation = aggregation(&mut parameters)?;
    let labels = labels(&mut parameters)?;
    let question =
        Question { labels, aggregation, ..question(&app, request.extensions(), parameters).await? };
    let readings = readings(&app, &question).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&readings).into_response());
    }
    Ok(json::respond(StatusCode::OK, &body(&question, &readings)))
}

/// Metrics by their names, as text.
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::of(request.uri())?;
    let format = match parameters.take("format")? {
        Some(text) => ExportFormat::named(&text)?,
        None => accepted(request.headers(), &MEDIA).unwrap_or(ExportFormat::Prometheus),
    };
    let question = question(&app, request.extensions(), parameters).await?;
    let exported = exported(&app, &question, format).await?;
    let mut response = Response::new(Body::from(exported.text));
    let content_type = HeaderValue::from_static(exported.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// The question that parameters ask beside labels and aggregation.
async fn question(
    app: &App,
    extensions: &Extensions,
    mut parameters: Parameters,
) -> Result<Question, Problem> {
    let question = Question {
        project: project_of(extensions),
        names: parameters.take_all("metric_names"),
        range: range(&mut parameters)?,
        labels: BTreeMap::new(),
        aggregation: AGGREGATIONS[0],
    };
    let token = parameters.take("at_least")?;
    parameters.finish()?;
    at_least(app, token).await?;
    Ok(question)
}

fn aggregation(parameters: &mut Parameters) -> Result<Aggregation, Problem> {
    let Some(text) = parameters.take("aggregation")? else { return Ok(AGGREGATIONS[0]) };
    let text = text.to_ascii_lowercase();
    choice("aggregation", text.strip_prefix(PREFIX).unwrap_or(&text), &AGGREGATIONS)
}

fn labels(parameters: &mut Parameters) -> Result<BTreeMap<String, String>, Problem> {
    let mut labels = BTreeMap::new();
    for (name, value) in parameters.take_map("labels") {
        match labels.entry(name) {
            Entry::Vacant(new) => drop(new.insert(value)),
            Entry::Occupied(known) => {
                let name = known.key();
                return Err(Problem::argument(format!("`labels.{name}` is given more than once")));
            }
        }
    }
    Ok(labels)
}

/// The answer as JSON.
pub(super) fn body<'a>(question: &Question, readings: &'a [Reading]) -> AnswerBody<'a> {
    let metric = |reading: &'a Reading| MetricBody {
        name: &reading.name,
        r#type: reading.kind.name(),
        value: Number(reading.value),
        labels: &reading.labels,
        timestamp: Time(reading.time),
        unit: &reading.unit,
        metadata: DescriptionBody {
            description: &reading.description,
            tags: [reading.source.tag()],
            sample_rate: 1,
        },
    };
    AnswerBody {
        metrics: readings.iter().map(metric).collect(),
        metadata: MetadataBody {
            total_metrics: readings.len(),
            time_range: question.range.into(),
            aggregation: question.aggregation.0,
        },
    }
}
