//! `POST /v1/analytics/users`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{
    ListedUser, Selection, UserListAnswer, UserListQuery, UserOrder, UserPlace, limits,
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::object::{Object, Scalar};
use super::page_token::{decode, encode, into_headers, wrong};
use super::posted::{posted, select};
use super::question::{
    Format, RangeBody, at_least, choice, format, limit_term, page_term, seconds,
};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::problem::Problem;

/// How many users are given if nobody says.
const USERS: u64 = 100;

const ORDERS: [(&str, UserOrder); 4] = [
    ("user_id", UserOrder::UserId),
    ("events", UserOrder::Events),
    ("last_seen", UserOrder::LastSeen),
    ("first_seen", UserOrder::FirstSeen),
];

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    users: Vec<UserBody<'a>>,
    total_users: u64,
    next_page_token: Option<String>,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct UserBody<'a> {
    user_id: &'a str,
    events: u64,
    first_seen: Time,
    last_seen: Time,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    order_by: &'static str,
    processing_time: String,
}

/// What the document says of [`post`].
pub(crate) fn describe() -> Description {
    let events = 1..=MOST_EVENTS as usize;
    let order = "numbers and times come greatest first, ties by user id";
    let terms = [
        Term::whole("min_events", "how many selected events a user has at least", events.clone())
            .by_default(1),
        Term::whole("max_events", "how many selected events a user has at most", events),
        Term::choice("order_by", order, &ORDERS).by_default("user_id"),
        limit_term("users on a page", USERS as usize, limits::LISTED_USERS),
        page_term(),
    ];
    let summary = "The users who made selected events, with how many they made";
    Description::of::<AnswerBody<'_>>("UserList", summary, terms).with_header("next-page-token")
}

/// The users who made selected events, with how many they made.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let mut question = Question::of_body(&posted.body, posted.selection)?;
    at_least(&app, question.token.take()).await?;
    let (range, order_by) = (question.query.selection.range, question.order_by);
    let (answer, next) = question.ask(&app).await?;
    if format(&posted.headers) == Format::Csv {
        let mut response = table(&answer);
        into_headers(&mut response, [("next-page-token", next)]);
        return Ok(response);
    }
    let body = AnswerBody {
        users: answer.users.iter().map(user_body).collect(),
        total_users: answer.total_users,
        next_page_token: next,
        metadata: MetadataBody {
            time_range: range.into(),
            order_by,
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// What a body asks.
pub(crate) struct Question {
    query: UserListQuery,
    order_by: &'static str,
    /// What page tokens are good for.
    text: String,
    /// Its `at_least`.
    token: Option<String>,
}

impl Question {
    /// The question of a body, about what is left of `selection`.
    pub(crate) fn of_body(body: &[u8], selection: Selection) -> Result<Self, Problem> {
        question(body, selection)
    }

    /// The answer, and the token of the page behind it.
    pub(crate) async fn ask(self, app: &App) -> Result<(UserListAnswer, Option<String>), Problem> {
        let Self { query, text, .. } = self;
        let order = query.order;
        let answer = app.services.query.users(query).await?;
        let last = answer.users.last().filter(|_| answer.has_more);
        let next = last.map(|user| token_behind(&text, order, user));
        Ok((answer, next))
    }
}

fn question(body: &[u8], mut selection: Selection) -> Result<Question, Problem> {
    let mut body = Object::of_body(body)?;
    select(&mut body, &mut selection)?;
    let most = limits::LISTED_USERS as u64;
    let limit = count(&mut body, "limit", most)?.unwrap_or(USERS) as usize;
    let min_events = count(&mut body, "min_events", MOST_EVENTS)?.unwrap_or(1);
    let max_events = count(&mut body, "max_events", MOST_EVENTS)?.unwrap_or(MOST_EVENTS);
    if min_events > max_events {
        return Err(Problem::argument("`min_events` must not be above `max_events`"));
    }
    let order = body.take_text("order_by")?;
    let (order_by, order) = choice("order_by", order.as_deref().unwrap_or("user_id"), &ORDERS)?;
    let page = body.take_text("page_token")?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    let text = format!("users {order_by} {min_events} {max_events} {selection:?}");
    let after = page.map(|page| place(&text, &page)).transpose()?;
    let query = UserListQuery { selection, min_events, max_events, order, after, limit };
    Ok(Question { query, order_by, text, token })
}

/// More events than there can be, and the largest whole number that JSON tells from its
/// neighbours.
const MOST_EVENTS: u64 = (1 << 53) - 1;

/// A member that is a whole number from 1 on.
fn count(body: &mut Object<'_>, name: &str, most: u64) -> Result<Option<u64>, Problem> {
    let Some(member) = body.take(name)? else { return Ok(None) };
    let wrong = || member.must_be(&format!("a whole number from 1 to {most}"));
    match member.scalar() {
        Ok(Scalar::Number(number))
            if number.fract() == 0.0 && (1.0..=most as f64).contains(&number) =>
        {
            Ok(Some(number as u64))
        }
        _ => Err(wrong()),
    }
}

/// The place that a page token tells.
fn place(question: &str, token: &str) -> Result<UserPlace, Problem> {
    let payload = decode(question.as_bytes(), token)?;
    let (rank, user) = payload.split_first_chunk().ok_or_else(wrong)?;
    let user = String::from_utf8(user.to_vec()).map_err(|_| wrong())?;
    Ok(UserPlace { rank: i64::from_be_bytes(*rank), user })
}

/// The token of the page behind a user.
fn token_behind(question: &str, order: UserOrder, user: &ListedUser) -> String {
    let rank = order.rank(user.events, user.first_seen, user.last_seen);
    let place = [&rank.to_be_bytes()[..], user.user.as_bytes()];
    encode(question.as_bytes(), &place.concat())
}

fn user_body(user: &ListedUser) -> UserBody<'_> {
    UserBody {
        user_id: &user.user,
        events: user.events,
        first_seen: Time(user.first_seen),
        last_seen: Time(user.last_seen),
    }
}

fn table(answer: &UserListAnswer) -> Response {
    let mut table = Table::new(&["user_id", "events", "first_seen", "last_seen"]);
    for user in &answer.users {
        table.text(&user.user);
        table.number(user.events);
        table.text(&user.first_seen.to_string());
        table.text(&user.last_seen.to_string());
        table.end_row();
    }
    table.into_response()
}
