//! Package `analytics`, as clients of two older systems call it.

use std::sync::Arc;

use gristmill_model::{Coded, GrpcCode, PageCountQuery};
use gristmill_proto::analytics::analytics_service_server::AnalyticsService;
use gristmill_proto::analytics::{
    AnalyticsSummary, AnalyticsSummaryRequest, EventCountRequest, EventCountResponse,
    HealthRequest, HealthResponse, MetricsRequest, MetricsResponse,
};
use tonic::{Code, Request, Response, Status};

use crate::app::App;
use crate::caller::project_of;

/// Both systems' `AnalyticsService`.
pub(super) struct OlderAnalytics(pub(super) Arc<App>);

#[tonic::async_trait]
impl AnalyticsService for OlderAnalytics {
    async fn get_event_count(
        &self,
        call: Request<EventCountRequest>,
    ) -> Result<Response<EventCountResponse>, Status> {
        let Self(app) = self;
        let project = project_of(call.extensions());
        let EventCountRequest { user_id, page_url } = call.into_inner();
        let (user, page) = (user_id.clone(), page_url.clone());
        let query = PageCountQuery { project, user, page_url: page };
        let count = app.services.query.page_count(query).await.map_err(|error| {
            tracing::warn!(%error, "cannot count a page's clicks");
            Status::new(code(error.code().grpc_code()), "failed to get analytics")
        })?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Response::new(EventCountResponse { count, user_id, page_url }))
    }

    async fn get_analytics_summary(
        &self,
        _call: Request<AnalyticsSummaryRequest>,
    ) -> Result<Response<AnalyticsSummary>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn get_metrics(
        &self,
        _call: Request<MetricsRequest>,
    ) -> Result<Response<MetricsResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn get_analytics_health(
        &self,
        _call: Request<HealthRequest>,
    ) -> Result<Response<HealthResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }
}

fn code(code: GrpcCode) -> Code {
    Code::from_i32(code as i32)
}
