//! gRPC: the calls of a process.
//!
//! [`Front::answer_call`] lets a call in, and [`dispatch`] finds who answers it. `Relay` is what a gateway
//! calls, on a gRPC listener only; everything else is what clients call, there and on the listeners for
//! HTTP, and by gRPC-Web. The messages and services are those of `proto/`.

mod admitted;
pub(crate) mod call;
mod counts;
pub(crate) mod frames;
mod health;
mod ingestion;
mod messages;
pub(crate) mod methods;
mod metrics;
mod older;
mod older_consumer;
mod producer;
mod questions;
pub(crate) mod reflection;
mod relay;
pub(crate) mod status;
mod timeout;
mod until;
pub(crate) mod web;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use gristmill_model::limits;
use gristmill_proto::analytics::analytics_service_server::AnalyticsServiceServer as OlderServer;
use gristmill_proto::analytics::consumer_service_server::ConsumerServiceServer;
use gristmill_proto::analytics::producer_service_server::ProducerServiceServer;
use gristmill_proto::analytics::v1::analytics_service_server::AnalyticsServiceServer;
use gristmill_proto::analytics::v1::event_ingestion_service_server::EventIngestionServiceServer;
use gristmill_proto::analytics::v1::metrics_service_server::MetricsServiceServer;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::app::App;
use crate::connection::Speech;
use crate::front::Front;
use crate::role::Role;
use admitted::admitted;
use frames::{MESSAGE_BYTES, RELAY};
use ingestion::Ingestion;
use messages::{Received, Sent};
use methods::{methods, service_of};
use metrics::MetricsCalls;
use older::OlderAnalytics;
use older_consumer::OlderConsumer;
use producer::Producer;
use questions::Analytics;

pub(crate) use counts::Calls;
pub(crate) use relay::Arrival;
pub(crate) use until::UntilStop;

/// How a request asks to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// gRPC over HTTP/2.
    Native,
    /// gRPC-Web.
    Web,
}

impl Protocol {
    /// What a request speaks, if it is a call.
    pub(crate) fn of(request: &Request<Body>) -> Option<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE)?;
        match content_type.as_bytes() {
            b"application/grpc" | b"application/grpc+proto"
                if request.version() == Version::HTTP_2 =>
            {
                Some(Self::Native)
            }
            _ if web::is_web(content_type) => Some(Self::Web),
            _ => None,
        }
    }
}

/// Has a call answered by whoever does that: this process, or another one.
pub(crate) async fn dispatch(front: &Front, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let service = service_of(path);
    match service {
        health::NAME => return serve(front, health::server(front), request).await,
        reflection::V1 | reflection::V1ALPHA => {
            let server = front.reflection().and_then(|reflection| reflection.of(service));
            let Some(server) = server else { return unknown(path) };
            let response = serve(front, server, request).await;
            return response.map(|body| Body::new(UntilStop::new(body, front.draining())));
        }
        _ => {}
    }
    let Some(role) = methods().role_of(service) else { return unknown(path) };
    match (front.app(), front.gateway()) {
        (Some(app), _) if app.roles.contains(&role) => own(front, app, request).await,
        (_, Some(gateway)) => Box::pin(gateway.pass(role, request)).await,
        // Some services are answered by processes of other roles too.
        (Some(app), None) => own(front, app, request).await,
        (None, None) => unknown(path),
    }
}

/// Answers a call to a service of the process's own.
async fn own(front: &Front, app: &Arc<App>, request: Request<Body>) -> Response<Body> {
    let has = |role| app.roles.contains(&role);
    // Each server takes messages of this size: larger ones do not come here.
    let size = limits::MESSAGE_BYTES;
    match service_of(request.uri().path()) {
        OlderServer::<OlderAnalytics>::NAME if has(Role::Query) => {
            let server = OlderServer::new(OlderAnalytics(app.clone()));
            serve(front, server.max_decoding_message_size(size), request).await
        }
        AnalyticsServiceServer::<Analytics>::NAME if has(Role::Query) => {
            let server = AnalyticsServiceServer::new(Analytics(app.clone()));
            serve(front, server.max_decoding_message_size(size), request).await
        }
        EventIngestionServiceServer::<Ingestion>::NAME if has(Role::Ingest) => {
            let server = EventIngestionServiceServer::new(Ingestion(app.clone()));
            // A stream holds what it holds for itself.
            let is_stream = request.uri().path().ends_with("/StreamEvents");
            let request = if is_stream { request } else { admitted(app, request) };
            serve(front, server.max_decoding_message_size(size), request).await
        }
        ProducerServiceServer::<Producer>::NAME if has(Role::Ingest) => {
            let server = ProducerServiceServer::new(Producer(app.clone()));
            serve(front, server.max_decoding_message_size(size), admitted(app, request)).await
        }
        ConsumerServiceServer::<OlderConsumer>::NAME if has(Role::Process) || has(Role::Query) => {
            let server = ConsumerServiceServer::new(OlderConsumer(app.clone()));
            serve(front, server.max_decoding_message_size(size), request).await
        }
        MetricsServiceServer::<MetricsCalls>::NAME if has(Role::Query) => {
            let server = MetricsServiceServer::new(MetricsCalls(app.clone()));
            serve(front, server.max_decoding_message_size(size), request).await
        }
        _ => unknown(request.uri().path()),
    }
}

/// Has a service answer, which sees neither large nor compressed messages, and need not compress any.
async fn serve<S>(front: &Front, mut service: S, mut request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>,
{
    let encoding = match messages::encoding(request.headers()) {
        Ok(encoding) => encoding,
        Err(status) => return status.into_http::<tonic::body::Body>().map(Body::new),
    };
    let accepted = messages::accepted(request.headers());
    messages::forget(request.headers_mut());
    let room = Arc::clone(front.large_messages());
    let request = request.map(|body| Body::new(Received::new(body, encoding, room)));
    let mut response = match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if response.headers().contains_key(Status::GRPC_STATUS) {
        return response.map(Body::new);
    }
    messages::announce(response.headers_mut(), accepted);
    response.map(|body| Body::new(Sent::new(body, accepted)))
}

/// Answers what a gateway asks, if a request is that.
pub(crate) async fn relayed(
    front: &Front,
    speech: Speech,
    request: Request<Body>,
) -> Result<Response<Body>, Request<Body>> {
    if speech != Speech::Grpc || front.app().is_none() || request.uri().path() != RELAY {
        return Err(request);
    }
    let handle = service_fn(|call| relay::handle(front.clone(), call));
    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES);
    Ok(Box::pin(grpc.streaming(handle, request)).await.map(Body::new))
}

/// A status as it ends a call.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(Code::Internal as i32));
    }
    trailers
}

fn unknown(path: &str) -> Response<Body> {
    let status = Status::unimplemented(format!("this process has no call {path}"));
    status.into_http::<tonic::body::Body>().map(Body::new)
}

/// Answers what is no call of gRPC.
pub(crate) fn no_call() -> Response<Body> {
    let text = "this address speaks gRPC: `server.listen` names those that speak HTTP\n";
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
