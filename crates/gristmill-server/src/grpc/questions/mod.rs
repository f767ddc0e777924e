//! `analytics.v1.AnalyticsService`, one file per question.
//!
//! Messages are read by the same code as requests of the HTTP API, so that a question means the
//! same over both, and is refused in the same words.

mod activity;
mod cohorts;
mod funnel;
mod health;
mod lists;
mod live;
mod paths;
mod payload;
mod real_time;
mod retention;
mod selecting;
mod series;
mod sessions;
mod summary;
mod user;
mod well_known;

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use gristmill_model::{ErrorCode, ProjectId, limits};
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::analytics_service_server::AnalyticsService;
use gristmill_query::measured;
use prost::Message;
use tonic::{Request, Response, Status};

use super::status;
use crate::app::App;
use crate::caller::project_of;
use crate::problem::Problem;
use live::Revisions;

pub(super) use health::health;

/// The service of a process that answers questions.
pub(super) struct Analytics(pub(super) Arc<App>);

type Answered<A> = Result<Response<A>, Status>;

impl Analytics {
    /// Asks a question that follows from the store, or gives its answer again.
    async fn question<Q, A, W>(
        &self,
        method: &str,
        call: Request<Q>,
        ask: fn(Arc<App>, ProjectId<'static>, Q) -> W,
    ) -> Answered<A>
    where
        Q: Message + Clone,
        A: Message + Default,
        W: Future<Output = Result<A, Problem>> + Send,
    {
        let Self(app) = self;
        if app.services.query.answer_stats().is_none() {
            return self.call(call, ask).await;
        }
        let project = project_of(call.extensions());
        let question = call.into_inner();
        check_size(&question)?;
        let work = || async {
            let asking = Box::pin(ask(Arc::clone(app), project.clone(), question.clone()));
            let (answer, cost) = measured(asking).await;
            answer.map(|answer| (Bytes::from(answer.encode_to_vec()), cost))
        };
        let identity = identity(&project, method, &question);
        let kept = app.services.query.text(&identity, work).await;
        let answer = kept.and_then(|kept| A::decode(kept.text).map_err(|_| live::broken()));
        answer.map(Response::new).map_err(|problem| status::of(&problem))
    }

    /// Does what a call asks for.
    async fn call<Q, A, W>(
        &self,
        call: Request<Q>,
        ask: fn(Arc<App>, ProjectId<'static>, Q) -> W,
    ) -> Answered<A>
    where
        Q: Message,
        W: Future<Output = Result<A, Problem>> + Send,
    {
        let project = project_of(call.extensions());
        let question = call.into_inner();
        check_size(&question)?;
        let answer = ask(Arc::clone(&self.0), project, question).await;
        answer.map(Response::new).map_err(|problem| status::of(&problem))
    }
}

/// Refuses a question that is larger than one over HTTP may be.
fn check_size(question: &impl Message) -> Result<(), Status> {
    let most = limits::QUERY_BODY_BYTES;
    if question.encoded_len() <= most {
        return Ok(());
    }
    let detail = format!("the question is larger than the limit of {most} bytes");
    Err(status::of(&Problem::new(ErrorCode::TooLarge, detail)))
}

/// All that an answer follows from, beside the store.
fn identity(project: &ProjectId<'static>, method: &str, question: &impl Message) -> Bytes {
    let mut identity = BytesMut::new();
    for part in [project.as_str(), "grpc", method] {
        identity.put_u32(part.len() as u32);
        identity.put_slice(part.as_bytes());
    }
    identity.put_slice(&question.encode_to_vec());
    identity.freeze()
}

#[tonic::async_trait]
impl AnalyticsService for Analytics {
    type GetRealTimeAnalyticsStream = Revisions<v1::RealTimeAnalyticsResponse>;
    type SubscribeStream = Revisions<v1::SubscribeResponse>;

    async fn get_analytics_summary(
        &self,
        call: Request<v1::GetAnalyticsSummaryRequest>,
    ) -> Answered<v1::AnalyticsSummary> {
        self.question("GetAnalyticsSummary", call, summary::ask).await
    }

    async fn get_time_series(
        &self,
        call: Request<v1::GetTimeSeriesRequest>,
    ) -> Answered<v1::GetTimeSeriesResponse> {
        self.question("GetTimeSeries", call, series::ask).await
    }

    async fn get_real_time_analytics(
        &self,
        call: Request<v1::GetRealTimeAnalyticsRequest>,
    ) -> Answered<Self::GetRealTimeAnalyticsStream> {
        self.call(call, real_time::ask).await
    }

    async fn get_user_analytics(
        &self,
        call: Request<v1::GetUserAnalyticsRequest>,
    ) -> Answered<v1::GetUserAnalyticsResponse> {
        self.question("GetUserAnalytics", call, user::ask).await
    }

    async fn get_funnel_analysis(
        &self,
        call: Request<v1::GetFunnelAnalysisRequest>,
    ) -> Answered<v1::GetFunnelAnalysisResponse> {
        self.question("GetFunnelAnalysis", call, funnel::ask).await
    }

    async fn health(&self, _: Request<()>) -> Answered<v1::HealthResponse> {
        Ok(Response::new(health(&self.0)))
    }

    async fn get_funnel_users(
        &self,
        call: Request<v1::GetFunnelUsersRequest>,
    ) -> Answered<v1::GetFunnelUsersResponse> {
        self.question("GetFunnelUsers", call, funnel::users).await
    }

    async fn get_retention(
        &self,
        call: Request<v1::GetRetentionRequest>,
    ) -> Answered<v1::GetRetentionResponse> {
        self.question("GetRetention", call, retention::ask).await
    }

    async fn get_paths(
        &self,
        call: Request<v1::GetPathsRequest>,
    ) -> Answered<v1::GetPathsResponse> {
        self.question("GetPaths", call, paths::ask).await
    }

    async fn get_sessions(
        &self,
        call: Request<v1::GetSessionsRequest>,
    ) -> Answered<v1::GetSessionsResponse> {
        self.question("GetSessions", call, sessions::ask).await
    }

    async fn get_stickiness(
        &self,
        call: Request<v1::GetStickinessRequest>,
    ) -> Answered<v1::GetStickinessResponse> {
        self.question("GetStickiness", call, activity::stickiness).await
    }

    async fn get_lifecycle(
        &self,
        call: Request<v1::GetLifecycleRequest>,
    ) -> Answered<v1::GetLifecycleResponse> {
        self.question("GetLifecycle", call, activity::lifecycle).await
    }

    async fn get_top_values(
        &self,
        call: Request<v1::GetTopValuesRequest>,
    ) -> Answered<v1::GetTopValuesResponse> {
        self.question("GetTopValues", call, lists::top_values).await
    }

    async fn list_users(
        &self,
        call: Request<v1::ListUsersRequest>,
    ) -> Answered<v1::ListUsersResponse> {
        self.question("ListUsers", call, lists::users).await
    }

    async fn create_cohort(&self, call: Request<v1::CreateCohortRequest>) -> Answered<v1::Cohort> {
        self.call(call, cohorts::create).await
    }

    async fn get_cohort(&self, call: Request<v1::GetCohortRequest>) -> Answered<v1::Cohort> {
        self.call(call, cohorts::get).await
    }

    async fn list_cohorts(
        &self,
        call: Request<v1::ListCohortsRequest>,
    ) -> Answered<v1::ListCohortsResponse> {
        self.call(call, cohorts::list).await
    }

    async fn replace_cohort(
        &self,
        call: Request<v1::ReplaceCohortRequest>,
    ) -> Answered<v1::Cohort> {
        self.call(call, cohorts::replace).await
    }

    async fn delete_cohort(&self, call: Request<v1::DeleteCohortRequest>) -> Answered<()> {
        self.call(call, cohorts::delete).await
    }

    async fn list_cohort_users(
        &self,
        call: Request<v1::ListCohortUsersRequest>,
    ) -> Answered<v1::ListCohortUsersResponse> {
        self.call(call, cohorts::users).await
    }

    async fn subscribe(
        &self,
        call: Request<v1::SubscribeRequest>,
    ) -> Answered<Self::SubscribeStream> {
        self.call(call, live::subscribe).await
    }
}
