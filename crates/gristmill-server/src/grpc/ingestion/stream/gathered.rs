//! Single events that came and are not being appended yet.

use std::time::Duration;

use gristmill_ingest::Permit;
use gristmill_model::limits;
use gristmill_proto::analytics::v1::{Event, StreamConfig};
use tokio::time::Instant;

use crate::problem::Problem;

/// How many bytes of single events are appended together at most.
const GROUP_BYTES: usize = 1024 * 1024;
/// The longest time that single events may be made to wait for others.
const LONGEST_FLUSH: Duration = Duration::from_secs(10);

/// How single events are gathered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathering {
    events: usize,
    flush_interval: Duration,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { events: limits::MESSAGE_EVENTS, flush_interval: Duration::ZERO }
    }
}

impl Gathering {
    /// As a client wants it.
    pub(super) fn of(config: &StreamConfig) -> Result<Self, Problem> {
        let most = limits::MESSAGE_EVENTS;
        let wrong = |field: &str, why: String| {
            Problem::argument(format!("`{field}` must be {why}")).at(format!("config.{field}"))
        };
        let events = match usize::try_from(config.batch_size) {
            Ok(0) => most,
            Ok(events) if events <= most => events,
            _ => return Err(wrong("batch_size", format!("0 to {most}"))),
        };
        let interval = config.flush_interval.unwrap_or_default();
        let flush_interval = Duration::try_from(interval).ok().filter(|i| *i <= LONGEST_FLUSH);
        let seconds = LONGEST_FLUSH.as_secs();
        let flush_interval =
            flush_interval.ok_or_else(|| wrong("flush_interval", format!("0 to {seconds} s")))?;
        Ok(Self { events, flush_interval })
    }
}

/// A group of single events.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) events: Vec<Event>,
    pub(super) bytes: usize,
    pub(super) permit: Option<Permit>,
    since: Option<Instant>,
}

impl Gathered {
    /// Takes in an event of so many bytes.
    pub(super) fn push(&mut self, event: Event, bytes: usize) {
        self.since.get_or_insert_with(Instant::now);
        self.events.push(event);
        self.bytes += bytes;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether it must not grow.
    pub(super) fn is_full(&self, gathering: Gathering) -> bool {
        self.events.len() >= gathering.events || self.bytes >= GROUP_BYTES
    }

    /// Until when it may wait for more; `None` if there is nothing.
    pub(super) fn due(&self, gathering: Gathering) -> Option<Instant> {
        self.since.map(|since| since + gathering.flush_interval)
    }

    /// When its first event came.
    pub(super) fn since(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now)
    }
}
