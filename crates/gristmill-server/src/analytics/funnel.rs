//! `POST /v1/analytics/funnel`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::dialect::native::Format as BodyFormat;
use gristmill_model::{
    ErrorCode, FunnelAnswer, FunnelQuery, FunnelStep, Selection, TimeRange, Timestamp, limits,
};
use http::{HeaderMap, Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::csv::Table;
use super::question::{
    Format, RangeBody, at_least, duration_of, filters, format, seconds, time_of,
};
use crate::app::{App, project_of};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, json, media};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionBody {
    steps: Vec<StepBody>,
    #[serde(default)]
    time_range: TimeRangeBody,
    #[serde(default)]
    event_types: Vec<String>,
    #[serde(default)]
    filters: BTreeMap<String, String>,
    window: Option<String>,
    step_timeout: Option<String>,
    at_least: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBody {
    name: Option<String>,
    event_type: String,
    #[serde(default)]
    filters: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeRangeBody {
    start: Option<Value>,
    end: Option<Value>,
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    steps: Vec<StepAnswerBody<'a>>,
    overall_conversion_rate: f64,
    metadata: MetadataBody,
}

#[derive(Serialize)]
struct StepAnswerBody<'a> {
    name: &'a str,
    users: u64,
    /// The share of the first step's users.
    conversion_rate: f64,
    avg_time_to_convert: Option<String>,
}

#[derive(Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    total_users: u64,
    processing_time: String,
}

/// How far users came through steps in order.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let (parts, mut body) = request.into_parts();
    Parameters::of(&parts.uri)?.finish()?;
    if media::format(&parts.headers)? != BodyFormat::Json {
        return Err(Problem::new(
            ErrorCode::UnsupportedMedia,
            "content-type must be application/json",
        ));
    }
    let bytes = body::receive_question(&app, &mut body, limits::QUERY_BODY_BYTES).await?;
    let question: QuestionBody = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(ErrorCode::InvalidBody, error.to_string()))?;
    if let Some(token) = &question.at_least {
        at_least(&app, token).await?;
    }
    let query = query(question, &parts.headers)?;
    let range = query.selection.range;
    let answer = app.services.query.funnel(query).await?;
    if format(&parts.headers) == Format::Csv {
        return Ok(table(&answer));
    }
    let rates = rates(&answer);
    let steps = answer.steps.iter().zip(&rates).map(|(step, rate)| StepAnswerBody {
        name: &step.name,
        users: step.users,
        conversion_rate: *rate,
        avg_time_to_convert: step.mean_time_to_convert.map(seconds),
    });
    let body = AnswerBody {
        steps: steps.collect(),
        overall_conversion_rate: rates.last().copied().unwrap_or(0.0),
        metadata: MetadataBody {
            time_range: range.into(),
            total_users: answer.total_users,
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

fn query(question: QuestionBody, headers: &HeaderMap) -> Result<FunnelQuery, Problem> {
    if !(2..=limits::FUNNEL_STEPS).contains(&question.steps.len()) {
        let (count, most) = (question.steps.len(), limits::FUNNEL_STEPS);
        return Err(Problem::argument(format!("a funnel has 2 to {most} `steps`, not {count}")));
    }
    let step = |step: StepBody| {
        let name = step.name.unwrap_or_else(|| step.event_type.clone());
        Ok(FunnelStep { name, event_type: step.event_type, filters: filters(step.filters)? })
    };
    let steps = question.steps.into_iter().map(step).collect::<Result<_, Problem>>()?;
    let range = TimeRange {
        start: time("time_range.start", question.time_range.start)?,
        end: time("time_range.end", question.time_range.end)?,
    };
    let selection = Selection {
        project: project_of(headers),
        range,
        event_types: question.event_types,
        filters: filters(question.filters)?,
    };
    let duration =
        |name: &str, text: Option<String>| text.map(|text| duration_of(name, &text)).transpose();
    // Without a window the steps may be any time apart.
    let window = duration("window", question.window)?
        .unwrap_or_else(|| Timestamp::MAX.since(Timestamp::MIN));
    let step_timeout = duration("step_timeout", question.step_timeout)?;
    Ok(FunnelQuery { selection, steps, window, step_timeout })
}

fn time(name: &str, value: Option<Value>) -> Result<Option<Timestamp>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => time_of(name, &text).map(Some),
        Some(other) => time_of(name, &other.to_string()).map(Some),
    }
}

/// The share of the first step's users that reached each step.
fn rates(answer: &FunnelAnswer) -> Vec<f64> {
    let first = answer.steps.first().map_or(0, |step| step.users);
    let rate = |users: u64| if first == 0 { 0.0 } else { users as f64 / first as f64 };
    answer.steps.iter().map(|step| rate(step.users)).collect()
}

fn table(answer: &FunnelAnswer) -> Response {
    let mut table =
        Table::new(&["name", "users", "conversion_rate", "avg_time_to_convert_seconds"]);
    for (step, rate) in answer.steps.iter().zip(rates(answer)) {
        table.text(&step.name);
        table.number(step.users);
        table.number(rate);
        match step.mean_time_to_convert {
            Some(micros) => table.number(micros as f64 / 1e6),
            None => table.text(""),
        }
        table.end_row();
    }
    table.into_response()
}
