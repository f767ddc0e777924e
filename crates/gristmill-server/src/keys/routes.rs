//! `/v1/keys`: keys are made, listed, rotated and revoked.
//!
//! An admin key manages those of its own project. The key of the settings, and anyone where there are no
//! keys, manage those of every project.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use gristmill_model::{ErrorCode, KeyText, Scope, Scopes, Timestamp, limits};
use gristmill_store::StoreError;
use http::{Extensions, HeaderValue, Request, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::limits::Limits;
use super::record::{Record, Status, place};
use super::ring::Held;
use super::sent::{NewKey, Rotation};
use super::{first, usage};
use crate::app::App;
use crate::caller::{Caller, Who, caller_of};
use crate::json::{self, Time};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, media};

pub(crate) use super::description::{
    describe_create, describe_get, describe_list, describe_myself, describe_revoke, describe_rotate,
};

/// The id in the path.
type Id = Result<Path<String>, PathRejection>;

#[derive(JsonSchema, Serialize)]
pub(super) struct KeysBody {
    keys: Vec<KeyBody>,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct KeyBody {
    id: String,
    project: String,
    scopes: Vec<&'static str>,
    name: String,
    status: &'static str,
    created_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Time>,
    /// To within a minute, if other processes use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Time>,
    /// The id of the key that takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_to: Option<String>,
    limits: Limits,
}

/// A key that has just been made.
#[derive(JsonSchema, Serialize)]
pub(super) struct MadeBody {
    /// The key itself. It is shown this once.
    key: String,
    #[serde(flatten)]
    about: KeyBody,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct MyselfBody {
    /// How the caller is known: by a `key`, by the `admin_key` of the settings, or by `none`, because there
    /// are no keys.
    authentication: &'static str,
    project: String,
    scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyBody>,
}

/// Makes a key, and with the first one of a project the project.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (headers, extensions) = (request.headers().clone(), request.extensions().clone());
    let text = read(&app, request).await?;
    let caller = manager(&app, &extensions).await?;
    if let Who::Anyone = caller.who {
        first::check(&headers, &extensions)?;
    }
    let new = NewKey::read(&text, app.now())?;
    let project = match new.project {
        None => caller.project.as_str().to_owned(),
        Some(project) if may_manage(&caller, &project) => project,
        Some(_) => return Err(of_another_project()),
    };
    if !app.ring.has_admin(app.now()) && !new.scopes.allow(Scope::Admin) {
        let detail = "no key with the scope `admin` is valid now: make one first, or nobody could \
            manage keys once there is this one";
        return Err(Problem::argument(detail));
    }
    let (key, record) = make(&app, project, new.scopes, new.limits);
    let record = Record { name: new.name, expires_us: new.expires.map(|end| end.0), ..record };
    make_room(&app, &record.project).await?;
    let id = keep(&app, &key, &record).await?;
    let held = reloaded(&app, &id).await?;
    Ok(shown(&key, &held, app.now()))
}

/// The keys that the caller manages, the oldest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let caller = manager(&app, request.extensions()).await?;
    let mut parameters = Parameters::of(request.uri())?;
    let project = parameters.take("project")?;
    parameters.finish()?;
    if project.as_ref().is_some_and(|project| !may_manage(&caller, project)) {
        return Err(of_another_project());
    }
    let keys = app.ring.keys().unwrap_or_default();
    let is_asked_for = |held: &&Arc<Held>| {
        let of = &held.record.project;
        may_manage(&caller, of) && project.as_ref().is_none_or(|project| project == of)
    };
    let mut keys: Vec<_> = keys.values().filter(is_asked_for).collect();
    keys.sort_by(|one, other| {
        (one.record.created_us, &one.id).cmp(&(other.record.created_us, &other.id))
    });
    let now = app.now();
    let keys = keys.into_iter().map(|held| about(held, now)).collect();
    Ok(json::respond(StatusCode::OK, &KeysBody { keys }))
}

/// One key.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    Parameters::of(request.uri())?.finish()?;
    let held = found(&app, request.extensions(), id).await?;
    Ok(json::respond(StatusCode::OK, &about(&held, app.now())))
}

