//! `analytics.ConsumerService`: how far events have been settled, as clients of the older platform ask.

use std::sync::Arc;

use gristmill_proto::analytics::consumer_service_server::ConsumerService;
use gristmill_proto::analytics::{
    ConsumerStatsRequest, ConsumerStatsResponse, HealthRequest, HealthResponse,
};
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::json::Time;
use crate::ops::stats::consumer;

/// The older platform's `ConsumerService`.
pub(super) struct OlderConsumer(pub(super) Arc<App>);

#[tonic::async_trait]
impl ConsumerService for OlderConsumer {
    /// Healthy is a process that reaches its store and does not stop.
    async fn get_consumer_health(
        &self,
        _: Request<HealthRequest>,
    ) -> Result<Response<HealthResponse>, Status> {
        let Self(app) = self;
        let healthy = !app.draining.is_cancelled() && app.services.store.is_available();
        let status = if healthy { "healthy" } else { "unhealthy" }.to_owned();
        let timestamp = app.now().seconds();
        Ok(Response::new(HealthResponse { healthy, status, timestamp }))
    }

    /// What `/stats` says of the consumer.
    async fn get_consumer_stats(
        &self,
        _: Request<ConsumerStatsRequest>,
    ) -> Result<Response<ConsumerStatsResponse>, Status> {
        let consumer = consumer(&self.0);
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Response::new(ConsumerStatsResponse {
            processed_events: number(consumer.processed_events),
            failed_events: number(consumer.failed_events),
            events_per_second: consumer.processing_rate,
            last_processed: consumer.last_message_time.map_or(0, |Time(time)| time.seconds()),
        }))
    }
}
