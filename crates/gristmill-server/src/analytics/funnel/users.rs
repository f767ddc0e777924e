//! `POST /v1/analytics/funnel/users`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{FunnelOutcome, FunnelUsersAnswer, FunnelUsersQuery, Selection, limits};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::super::csv::Table;
use super::super::description::Description;
use super::super::object::Object;
use super::super::page_token::{decode, encode, into_headers, wrong};
use super::super::posted::posted;
use super::super::question::{
    Format, RangeBody, at_least, choice, format, limit_term, page_term, seconds,
};
use super::question::{funnel, funnel_terms};
use crate::app::App;
use crate::json;
use crate::openapi::Term;
use crate::problem::Problem;

const OUTCOMES: [(&str, FunnelOutcome); 2] =
    [("reached", FunnelOutcome::Reached), ("dropped", FunnelOutcome::Dropped)];
/// How many users are given if nobody says.
const USERS: usize = 100;

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    users: Vec<UserBody<'a>>,
    next_page_token: Option<String>,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct UserBody<'a> {
    user_id: &'a str,
    reached_step: usize,
    /// The value of the breakdown, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a str>>,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    processing_time: String,
}

/// What the document says of [`post`].
pub(crate) fn describe() -> Description {
    let outcome = "all who reached the step, or those who did not reach the next one";
    let mut terms = funnel_terms();
    terms.extend([
        Term::whole("step", "whose users, from 1", 1..=limits::FUNNEL_STEPS).required(),
        Term::choice("outcome", outcome, &OUTCOMES).by_default("reached"),
        limit_term("users on a page", USERS, limits::FUNNEL_USERS),
        page_term(),
    ]);
    let summary = "Who reached a step of a funnel, page by page";
    Description::of::<AnswerBody<'_>>("FunnelUsers", summary, terms).with_header("next-page-token")
}

/// Who reached a step, page by page.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let mut question = Question::of_body(&posted.body, posted.selection)?;
    at_least(&app, question.token.take()).await?;
    let has_values = question.has_values();
    let range = question.query.funnel.selection.range;
    let (answer, next) = question.ask(&app).await?;
    let users = answer.users.iter().map(|user| UserBody {
        user_id: &user.user,
        reached_step: user.level,
        value: has_values.then_some(user.value.as_deref()),
    });
    if format(&posted.headers) == Format::Csv {
        let mut table = table(users);
        into_headers(&mut table, [("next-page-token", next)]);
        return Ok(table);
    }
    let body = AnswerBody {
        users: users.collect(),
        next_page_token: next,
        metadata: MetadataBody {
            time_range: range.into(),
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// What a body asks.
pub(crate) struct Question {
    query: FunnelUsersQuery,
    /// What a token of a page is bound to.
    text: String,
    /// Its `at_least`.
    token: Option<String>,
}

impl Question {
    /// The question of a body, about what is left of `selection`.
    pub(crate) fn of_body(body: &[u8], selection: Selection) -> Result<Self, Problem> {
        question(body, selection)
    }

    /// Whether users are told apart by a value.
    pub(crate) fn has_values(&self) -> bool {
        self.query.funnel.breakdown.is_some()
    }

    /// The answer, and the token of the page behind it.
    pub(crate) async fn ask(
        self,
        app: &App,
    ) -> Result<(FunnelUsersAnswer, Option<String>), Problem> {
        let Self { query, text, .. } = self;
        let answer = app.services.query.funnel_users(query).await?;
        let next = answer.next.as_ref().map(|last| encode(text.as_bytes(), last.as_bytes()));
        Ok((answer, next))
    }
}

fn question(body: &[u8], selection: Selection) -> Result<Question, Problem> {
    let mut body = Object::of_body(body)?;
    let funnel = funnel(&mut body, selection)?;
    let step = body.take_whole("step", 1..=funnel.steps.len())?;
    let step = step.ok_or_else(|| Problem::argument("`step` is missing: say whose users"))?;
    let outcome = body.take_text("outcome")?;
    let (_, outcome) = choice("outcome", outcome.as_deref().unwrap_or("reached"), &OUTCOMES)?;
    let limit = body.take_whole("limit", 1..=limits::FUNNEL_USERS)?.unwrap_or(USERS);
    let page = body.take_text("page_token")?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    let text = format!("funnel users {step} {outcome:?} {funnel:?}");
    let after = page.map(|page| decode(text.as_bytes(), &page)).transpose()?;
    let after = after.map(|name| String::from_utf8(name).map_err(|_| wrong())).transpose()?;
    let query = FunnelUsersQuery { funnel, step, outcome, limit, after };
    Ok(Question { query, text, token })
}

fn table<'a>(users: impl Iterator<Item = UserBody<'a>>) -> Response {
    let mut table = Table::new(&["user_id", "reached_step", "value"]);
    for user in users {
        table.text(user.user_id);
        table.number(user.reached_step);
        table.text(user.value.flatten().unwrap_or_default());
        table.end_row();
    }
    table.into_response()
}
