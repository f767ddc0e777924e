//! gRPC: the calls of a process.
//!
//! `Relay` is what a gateway calls, on a gRPC listener only; everything else is what clients call. The
//! messages and services are those of `proto/`.

pub(crate) mod frames;
mod older;
mod relay;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use gristmill_proto::analytics::analytics_service_server::AnalyticsServiceServer as OlderServer;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tonic::Status;
use tonic::server::{Grpc, NamedService};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::app::App;
use crate::front::Front;
use crate::role::Role;
use frames::{MESSAGE_BYTES, RELAY};
use older::OlderAnalytics;

pub(crate) use relay::Arrival;

/// Answers a call.
pub(crate) async fn answer(front: &Front, request: Request<Body>) -> Response<Body> {
    let is_call = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if !is_call {
        return no_call();
    }
    let path = request.uri().path();
    let Some(app) = front.app() else { return unknown(path) };
    if path == RELAY {
        return relayed(front, request).await;
    }
    front.answer_call(request, |request| call(app, request)).await
}

/// Answers what a client has called.
async fn call(app: &Arc<App>, request: Request<Body>) -> Response<Body> {
    let has = |role| app.roles.contains(&role);
    let path = request.uri().path();
    match service_of(path) {
        OlderServer::<OlderAnalytics>::NAME if has(Role::Query) => {
            serve(OlderServer::new(OlderAnalytics(app.clone())), request).await
        }
        _ => unknown(path),
    }
}

/// The service that a path names.
fn service_of(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').next().unwrap_or_default()
}

async fn serve<S>(mut service: S, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>,
{
    match service.call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

async fn relayed(front: &Front, request: Request<Body>) -> Response<Body> {
    let handle = service_fn(|call| relay::handle(front.clone(), call));
    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES);
    grpc.streaming(handle, request).await.map(Body::new)
}

fn unknown(path: &str) -> Response<Body> {
    let status = Status::unimplemented(format!("this process has no call {path}"));
    status.into_http::<tonic::body::Body>().map(Body::new)
}

/// Answers what is no call of gRPC.
fn no_call() -> Response<Body> {
    let text = "this address speaks gRPC: `server.listen` names those that speak HTTP\n";
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
