//! Sending events in the background: in batches, with bounded memory, until the server says that
//! they are on stable storage.
//!
//! Invariant: of every event that [`Sender::send`] took it becomes known what became of it. It was
//! delivered, or it is in a report, or the observer was told, or it is on disk. A sender that is
//! dropped says so too.

mod config;
mod courier;
mod lane;
mod piece;
mod queue;
mod report;
mod shared;
mod spill;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gristmill_model::{limits, ndjson};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::event::encode;
use crate::{Client, Event, EventError, StreamTarget};
use piece::{Piece, cut};
use report::Fate;
use shared::Shared;
use spill::Spill;

pub use config::{Compression, SenderConfig, SpillConfig};
pub use report::{Delivered, Observer, Reason, Report, Undelivered};

/// Why a sender did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting cannot be used.
    #[error("`{name}` {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory for events on disk cannot be used.
    #[error("cannot keep events in {dir}: {error}")]
    Spill {
        /// The directory.
        dir: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Why an event was not taken. It is still the caller's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// There is no room now.
    #[error("the buffer is full")]
    Full,
    /// There will never be room for so much at once.
    #[error("the events do not fit into the buffer; raise `buffer_events` or `buffer_bytes`")]
    LargerThanBuffer,
    /// The sender was closed.
    #[error("the sender is closed")]
    Closed,
    /// The event cannot be sent at all.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The lines are none, or more than a request may have.
    #[error("{lines} lines of events: give 1 to {}", limits::BATCH_EVENTS)]
    Lines {
        /// How many there are.
        lines: usize,
    },
}

/// How much a sender holds, and what it has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderStats {
    /// Events in memory: waiting, or under way.
    pub events: usize,
    /// Their bytes, as JSON.
    pub bytes: usize,
    /// Events on disk.
    pub on_disk: u64,
    /// Why the last try that failed did; empty if none did.
    pub last_error: String,
}

/// Sends events in the background. Share it by reference or in an `Arc`; close it in the end.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use gristmill_client::{Client, Event, Sender, SenderConfig};
///
/// let client = Client::at("http://127.0.0.1:8080")?;
/// let sender = Sender::start(&client, SenderConfig::default()).await?;
/// sender.send(&Event::new("page_view").user("ann").page("/home")).await?;
/// let report = sender.close().await;
/// assert!(report.is_complete(), "{:?}", report.undelivered);
/// # Ok(())
/// # }
/// ```
pub struct Sender {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl Sender {
    /// Starts a sender that sends by requests. What an earlier one left on disk is sent first.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(client: &Client, config: SenderConfig) -> Result<Self, StartError> {
        Self::start_observed(client, config, Arc::new(())).await
    }

