//! `/v1/cohorts`: saved sets of users by behaviour.

mod definition;
mod description;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use gristmill_model::{CohortAnswer, CohortQuery, ErrorCode, ProjectId, limits};
use gristmill_store::{Document, DocumentKey};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::csv::Table;
use super::object::Object;
use super::question::{Format, at_least, format, limit};
use crate::app::App;
use crate::caller::project_of;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, json, media};
use definition::{KIND, Saved, definition_of};

pub use definition::SavedCohorts;
pub(crate) use definition::schema as definition_schema;
pub(crate) use description::{
    describe_create, describe_get, describe_list, describe_remove, describe_replace, describe_users,
};

/// How many users are listed if nobody says.
const USERS: usize = 100;

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

/// A cohort as a client sends it.
struct Sent {
    id: Option<String>,
    name: Option<String>,
    definition: Box<RawValue>,
}

/// Saves a cohort under an id that is free.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (head, sent) = sent(&app, request).await?;
    let name = sent.name.or_else(|| sent.id.clone());
    let name = name.ok_or_else(|| Problem::argument("`id` and `name` are both missing"))?;
    let id = sent.id.unwrap_or_else(|| id_of(&name));
    if id.is_empty() || id.len() > limits::COHORT_ID_BYTES || !id.bytes().all(is_of_id) {
        let most = limits::COHORT_ID_BYTES;
        return Err(Problem::argument(format!(
            "`id` must be 1 to {most} letters, digits, `-`, `_` and `.` of ASCII; without one it \
             follows from `name`"
        )));
    }
    let saved = Saved { name, definition: &sent.definition };
    let key = key(&head.extensions, &id);
    let version = app.services.store.put_document(key, None, text(&saved)).await?;
    let mut response = respond(StatusCode::CREATED, &id, version, &saved, None);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/cohorts/{id}")) {
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
    let project = project_of(request.extensions());
    let documents = app.services.store.documents(&project, KIND).await?;
    let saved = documents.iter().map(Saved::of).collect::<Result<Vec<_>, _>>()?;
    let cohorts = documents.iter().zip(&saved).map(|(document, saved)| CohortBody {
        id: &document.id,
        name: &saved.name,
        version: document.version,
        definition: None,
        size: None,
    });
    let cohorts: Vec<_> = cohorts.collect();
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
    let (headers, extensions) = (request.headers(), request.extensions());
    let document = found(&app, extensions, id).await?;
    let mut parameters = Parameters::of(request.uri())?;
    let token = parameters.take("at_least")?;
    parameters.finish()?;
    at_least(&app, token).await?;
    let saved = Saved::of(&document)?;
    let size = ask(&app, project_of(extensions), &saved, None, 0).await?.size;
    let Document { id, version, .. } = &document;
    if format(headers) == Format::Csv {
        let (name, size) = (saved.name.as_str(), Some(size));
        return Ok(table(&[CohortBody { id, name, version: *version, definition: None, size }]));
    }
    Ok(respond(StatusCode::OK, id, *version, &saved, Some(size)))
}

