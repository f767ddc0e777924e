//! gRPC: the calls of a process's gRPC listener.
//!
//! `Relay` is what a gateway calls; `AnalyticsService` is what clients of the click platform call.
//! The messages stand in `frames.rs` as they stand in `proto/`.

mod clicks;
pub(crate) mod frames;
mod relay;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tonic::Status;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::front::Front;
use crate::role::Role;
use frames::{EVENT_COUNT, MESSAGE_BYTES, RELAY};

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
    let response = match (request.uri().path(), front.app()) {
        (RELAY, Some(_)) => {
            let handle = service_fn(|call| relay::handle(front.clone(), call));
            let mut grpc =
                Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES);
            grpc.streaming(handle, request).await
        }
        (EVENT_COUNT, Some(app)) if app.roles.contains(&Role::Query) => {
            let count = service_fn(|call| clicks::event_count(app, call));
            let mut grpc =
                Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES);
            grpc.unary(count, request).await
        }
        (path, _) => Status::unimplemented(format!("this process has no call {path}")).into_http(),
    };
    response.map(Body::new)
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
