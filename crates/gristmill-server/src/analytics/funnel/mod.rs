//! `POST /v1/analytics/funnel`.

mod breakdown;
mod question;
mod rates;
mod table;
pub(crate) mod users;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{FUNNEL_BOUNDS, FunnelAnswer, FunnelQuery, FunnelTimes, Selection};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use self::breakdown::BreakdownBody;
pub(crate) use self::rates::{RatesBody, overall, rates, users as users_by_step};
use super::description::Description;
use super::object::Object;
use super::posted::posted;
use super::question::{Format, RangeBody, at_least, format, seconds};
use crate::app::App;
use crate::json;
use crate::problem::Problem;

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    steps: Vec<StepAnswerBody<'a>>,
    overall_conversion_rate: f64,
    overall_median_time_to_convert: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breakdown: Option<BreakdownBody<'a>>,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct StepAnswerBody<'a> {
    #[serde(flatten)]
    rates: RatesBody<'a>,
    avg_time_to_convert: Option<String>,
    median_time_to_convert: Option<String>,
    time_to_convert: Option<Vec<BucketBody>>,
}

/// The users who took less time than the bound, and not less than the bound before.
#[derive(JsonSchema, Serialize)]
struct BucketBody {
    below: Option<String>,
    users: u64,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    order: &'static str,
    total_users: u64,
    processing_time: String,
}

/// What the document says of [`post`].
pub(crate) fn describe() -> Description {
    let summary = "How far users came through steps";
    Description::of::<AnswerBody<'_>>("Funnel", summary, question::funnel_terms())
}

/// How far users came through steps. The parameters that all questions take may stand in the
/// target or in the body.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let (query, token) = question(&posted.body, posted.selection)?;
    at_least(&app, token).await?;
    let answer = app.services.query.funnel(query.clone()).await?;
    if format(&posted.headers) == Format::Csv {
        return Ok(table::of(&answer));
    }
    let order = question::ORDERS.iter().find(|(_, order)| *order == query.order);
    let breakdown = query.breakdown.as_ref().zip(answer.groups.as_ref());
    let body = AnswerBody {
        steps: steps(&answer),
        overall_conversion_rate: overall(&users_by_step(&answer)),
        overall_median_time_to_convert: answer.median_time_to_convert.map(seconds),
        breakdown: breakdown.map(|(asked, groups)| BreakdownBody::of(asked, groups, &answer)),
        metadata: MetadataBody {
            time_range: query.selection.range.into(),
            order: order.map_or("", |(name, _)| name),
            total_users: answer.total_users,
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// The question of a body, about what is left of `selection`, and its `at_least`.
pub(crate) fn question(
    body: &[u8],
    selection: Selection,
) -> Result<(FunnelQuery, Option<String>), Problem> {
    let mut body = Object::of_body(body)?;
    let query = question::funnel(&mut body, selection)?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    Ok((query, token))
}

fn steps(answer: &FunnelAnswer) -> Vec<StepAnswerBody<'_>> {
    let rates = rates(answer, &users_by_step(answer));
    let step = |(rates, times): (_, Option<&FunnelTimes>)| StepAnswerBody {
        rates,
        avg_time_to_convert: times.and_then(|times| times.mean).map(seconds),
        median_time_to_convert: times.and_then(|times| times.median).map(seconds),
        time_to_convert: times.map(buckets),
    };
    rates.into_iter().zip(answer.steps.iter().map(|step| step.times.as_ref())).map(step).collect()
}

fn buckets(times: &FunnelTimes) -> Vec<BucketBody> {
    let bounds = FUNNEL_BOUNDS.into_iter().map(|bound| Some(seconds(bound))).chain([None]);
    let bucket = |(below, users)| BucketBody { below, users };
    bounds.zip(times.histogram).map(bucket).collect()
}
