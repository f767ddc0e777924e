//! Batches on their way from the thread that polls the broker to the reader, bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gristmill_model::Partition;
use tokio::sync::Notify;

use crate::{LogBatch, ReadError};

/// How much may wait; one batch may go beyond.
const QUEUE_BYTES: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The reader waits for something to come.
    arrived: Notify,
    /// The poller waits for room.
    room: Condvar,
}

#[derive(Default)]
struct State {
    batches: VecDeque<LogBatch>,
    bytes: usize,
    /// Why nothing more comes.
    end: Option<ReadError>,
    is_abandoned: bool,
}

impl Queue {
    /// Queues a batch; gives it back if there is no room for so long. What comes after the end, or
    /// when the reader is gone, is dropped.
    pub(super) fn push(&self, batch: LogBatch, patience: Duration) -> Result<(), LogBatch> {
        let state = self.lock();
        let is_full = |state: &mut State| state.bytes >= QUEUE_BYTES && !state.is_abandoned;
        let (mut state, waited) = self
            .room
            .wait_timeout_while(state, patience, is_full)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(batch);
        }
        if state.end.is_none() && !state.is_abandoned {
            state.bytes += batch.block.bytes();
            state.batches.push_back(batch);
        }
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes about `max_bytes`, at least one batch, waiting until there is one. Cancel-safe.
    pub(super) async fn take(&self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError> {
        loop {
            if let Some(taken) = self.take_now(max_bytes) {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    fn take_now(&self, max_bytes: usize) -> Option<Result<Vec<LogBatch>, ReadError>> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.batches.front().map(|batch| batch.block.bytes()) {
            if !taken.is_empty() && bytes + next > max_bytes {
                break;
            }
            bytes += next;
            taken.extend(state.batches.pop_front());
        }
        state.bytes -= bytes;
        let is_empty = taken.is_empty();
        let end = if is_empty { state.end.take() } else { None };
        if end.is_some() {
            state.end = Some(ReadError::Closed);
        }
        drop(state);
        self.room.notify_one();
        match end {
            Some(end) => Some(Err(end)),
            None => (!is_empty).then_some(Ok(taken)),
        }
    }

    /// Drops what waits of partitions that went to others.
    pub(super) fn forget(&self, partitions: &[Partition]) {
        let mut state = self.lock();
        state.batches.retain(|batch| !partitions.contains(&batch.partition));
        state.bytes = state.batches.iter().map(|batch| batch.block.bytes()).sum();
        drop(state);
        self.room.notify_one();
    }

    /// Nothing more comes; what waits can still be taken.
    pub(super) fn end(&self, reason: ReadError) {
        self.lock().end.get_or_insert(reason);
        self.arrived.notify_one();
    }

    /// The reader is gone.
    pub(super) fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.room.notify_one();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
