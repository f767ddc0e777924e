//! The calls about cohorts.

use std::sync::Arc;

use gristmill_model::ProjectId;
use gristmill_proto::analytics::v1;
use serde::Serialize;
use serde_json::value::RawValue;

use super::selecting::{number, text};
use super::well_known::count;
use crate::analytics::at_least;
use crate::analytics::cohorts::{self, Cohort, MembersPage, Sent};
use crate::app::App;
use crate::json;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// A cohort as the HTTP API takes it.
#[derive(Serialize)]
struct Body {
    id: Option<String>,
    name: Option<String>,
    definition: Option<Box<RawValue>>,
}

/// Saves a cohort under an id that is free.
pub(super) async fn create(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::CreateCohortRequest,
) -> Result<v1::Cohort, Problem> {
    let sent = sent(&app, text(request.id), request.name, &request.definition)?;
    Ok(message(&cohorts::save(&app, &project, sent).await?, None))
}

/// One cohort, and how many users belong to it now.
pub(super) async fn get(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetCohortRequest,
) -> Result<v1::Cohort, Problem> {
    let cohort = cohorts::find(&app, &project, &request.id).await?;
    at_least(&app, text(request.at_least)).await?;
    let size = cohort.members(&app, project, None, 0).await?.size;
    Ok(message(&cohort, Some(size)))
}

/// Every cohort, by id.
pub(super) async fn list(
    app: Arc<App>,
    project: ProjectId<'static>,
    _: v1::ListCohortsRequest,
) -> Result<v1::ListCohortsResponse, Problem> {
    let cohorts = cohorts::all(&app, &project).await?;
    let listed = |cohort| v1::Cohort { definition: String::new(), ..message(cohort, None) };
    Ok(v1::ListCohortsResponse { cohorts: cohorts.iter().map(listed).collect() })
}

/// Puts another name and definition in the place of a cohort's.
pub(super) async fn replace(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::ReplaceCohortRequest,
) -> Result<v1::Cohort, Problem> {
    let sent = sent(&app, None, request.name, &request.definition)?;
    let cohort = cohorts::find(&app, &project, &request.id).await?;
    let expected = expected(&cohort, request.if_version)?;
    let cohort = cohorts::change(&app, &project, cohort, expected, sent).await?;
    Ok(message(&cohort, None))
}

/// Removes a cohort.
pub(super) async fn delete(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::DeleteCohortRequest,
) -> Result<(), Problem> {
    let cohort = cohorts::find(&app, &project, &request.id).await?;
    let expected = expected(&cohort, request.if_version)?;
    cohorts::forget(&app, &project, &cohort, expected).await
}

/// Who belongs to a cohort now, page by page.
pub(super) async fn users(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::ListCohortUsersRequest,
) -> Result<v1::ListCohortUsersResponse, Problem> {
    let cohort = cohorts::find(&app, &project, &request.id).await?;
    let mut parameters =
        Parameters::given([("limit", number(request.limit)), ("after", text(request.after))]);
    let page = MembersPage::take(&mut parameters)?;
    at_least(&app, text(request.at_least)).await?;
    let answer = cohort.members(&app, project, page.after, page.limit).await?;
    let next = answer.users.last().filter(|_| answer.has_more).cloned();
    Ok(v1::ListCohortUsersResponse {
        next: next.unwrap_or_default(),
        users: answer.users,
        size: count(answer.size),
    })
}

fn sent(app: &App, id: Option<String>, name: String, definition: &str) -> Result<Sent, Problem> {
    let definition = match definition {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(|error| {
            Problem::argument(format!("`definition` must be a definition in JSON: {error}"))
        })?),
    };
    Sent::of_body(app, &json::text(&Body { id, name: text(name), definition }))
}

/// The version that a change starts from: the one that is said, or else the one there is.
fn expected(cohort: &Cohort, said: i64) -> Result<u64, Problem> {
    if said == 0 {
        return Ok(cohort.version);
    }
    u64::try_from(said).map_err(|_| Problem::argument("`if_version` must be a version, such as 7"))
}

fn message(cohort: &Cohort, size: Option<u64>) -> v1::Cohort {
    v1::Cohort {
        id: cohort.id.clone(),
        name: cohort.name.clone(),
        version: count(cohort.version),
        definition: cohort.definition.get().to_owned(),
        size: size.map(count),
    }
}
