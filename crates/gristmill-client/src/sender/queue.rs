//! Events that wait in one lane, and the batches that are made of them.
//!
//! Invariant: a batch that was taken stays here until somebody claims it, and only one can. So
//! whoever ends a sender finds all events of which nothing is known.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::piece::Piece;

/// Events that were handed over together.
#[derive(Debug)]
struct Chunk {
    piece: Piece,
    since: Instant,
}

/// Events that travel together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) piece: Piece,
    /// When the first of them was handed over.
    pub(super) since: Instant,
    has_gone_out: AtomicBool,
}

impl Batch {
    /// It is about to be sent.
    pub(super) fn goes_out(&self) {
        self.has_gone_out.store(true, Relaxed);
    }

    /// Whether it may be with the server, as far as is known here.
    pub(super) fn may_have_arrived(&self) -> bool {
        self.has_gone_out.load(Relaxed)
    }
}

/// When a batch is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRule {
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) linger: Duration,
}

/// One lane.
pub(super) struct Queue {
    rule: BatchRule,
    state: Mutex<State>,
    wake: Notify,
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Chunk>,
    events: usize,
    bytes: usize,
    /// Events that ever came.
    pushed: u64,
    /// Events that were made batches of.
    taken_events: u64,
    /// Below, nothing lingers.
    urgent: u64,
    /// Batches of which nothing is known, in order.
    taken: VecDeque<Arc<Batch>>,
    /// Nothing comes in any more.
    is_ended: bool,
}

impl Queue {
    pub(super) fn new(rule: BatchRule) -> Self {
        let (state, wake) = (Mutex::default(), Notify::new());
        Self { rule, state, wake, settled: watch::Sender::new(0) }
    }

    /// Puts events behind those that wait; not when everything was taken out for good.
    pub(super) fn push(&self, pieces: impl IntoIterator<Item = Piece>) -> bool {
        let since = Instant::now();
        let mut state = self.lock();
        if state.is_ended {
            return false;
        }
        let is_first = state.waiting.is_empty();
        for piece in pieces {
            state.events += piece.events;
            state.bytes += piece.lines.len();
            state.pushed += piece.events as u64;
            state.waiting.push_back(Chunk { piece, since });
        }
        let is_full = state.events >= self.rule.events || state.bytes >= self.rule.bytes;
        drop(state);
        if is_first || is_full {
            self.wake.notify_one();
        }
        true
    }

    /// Waits until a batch is due and takes it. For one task at a time.
    pub(super) async fn next(&self) -> Arc<Batch> {
        loop {
            let due = match self.take() {
                Ok(batch) => return batch,
                Err(due) => due,
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = sleep_until(due) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// Takes a batch, or tells when one is due if something waits.
    fn take(&self) -> Result<Arc<Batch>, Option<Instant>> {
        let mut state = self.lock();
        let first = state.waiting.front().ok_or(None)?;
        let due = first.since + self.rule.linger;
        let is_full = state.events >= self.rule.events || state.bytes >= self.rule.bytes;
        let is_urgent = state.taken_events < state.urgent;
        if !is_full && !is_urgent && Instant::now() < due {
            return Err(Some(due));
        }
        let batch = Arc::new(state.gather(self.rule));
        state.taken.push_back(Arc::clone(&batch));
        Ok(batch)
    }

    /// Makes batches of all that waits, whether it is due or not.
    pub(super) fn take_all(&self) {
        let mut state = self.lock();
        while !state.waiting.is_empty() {
            let batch = Arc::new(state.gather(self.rule));
            state.taken.push_back(batch);
        }
    }

    /// The batches of which nothing is known, in order.
    pub(super) fn taken(&self) -> VecDeque<Arc<Batch>> {
        self.lock().taken.clone()
    }

    /// Makes everything that came so far due, and tells where that ends.
    pub(super) fn hurry(&self) -> u64 {
        let mut state = self.lock();
        state.urgent = state.pushed;
        let end = state.pushed;
        drop(state);
        self.wake.notify_one();
        end
    }

    /// Waits until everything up to such an end is settled.
    pub(super) async fn settled(&self, end: u64) {
        let mut settled = self.settled.subscribe();
        // The sender of this watch lives as long as the queue.
        let _ = settled.wait_for(|settled| *settled >= end).await;
    }

    /// Takes a batch out for good, if nobody else did. Whoever succeeds tells what became of it and
    /// then calls [`Queue::settle`].
    pub(super) fn claim(&self, batch: &Arc<Batch>) -> bool {
        let mut state = self.lock();
        let place = state.taken.iter().position(|taken| Arc::ptr_eq(taken, batch));
        place.is_some_and(|place| state.taken.remove(place).is_some())
    }

    /// Takes everything out for good, first what was made batches of, and lets nothing more in.
    pub(super) fn claim_all(&self) -> Vec<Arc<Batch>> {
        let mut state = self.lock();
        state.is_ended = true;
        let mut all: Vec<_> = std::mem::take(&mut state.taken).into();
        while !state.waiting.is_empty() {
            all.push(Arc::new(state.gather(self.rule)));
        }
        all
    }

    /// Says that the fate of so many claimed events is known.
    pub(super) fn settle(&self, events: usize) {
        self.settled.send_modify(|settled| *settled += events as u64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes a batch of the first chunks: one at least, and no more than fit.
    fn gather(&mut self, rule: BatchRule) -> Batch {
        let since = self.waiting.front().map_or_else(Instant::now, |chunk| chunk.since);
        let (mut count, mut events, mut bytes) = (0, 0, 0);
        for Chunk { piece, .. } in &self.waiting {
            let fits =
                events + piece.events <= rule.events && bytes + piece.lines.len() <= rule.bytes;
            if count > 0 && !fits {
                break;
            }
            count += 1;
            events += piece.events;
            bytes += piece.lines.len();
        }
        let mut all = self.waiting.drain(..count).map(|chunk| chunk.piece.lines);
        let lines = match (all.next(), count) {
            (Some(only), 1) => only,
            (first, _) => {
                let mut lines = BytesMut::with_capacity(bytes);
                first.into_iter().chain(all).for_each(|more| lines.extend(more));
                lines.freeze()
            }
        };
        self.events -= events;
        self.bytes -= bytes;
        self.taken_events += events as u64;
        Batch { piece: Piece { lines, events }, since, has_gone_out: AtomicBool::new(false) }
    }
}
