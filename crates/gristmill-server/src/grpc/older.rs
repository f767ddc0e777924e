//! Package `analytics`, as clients of two older systems call it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_model::{
    PageCountQuery, ProjectId, Selection, SummaryAnswer, SummaryQuery, TimeRange, Timestamp, limits,
};
use gristmill_proto::analytics::analytics_service_server::AnalyticsService;
use gristmill_proto::analytics::{
    AnalyticsSummary, AnalyticsSummaryRequest, EventCountRequest, EventCountResponse,
    HealthRequest, HealthResponse, Metric, MetricsRequest, MetricsResponse,
};
use tonic::{Request, Response, Status};

use super::{questions, status};
use crate::analytics::filters;
use crate::analytics::summary::top_types;
use crate::app::App;
use crate::caller::project_of;
use crate::problem::Problem;

/// How many event types a summary lists as metrics.
const TOP_METRICS: usize = 10;

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
            Status::new(status::coded(&error).code(), "failed to get analytics")
        })?;
        Ok(Response::new(EventCountResponse { count: whole(count), user_id, page_url }))
    }

    async fn get_analytics_summary(
        &self,
        call: Request<AnalyticsSummaryRequest>,
    ) -> Result<Response<AnalyticsSummary>, Status> {
        let Self(app) = self;
        let project = project_of(call.extensions());
        let AnalyticsSummaryRequest { from, to } = call.into_inner();
        let filters = BTreeMap::new();
        let totals = totals(app, project, [from, to], &filters).await;
        let totals = totals.map_err(|problem| status::of(&problem))?;
        let timestamp = app.now().seconds();
        let top_metrics = top_types(&totals, TOP_METRICS).into_iter();
        let top_metrics =
            top_metrics.map(|(name, events)| metric(name, events, &filters, timestamp));
        Ok(Response::new(AnalyticsSummary {
            total_events: whole(totals.total_events),
            total_users: whole(totals.unique_users),
            top_metrics: top_metrics.collect(),
            events_by_type: by_type(&totals),
            last_updated: timestamp,
        }))
    }

    async fn get_metrics(
        &self,
        call: Request<MetricsRequest>,
    ) -> Result<Response<MetricsResponse>, Status> {
        let Self(app) = self;
        let project = project_of(call.extensions());
        let MetricsRequest { metric_name, from, to, filters } = call.into_inner();
        let totals = totals(app, project, [from, to], &filters).await;
        let totals = totals.map_err(|problem| status::of(&problem))?;
        let timestamp = app.now().seconds();
        let found = numbers(&totals, &metric_name).into_iter();
        let metrics = found.map(|(name, number)| metric(name, number, &filters, timestamp));
        let metrics = metrics.collect();
        Ok(Response::new(MetricsResponse { metrics, success: true, message: String::new() }))
    }

    async fn get_analytics_health(
        &self,
        _: Request<HealthRequest>,
    ) -> Result<Response<HealthResponse>, Status> {
        let Self(app) = self;
        let health = questions::health(app);
        let timestamp = app.now().seconds();
        let (healthy, status) = (health.healthy, health.status);
        Ok(Response::new(HealthResponse { healthy, status, timestamp }))
    }
}

/// Totals from one second of 1970 to another; 0 is no bound.
async fn totals(
    app: &App,
    project: ProjectId<'static>,
    bounds: [i64; 2],
    equal: &BTreeMap<String, String>,
) -> Result<SummaryAnswer, Problem> {
    let [start, end] = bounds.map(|seconds| {
        (seconds != 0).then(|| Timestamp(seconds.saturating_mul(Timestamp::SECOND)))
    });
    let filters = filters(equal.clone());
    let range = TimeRange { start, end };
    let selection = Selection { project, range, event_types: Vec::new(), filters };
    Ok(app.services.query.summary(SummaryQuery { selection }).await?)
}

/// The numbers of a name; all of them, if it is empty.
fn numbers<'a>(totals: &'a SummaryAnswer, name: &'a str) -> Vec<(&'a str, u64)> {
    let sums = [
        ("total_events", totals.total_events),
        ("unique_users", totals.unique_users),
        ("sessions", totals.sessions),
    ];
    if name.is_empty() {
        let types = top_types(totals, limits::TOP_METRICS);
        return sums.into_iter().chain(types).collect();
    }
    let sum = sums.into_iter().find(|(known, _)| *known == name);
    let events = || totals.events_by_type.get(name).copied().unwrap_or(0);
    vec![sum.unwrap_or_else(|| (name, events()))]
}

fn metric(name: &str, number: u64, labels: &BTreeMap<String, String>, timestamp: i64) -> Metric {
    Metric { name: name.to_owned(), value: number as f64, labels: labels.clone(), timestamp }
}

fn by_type(totals: &SummaryAnswer) -> BTreeMap<String, i64> {
    let types = totals.events_by_type.iter();
    types.map(|(name, events)| (name.clone(), whole(*events))).collect()
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
