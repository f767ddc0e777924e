//! `GET /v1/analytics/users/{id}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use gristmill_model::{
    EventPage, EventPlace, Selection, Timestamp, UserAnswer, UserEvent, UserProfile, UserQuery,
    UserSession, limits,
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::csv::Table;
use super::description::Description;
use super::page_token::{decode, encode, into_headers, wrong};
use super::question::{
    Format, choice, flag, format, limit, limit_term, page_term, seconds, selection, zone_term,
};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many events are given if nobody says.
const EVENTS: usize = 100;

/// In which order a page's events are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    NewestFirst,
    OldestFirst,
}

const ORDERS: [(&str, Order); 2] = [("desc", Order::NewestFirst), ("asc", Order::OldestFirst)];

/// The first byte of a page token: on which side of its event the page lies.
const OLDER: u8 = b'o';
const NEWER: u8 = b'n';

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    user_profile: ProfileBody<'a>,
    metrics: MetricsBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<Vec<SessionBody<'a>>>,
    #[serde(flatten)]
    page: Option<PageBody<'a>>,
}

#[derive(JsonSchema, Serialize)]
struct ProfileBody<'a> {
    user_id: &'a str,
    first_seen: Option<Time>,
    last_seen: Option<Time>,
    total_sessions: u64,
    total_events: u64,
    attributes: BTreeMap<&'a str, &'a str>,
}

#[derive(Default, JsonSchema, Serialize)]
struct MetricsBody<'a> {
    engagement_score: f64,
    days_active: u64,
    /// In seconds.
    avg_session_duration: f64,
    total_transactions: u64,
    total_revenue: f64,
    top_pages: Vec<PageUrlBody<'a>>,
}

#[derive(JsonSchema, Serialize)]
struct PageUrlBody<'a> {
    page_url: &'a str,
    count: u64,
}

#[derive(JsonSchema, Serialize)]
struct SessionBody<'a> {
    session_id: &'a str,
    start_time: Time,
    end_time: Time,
    event_count: u64,
    duration: String,
}

#[derive(JsonSchema, Serialize)]
struct PageBody<'a> {
    events: Vec<EventBody<'a>>,
    next_page_token: Option<String>,
    previous_page_token: Option<String>,
}

#[derive(JsonSchema, Serialize)]
struct EventBody<'a> {
    id: &'a str,
    user_id: &'a str,
    session_id: Option<&'a str>,
    event_type: &'a str,
    timestamp: Time,
    source: &'a str,
    page_url: &'a str,
    properties: &'a RawValue,
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Description {
    let terms = [
        limit_term("events on a page", EVENTS, limits::USER_EVENTS),
        Term::flag("include_events", "whether there are `events`").by_default(true),
        Term::flag("include_sessions", "whether there are `sessions`").by_default(false),
        zone_term(),
        Term::choice("order", "newest or oldest events first", &ORDERS).by_default("desc"),
        page_term(),
    ];
    let summary = "One user's profile and a page of the user's events";
    Description::of::<AnswerBody<'_>>("User", summary, terms)
        .at(Term::text("id", "the user's id"))
        .with_header("next-page-token")
        .with_header("previous-page-token")
}

