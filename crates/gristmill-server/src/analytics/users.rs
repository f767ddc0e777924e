//! `GET /v1/analytics/users/{id}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use gristmill_model::{UserAnswer, UserEvent, UserQuery, limits};
use http::{Request, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::csv::Table;
use super::question::{Format, flag, format, limit, selection};
use crate::app::App;
use crate::json;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many events are given if nobody says.
const EVENTS: usize = 100;

#[derive(Serialize)]
struct AnswerBody<'a> {
    user_profile: ProfileBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<EventBody<'a>>>,
}

#[derive(Serialize)]
struct ProfileBody<'a> {
    user_id: &'a str,
    first_seen: Option<String>,
    last_seen: Option<String>,
    total_sessions: u64,
    total_events: u64,
    attributes: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct EventBody<'a> {
    id: &'a str,
    user_id: &'a str,
    session_id: Option<&'a str>,
    event_type: &'a str,
    timestamp: String,
    source: &'a str,
    page_url: &'a str,
    properties: &'a RawValue,
}

/// One user's profile and newest events. A user without events has a profile of zeros.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    user: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let Path(user) = user.map_err(|_| Problem::argument("the user id in the path is not UTF-8"))?;
    let mut parameters = Parameters::of(request.uri())?;
    let limit = limit(&mut parameters, EVENTS, limits::USER_EVENTS)?;
    let with_events = flag(&mut parameters, "include_events")?.unwrap_or(true);
    // Sessions are counted in the profile either way; there is nothing more to tell of them.
    flag(&mut parameters, "include_sessions")?;
    let selection = selection(&app, request.headers(), &mut parameters).await?;
    parameters.finish()?;
    let limit = if with_events { limit } else { 0 };
    let query = UserQuery { selection, user: user.clone(), limit };
    let answer = app.services.query.user(query).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&user, &answer.events));
    }
    let events = with_events.then_some(answer.events.as_slice());
    Ok(json::respond(StatusCode::OK, &body(&user, &answer, events)))
}

fn body<'a>(
    user: &'a str,
    answer: &'a UserAnswer,
    events: Option<&'a [UserEvent]>,
) -> AnswerBody<'a> {
    let profile = answer.profile.as_ref();
    AnswerBody {
        user_profile: ProfileBody {
            user_id: user,
            first_seen: profile.map(|profile| profile.first_seen.to_string()),
            last_seen: profile.map(|profile| profile.last_seen.to_string()),
            total_sessions: profile.map_or(0, |profile| profile.total_sessions),
            total_events: profile.map_or(0, |profile| profile.total_events),
            attributes: BTreeMap::new(),
        },
        events: events.map(|events| events.iter().map(|event| event_body(user, event)).collect()),
    }
}

fn event_body<'a>(user: &'a str, event: &'a UserEvent) -> EventBody<'a> {
    EventBody {
        id: &event.id,
        user_id: user,
        session_id: event.session.as_deref(),
        event_type: &event.event_type,
        timestamp: event.time.to_string(),
        source: &event.source,
        page_url: &event.page_url,
        // Properties were checked when they came in; should they be damaged, the rest still counts.
        properties: serde_json::from_str(&event.properties).unwrap_or(RawValue::NULL),
    }
}

fn table(user: &str, events: &[UserEvent]) -> Response {
    let mut table = Table::new(&[
        "id",
        "user_id",
        "session_id",
        "event_type",
        "timestamp",
        "source",
        "page_url",
        "properties",
    ]);
    for event in events {
        table.text(&event.id);
        table.text(user);
        table.text(event.session.as_deref().unwrap_or_default());
        table.text(&event.event_type);
        table.text(&event.time.to_string());
        table.text(&event.source);
        table.text(&event.page_url);
        table.text(&event.properties);
        table.end_row();
    }
    table.into_response()
}