    /// Starts a sender that sends by requests, and tells `observer` what becomes of events.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start_observed(
        client: &Client,
        config: SenderConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let spill = match config.spill.clone() {
            Some(spill) => Some(Arc::new(open(spill).await?)),
            None => None,
        };
        let exchange = &client.exchange;
        let (clock, entropy) = (Arc::clone(&exchange.clock), Arc::clone(&exchange.entropy));
        let shared = Arc::new(Shared::new(config, clock, entropy, observer, spill.clone()));
        let mut tasks = JoinSet::new();
        for number in 0..shared.queues.len() {
            tasks.spawn(lane::run(Arc::clone(&shared), client.clone(), number));
        }
        if let Some(spill) = spill {
            tasks.spawn(lane::replay(Arc::clone(&shared), spill, client.clone()));
        }
        Ok(Self { shared, tasks: Mutex::new(tasks) })
    }

    /// Starts a sender that sends over one gRPC stream, which is the quickest way in. The order of
    /// all events is kept.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn stream(target: &StreamTarget, config: SenderConfig) -> Result<Self, StartError> {
        Self::stream_observed(target, config, Arc::new(())).await
    }

    /// Starts a sender that sends over one gRPC stream, and tells `observer` what becomes of events.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn stream_observed(
        target: &StreamTarget,
        config: SenderConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let config = SenderConfig { lanes: 1, ..config };
        config.check()?;
        if config.spill.is_some() {
            let reason = "is not for a stream; send by requests".to_owned();
            return Err(StartError::Setting { name: "spill", reason });
        }
        let (clock, entropy) = (Arc::clone(&target.clock), Arc::clone(&target.entropy));
        let shared = Arc::new(Shared::new(config, clock, entropy, observer, None));
        let mut tasks = JoinSet::new();
        tasks.spawn(stream::run(Arc::clone(&shared), target.clone()));
        Ok(Self { shared, tasks: Mutex::new(tasks) })
    }

    /// Hands an event over, and waits for room if there is none. An event without an id gets one,
    /// and one without a time the present one; both stay the same for all tries.
    ///
    /// A call that is dropped before it returns has not handed the event over.
    pub async fn send(&self, event: &Event) -> Result<(), SendError> {
        let line = self.encode(event)?;
        self.shared.put([line], &event.user_id).await
    }

    /// Hands an event over if there is room now.
    pub fn try_send(&self, event: &Event) -> Result<(), SendError> {
        let line = self.encode(event)?;
        self.shared.try_put([line], &event.user_id)
    }

    /// Hands over lines of NDJSON as they are, which is the cheapest way, and waits for room if
    /// there is none. What fits into `batch_bytes` goes in one request, alone or with others. Every event
    /// must have an id of its own; one without may be counted twice. Only on a stream their order with
    /// others is kept. A line that is larger than any server takes is undelivered at once.
    pub async fn send_ndjson(&self, lines: impl Into<Bytes>) -> Result<(), SendError> {
        let mut lines = lines.into();
        let (mut count, mut too_large) = (0, Vec::new());
        for line in ndjson::lines(&lines) {
            count += 1;
            if line.len() > limits::LINE_BYTES {
                too_large.push(lines.slice_ref(line));
            }
        }
        let config = &self.shared.config;
        if count == 0 || count > config.batch_events.max(1) {
            return Err(SendError::Lines { lines: count });
        }
        if !too_large.is_empty() {
            let others = ndjson::lines(&lines).filter(|line| line.len() <= limits::LINE_BYTES);
            lines = [others.collect::<Vec<_>>().join(&b'\n'), b"\n".to_vec()].concat().into();
        } else if !lines.ends_with(b"\n") {
            lines = [&lines[..], b"\n"].concat().into();
        }
        self.shared.put(cut(lines, config.batch_bytes), "").await?;
        if !too_large.is_empty() {
            self.shared.outcomes.tell(Fate::too_large(too_large));
        }
        Ok(())
    }

    /// Waits until it is known what became of every event that was handed over before, without
    /// waiting for more, and tells. An event on disk counts as known.
    pub async fn flush(&self) -> Report {
        self.settle_all().await;
        self.report()
    }

    /// Waits until nothing is left on disk, for as long as that takes.
    pub async fn caught_up(&self) {
        let Some(spill) = &self.shared.spill else { return };
        let mut changed = spill.subscribe();
        while !spill.is_empty() {
            // The spill lives as long as this sender.
            let _ = changed.changed().await;
        }
    }

    /// Takes no more events, tries to deliver the rest within `close_within`, and tells what was
    /// not. With a spill the rest goes to disk, for the next sender on that directory, which may
    /// start as soon as this returns.
    pub async fn close(&self) -> Report {
        self.shared.close();
        let within = self.shared.config.close_within;
        // Whether it got done shows below.
        let _ = timeout(within, self.settle_all()).await;
        let mut tasks = std::mem::take(&mut *self.lock());
        tasks.shutdown().await;
        let shared = Arc::clone(&self.shared);
        let reason = Reason::Closed(shared.last_error());
        if shared.spill.is_some() {
            // Writing to disk blocks. A task that blocks is not cancelled.
            let _ = tokio::task::spawn_blocking(move || shared.abandon(&reason)).await;
        } else {
            shared.abandon(&reason);
        }
        let report = self.report();
        if let Some(spill) = &self.shared.spill {
            spill.release();
        }
        report
    }

    /// How much it holds now.
    pub fn stats(&self) -> SenderStats {
        let (events, bytes) = self.shared.load();
        let on_disk = self.shared.spill.as_ref().map_or(0, |spill| spill.events());
        let last_error = self.shared.last_error().to_string();
        SenderStats { events, bytes, on_disk, last_error }
    }

    fn encode(&self, event: &Event) -> Result<Piece, SendError> {
        let lines = encode(event, self.shared.clock.as_ref(), self.shared.entropy.as_ref())?;
        Ok(Piece { lines, events: 1 })
    }

    async fn settle_all(&self) {
        let ends: Vec<_> = self.shared.queues.iter().map(|queue| (queue, queue.hurry())).collect();
        for (queue, end) in ends {
            queue.settled(end).await;
        }
    }

    fn report(&self) -> Report {
        let spill = self.shared.spill.as_ref();
        Report {
            on_disk: spill.map_or(0, |spill| spill.events()),
            damaged_files: spill.map_or(0, |spill| spill.damaged()),
            ..self.shared.outcomes.report()
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is lost says so: to the observer, and in the log.
impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.close();
        self.lock().abort_all();
        self.shared.abandon(&Reason::Dropped);
        let report = self.shared.outcomes.report();
        let events = report.undelivered.len() as u64 + report.forgotten;
        if events > 0 {
            tracing::error!(events, "a sender was dropped with undelivered events unreported");
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_closed = self.shared.is_closed();
        f.debug_struct("Sender").field("is_closed", &is_closed).finish_non_exhaustive()
    }
}

async fn open(config: SpillConfig) -> Result<Spill, StartError> {
    let dir = config.dir.display().to_string();
    let opened = Handle::current().spawn_blocking(move || Spill::open(config)).await;
    let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    opened.map_err(|error| StartError::Spill { dir, error })
}
