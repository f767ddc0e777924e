//! `POST /v1/store/compact`: everything committed goes into as few files as there can be.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::limits;
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::openapi::{Answer, OF_BODY, Operation, Tag};
use crate::problem::Problem;
use crate::{body, json};

#[derive(JsonSchema, Serialize)]
struct AnswerBody {
    parts: u64,
    part_bytes: u64,
    hot_rows: u64,
    merge_debt_rows: u64,
}

/// What the document says of [`post`]. It goes on after a 504.
pub(crate) fn describe() -> Operation {
    let summary = "Write everything committed into as few files as there can be";
    let answer = Answer::json::<AnswerBody>("Compaction", "It is done.");
    Operation::new(Tag::Operations, summary).answers(StatusCode::OK, answer).fails_with(&OF_BODY)
}

/// Answers when it is done. A client that goes away does not stop it. A body says nothing, but is
/// read, so that the connection can go on.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    body::receive_question(&app, &parts.headers, body, limits::QUERY_BODY_BYTES).await?;
    app.services.store.compact().await?;
    let stats = app.services.store.stats();
    let body = AnswerBody {
        parts: stats.parts,
        part_bytes: stats.part_bytes,
        hot_rows: stats.hot_rows,
        merge_debt_rows: stats.merge_debt_rows,
    };
    Ok(json::respond(StatusCode::OK, &body))
}
