//! What a sender's handle and its tasks share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::{Clock, Entropy};
use tokio::sync::Semaphore;

use super::piece::Piece;
use super::queue::{Batch, BatchRule, Queue};
use super::report::{Fate, Outcomes};
use super::spill::Spill;
use super::{Observer, Reason, SendError, SenderConfig};
use crate::backoff::Backoff;

/// What a sender's handle and its tasks share.
pub(super) struct Shared {
    pub(super) config: SenderConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) queues: Vec<Queue>,
    pub(super) outcomes: Outcomes,
    pub(super) spill: Option<Arc<Spill>>,
    /// What may still be put into the queues. Closed when the sender is.
    events: Semaphore,
    bytes: Semaphore,
    next_lane: AtomicUsize,
    last_error: Mutex<Arc<str>>,
}

impl Shared {
    pub(super) fn new(
        config: SenderConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        observer: Arc<dyn Observer>,
        spill: Option<Arc<Spill>>,
    ) -> Self {
        let rule = BatchRule {
            events: config.batch_events,
            bytes: config.batch_bytes,
            linger: config.linger,
        };
        Self {
            clock,
            entropy,
            queues: (0..config.lanes).map(|_| Queue::new(rule)).collect(),
            outcomes: Outcomes::new(observer, config.kept_undelivered, config.buffer_bytes / 2),
            spill,
            events: Semaphore::new(config.buffer_events),
            bytes: Semaphore::new(config.buffer_bytes),
            next_lane: AtomicUsize::new(0),
            last_error: Mutex::new("".into()),
            config,
        }
    }

    /// Waits until there is room, and puts events into a lane.
    pub(super) async fn put(&self, pieces: impl Pieces, user: &str) -> Result<(), SendError> {
        let (count, bytes) = self.sizes(pieces.as_ref())?;
        let count = self.events.acquire_many(count).await.map_err(|_| SendError::Closed)?;
        let bytes = self.bytes.acquire_many(bytes).await.map_err(|_| SendError::Closed)?;
        count.forget();
        bytes.forget();
        self.push(pieces, user)
    }

    /// Puts events into a lane if there is room now.
    pub(super) fn try_put(&self, pieces: impl Pieces, user: &str) -> Result<(), SendError> {
        use tokio::sync::TryAcquireError;
        let why = |error| match error {
            TryAcquireError::Closed => SendError::Closed,
            TryAcquireError::NoPermits => SendError::Full,
        };
        let (count, bytes) = self.sizes(pieces.as_ref())?;
        let count = self.events.try_acquire_many(count).map_err(why)?;
        let bytes = self.bytes.try_acquire_many(bytes).map_err(why)?;
        count.forget();
        bytes.forget();
        self.push(pieces, user)
    }

    /// How much room events take; an error if there will never be enough.
    fn sizes(&self, pieces: &[Piece]) -> Result<(u32, u32), SendError> {
        let events: usize = pieces.iter().map(|piece| piece.events).sum();
        let bytes: usize = pieces.iter().map(|piece| piece.lines.len()).sum();
        let is_too_large = events > self.config.buffer_events || bytes > self.config.buffer_bytes;
        match (u32::try_from(events), u32::try_from(bytes)) {
            (Ok(events), Ok(bytes)) if !is_too_large => Ok((events, bytes)),
            _ => Err(SendError::LargerThanBuffer),
        }
    }

    fn push(&self, pieces: impl Pieces, user: &str) -> Result<(), SendError> {
        let lanes = self.queues.len();
        let lane = if user.is_empty() {
            self.next_lane.fetch_add(1, Relaxed) % lanes
        } else {
            let mut hasher = DefaultHasher::new();
            user.hash(&mut hasher);
            (hasher.finish() % lanes as u64) as usize
        };
        let queue = self.queues.get(lane).ok_or(SendError::Closed)?;
        if queue.push(pieces) { Ok(()) } else { Err(SendError::Closed) }
    }

    /// Takes no more events.
    pub(super) fn close(&self) {
        self.events.close();
        self.bytes.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Events and bytes that wait, or are under way.
    pub(super) fn load(&self) -> (usize, usize) {
        let events = self.config.buffer_events.saturating_sub(self.events.available_permits());
        let bytes = self.config.buffer_bytes.saturating_sub(self.bytes.available_permits());
        (events, bytes)
    }

    /// Says what became of a batch, unless somebody else did.
    pub(super) fn settle(&self, queue: &Queue, batch: &Arc<Batch>, fate: Fate) {
        if queue.claim(batch) {
            self.tell(queue, batch, fate);
        }
    }

    /// Says what became of a batch that was claimed.
    pub(super) fn tell(&self, queue: &Queue, batch: &Batch, fate: Fate) {
        self.outcomes.tell(fate);
        self.events.add_permits(batch.piece.events);
        self.bytes.add_permits(batch.piece.lines.len());
        queue.settle(batch.piece.events);
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff { first: self.config.first_backoff, longest: self.config.longest_backoff }
    }

    /// Remembers why the last try failed.
    pub(super) fn failed(&self, error: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.into();
    }

    /// Why the last try failed; empty if none did.
    pub(super) fn last_error(&self) -> Arc<str> {
        Arc::clone(&self.last_error.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends everything that is not settled: on disk as far as there is a spill with room, else lost.
    pub(super) fn abandon(&self, reason: &Reason) {
        let batches_of =
            |queue| Queue::claim_all(queue).into_iter().map(move |batch| (queue, batch));
        let batches: Vec<_> = self.queues.iter().flat_map(batches_of).collect();
        let kept = self.spill.as_ref().map_or(0, |spill| {
            let pieces: Vec<_> = batches.iter().map(|(_, batch)| batch.piece.clone()).collect();
            let (kept, result) = spill.append(&pieces);
            if let Err(error) = result {
                tracing::error!(%error, "cannot keep all events on disk");
            }
            kept
        });
        for (number, (queue, batch)) in batches.iter().enumerate() {
            let mut fate = Fate::default();
            if number >= kept {
                fate.lost(&batch.piece.lines, reason, batch.may_have_arrived());
            }
            self.tell(queue, batch, fate);
        }
    }
}

/// Events that are handed over together.
pub(super) trait Pieces: AsRef<[Piece]> + IntoIterator<Item = Piece> {}

impl<P: AsRef<[Piece]> + IntoIterator<Item = Piece>> Pieces for P {}
