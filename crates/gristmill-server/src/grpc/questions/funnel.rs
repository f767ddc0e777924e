//! `GetFunnelAnalysis` and `GetFunnelUsers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_model::{
    FUNNEL_BOUNDS, FunnelAnswer, FunnelGroups, FunnelTimes, ProjectId, Selection,
};
use gristmill_proto::analytics::v1;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::selecting::{Selecting, filter_body, text, whole, word};
use super::well_known::{count, duration, duration_since, duration_text, small, time_range};
use crate::analytics::funnel::{self, overall, rates, users_by_step};
use crate::app::App;
use crate::json;
use crate::problem::Problem;

/// A question as the HTTP API takes it.
#[derive(Serialize)]
struct Body {
    steps: Vec<StepBody>,
    order: Option<String>,
    window: Option<String>,
    step_timeout: Option<String>,
    exclusions: Vec<ExclusionBody>,
    breakdown: Option<BreakdownBody>,
    #[serde(flatten)]
    users: Option<UsersBody>,
}

#[derive(Serialize)]
struct StepBody {
    name: Option<String>,
    event_type: Option<String>,
    filters: BTreeMap<String, String>,
    r#where: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct ExclusionBody {
    event_type: Option<String>,
    filters: BTreeMap<String, String>,
    r#where: Option<Box<RawValue>>,
    from_step: Option<i64>,
    to_step: Option<i64>,
}

#[derive(Serialize)]
struct BreakdownBody {
    property: String,
    attribution: Option<String>,
    step: Option<i64>,
    top: Option<i64>,
}

#[derive(Serialize)]
struct UsersBody {
    step: Option<i64>,
    outcome: Option<String>,
    limit: Option<i64>,
    page_token: Option<String>,
}

/// How far users came through steps.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetFunnelAnalysisRequest,
) -> Result<v1::GetFunnelAnalysisResponse, Problem> {
    let since = Instant::now();
    let (selection, body) = question(&app, project, request, None).await?;
    let (query, _) = funnel::question(&json::text(&body), selection)?;
    let range = query.selection.range;
    let answer = app.services.query.funnel(query).await?;
    let groups = answer.groups.as_ref().map(|found| groups(&answer, found));
    Ok(v1::GetFunnelAnalysisResponse {
        steps: steps(&answer),
        overall_conversion_rate: overall(&users_by_step(&answer)),
        metadata: Some(v1::FunnelMetadata {
            time_range: Some(time_range(range)),
            total_users: count(answer.total_users),
            processing_time: Some(duration_since(since)),
        }),
        overall_median_time_to_convert: answer.median_time_to_convert.map(duration),
        groups: groups.unwrap_or_default(),
    })
}