/// Who belongs to a cohort now, page by page.
pub(crate) async fn users(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (headers, extensions) = (request.headers(), request.extensions());
    let document = found(&app, extensions, id).await?;
    let mut parameters = Parameters::of(request.uri())?;
    let limit = limit(&mut parameters, USERS, limits::COHORT_PAGE)?;
    let after = parameters.take("after")?;
    let token = parameters.take("at_least")?;
    parameters.finish()?;
    at_least(&app, token).await?;
    let saved = Saved::of(&document)?;
    let answer = ask(&app, project_of(extensions), &saved, after, limit).await?;
    if format(headers) == Format::Csv {
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

/// Puts another name and definition in the place of a cohort's.
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (head, sent) = sent(&app, request).await?;
    let document = found(&app, &head.extensions, id).await?;
    let expected = expected(&head.headers, &document)?;
    let id = document.id.as_str();
    if sent.id.is_some_and(|sent| sent != id) {
        return Err(Problem::argument("`id` must be that of the path, or missing"));
    }
    let name = sent.name.unwrap_or_else(|| id.to_owned());
    let saved = Saved { name, definition: &sent.definition };
    let key = key(&head.extensions, id);
    let version = app.services.store.put_document(key, Some(expected), text(&saved)).await?;
    Ok(respond(StatusCode::OK, id, version, &saved, None))
}

/// Removes a cohort. Questions that still ask for it fail.
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    Parameters::of(request.uri())?.finish()?;
    let document = found(&app, request.extensions(), id).await?;
    let expected = expected(request.headers(), &document)?;
    let key = key(request.extensions(), &document.id);
    app.services.store.remove_document(key, expected).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Reads a cohort that a client sends, and makes sure that it can be asked for.
async fn sent(app: &App, request: Request<Body>) -> Result<(Parts, Sent), Problem> {
    let (head, body) = request.into_parts();
    if let Err(problem) = check(&head.uri, &head.headers) {
        return Err(body::refuse(&head.headers, body, problem).await);
    }
    let body = body::receive_question(app, &head.headers, body, limits::QUERY_BODY_BYTES).await?;
    let mut body = Object::of_body(&body)?;
    let id = body.take_text("id")?;
    let name = body.take_text("name")?;
    let most = limits::COHORT_NAME_BYTES;
    if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > most) {
        return Err(Problem::argument(format!("`name` must have 1 to {most} bytes")));
    }
    let definition = body.take("definition")?;
    let definition = definition.ok_or_else(|| Problem::argument("`definition` is missing"))?;
    let definition = definition.raw().to_owned();
    body.finish()?;
    app.services.query.check_cohort(&definition_of(&definition, app.now())?)?;
    Ok((head, Sent { id, name, definition }))
}

fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    media::expect_json(headers)?;
    Parameters::of(uri)?.finish()
}

/// The cohort of a path.
async fn found(app: &App, extensions: &Extensions, id: Id) -> Result<Document, Problem> {
    let Path(id) = id.map_err(|_| Problem::argument("the id in the path is not UTF-8"))?;
    let document = app.services.store.document(key(extensions, &id)).await?;
    document.ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        Problem::new(ErrorCode::NotFound, format!("there is no cohort {id:?}"))
    })
}

fn key<'a>(extensions: &Extensions, id: &'a str) -> DocumentKey<'a> {
    DocumentKey { project: project_of(extensions), kind: KIND, id }
}

/// The version that a change starts from: that of `If-Match`, or else the one there is.
fn expected(headers: &HeaderMap, document: &Document) -> Result<u64, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(document.version) };
    let text = value.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(document.version);
    }
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let version = quoted.unwrap_or(text).parse();
    version.map_err(|_| Problem::argument("`if-match` must be a version, such as \"7\", or *"))
}

async fn ask(
    app: &App,
    project: ProjectId<'static>,
    saved: &Saved<'_>,
    after: Option<String>,
    limit: usize,
) -> Result<CohortAnswer, Problem> {
    let definition = definition_of(saved.definition, app.now())?;
    let query = CohortQuery { project, definition, after, limit };
    Ok(app.services.query.cohort(query).await?)
}

/// The id that follows from a name: its letters and digits, and a `-` for all between.
fn id_of(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

fn text(saved: &Saved<'_>) -> String {
    // Its keys are strings, so it has a text.
    serde_json::to_string(saved).unwrap_or_default()
}

fn respond(
    status: StatusCode,
    id: &str,
    version: u64,
    saved: &Saved<'_>,
    size: Option<u64>,
) -> Response {
    let definition = Some(saved.definition);
    let body = CohortBody { id, name: &saved.name, version, definition, size };
    let mut response = json::respond(status, &body);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
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
