//! The appends that wait for the writer: bounded by bytes, and taken in groups.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::{Partition, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::frame::BLOCK_HEADER_BYTES;
use super::locked;
use crate::{AppendError, Appended};

/// The largest block that an append may have.
pub(super) const BLOCK_BYTES: usize = limits::FRAME_BYTES - BLOCK_HEADER_BYTES;
/// How much may wait or be in a group that is being written; further appends wait for room.
const QUEUE_BYTES: usize = 4 * limits::FRAME_BYTES;
/// What an append takes besides its block.
const PENDING_BYTES: usize = 256;

/// An append that waits for its answer.
pub(super) struct Pending {
    pub(super) partition: Partition,
    pub(super) count: u32,
    pub(super) block: Bytes,
    pub(super) answer: oneshot::Sender<Result<Appended, AppendError>>,
    /// Gives the room back when dropped.
    _room: OwnedSemaphorePermit,
}

/// What the writer is to do.
pub(super) enum Taken {
    /// Write these together.
    Group(Vec<Pending>),
    /// Nothing came for a while.
    Idle,
    /// Nothing more will come.
    Closed,
}

pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    room: Arc<Semaphore>,
}

struct State {
    pending: VecDeque<Pending>,
    /// Why no more appends are taken.
    refusal: Option<AppendError>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State { pending: VecDeque::new(), refusal: None }),
            arrived: Condvar::new(),
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
        }
    }

    /// Queues a block and waits for its answer.
    pub(super) async fn append(
        &self,
        partition: Partition,
        count: u32,
        block: Bytes,
    ) -> Result<Appended, AppendError> {
        if block.len() > BLOCK_BYTES {
            return Err(AppendError::TooLarge { bytes: block.len(), limit: BLOCK_BYTES });
        }
        let bytes = (block.len() + PENDING_BYTES) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        let Ok(room) = room else { return Err(self.refusal()) };
        let (answer, answered) = oneshot::channel();
        self.push(Pending { partition, count, block, answer, _room: room })?;
        answered.await.unwrap_or_else(|_| Err(self.refusal()))
    }

    fn push(&self, pending: Pending) -> Result<(), AppendError> {
        let mut state = locked(&self.state);
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        // The writer only waits while there is nothing, and every notification is a system call.
        let was_empty = state.pending.is_empty();
        state.pending.push_back(pending);
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes what has queued up, as much as one group may have; waits for something, if told so
    /// only for a while.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let mut state = locked(&self.state);
        loop {
            if !state.pending.is_empty() {
                return Taken::Group(state.take_group());
            }
            if state.refusal.is_some() {
                return Taken::Closed;
            }
            state = match patience {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.arrived.wait_timeout(state, patience);
                    let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
                    if result.timed_out() && state.pending.is_empty() && state.refusal.is_none() {
                        return Taken::Idle;
                    }
                    state
                }
            };
        }
    }

    /// Takes no more appends; those that wait are still to be written.
    pub(super) fn close(&self) {
        locked(&self.state).refusal.get_or_insert(AppendError::Closed);
        self.arrived.notify_one();
    }

    /// Takes no more appends and answers those that wait with `reason`.
    pub(super) fn end(&self, reason: &AppendError) {
        let pending = {
            let mut state = locked(&self.state);
            state.refusal = Some(reason.clone());
            std::mem::take(&mut state.pending)
        };
        self.room.close();
        for pending in pending {
            // The caller may have gone away.
            let _ = pending.answer.send(Err(reason.clone()));
        }
    }

    fn refusal(&self) -> AppendError {
        let stopped = || AppendError::Failed("its writer stopped".to_owned());
        locked(&self.state).refusal.clone().unwrap_or_else(stopped)
    }
}

impl State {
    fn take_group(&mut self) -> Vec<Pending> {
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            bytes += BLOCK_HEADER_BYTES + pending.block.len();
            bytes <= limits::FRAME_BYTES
        };
        let count = self.pending.iter().take_while(fits).count();
        self.pending.drain(..count).collect()
    }
}
