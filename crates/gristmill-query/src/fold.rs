//! The driver: runs one fold per shard of a snapshot, in parallel, and joins what comes out.
//!
//! Shards hold disjoint users, so their results add up exactly. A fold works on dictionary codes,
//! which mean something within one shard's walk only; when the walk ends it turns them into texts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_store::{Dictionary, Snapshot, StoreError, UserRun};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::QueryError;
use crate::select::Plan;

/// How many users are walked between two looks at whether anybody still waits for the answer.
const USERS_PER_CHECK: usize = 64;

/// The state of one question over the users of one shard.
pub(crate) trait UserFold: Send + Sized + 'static {
    /// What is left of a shard when its walk is over, without codes.
    type Partial: Default + Send + 'static;

    /// Takes in one user's events. An error ends the question.
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError>;

    /// Ends the shard, given one dictionary per column of the plan.
    fn finish(self, dictionaries: &[Dictionary]) -> Self::Partial;

    /// Joins two results about different users.
    fn merge(into: &mut Self::Partial, other: Self::Partial);
}

/// What one question sees: a snapshot, and the threads that all questions share.
pub(crate) struct View {
    snapshot: Arc<dyn Snapshot>,
    threads: Arc<Semaphore>,
}

impl View {
    pub(crate) fn new(snapshot: Box<dyn Snapshot>, threads: Arc<Semaphore>) -> Self {
        Self { snapshot: snapshot.into(), threads }
    }

    /// Walks through all shards that can have a user of the plan. Dropping the future ends the
    /// walks soon after.
    pub(crate) async fn fold<F: UserFold>(
        &self,
        plan: &Plan,
        start: impl Fn() -> F,
    ) -> Result<F::Partial, QueryError> {
        let stop = StopOnDrop(Arc::default());
        let joined = Arc::new(Mutex::new(None));
        let mut walks = JoinSet::new();
        for shard in self.shards(plan) {
            let permit = self.permit().await?;
            let walk = Walk {
                snapshot: Arc::clone(&self.snapshot),
                shard,
                plan: plan.clone(),
                stop: Arc::clone(&stop.0),
            };
            let (fold, joined) = (start(), Arc::clone(&joined));
            walks.spawn_blocking(move || {
                let partial = walk.run(fold)?;
                join::<F>(&joined, partial);
                drop(permit);
                Ok(())
            });
            while let Some(ended) = walks.try_join_next() {
                outcome(ended)?;
            }
        }
        while let Some(ended) = walks.join_next().await {
            outcome(ended)?;
        }
        let mut joined = joined.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(joined.take().unwrap_or_default())
    }

    /// Does lengthy work on one of the threads.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let permit = self.permit().await?;
        let mut task = JoinSet::new();
        task.spawn_blocking(move || {
            let result = work();
            drop(permit);
            Ok(result)
        });
        task.join_next().await.map_or(Err(StoreError::Closed.into()), outcome)
    }

    fn shards(&self, plan: &Plan) -> std::ops::Range<u32> {
        match &plan.scan.user {
            Some(user) => {
                let shard = self.snapshot.shard_of(&plan.scan.project, user);
                shard..shard + 1
            }
            None => 0..self.snapshot.shards(),
        }
    }

    async fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, QueryError> {
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        permit.map_err(|_| StoreError::Closed.into())
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Walk {
    snapshot: Arc<dyn Snapshot>,
    shard: u32,
    plan: Plan,
    stop: Arc<AtomicBool>,
}

impl Walk {
    fn run<F: UserFold>(self, mut fold: F) -> Result<F::Partial, QueryError> {
        let mut cursor = self.snapshot.scan(self.shard, &self.plan.scan)?;
        loop {
            // Nobody waits for the answer of a stopped walk, so any error will do.
            if self.stop.load(Ordering::Relaxed) {
                return Err(QueryError::Deadline);
            }
            for _ in 0..USERS_PER_CHECK {
                let Some(run) = cursor.next_user()? else {
                    return Ok(fold.finish(cursor.dictionaries()));
                };
                fold.user(&run)?;
            }
        }
    }
}

/// Leaves a result for the next walk to join, or joins it with the one that was left. Nobody
/// waits for a lock while results are joined.
fn join<F: UserFold>(left: &Mutex<Option<F::Partial>>, mut partial: F::Partial) {
    loop {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(other) = left.take() else {
            *left = Some(partial);
            return;
        };
        drop(left);
        F::merge(&mut partial, other);
    }
}

fn outcome<T>(ended: Result<Result<T, QueryError>, JoinError>) -> Result<T, QueryError> {
    match ended {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StoreError::Closed.into()),
    }
}
