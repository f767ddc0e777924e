//! What a connection is doing, so that its watcher knows when to give it up.
//!
//! hyper's own timers know heads but not silence before the first byte, idle HTTP/2 connections
//! or clients that stop reading; these few numbers cover all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::ServerConfig;

/// No head is being read.
const NO_HEAD: u64 = u64::MAX;

/// The state of one connection, shared by its socket, its requests and its watcher.
#[derive(Debug)]
pub(crate) struct Vitals {
    opened: Instant,
    /// When the head being read began, in microseconds since `opened`.
    head_since: AtomicU64,
    /// When a request ended or bytes were last written, in microseconds since `opened`.
    last_use: AtomicU64,
    requests: AtomicU64,
    handlers: AtomicUsize,
    bodies: AtomicUsize,
    has_ambiguous_length: AtomicBool,
    lingers: AtomicBool,
}

impl Vitals {
    /// A connection that was just opened, which counts as having begun a head.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            head_since: AtomicU64::new(0),
            last_use: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            handlers: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            has_ambiguous_length: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
        })
    }

    /// How many requests have begun.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Whether a request or its answer is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.handlers.load(Relaxed) + self.bodies.load(Relaxed) > 0
    }

    /// The first byte of a head has come.
    pub(crate) fn begin_head(&self) {
        self.head_since.store(self.now(), Relaxed);
    }

    /// Bytes were written.
    pub(crate) fn touch(&self) {
        self.last_use.store(self.now(), Relaxed);
    }

    /// The head being read gives its body's length in two ways.
    pub(crate) fn mark_ambiguous_length(&self) {
        self.has_ambiguous_length.store(true, Relaxed);
    }

    /// Whether a head gave its body's length in two ways.
    pub(crate) fn has_ambiguous_length(&self) -> bool {
        self.has_ambiguous_length.load(Relaxed)
    }

    /// An answer ends the connection, maybe while the client still sends.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Relaxed);
    }

    /// Whether what the client still sends is to be read before the connection closes.
    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Relaxed)
    }

    /// When to give the connection up if nothing changes; `None` while a request is worked on,
    /// which has deadlines of its own.
    pub(crate) fn deadline(&self, config: &ServerConfig) -> Option<Instant> {
        let (since, allowed) = if self.handlers.load(Relaxed) > 0 {
            return None;
        } else if self.bodies.load(Relaxed) > 0 {
            (self.last_use.load(Relaxed), config.write_timeout)
        } else {
            match self.head_since.load(Relaxed) {
                NO_HEAD => (self.last_use.load(Relaxed), config.keep_alive_timeout),
                since => (since, config.header_timeout),
            }
        };
        Some(self.opened + Duration::from_micros(since) + allowed)
    }

    fn now(&self) -> u64 {
        self.opened.elapsed().as_micros() as u64
    }
}

/// A request being worked on.
pub(crate) struct Handling(Arc<Vitals>);

impl Handling {
    /// A request has begun.
    pub(crate) fn begin(vitals: &Arc<Vitals>) -> Self {
        vitals.head_since.store(NO_HEAD, Relaxed);
        vitals.requests.fetch_add(1, Relaxed);
        vitals.handlers.fetch_add(1, Relaxed);
        Self(Arc::clone(vitals))
    }

    /// The answer is known; from here its body counts until it is dropped.
    pub(crate) fn answer(self, inner: Body) -> TrackedBody {
        self.0.bodies.fetch_add(1, Relaxed);
        TrackedBody { inner, _sending: Sending(Arc::clone(&self.0)) }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.handlers.fetch_sub(1, Relaxed);
        self.0.touch();
    }
}

struct Sending(Arc<Vitals>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.bodies.fetch_sub(1, Relaxed);
        self.0.touch();
    }
}

/// An answer's body that keeps its connection busy while it exists.
pub(crate) struct TrackedBody {
    inner: Body,
    _sending: Sending,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_own_deadline() {
        let config = ServerConfig {
            header_timeout: Duration::from_secs(100),
            write_timeout: Duration::from_secs(1_000),
            keep_alive_timeout: Duration::from_secs(10_000),
            ..ServerConfig::default()
        };
        let vitals = Vitals::new();
        let allowed = || {
            let deadline = vitals.deadline(&config)?;
            let seconds = deadline.duration_since(vitals.opened).as_secs();
            // What the test itself took is far below the steps between the timeouts.
            Some(seconds - seconds % 100)
        };
        assert_eq!(allowed(), Some(100), "before the first byte");
        let handling = Handling::begin(&vitals);
        assert_eq!(allowed(), None, "while a request is worked on");
        let body = handling.answer(Body::empty());
        assert_eq!(allowed(), Some(1_000), "while an answer is sent");
        drop(body);
        assert_eq!(allowed(), Some(10_000), "between requests");
        vitals.begin_head();
        assert_eq!(allowed(), Some(100), "within a head");
    }
}