/// The caller.
pub(crate) async fn myself(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    Parameters::of(request.uri())?.finish()?;
    let caller = caller_of(request.extensions());
    let (authentication, key) = match &caller.who {
        Who::Anyone => ("none", None),
        Who::Operator => ("admin_key", None),
        Who::Key(held) => ("key", Some(about(held, app.now()))),
    };
    let body = MyselfBody {
        authentication,
        project: caller.project.as_str().to_owned(),
        scopes: caller.scopes.iter().map(Scope::name).collect(),
        key,
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// Makes a key that takes the place of another, which goes on for a while.
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let extensions = request.extensions().clone();
    let text = read(&app, request).await?;
    let Rotation { overlap, expires } = Rotation::read(&text, app.now())?;
    let old = found(&app, &extensions, id).await?;
    let now = app.now();
    if old.record.status(now) != Status::Active {
        let detail = format!("the key {:?} is not valid any more: make a new one", old.id);
        return Err(Problem::new(ErrorCode::Conflict, detail));
    }
    let keys = app.ring.keys().unwrap_or_default();
    let next = old.record.rotated_to.as_ref().and_then(|next| keys.get(next));
    if let Some(next) = next.filter(|next| next.record.status(now) == Status::Active) {
        let detail = format!("the key {:?} has taken its place already: rotate that one", next.id);
        return Err(Problem::new(ErrorCode::Conflict, detail));
    }
    let record = &old.record;
    // It lives as long as the old one would have, if nobody says anything else.
    let lifetime = record.expires_us.map(|end| end - record.created_us);
    let expires = expires.or(lifetime.map(|lifetime| now.plus(lifetime)));
    make_room(&app, &record.project).await?;
    let (key, new) = make(&app, record.project.clone(), record.scopes(), record.limits);
    let new = Record { name: record.name.clone(), expires_us: expires.map(|end| end.0), ..new };
    let id = keep(&app, &key, &new).await?;
    // No rotation lets it live longer than one before.
    let end = now.plus(overlap).0;
    let retires_us = record.retires_us.map_or(end, |before| before.min(end));
    let changed =
        Record { retires_us: Some(retires_us), rotated_to: Some(id.clone()), ..record.clone() };
    let store = &app.services.store;
    if let Err(error) = store.put_document(place(&old.id), Some(old.version), changed.text()).await
    {
        // Nobody will ever see the new key. It is the old one's successor if that was changed after all.
        if let StoreError::Conflict(_) = error
            && let Ok(Some(unseen)) = store.document(place(&id)).await
        {
            let _ = store.remove_document(place(&id), unseen.version).await;
        }
        return Err(error.into());
    }
    let held = reloaded(&app, &id).await?;
    Ok(shown(&key, &held, app.now()))
}

/// Revokes a key, for good. Every process over the store refuses it a few seconds later.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    id: Id,
    request: Request<Body>,
) -> Result<Response, Problem> {
    Parameters::of(request.uri())?.finish()?;
    let held = found(&app, request.extensions(), id).await?;
    if held.record.revoked_us.is_none() {
        let revoked = Record { revoked_us: Some(app.now().0), ..held.record.clone() };
        let store = &app.services.store;
        store.put_document(place(&held.id), Some(held.version), revoked.text()).await?;
        tracing::info!(key = held.id, "revoked an API key");
        app.ring.reload().await?;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The JSON of a request's body. Its media type is insisted on, so that no page of a browser can send it
/// without asking.
async fn read(app: &App, request: Request<Body>) -> Result<bytes::Bytes, Problem> {
    let (head, body) = request.into_parts();
    let checked = Parameters::of(&head.uri).and_then(Parameters::finish);
    if let Err(problem) = checked.and_then(|()| media::expect_json(&head.headers)) {
        return Err(body::refuse(&head.headers, body, problem).await);
    }
    body::receive_question(app, &head.headers, body, limits::QUERY_BODY_BYTES).await
}

/// Who manages keys, as the keys are now: a body may have come slowly.
async fn manager(app: &App, extensions: &Extensions) -> Result<Caller, Problem> {
    app.ring.reload().await?;
    let caller = caller_of(extensions);
    app.ring.charge(&caller.who, 0, || 0)?;
    Ok(caller)
}

/// Makes sure that a project may have one more key. Those that ended first make room.
async fn make_room(app: &App, project: &str) -> Result<(), Problem> {
    let (keys, now) = (app.ring.keys().unwrap_or_default(), app.now());
    let of_project: Vec<_> = keys.values().filter(|held| held.record.project == project).collect();
    if of_project.len() < limits::PROJECT_KEYS {
        return Ok(());
    }
    let ended = of_project.iter().filter(|held| held.record.status(now) != Status::Active);
    let Some(oldest) = ended.min_by_key(|held| held.record.end()) else {
        let most = limits::PROJECT_KEYS;
        let detail = format!("the project has {most} keys that are valid: revoke one first");
        return Err(Problem::new(ErrorCode::Conflict, detail));
    };
    let store = &app.services.store;
    store.remove_document(place(&oldest.id), oldest.version).await?;
    if let Some(used) = store.document(usage::place(&oldest.id)).await? {
        store.remove_document(usage::place(&oldest.id), used.version).await?;
    }
    Ok(())
}

fn make(app: &App, project: String, scopes: Scopes, limits: Limits) -> (KeyText, Record) {
    let key = KeyText::make(scopes, app.services.entropy.as_ref());
    let record = Record { limits, ..Record::of(key.as_str(), project, scopes, app.now()) };
    (key, record)
}

/// Keeps a new key and gives its id.
async fn keep(app: &App, key: &KeyText, record: &Record) -> Result<String, Problem> {
    let id = gristmill_model::key_id(key.as_str()).unwrap_or_default().to_owned();
    app.services.store.put_document(place(&id), None, record.text()).await?;
    tracing::info!(key = id, project = record.project, "made an API key");
    Ok(id)
}

/// The answer that shows a new key.
fn shown(key: &KeyText, held: &Held, now: Timestamp) -> Response {
    let body = MadeBody { key: key.as_str().to_owned(), about: about(held, now) };
    let mut response = json::respond(StatusCode::CREATED, &body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/keys/{}", held.id)) {
        headers.insert(header::LOCATION, location);
    }
    response
}

async fn reloaded(app: &App, id: &str) -> Result<Arc<Held>, Problem> {
    app.ring.reload().await?;
    let held = app.ring.keys().and_then(|keys| keys.get(id).cloned());
    held.ok_or_else(|| Problem::new(ErrorCode::NotReady, "the keys cannot be read now"))
}

/// The key of a path, if the caller manages it.
async fn found(app: &App, extensions: &Extensions, id: Id) -> Result<Arc<Held>, Problem> {
    let Path(id) = id.map_err(|_| Problem::argument("the id in the path is not UTF-8"))?;
    let caller = manager(app, extensions).await?;
    let held = app.ring.keys().and_then(|keys| keys.get(&id).cloned());
    held.filter(|held| may_manage(&caller, &held.record.project)).ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        Problem::new(ErrorCode::NotFound, format!("there is no key {id:?}"))
    })
}

/// Whether a caller who has the scope manages the keys of a project.
fn may_manage(caller: &Caller, project: &str) -> bool {
    match caller.who {
        Who::Anyone | Who::Operator => true,
        Who::Key(_) => caller.project.as_str() == project,
    }
}

fn of_another_project() -> Problem {
    let detail = "an admin key manages the keys of its own project only: use server.admin_key for those \
        of others";
    Problem::new(ErrorCode::PermissionDenied, detail)
}

fn about(held: &Held, now: Timestamp) -> KeyBody {
    let (record, time) = (&held.record, |micros: i64| Time(Timestamp(micros)));
    KeyBody {
        id: held.id.clone(),
        project: record.project.clone(),
        scopes: record.scopes().iter().map(Scope::name).collect(),
        name: record.name.clone(),
        status: record.status(now).name(),
        created_at: time(record.created_us),
        expires_at: record.end_of_life().map(time),
        revoked_at: record.revoked_us.map(time),
        last_used_at: held.usage.last().map(Time),
        rotated_to: record.rotated_to.clone(),
        limits: record.limits,
    }
}