/// One user's profile and a page of the user's events. A user without events has a profile of
/// zeros.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    user: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let Path(user) = user.map_err(|_| Problem::argument("the user id in the path is not UTF-8"))?;
    let mut parameters = Parameters::of(request.uri())?;
    let terms = Terms::take(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let (with_events, with_sessions) = (terms.with_events, terms.with_sessions);
    let UserPage { answer, next, previous } = terms.ask(&app, selection, user.clone()).await?;
    if format(request.headers()) == Format::Csv {
        let mut response = table(&user, &answer.events);
        let tokens = [("next-page-token", next), ("previous-page-token", previous)];
        into_headers(&mut response, tokens);
        return Ok(response);
    }
    let page = with_events.then(|| PageBody {
        events: answer.events.iter().map(|event| event_body(&user, event)).collect(),
        next_page_token: next,
        previous_page_token: previous,
    });
    let profile = answer.profile.as_ref();
    let sessions = profile.map_or(&[][..], |profile| &profile.sessions);
    let body = AnswerBody {
        user_profile: profile_body(&user, profile),
        metrics: profile.map(metrics_body).unwrap_or_default(),
        sessions: with_sessions.then(|| sessions.iter().map(session_body).collect()),
        page,
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// What a question says beside which events and which user it is about.
pub(crate) struct Terms {
    limit: usize,
    with_events: bool,
    pub(crate) with_sessions: bool,
    zone: String,
    order: Order,
    token: Option<String>,
}

/// What is known of a user, and a page of the user's events.
pub(crate) struct UserPage {
    /// Its events are in the order that was asked for.
    pub(crate) answer: UserAnswer,
    /// The token of the page behind this one.
    pub(crate) next: Option<String>,
    /// The token of the page before this one.
    pub(crate) previous: Option<String>,
}

impl Terms {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let limit = limit(parameters, EVENTS, limits::USER_EVENTS)?;
        let with_events = flag(parameters, "include_events")?.unwrap_or(true);
        let with_sessions = flag(parameters, "include_sessions")?.unwrap_or(false);
        let zone = parameters.take("tz")?.unwrap_or_else(|| "UTC".to_owned());
        let order = parameters.take("order")?;
        let (_, order) = choice("order", order.as_deref().unwrap_or("desc"), &ORDERS)?;
        let token = parameters.take("page_token")?;
        Ok(Self { limit, with_events, with_sessions, zone, order, token })
    }

    /// The answer about one user's selected events.
    pub(crate) async fn ask(
        self,
        app: &App,
        selection: Selection,
        user: String,
    ) -> Result<UserPage, Problem> {
        let Self { limit, with_events, zone, order, token, .. } = self;
        let pages = Pages { order, question: format!("user {user:?} {order:?} {selection:?}") };
        let page = pages.page(token.as_deref())?;
        let limit = if with_events { limit } else { 0 };
        let query = UserQuery { selection, user, zone, now: app.now(), page, limit };
        let mut answer = app.services.query.user(query).await?;
        let [next, previous] = pages.tokens(&answer);
        if order == Order::NewestFirst {
            answer.events.reverse();
        }
        Ok(UserPage { answer, next, previous })
    }
}

/// The pages of a question's events.
struct Pages {
    order: Order,
    /// What the tokens of these pages are good for.
    question: String,
}

impl Pages {
    /// The page of a token, the first one without.
    fn page(&self, token: Option<&str>) -> Result<EventPage, Problem> {
        let Some(token) = token else {
            return Ok(match self.order {
                Order::NewestFirst => EventPage::Newest,
                Order::OldestFirst => EventPage::Oldest,
            });
        };
        let payload = decode(self.question.as_bytes(), token)?;
        let (side, rest) = payload.split_first().ok_or_else(wrong)?;
        let (time, id) = rest.split_first_chunk().ok_or_else(wrong)?;
        let id = String::from_utf8(id.to_vec()).map_err(|_| wrong())?;
        let place = EventPlace { time: Timestamp(i64::from_be_bytes(*time)), id };
        match *side {
            OLDER => Ok(EventPage::OlderThan(place)),
            NEWER => Ok(EventPage::NewerThan(place)),
            _ => Err(wrong()),
        }
    }

    /// The tokens of the next and of the previous page, where there are such.
    fn tokens(&self, answer: &UserAnswer) -> [Option<String>; 2] {
        let token = |side: u8, event: &UserEvent| {
            let place = [&[side][..], &event.time.0.to_be_bytes(), event.id.as_bytes()];
            encode(self.question.as_bytes(), &place.concat())
        };
        let oldest = answer.events.first().filter(|_| answer.has_older);
        let newest = answer.events.last().filter(|_| answer.has_newer);
        let older = oldest.map(|event| token(OLDER, event));
        let newer = newest.map(|event| token(NEWER, event));
        match self.order {
            Order::NewestFirst => [older, newer],
            Order::OldestFirst => [newer, older],
        }
    }
}

fn profile_body<'a>(user: &'a str, profile: Option<&UserProfile>) -> ProfileBody<'a> {
    ProfileBody {
        user_id: user,
        first_seen: profile.map(|profile| Time(profile.first_seen)),
        last_seen: profile.map(|profile| Time(profile.last_seen)),
        total_sessions: profile.map_or(0, |profile| profile.total_sessions),
        total_events: profile.map_or(0, |profile| profile.total_events),
        attributes: BTreeMap::new(),
    }
}

fn metrics_body(profile: &UserProfile) -> MetricsBody<'_> {
    let pages = profile.top_pages.iter();
    MetricsBody {
        engagement_score: profile.engagement(),
        days_active: profile.active_days,
        avg_session_duration: profile.mean_session_duration.unwrap_or(0) as f64 / 1e6,
        total_transactions: profile.transactions,
        total_revenue: profile.revenue,
        top_pages: pages
            .map(|page| PageUrlBody { page_url: &page.page_url, count: page.events })
            .collect(),
    }
}

fn session_body(session: &UserSession) -> SessionBody<'_> {
    SessionBody {
        session_id: &session.id,
        start_time: Time(session.start),
        end_time: Time(session.end),
        event_count: session.events,
        duration: seconds(session.end.since(session.start)),
    }
}

fn event_body<'a>(user: &'a str, event: &'a UserEvent) -> EventBody<'a> {
    EventBody {
        id: &event.id,
        user_id: user,
        session_id: event.session.as_deref(),
        event_type: &event.event_type,
        timestamp: Time(event.time),
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
