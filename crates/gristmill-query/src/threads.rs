//! The threads that answer questions.
//!
//! They are threads of their own, because they step back behind those that take events in: many
//! questions at once make each other wait, not the acknowledgements.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gristmill_store::StoreError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::QueryError;

/// The nice value of the threads: behind those that take events in and seal them, beside the one that
/// merges.
const NICE: i32 = 10;

pub(crate) struct Threads {
    count: usize,
    permits: Arc<Semaphore>,
    /// How many wait for a thread.
    waiting: AtomicUsize,
    /// Only its pool for blocking work is used.
    pool: Option<Runtime>,
}

impl Threads {
    /// So many threads, at least one.
    pub(crate) fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        let pool = Builder::new_current_thread()
            .thread_name("query")
            .max_blocking_threads(count)
            .on_thread_start(step_back)
            .build();
        if let Err(error) = &pool {
            tracing::warn!(%error, "questions are answered at normal priority");
        }
        let permits = Arc::new(Semaphore::new(count));
        Self { count, permits, waiting: AtomicUsize::new(0), pool: pool.ok() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether somebody waits for a thread.
    pub(crate) fn are_wanted(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Waits until a thread is free.
    pub(crate) async fn permit(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(free) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(free);
        }
        let _waiting = Waiting::among(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|_| StoreError::Closed.into())
    }

    /// Has a thread work, for whoever awaits the tasks.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        work: impl FnOnce() -> T + Send + 'static,
    ) {
        match &self.pool {
            Some(pool) => tasks.spawn_blocking_on(work, pool.handle()),
            None => tasks.spawn_blocking(work),
        };
    }

    /// How many threads are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.permits.available_permits()
    }
}

/// One who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Relaxed);
        Self(all)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Threads {
    /// Whoever drops this may be asynchronous itself, so nothing is waited for.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}

fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a query thread runs at normal priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_step_back_and_who_asks_them_does_not() {
        let threads = Threads::new(2);
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let mut tasks = JoinSet::new();
        threads.spawn(&mut tasks, priority);
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), NICE);
        assert_eq!(priority(), before);
    }
}
