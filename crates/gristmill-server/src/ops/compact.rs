//! `POST /v1/store/compact`: everything committed goes into as few files as there can be.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::app::App;
use crate::json;
use crate::problem::Problem;

/// Answers when it is done. A client that goes away does not stop it.
pub(crate) async fn post(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    app.services.store.compact().await?;
    let stats = app.services.store.stats();
    let body = json!({
        "parts": stats.parts,
        "part_bytes": stats.part_bytes,
        "hot_rows": stats.hot_rows,
        "merge_debt_rows": stats.merge_debt_rows,
    });
    Ok(json::respond(StatusCode::OK, &body))
}
