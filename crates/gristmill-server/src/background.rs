//! Work that goes on after its request was answered.
//!
//! It is bounded by what each piece holds of the admission budget, and finished before the server ends.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::trace;

/// The pieces of work that are under way.
#[derive(Debug, Default)]
pub(crate) struct Background {
    tasks: Mutex<JoinSet<()>>,
    /// Events whose work is not done.
    events: Arc<AtomicU64>,
}

impl Background {
    /// Runs a piece of work for so many events, which must hold a share of the admission budget.
    pub(crate) fn run(&self, events: u64, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "work in the background failed");
            }
        }
        self.events.fetch_add(events, SeqCst);
        let all = Arc::clone(&self.events);
        tasks.spawn(trace::handed_on(async move {
            work.await;
            all.fetch_sub(events, SeqCst);
        }));
    }

    /// Waits until all of it is done, until `deadline` at most, and gives the rest up. Tells for how many
    /// events it was not done.
    pub(crate) async fn finish(&self, deadline: Instant) -> u64 {
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        // Whether it got done shows below.
        let _ = timeout_at(deadline, all).await;
        tasks.shutdown().await;
        self.events.load(SeqCst)
    }
}
