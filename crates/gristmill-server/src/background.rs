//! Work that goes on after its request was answered.
//!
//! It is bounded by what each piece holds of the admission budget, and finished before the server ends.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::trace;

/// The pieces of work that are under way.
#[derive(Debug, Default)]
pub(crate) struct Background(Mutex<JoinSet<()>>);

impl Background {
    /// Runs a piece of work, which must hold a share of the admission budget.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "work in the background failed");
            }
        }
        tasks.spawn(trace::handed_on(work));
    }

    /// Waits until all of it is done.
    pub(crate) async fn finish(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}
