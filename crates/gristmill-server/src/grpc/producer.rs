//! `analytics.ProducerService`, which answers in the words of `POST /events` and `/events/batch`.

use std::sync::Arc;

use gristmill_ingest::dialect::platform::{self, Message};
use gristmill_ingest::dialect::{BodyError, Events};
use gristmill_model::{ErrorCode, limits};
use gristmill_proto::analytics::producer_service_server::ProducerService;
use gristmill_proto::analytics::{
    BatchEventsRequest, BatchEventsResponse, Event, EventResponse, HealthRequest, HealthResponse,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::admitted::{charge, take_permit};
use super::status;
use crate::accept::{accept, accept_one, context_of, count_refused};
use crate::app::App;

/// Takes events in for clients of the older platform. What is wrong with an event is told in the answer;
/// that the server cannot take it now is the call's status.
pub(super) struct Producer(pub(super) Arc<App>);

#[tonic::async_trait]
impl ProducerService for Producer {
    async fn send_event(&self, call: Request<Event>) -> Result<Response<EventResponse>, Status> {
        let Self(app) = self;
        let since = Instant::now();
        let (metadata, extensions, event) = call.into_parts();
        let _held = take_permit(app, &extensions)?;
        let context = context_of(app, metadata.as_ref(), &extensions);
        let context = context.map_err(|problem| status::of(&problem))?;
        let message = message(&event);
        let decoded = match platform::one_message(&message, &context) {
            Ok(event) => event,
            Err(error) => {
                count_refused(app);
                let (success, message) = (false, error.to_string());
                let event_id = String::new();
                return Ok(Response::new(EventResponse { success, message, event_id }));
            }
        };
        charge(app, &extensions, 1, &event)?;
        let id = accept_one(app, decoded, since).await.map_err(|problem| status::of(&problem))?;
        Ok(Response::new(EventResponse {
            success: true,
            message: "Event sent successfully".to_owned(),
            event_id: id.as_str().to_owned(),
        }))
    }

    async fn send_batch_events(
        &self,
        call: Request<BatchEventsRequest>,
    ) -> Result<Response<BatchEventsResponse>, Status> {
        let Self(app) = self;
        let since = Instant::now();
        let (metadata, extensions, request) = call.into_parts();
        let _held = take_permit(app, &extensions)?;
        let (count, limit) = (request.events.len(), limits::BATCH_EVENTS);
        if count == 0 {
            return Ok(Response::new(batch("No events provided".to_owned(), 0, Vec::new())));
        }
        if count > limit {
            return Err(status::coded(&BodyError::TooMany { count, limit }));
        }
        let context = context_of(app, metadata.as_ref(), &extensions);
        let context = context.map_err(|problem| status::of(&problem))?;
        let messages: Vec<_> = request.events.iter().map(message).collect();
        let decoded: Events<'_> = (0..)
            .zip(&messages)
            .map(|(index, message)| platform::batch_message(message, &context, index))
            .collect();
        charge(app, &extensions, count, &request)?;
        let accepted = match accept(app, decoded, since).await {
            Ok(accepted) => accepted,
            Err(problem) if problem.code() == ErrorCode::LogUnavailable => {
                let ids = request.events.into_iter().map(|event| event.id).collect();
                return Ok(Response::new(batch(format!("Processed 0/{count} events"), 0, ids)));
            }
            Err(problem) => return Err(status::of(&problem)),
        };
        let failed = accepted.items.iter().filter(|item| item.result.is_err());
        let failed: Vec<_> = failed.map(|item| item.id.as_str().to_owned()).collect();
        let processed = count - failed.len();
        let message = format!("Processed {processed}/{count} events");
        Ok(Response::new(batch(message, processed, failed)))
    }

    async fn get_producer_health(
        &self,
        _call: Request<HealthRequest>,
    ) -> Result<Response<HealthResponse>, Status> {
        let Self(app) = self;
        let healthy = app.services.ingest.is_available() && !app.draining.is_cancelled();
        Ok(Response::new(HealthResponse {
            healthy,
            status: if healthy { "healthy" } else { "unhealthy" }.to_owned(),
            timestamp: app.now().seconds(),
        }))
    }
}

fn message(event: &Event) -> Message<'_> {
    Message {
        id: &event.id,
        user_id: &event.user_id,
        event_type: &event.event_type,
        properties: &event.properties,
        timestamp: event.timestamp,
        source: &event.source,
    }
}

fn batch(message: String, processed: usize, failed_event_ids: Vec<String>) -> BatchEventsResponse {
    BatchEventsResponse {
        success: processed > 0 && failed_event_ids.is_empty(),
        message,
        processed_count: i32::try_from(processed).unwrap_or(i32::MAX),
        failed_event_ids,
    }
}
