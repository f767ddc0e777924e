//! `GetRetention`.

use std::sync::Arc;

use gristmill_model::{ProjectId, RetentionCohort};
use gristmill_proto::analytics::v1;
use serde::Serialize;

use super::selecting::{EventsBody, Selecting, granularity, text, word};
use super::well_known::{count, timestamp};
use crate::analytics::retention::{question, rate};
use crate::app::App;
use crate::json;
use crate::problem::Problem;

/// A question as the HTTP API takes it.
#[derive(Serialize)]
struct Body {
    start_event: EventsBody,
    return_event: EventsBody,
    granularity: Option<String>,
    tz: Option<String>,
    mode: Option<String>,
    counting: Option<String>,
}

/// How many users of each cohort came back.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetRetentionRequest,
) -> Result<v1::GetRetentionResponse, Problem> {
    let (mode, counting) = (v1::RetentionMode::as_str_name, v1::RetentionCounting::as_str_name);
    let body = Body {
        start_event: EventsBody::of("start_event", request.start_event.unwrap_or_default())?,
        return_event: EventsBody::of("return_event", request.return_event.unwrap_or_default())?,
        granularity: granularity(request.granularity)?,
        tz: text(request.tz),
        mode: word("mode", request.mode, mode, "RETENTION_MODE_")?,
        counting: word("counting", request.counting, counting, "RETENTION_COUNTING_")?,
    };
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let (query, ..) = question(&json::text(&body), selection)?;
    let answer = app.services.query.retention(query).await?;
    Ok(v1::GetRetentionResponse { cohorts: answer.cohorts.iter().map(cohort).collect() })
}

fn cohort(cohort: &RetentionCohort) -> v1::RetentionCohort {
    let retained = cohort.retained.iter().copied();
    v1::RetentionCohort {
        start: Some(timestamp(cohort.start)),
        users: count(cohort.users),
        rates: retained.clone().map(|users| rate(users, cohort)).collect(),
        retained: retained.map(count).collect(),
    }
}
