//! What the crate promises to the server, tried from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod accept;
mod admission;
mod bad_inputs;
mod dialects;
mod encodings;
mod identity;
mod log;
mod messages;
mod native_events;
mod properties;

use std::sync::atomic::{AtomicU64, Ordering};

use gristmill_ingest::dialect::{BodyError, Context, Events, Rejection, native};
use gristmill_model::{Entropy, Event, ProjectId, Timestamp};

/// 2024-07-01T12:34:56Z, when every request of these tests comes.
pub(crate) const NOW: Timestamp = Timestamp(1_719_837_296_000_000);

/// Counts instead of being random, so that a test can tell its bits.
pub(crate) struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next_u128(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 64
    }
}

pub(crate) static COUNTER: Counter = Counter(AtomicU64::new(1));

pub(crate) fn context(idempotency_key: Option<&str>) -> Context<'_> {
    Context {
        project: ProjectId::new("default"),
        received: NOW,
        idempotency_key,
        entropy: &COUNTER,
    }
}

pub(crate) fn decode(body: &str) -> Result<Event<'_>, Rejection> {
    let mut events = native::one(body.as_bytes(), &context(None)).unwrap().events;
    assert_eq!(events.len(), 1);
    events.remove(0)
}

pub(crate) fn event(body: &str) -> Event<'_> {
    decode(body).unwrap()
}

pub(crate) fn batch(body: &str) -> Result<Events<'_>, BodyError> {
    let posted = native::batch(body.as_bytes(), &context(None), native::Format::Json)?;
    Ok(posted.events)
}

pub(crate) fn lines(body: &[u8]) -> Result<Events<'_>, BodyError> {
    let posted = native::batch(body, &context(None), native::Format::Ndjson)?;
    Ok(posted.events)
}

/// What a test wants to know of an event in short: its type, or the field at fault.
pub(crate) fn told<'a>(events: &'a Events<'_>) -> Vec<Result<&'a str, &'static str>> {
    let short = |event: &'a Result<Event<'_>, Rejection>| match event {
        Ok(event) => Ok(event.event_type.as_ref()),
        Err(rejection) => Err(rejection.pointer),
    };
    events.iter().map(short).collect()
}
