//! A request on its way through the front door: its name, its trace, and the span that tells of it.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::Code;

use super::{
    Attribute, Current, SpanKind, Started, TRACEPARENT, TRACESTATE, TraceContext, Tracer, put,
};
use crate::grpc::methods::{Method, methods};

/// The name of calls that there are not.
const NO_METHOD: &str = "other";

/// A request that is being answered.
pub(crate) struct Visit {
    current: Current,
    span: Option<Started>,
}

impl Visit {
    /// Begins a request of HTTP that a route takes.
    pub(crate) fn begin(
        tracer: Option<&Arc<Tracer>>,
        request_id: &HeaderValue,
        route: &'static str,
        request: &mut Request<Body>,
    ) -> Self {
        let Some(tracer) = tracer else { return Self::untraced(request_id, request) };
        let method = known(request.method());
        let mut visit = Self::traced(tracer, request_id, request, || format!("{method} {route}"));
        if let Some(span) = &mut visit.span {
            span.add("http.request.method", Attribute::Text(method.to_owned()));
            span.add("http.route", Attribute::Text(route.to_owned()));
        }
        visit
    }

    /// Begins a call of gRPC.
    pub(crate) fn begin_call(
        tracer: Option<&Arc<Tracer>>,
        request_id: &HeaderValue,
        request: &mut Request<Body>,
    ) -> Self {
        let Some(tracer) = tracer else { return Self::untraced(request_id, request) };
        let method = methods().at(request.uri().path());
        let name = || method.map_or(NO_METHOD, Method::name).to_owned();
        let mut visit = Self::traced(tracer, request_id, request, name);
        if let Some(span) = &mut visit.span {
            span.add("rpc.system", Attribute::Text("grpc".to_owned()));
        }
        visit
    }

    fn untraced(request_id: &HeaderValue, request: &mut Request<Body>) -> Self {
        let context = caller_of(request.headers_mut());
        let current = Current { request_id: request_id.clone(), context, tracer: None };
        Self { current, span: None }
    }

    fn traced(
        tracer: &Arc<Tracer>,
        request_id: &HeaderValue,
        request: &mut Request<Body>,
        name: impl FnOnce() -> String,
    ) -> Self {
        let headers = request.headers_mut();
        let caller = caller_of(headers);
        let context = tracer.begin(caller);
        // Whoever it is passed on to works for this one.
        put(context, headers);
        let parent = caller.map(|caller| caller.span_id);
        let span = context
            .is_sampled
            .then(|| tracer.start(name(), SpanKind::Server, context, parent, request_id));
        let current = match &span {
            Some(span) => span.current(),
            None => {
                let request_id = request_id.clone();
                Current { request_id, context: Some(context), tracer: None }
            }
        };
        Self { current, span }
    }

    /// Answers the request under its name. Who drops this before its end drops the answering first, so that
    /// no step outlasts the span.
    pub(crate) async fn run(
        &mut self,
        answering: impl Future<Output = Response<Body>> + Unpin,
    ) -> Response<Body> {
        let response = self.current.clone().run(answering).await;
        if let Some(span) = self.span.take() {
            end(span, &response);
        }
        response
    }
}

/// The request of a span was answered.
fn end(mut span: Started, response: &Response<Body>) {
    let status = response.status();
    span.add("http.response.status_code", Attribute::Number(status.as_u16().into()));
    let call_status = response.headers().get("grpc-status");
    let call_status = call_status.and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(code) = call_status {
        span.add("rpc.grpc.status_code", Attribute::Number(code));
    }
    if status.is_server_error() || call_status.is_some_and(is_fault) {
        span.fail();
    }
}

/// Whether a call ended with a status that says that the server is at fault.
fn is_fault(code: i64) -> bool {
    let code = i32::try_from(code).map_or(Code::Unknown, Code::from_i32);
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// Methods that nobody knows share one name.
fn known(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        http::Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// What a caller says it works on. What is not valid is taken away, so that nobody passes it on.
fn caller_of(headers: &mut HeaderMap) -> Option<TraceContext> {
    let caller = TraceContext::of(headers);
    if caller.is_none() {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
    caller
}
