//! `POST /v1/analytics/funnel`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{FunnelAnswer, FunnelQuery, FunnelStep, Selection, Timestamp, limits};
use http::{Request, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::object::{Member, Object};
use super::posted::{all_filters, duration, posted, select};
use super::question::{Format, RangeBody, at_least, format, seconds};
use crate::app::App;
use crate::json;
use crate::problem::Problem;

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

/// How far users came through steps in order. The parameters that all questions take may stand
/// in the target or in the body.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let (query, token) = question(&posted.body, posted.selection)?;
    at_least(&app, token).await?;
    let range = query.selection.range;
    let answer = app.services.query.funnel(query).await?;
    if format(&posted.headers) == Format::Csv {
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

/// The question of a body, about what is left of `selection`, and its `at_least`.
fn question(
    body: &[u8],
    mut selection: Selection,
) -> Result<(FunnelQuery, Option<String>), Problem> {
    let mut body = Object::of_body(body)?;
    let steps = body.take_array("steps")?.ok_or_else(|| Problem::argument("`steps` is missing"))?;
    if !(2..=limits::FUNNEL_STEPS).contains(&steps.len()) {
        let (count, most) = (steps.len(), limits::FUNNEL_STEPS);
        return Err(Problem::argument(format!("a funnel has 2 to {most} `steps`, not {count}")));
    }
    let steps = steps.into_iter().map(step).collect::<Result<_, Problem>>()?;
    select(&mut body, &mut selection)?;
    let window = duration(&mut body, "window")?;
    let step_timeout = duration(&mut body, "step_timeout")?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    // Without a window the steps may be any time apart.
    let window = window.unwrap_or_else(|| Timestamp::MAX.since(Timestamp::MIN));
    Ok((FunnelQuery { selection, steps, window, step_timeout }, token))
}

fn step(step: Member<'_>) -> Result<FunnelStep, Problem> {
    let mut step = step.object()?;
    let missing = Problem::argument(format!("`{}` is missing", step.name_of("event_type")));
    let event_type = step.take_text("event_type")?.ok_or(missing)?;
    let name = step.take_text("name")?.unwrap_or_else(|| event_type.clone());
    let filters = all_filters(&mut step)?;
    step.finish()?;
    Ok(FunnelStep { name, event_type, filters })
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
