//! `analytics.v1.EventIngestionService`: how events come in.

mod answer;
mod event;
mod payload;
mod stream;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use gristmill_ingest::dialect::{Options, Until};
use gristmill_model::{ErrorCode, limits};
use gristmill_proto::analytics::v1::event_ingestion_service_server::EventIngestionService;
use gristmill_proto::analytics::v1::{
    Event, HealthResponse, IngestEventRequest, IngestEventResponse, IngestEventsRequest,
    IngestEventsResponse, IngestOptions, ServiceStatus, StreamEventsRequest, StreamEventsResponse,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::admitted::{charge, take_permit};
use super::status;
use crate::accept::context_of;
use crate::app::App;
use crate::problem::Problem;
use crate::receipt;

/// Takes events in.
pub(super) struct Ingestion(pub(super) Arc<App>);

#[tonic::async_trait]
impl EventIngestionService for Ingestion {
    async fn ingest_event(
        &self,
        call: Request<IngestEventRequest>,
    ) -> Result<Response<IngestEventResponse>, Status> {
        let Self(app) = self;
        let since = Instant::now();
        let (metadata, extensions, request) = call.into_parts();
        let permit = take_permit(app, &extensions)?;
        let event = request.event.as_ref().ok_or_else(|| missing("event"))?;
        let options = options(request.options.as_ref());
        let context = context_of(app, metadata.as_ref(), &extensions);
        let context = context.map_err(|problem| status::of(&problem))?;
        let events = vec![event::of(event, &context, 0)];
        if !options.validate_only {
            charge(app, &extensions, 1, &request)?;
        }
        let receipt = receipt::take(app, events, &options, since, permit).await;
        let receipt = receipt.map_err(|problem| status::of(&problem))?;
        match receipt.first_rejection() {
            Some(rejection) if receipt.until != Until::Checked => Err(answer::refusal(rejection)),
            _ => Ok(Response::new(answer::one(app, receipt, since))),
        }
    }

    async fn ingest_events(
        &self,
        call: Request<IngestEventsRequest>,
    ) -> Result<Response<IngestEventsResponse>, Status> {
        let Self(app) = self;
        let since = Instant::now();
        let (metadata, extensions, request) = call.into_parts();
        let permit = take_permit(app, &extensions)?;
        check_count(&request.events)?;
        let options = options(request.options.as_ref());
        let context = context_of(app, metadata.as_ref(), &extensions);
        let context = context.map_err(|problem| status::of(&problem))?;
        let events = (0..).zip(&request.events);
        let events = events.map(|(index, event)| event::of(event, &context, index)).collect();
        if !options.validate_only {
            charge(app, &extensions, request.events.len(), &request)?;
        }
        let receipt = receipt::take(app, events, &options, since, permit).await;
        let receipt = receipt.map_err(|problem| status::of(&problem))?;
        Ok(Response::new(answer::batch(app, receipt, since)))
    }

    type StreamEventsStream =
        Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

    async fn stream_events(
        &self,
        call: Request<Streaming<StreamEventsRequest>>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let (_, extensions, requests) = call.into_parts();
        let answers = stream::open(&self.0, &extensions, requests);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn health(&self, _call: Request<()>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(health(&self.0)))
    }
}

fn missing(field: &str) -> Status {
    status::of(&Problem::argument(format!("`{field}` is missing")))
}

fn check_count(events: &[Event]) -> Result<(), Status> {
    let most = limits::MESSAGE_EVENTS;
    match events.len() {
        0 => Err(missing("events")),
        count if count > most => {
            let detail = format!("`events` holds {count} events, more than {most}: split it");
            Err(status::of(&Problem::new(ErrorCode::TooLarge, detail)))
        }
        _ => Ok(()),
    }
}

fn options(options: Option<&IngestOptions>) -> Options {
    let Some(options) = options else { return Options::default() };
    Options {
        is_async: options.r#async,
        timeout_seconds: options.timeout_seconds.into(),
        validate_only: options.validate_only,
        wait_visible: options.wait_visible,
    }
}

/// Whether events can be taken in now.
fn health(app: &App) -> HealthResponse {
    let (reaches_log, draining) = (app.services.ingest.is_available(), app.draining.is_cancelled());
    let healthy = reaches_log && !draining;
    let word = |good| if good { "healthy" } else { "unhealthy" };
    let log = ServiceStatus {
        name: app.services.ingest.log_place().name.to_owned(),
        healthy: reaches_log,
        status: word(reaches_log).to_owned(),
        response_time: None,
    };
    let details = [
        ("version", app.services.version.to_owned()),
        ("draining", draining.to_string()),
        ("in_flight_bytes", app.services.ingest.stats().admission.in_flight_bytes.to_string()),
    ];
    HealthResponse {
        healthy,
        status: word(healthy).to_owned(),
        timestamp: Some(answer::timestamp(app.now())),
        details: details
            .map(|(name, text)| (name.to_owned(), text))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        services: vec![log],
    }
}
