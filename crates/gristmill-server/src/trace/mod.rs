//! Which request is being worked on, and what it is a part of.
//!
//! A request has a name (`request_id.rs`) and may belong to a trace, as W3C Trace Context says. Both are known
//! wherever its task is, so that its lines in the log carry them. Where a [`Tracer`] is set, what is done for a
//! request is told in spans; where none is, nothing is done for them.

mod context;
mod tracer;
mod visit;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use context::TraceContext;
pub(crate) use tracer::Started;
pub use tracer::{Attribute, FinishedSpan, SpanKind, Tracer};
pub(crate) use visit::Visit;

/// The header that names a trace and the span that something is done for.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header of what tracing systems add to it, which is passed on as it is.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

tokio::task_local! {
    static CURRENT: Current;
}

/// What a task works on.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) request_id: HeaderValue,
    pub(crate) context: Option<TraceContext>,
    /// What takes the spans below this one, if it is recorded.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// The names of a request, as the log writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestNames {
    /// Its `x-request-id`: visible ASCII.
    pub request_id: String,
    /// Its trace in 32 hexadecimal digits, if it belongs to one.
    pub trace_id: Option<String>,
}

/// The names of the request that this task works on; `None` outside of requests.
pub fn current_request() -> Option<RequestNames> {
    let names = |current: &Current| RequestNames {
        request_id: current.request_id.to_str().unwrap_or_default().to_owned(),
        trace_id: current.context.map(|context| format!("{:032x}", context.trace_id)),
    };
    CURRENT.try_with(names).ok()
}

/// The `traceparent` of what this task works on, for what it hands on; `None` if it belongs to no trace.
pub fn current_traceparent() -> Option<String> {
    CURRENT.try_with(|current| current.context.map(|context| context.to_string())).ok().flatten()
}

impl Current {
    /// Runs a future as a part of this.
    pub(crate) fn run<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}

/// Runs a future as a step of the request that this task works on.
pub(crate) async fn step<F: Future>(name: &'static str, future: F) -> F::Output {
    match child(name, SpanKind::Internal) {
        None => future.await,
        Some(started) => started.current().run(future).await,
    }
}

/// Lets another task go on with what this one works on.
pub(crate) fn handed_on<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let current = CURRENT.try_with(Clone::clone).ok();
    async move {
        match current {
            Some(current) => current.run(work).await,
            None => work.await,
        }
    }
}

/// Begins a span below the current one, if that is recorded.
pub(crate) fn child(name: &'static str, kind: SpanKind) -> Option<Started> {
    let started = CURRENT.try_with(|current| {
        let tracer = current.tracer.as_ref()?;
        Some(tracer.child(name, kind, current.context?, &current.request_id))
    });
    started.ok().flatten()
}

/// Names a trace in headers, instead of what they name.
pub(crate) fn put(context: TraceContext, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::try_from(context.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Current")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}
