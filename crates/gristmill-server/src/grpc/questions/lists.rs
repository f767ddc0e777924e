//! `GetTopValues` and `ListUsers`.

use std::sync::Arc;

use gristmill_model::{ListedUser, ProjectId, TopValue};
use gristmill_proto::analytics::v1;
use serde::Serialize;

use super::selecting::{Selecting, number, text, whole, word};
use super::well_known::{count, timestamp};
use crate::analytics::{top, user_list};
use crate::app::App;
use crate::json;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// The most frequent values of a field or property.
pub(super) async fn top_values(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetTopValuesRequest,
) -> Result<v1::GetTopValuesResponse, Problem> {
    let mut parameters =
        Parameters::given([("property", text(request.property)), ("limit", number(request.limit))]);
    let terms = top::Terms::take(&mut parameters)?;
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let answer = app.services.query.top(terms.question(selection)).await?;
    let value = |TopValue { value, count: events, unique_users }: TopValue| v1::TopValue {
        value,
        count: count(events),
        unique_users: count(unique_users),
    };
    Ok(v1::GetTopValuesResponse { values: answer.values.into_iter().map(value).collect() })
}

/// A question as the HTTP API takes it.
#[derive(Serialize)]
struct UsersBody {
    min_events: Option<i64>,
    max_events: Option<i64>,
    order_by: Option<String>,
    limit: Option<i64>,
    page_token: Option<String>,
}

/// The users who made selected events.
pub(super) async fn users(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::ListUsersRequest,
) -> Result<v1::ListUsersResponse, Problem> {
    let body = UsersBody {
        min_events: whole(request.min_events),
        max_events: whole(request.max_events),
        order_by: word("order_by", request.order_by, v1::UserOrder::as_str_name, "USER_ORDER_")?,
        limit: whole(request.limit),
        page_token: text(request.page_token),
    };
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let question = user_list::Question::of_body(&json::text(&body), selection)?;
    let (answer, next) = question.ask(&app).await?;
    Ok(v1::ListUsersResponse {
        users: answer.users.into_iter().map(user).collect(),
        total_users: count(answer.total_users),
        next_page_token: next.unwrap_or_default(),
    })
}

fn user(user: ListedUser) -> v1::ListedUser {
    v1::ListedUser {
        user_id: user.user,
        events: count(user.events),
        first_seen: Some(timestamp(user.first_seen)),
        last_seen: Some(timestamp(user.last_seen)),
    }
}
