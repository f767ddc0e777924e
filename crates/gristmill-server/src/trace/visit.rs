//! A request on its way through the front door: its name, its trace, and the span that tells of it.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response};

use super::{
    Attribute, Current, SpanKind, Started, TRACEPARENT, TRACESTATE, TraceContext, Tracer, put,
};

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
        let name = request.uri().path().trim_start_matches('/').to_owned();
        let mut visit = Self::traced(tracer, request_id, request, || name);
        if let Some(span) = &mut visit.span {
            span.add("rpc.system", Attribute::Text("grpc".to_owned()));
        }
        visit
    }

    fn untraced(request_id: &HeaderValue, request: &Request<Body>) -> Self {
        let context = TraceContext::of(request.headers());
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
        let caller = TraceContext::of(headers);
        if caller.is_none() {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
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

    /// What the task works on.
    pub(crate) fn current(&self) -> Current {
        self.current.clone()
    }

    /// The request was answered.
    pub(crate) fn end(self, response: &Response<Body>) {
        let Some(mut span) = self.span else { return };
        let status = response.status();
        span.add("http.response.status_code", Attribute::Number(status.as_u16().into()));
        let call_status = response.headers().get("grpc-status");
        let call_status = call_status.and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(code) = call_status {
            span.add("rpc.grpc.status_code", Attribute::Number(code));
        }
        if status.is_server_error() {
            span.fail();
        }
    }
}

/// Methods that nobody knows share one name.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
