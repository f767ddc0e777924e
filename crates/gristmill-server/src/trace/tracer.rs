//! What takes spans and gives them to whoever sends them on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gristmill_model::{Clock, Entropy, Timestamp};
use http::HeaderValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Current, TraceContext};

/// Takes spans, as many as there is room for; what finds none is counted and forgotten.
pub struct Tracer {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The share of traces that are recorded, of those that begin here, in parts of 2^64.
    share: u64,
    finished: mpsc::Sender<FinishedSpan>,
    dropped: AtomicU64,
}

/// Who did something for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A step within the process.
    Internal,
    /// A request of somebody else.
    Server,
    /// A request to somebody else.
    Client,
}

/// What is known of a span beside its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// Something that was done.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    /// The trace; never 0.
    pub trace_id: u128,
    /// Its name in the trace; never 0.
    pub span_id: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// What was done: a route or a step, never what a client has made up.
    pub name: String,
    /// For whom.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What else is known.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed.
    pub is_error: bool,
}

impl Tracer {
    /// Records this share of the traces that begin here, between 0 and 1, and all of those whose callers
    /// record them. There is room for `room` spans that nobody has taken yet.
    pub fn new(
        share: f64,
        room: usize,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> (Arc<Self>, mpsc::Receiver<FinishedSpan>) {
        let (finished, taken) = mpsc::channel(room.max(1));
        let share = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        (Arc::new(Self { clock, entropy, share, finished, dropped: AtomicU64::new(0) }), taken)
    }

    /// How many spans found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Tells of something that is no part of a request and has just ended.
    pub fn tell(
        self: &Arc<Self>,
        name: &'static str,
        took: std::time::Duration,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        let context = self.begin(None);
        if context.is_sampled {
            let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
            let end = self.clock.now();
            self.take(FinishedSpan {
                trace_id: context.trace_id,
                span_id: context.span_id,
                parent: None,
                name: name.to_owned(),
                kind: SpanKind::Internal,
                start: Timestamp(end.0.saturating_sub(took)),
                end,
                attributes,
                is_error: false,
            });
        }
    }

    /// The context of something that is done for a caller, or for nobody that is known.
    pub(crate) fn begin(&self, caller: Option<TraceContext>) -> TraceContext {
        let random = self.entropy.next_u128();
        match caller {
            // The lower half is as random as all of it.
            Some(caller) => TraceContext { span_id: (random as u64).max(1), ..caller },
            None => {
                let span_id = (self.entropy.next_u128() as u64).max(1);
                let is_sampled = self.share == u64::MAX || (random as u64) < self.share;
                TraceContext { trace_id: random.max(1), span_id, is_sampled }
            }
        }
    }

    /// Begins a span of this context.
    pub(crate) fn start(
        self: &Arc<Self>,
        name: String,
        kind: SpanKind,
        context: TraceContext,
        parent: Option<u64>,
        request_id: &HeaderValue,
    ) -> Started {
        Started {
            tracer: Arc::clone(self),
            context,
            request_id: request_id.clone(),
            since: Instant::now(),
            span: Some(FinishedSpan {
                trace_id: context.trace_id,
                span_id: context.span_id,
                parent,
                name,
                kind,
                start: self.clock.now(),
                end: Timestamp(0),
                attributes: Vec::new(),
                is_error: false,
            }),
        }
    }

    /// Begins a span below another.
    pub(crate) fn child(
        self: &Arc<Self>,
        name: &'static str,
        kind: SpanKind,
        above: TraceContext,
        request_id: &HeaderValue,
    ) -> Started {
        let context = self.begin(Some(above));
        self.start(name.to_owned(), kind, context, Some(above.span_id), request_id)
    }

    fn take(&self, span: FinishedSpan) {
        if self.finished.try_send(span).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tracer").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

/// A span that has not ended; it ends when it is dropped, also if what it tells of was given up.
pub(crate) struct Started {
    tracer: Arc<Tracer>,
    context: TraceContext,
    request_id: HeaderValue,
    since: Instant,
    span: Option<FinishedSpan>,
}

impl Started {
    /// What it is to those that work on it.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// What a task works on within it.
    pub(crate) fn current(&self) -> Current {
        Current {
            request_id: self.request_id.clone(),
            context: Some(self.context),
            tracer: Some(Arc::clone(&self.tracer)),
        }
    }

    /// Adds what is known.
    pub(crate) fn add(&mut self, name: &'static str, value: Attribute) {
        if let Some(span) = &mut self.span {
            span.attributes.push((name, value));
        }
    }

    /// It has failed.
    pub(crate) fn fail(&mut self) {
        if let Some(span) = &mut self.span {
            span.is_error = true;
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            let took = i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX);
            span.end = span.start.plus(took);
            self.tracer.take(span);
        }
    }
}