/// Who reached a step, page by page.
pub(super) async fn users(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetFunnelUsersRequest,
) -> Result<v1::GetFunnelUsersResponse, Problem> {
    let outcome = v1::FunnelOutcome::as_str_name;
    let users = UsersBody {
        step: whole(request.step),
        outcome: word("outcome", request.outcome, outcome, "FUNNEL_OUTCOME_")?,
        limit: whole(request.limit),
        page_token: text(request.page_token),
    };
    let asked = request.funnel.unwrap_or_default();
    let (selection, body) = question(&app, project, asked, Some(users)).await?;
    let question = funnel::users::Question::of_body(&json::text(&body), selection)?;
    let has_values = question.has_values();
    let (answer, next) = question.ask(&app).await?;
    let user = |user: gristmill_model::FunnelUser| v1::FunnelUser {
        user_id: user.user,
        reached_step: small(user.level),
        value: user.value.filter(|_| has_values),
    };
    Ok(v1::GetFunnelUsersResponse {
        users: answer.users.into_iter().map(user).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

/// Which events a question is about, and its body.
async fn question(
    app: &App,
    project: ProjectId<'static>,
    request: v1::GetFunnelAnalysisRequest,
    users: Option<UsersBody>,
) -> Result<(Selection, Body), Problem> {
    let exclusions = request.exclusions.into_iter().enumerate();
    let order = v1::FunnelOrder::as_str_name;
    let steps = request.steps.into_iter().enumerate();
    let body = Body {
        steps: steps.map(step).collect::<Result<_, Problem>>()?,
        order: word("order", request.order, order, "FUNNEL_ORDER_")?,
        window: request.window.map(duration_text),
        step_timeout: request.step_timeout.map(duration_text),
        exclusions: exclusions.map(exclusion).collect::<Result<_, Problem>>()?,
        breakdown: request.breakdown.map(breakdown).transpose()?,
        users,
    };
    let selecting = Selecting {
        range: request.time_range,
        event_types: request.event_types,
        filters: request.filters,
        filter: ("where", request.r#where),
        at_least: request.at_least,
    };
    Ok((selecting.selection(app, project).await?, body))
}

fn step((index, step): (usize, v1::FunnelStep)) -> Result<StepBody, Problem> {
    Ok(StepBody {
        name: text(step.name),
        event_type: text(step.event_type),
        filters: step.filters,
        r#where: filter_body(&format!("steps[{index}].where"), &step.r#where)?,
    })
}

fn exclusion((index, one): (usize, v1::FunnelExclusion)) -> Result<ExclusionBody, Problem> {
    Ok(ExclusionBody {
        event_type: text(one.event_type),
        filters: one.filters,
        r#where: filter_body(&format!("exclusions[{index}].where"), &one.r#where)?,
        from_step: whole(one.from_step),
        to_step: whole(one.to_step),
    })
}

fn breakdown(asked: v1::FunnelBreakdown) -> Result<BreakdownBody, Problem> {
    let name = v1::FunnelAttribution::as_str_name;
    let place = "breakdown.attribution";
    Ok(BreakdownBody {
        property: asked.property,
        attribution: word(place, asked.attribution, name, "FUNNEL_ATTRIBUTION_")?,
        step: whole(asked.step),
        top: whole(asked.top),
    })
}

fn steps(answer: &FunnelAnswer) -> Vec<v1::FunnelStepResult> {
    let steps = results(answer, &users_by_step(answer)).into_iter();
    let timed = |(result, step): (v1::FunnelStepResult, &gristmill_model::FunnelStepAnswer)| {
        let times = step.times.as_ref();
        v1::FunnelStepResult {
            avg_time_to_convert: times.and_then(|times| times.mean).map(duration),
            median_time_to_convert: times.and_then(|times| times.median).map(duration),
            time_to_convert: times.map(buckets).unwrap_or_default(),
            ..result
        }
    };
    steps.zip(&answer.steps).map(timed).collect()
}

fn buckets(times: &FunnelTimes) -> Vec<v1::FunnelTimeBucket> {
    let bounds = FUNNEL_BOUNDS.into_iter().map(|bound| Some(duration(bound))).chain([None]);
    let bucket = |(below, users)| v1::FunnelTimeBucket { below, users: count(users) };
    bounds.zip(times.histogram).map(bucket).collect()
}

fn groups(answer: &FunnelAnswer, found: &FunnelGroups) -> Vec<v1::FunnelGroup> {
    let group = |value: Option<String>, others: usize, users: &[u64]| v1::FunnelGroup {
        value,
        other_values: count(others as u64),
        steps: results(answer, users),
        overall_conversion_rate: overall(users),
    };
    let listed = found.groups.iter().map(|one| group(one.value.clone(), 0, &one.users));
    let other = found.other.iter().map(|other| group(None, other.groups, &other.users));
    listed.chain(other).collect()
}

/// The steps with these users, without times.
fn results(answer: &FunnelAnswer, users: &[u64]) -> Vec<v1::FunnelStepResult> {
    let result = |rates: funnel::RatesBody<'_>| v1::FunnelStepResult {
        name: rates.name.to_owned(),
        users: count(rates.users),
        conversion_rate: rates.conversion_rate,
        step_conversion_rate: rates.step_conversion_rate,
        drop_off: rates.drop_off.map(count),
        ..v1::FunnelStepResult::default()
    };
    rates(answer, users).into_iter().map(result).collect()
}
