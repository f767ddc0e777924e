//! Readers: a thread that polls, and the queue that it fills.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_model::Positions;

use super::Shared;
use super::poller::{self, Poller};
use super::queue::Queue;
use crate::{Committed, LogBatch, LogReader, ReadError};

/// How long leaving the group may take.
const LEAVING: Duration = Duration::from_secs(5);

/// A reader of a topic.
pub(super) struct KafkaReader {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Hangs up when the thread ends.
    polling: Receiver<()>,
}

impl KafkaReader {
    /// A reader of all partitions that stands at `from`.
    pub(super) async fn from(shared: &Arc<Shared>, from: Positions) -> Result<Self, ReadError> {
        let queue = Arc::new(Queue::default());
        let (to, shared) = (Arc::clone(&queue), Arc::clone(shared));
        let made = tokio::task::spawn_blocking(move || poller::of_all(&shared, to, &from));
        Self::run(queue, made.await.map_err(std::io::Error::other)??)
    }

    /// A reader that is a member of the group.
    pub(super) fn share(shared: &Arc<Shared>, committed: Committed) -> Result<Self, ReadError> {
        let queue = Arc::new(Queue::default());
        let poller = poller::of_share(shared, Arc::clone(&queue), committed)?;
        Self::run(queue, poller)
    }

    fn run(queue: Arc<Queue>, poller: Poller) -> Result<Self, ReadError> {
        let (running, polling) = channel();
        let body = move || {
            let _running: Sender<()> = running;
            poller.run();
        };
        let thread = std::thread::Builder::new().name("kafka-reader".to_owned()).spawn(body)?;
        Ok(Self { queue, thread: Some(thread), polling })
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError> {
        self.queue.take(max_bytes).await
    }
}

impl Drop for KafkaReader {
    /// Waits until the group has been left, so that others get the partitions at once. A broker that goes
    /// away just then may keep the client library from ever leaving; its thread then ends with the
    /// process, and the group finds out by itself.
    fn drop(&mut self) {
        self.queue.abandon();
        let Some(thread) = self.thread.take() else { return };
        if self.polling.recv_timeout(LEAVING) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("cannot leave the group in Kafka: its session has to run out");
            return;
        }
        if thread.join().is_err() {
            tracing::error!("a reader of Kafka has panicked");
        }
    }
}
