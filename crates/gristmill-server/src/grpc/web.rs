//! gRPC-Web: calls as browsers can make them, over HTTP/1.1 as well. Their bodies are made those of gRPC
//! and back, and everything else is done as for any call.

use std::convert::Infallible;

use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, service_fn};

use crate::connection::Speech;
use crate::front::Front;

/// The bodies: bytes, or the same in base64.
const CONTENT_TYPES: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// Whether a content type is one of gRPC-Web's.
pub(super) fn is_web(content_type: &HeaderValue) -> bool {
    CONTENT_TYPES.iter().any(|known| content_type == known)
}

/// Answers a call.
pub(crate) async fn answer(front: &Front, mut request: Request<Body>) -> Response<Body> {
    let headers = request.headers_mut();
    let asks = headers.get(header::ACCEPT).is_some_and(is_web);
    if !asks && let Some(content_type) = headers.get(header::CONTENT_TYPE).cloned() {
        // Who says nothing of it has the answer in the form of the question.
        headers.insert(header::ACCEPT, content_type);
    }
    let call = service_fn(|call: Request<tonic::body::Body>| async move {
        // What is on gRPC listeners only is not for browsers.
        // It says that it is as long as it was in base64, which would be wrong when it is passed on.
        let call = call.map(|body| Body::from_stream(body.into_data_stream()));
        let response = front.answer_call(Speech::Http, call).await;
        Ok::<_, Infallible>(response)
    });
    match GrpcWebLayer::new().layer(call).call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}
