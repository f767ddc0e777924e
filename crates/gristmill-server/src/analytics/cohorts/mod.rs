//! `/v1/cohorts`: saved sets of users by behaviour.

mod definition;
mod description;
mod saved;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use gristmill_model::limits;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::csv::Table;
use super::question::{Format, at_least, format, limit};
use crate::app::App;
use crate::caller::project_of;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, json, media};
use saved::USERS;

pub use definition::SavedCohorts;
pub(crate) use definition::schema as definition_schema;
pub(crate) use description::{
    describe_create, describe_get, describe_list, describe_remove, describe_replace, describe_users,
};
pub(crate) use saved::{Cohort, Sent, all, change, find, forget, save};

#[derive(JsonSchema, Serialize)]
struct CohortsBody<'a> {
    cohorts: Vec<CohortBody<'a>>,
}

#[derive(JsonSchema, Serialize)]
struct CohortBody<'a> {
    id: &'a str,
    name: &'a str,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "definition::reference_to")]
    definition: Option<&'a RawValue>,
    /// How many users belong now.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
struct UsersBody<'a> {
    users: &'a [String],
    size: u64,
    /// What to give as `after` for the next page.
    next: Option<&'a str>,
}

/// The id in the path.
type Id = Result<Path<String>, PathRejection>;

/// Saves a cohort under an id that is free.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let project = project_of(request.extensions());
    let (_, sent) = sent(&app, request).await?;
    let cohort = save(&app, &project, sent).await?;
    let mut response = respond(StatusCode::CREATED, &cohort, None);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/cohorts/{}", cohort.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Every cohort, by id.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    Parameters::of(request.uri())?.finish()?;
    let cohorts = all(&app, &project_of(request.extensions())).await?;
    let cohorts: Vec<_> = cohorts.iter().map(|cohort| body_of(cohort, None, None)).collect();
    if format(request.headers()) == Format::Csv {
        return Ok(table(&cohorts));
    }
    Ok(json::respond(StatusCode::OK, &CohortsBody { cohorts }))
}

/// One cohort, and how many users belong to it now.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let project = project_of(request.extensions());
    let cohort = find(&app, &project, &of_path(id)?).await?;
    let mut parameters = Parameters::of(request.uri())?;
    let token = parameters.take("at_least")?;
    parameters.finish()?;
    at_least(&app, token).await?;
    let size = Some(cohort.members(&app, project, None, 0).await?.size);
    if format(request.headers()) == Format::Csv {
        return Ok(table(&[body_of(&cohort, None, size)]));
    }
    Ok(respond(StatusCode::OK, &cohort, size))
}

/// Who belongs to a cohort now, page by page.
pub(crate) async fn users(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let project = project_of(request.extensions());
    let cohort = find(&app, &project, &of_path(id)?).await?;
    let mut parameters = Parameters::of(request.uri())?;
    let page = MembersPage::take(&mut parameters)?;
    let token = parameters.take("at_least")?;
    parameters.finish()?;
    at_least(&app, token).await?;
    let answer = cohort.members(&app, project, page.after, page.limit).await?;
    if format(request.headers()) == Format::Csv {
        let mut table = Table::new(&["user_id"]);
        for user in &answer.users {
            table.text(user);
            table.end_row();
        }
        return Ok(table.into_response());
    }
    let last = answer.users.last().filter(|_| answer.has_more);
    let next = last.map(String::as_str);
    let body = UsersBody { users: &answer.users, size: answer.size, next };
    Ok(json::respond(StatusCode::OK, &body))
}

/// Which of a cohort's users are listed.
pub(crate) struct MembersPage {
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

impl MembersPage {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let limit = limit(parameters, USERS, limits::COHORT_PAGE)?;
        Ok(Self { after: parameters.take("after")?, limit })
    }
}

/// Puts another name and definition in the place of a cohort's.
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let project = project_of(request.extensions());
    let (headers, sent) = sent(&app, request).await?;
    let cohort = find(&app, &project, &of_path(id)?).await?;
    let expected = expected(&headers, &cohort)?;
    let cohort = change(&app, &project, cohort, expected, sent).await?;
    Ok(respond(StatusCode::OK, &cohort, None))
}

/// Removes a cohort. Questions that still ask for it fail.
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    Parameters::of(request.uri())?.finish()?;
    let project = project_of(request.extensions());
    let cohort = find(&app, &project, &of_path(id)?).await?;
    forget(&app, &project, &cohort, expected(request.headers(), &cohort)?).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Reads a cohort that a client sends.
async fn sent(app: &App, request: Request<Body>) -> Result<(HeaderMap, Sent), Problem> {
    let (head, body) = request.into_parts();
    if let Err(problem) = check(&head.uri, &head.headers) {
        return Err(body::refuse(&head.headers, body, problem).await);
    }
    let body = body::receive_question(app, &head.headers, body, limits::QUERY_BODY_BYTES).await?;
    Ok((head.headers, Sent::of_body(app, &body)?))
}

fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    media::expect_json(headers)?;
    Parameters::of(uri)?.finish()
}

fn of_path(id: Id) -> Result<String, Problem> {
    let Path(id) = id.map_err(|_| Problem::argument("the id in the path is not UTF-8"))?;
    Ok(id)
}

/// The version that a change starts from: that of `If-Match`, or else the one there is.
fn expected(headers: &HeaderMap, cohort: &Cohort) -> Result<u64, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(cohort.version) };
    let text = value.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(cohort.version);
    }
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let version = quoted.unwrap_or(text).parse();
    version.map_err(|_| Problem::argument("`if-match` must be a version, such as \"7\", or *"))
}

fn body_of<'a>(
    cohort: &'a Cohort,
    definition: Option<&'a RawValue>,
    size: Option<u64>,
) -> CohortBody<'a> {
    let Cohort { id, name, version, .. } = cohort;
    CohortBody { id, name, version: *version, definition, size }
}

fn respond(status: StatusCode, cohort: &Cohort, size: Option<u64>) -> Response {
    let body = body_of(cohort, Some(&cohort.definition), size);
    let mut response = json::respond(status, &body);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", cohort.version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn table(cohorts: &[CohortBody<'_>]) -> Response {
    let mut table = Table::new(&["id", "name", "version", "size"]);
    for cohort in cohorts {
        table.text(cohort.id);
        table.text(cohort.name);
        table.number(cohort.version);
        match cohort.size {
            Some(size) => table.number(size),
            None => table.text(""),
        }
        table.end_row();
    }
    table.into_response()
}
