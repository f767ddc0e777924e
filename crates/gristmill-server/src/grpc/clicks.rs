//! `analytics.AnalyticsService/GetEventCount`, as clients of the click platform call it.

use std::sync::Arc;

use gristmill_model::{Coded, GrpcCode, PageCountQuery};
use tonic::{Code, Request, Response, Status};

use super::frames::{EventCountRequest, EventCountResponse};
use crate::app::{App, project_of};

/// How often a user clicked on a page; 0 if nobody has seen either.
pub(super) async fn event_count(
    app: &Arc<App>,
    call: Request<EventCountRequest>,
) -> Result<Response<EventCountResponse>, Status> {
    let (metadata, _, asked) = call.into_parts();
    let project = project_of(metadata.as_ref());
    let EventCountRequest { user_id, page_url } = asked;
    let (user, page) = (user_id.clone(), page_url.clone());
    let query = PageCountQuery { project, user, page_url: page };
    let count = app.services.query.page_count(query).await.map_err(|error| {
        tracing::warn!(%error, "cannot count a page's clicks");
        Status::new(code(error.code().grpc_code()), "failed to get analytics")
    })?;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    Ok(Response::new(EventCountResponse { count, user_id, page_url }))
}

fn code(code: GrpcCode) -> Code {
    Code::from_i32(code as i32)
}
