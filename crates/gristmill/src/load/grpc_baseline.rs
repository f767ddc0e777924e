//! The baseline of gRPC: a bare tonic service that answers every event with success and stores
//! nothing. What the real server does beside is measured against it.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::Context;
use gristmill_client::proto::analytics::v1::event_ingestion_service_server::{
    EventIngestionService, EventIngestionServiceServer,
};
use gristmill_client::proto::analytics::v1::stream_events_request::Request as Sent;
use gristmill_client::proto::analytics::v1::stream_events_response::Response as Heard;
use gristmill_client::proto::analytics::v1::{
    Event, HealthResponse, IngestEventRequest, IngestEventResponse, IngestEventsRequest,
    IngestEventsResponse, StreamEventsRequest, StreamEventsResponse,
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Serves for ever.
pub(crate) async fn serve_grpc_baseline(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.spawn(async move {
            let service = TowerToHyperService::new(EventIngestionServiceServer::new(Echo));
            // A client that goes away is no news here.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

struct Echo;

fn echoed(event: Option<Event>) -> IngestEventResponse {
    let event_id = event.unwrap_or_default().id;
    IngestEventResponse { success: true, event_id, ..IngestEventResponse::default() }
}

#[tonic::async_trait]
impl EventIngestionService for Echo {
    type StreamEventsStream =
        Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

    async fn stream_events(
        &self,
        request: Request<Streaming<StreamEventsRequest>>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let answers = request.into_inner().map(|request| {
            let event = match request?.request {
                Some(Sent::Event(event)) => Some(event),
                _ => None,
            };
            Ok(StreamEventsResponse { response: Some(Heard::EventResponse(echoed(event))) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn ingest_event(
        &self,
        request: Request<IngestEventRequest>,
    ) -> Result<Response<IngestEventResponse>, Status> {
        Ok(Response::new(echoed(request.into_inner().event)))
    }

    async fn ingest_events(
        &self,
        _: Request<IngestEventsRequest>,
    ) -> Result<Response<IngestEventsResponse>, Status> {
        Err(Status::unimplemented("the baseline takes single events"))
    }

    async fn health(&self, _: Request<()>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(HealthResponse::default()))
    }
}
