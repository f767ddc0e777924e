//! The driver: runs one fold per shard of a snapshot, in parallel, and joins what comes out.
//!
//! Shards hold disjoint users, so their results add up exactly. A fold works on dictionary codes,
//! which mean something within one shard's walk only; when the walk ends it turns them into texts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_store::{
    Dictionaries, Events, Scan, Snapshot, Span, StoreError, UserBatch, UserRun, Wanted, Work,
};
use tokio::task::{JoinError, JoinSet};

use crate::cohort::QuestionCohorts;
use crate::membership::Memberships;
use crate::select::Plan;
use crate::threads::Threads;
use crate::{QueryError, cost};

mod pieces;
#[cfg(test)]
mod tests;

pub(crate) use pieces::PieceFold;
pub use pieces::{Recall, RecallRoom};

/// The state of one question over one shard.
pub(crate) trait Fold: Send + Sized + 'static {
    /// What is left of a shard when its walk is over, without codes.
    type Partial: Default + Send + 'static;

    /// Ends the shard, given one dictionary per column of the plan.
    fn finish(self, dictionaries: Dictionaries<'_>) -> Self::Partial;

    /// Joins two results about different events, and of different users unless it is an [`EventFold`].
    fn merge(into: &mut Self::Partial, other: Self::Partial);

    /// An error if a result is larger than may be kept, which ends the question.
    fn check(_: &Self::Partial) -> Result<(), QueryError> {
        Ok(())
    }
}

/// A question that needs to know which events are of one user.
pub(crate) trait UserFold: Fold {
    /// Takes in one user's events. An error ends the question.
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError>;
}

/// A question that takes in several users at once, which is quicker.
pub(crate) trait BatchFold: Fold {
    /// Takes in some users' events. An error ends the question.
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError>;
}

impl<F: UserFold> BatchFold for F {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        batch.runs().try_for_each(|run| self.user(&run))
    }
}

/// A question that events answer in any order.
pub(crate) trait EventFold: Fold {
    /// Events of this span change nothing any more.
    fn known(&self) -> Span {
        None
    }

    /// Takes in events. An error ends the question.
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError>;
}

/// What one question sees: a snapshot, and the threads that all questions share.
pub(crate) struct View {
    snapshot: Arc<dyn Snapshot>,
    threads: Arc<Threads>,
    cohorts: QuestionCohorts,
}

impl View {
    pub(crate) fn new(snapshot: Box<dyn Snapshot>, threads: Arc<Threads>) -> Self {
        cost::record(|cost| cost.basis.add(snapshot.version()));
        Self { snapshot: snapshot.into(), threads, cohorts: QuestionCohorts::default() }
    }

    /// The same with the saved cohorts that filters may ask for.
    pub(crate) fn with_cohorts(mut self, cohorts: QuestionCohorts) -> Self {
        self.cohorts = cohorts;
        self
    }

    /// Finds the cohorts that the plan asks for, and walks.
    pub(crate) async fn fold<F: BatchFold>(
        &self,
        plan: &Plan,
        start: impl Fn() -> F,
    ) -> Result<F::Partial, QueryError> {
        self.find_cohorts(plan).await?;
        self.walk(plan, start).await
    }

    /// Finds the cohorts that the plan asks for.
    pub(crate) async fn find_cohorts(&self, plan: &Plan) -> Result<(), QueryError> {
        self.cohorts.find(self, plan).await
    }

    /// Finds the cohorts that the plan asks for, and walks through the events in no order.
    pub(crate) async fn fold_events<F: EventFold>(
        &self,
        plan: &Plan,
        start: impl Fn() -> F,
    ) -> Result<F::Partial, QueryError> {
        self.find_cohorts(plan).await?;
        self.through_shards(plan, start, Walk::through_events).await
    }

    /// Walks through the users of the plan.
    pub(crate) async fn walk<F: BatchFold>(
        &self,
        plan: &Plan,
        start: impl Fn() -> F,
    ) -> Result<F::Partial, QueryError> {
        self.through_shards(plan, start, Walk::through_users).await
    }

    /// Walks through all shards that can have a user of the plan. Dropping the future ends the
    /// walks soon after.
    pub(crate) async fn through_shards<F: Fold>(
        &self,
        plan: &Plan,
        start: impl Fn() -> F,
        through: fn(Walk, F) -> Result<F::Partial, QueryError>,
    ) -> Result<F::Partial, QueryError> {
        let stop = StopOnDrop(Arc::default());
        let joined = Arc::new(Mutex::new(None));
        let shards = self.shards(plan).rev();
        let walks = shards.map(|shard| (self.walk_through(shard, plan, &stop), start())).collect();
        let into = Arc::clone(&joined);
        let work = move |(walk, fold): (Walk, F)| {
            walk.check()?;
            join::<F>(&into, through(walk, fold)?)
        };
        self.on_threads(walks, work).await?;
        let mut joined = joined.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(joined.take().unwrap_or_default())
    }

    fn walk_through(&self, shard: u32, plan: &Plan, stop: &StopOnDrop) -> Walk {
        Walk {
            snapshot: Arc::clone(&self.snapshot),
            shard,
            scan: plan.scan.clone(),
            memberships: Memberships::of(plan),
            stop: Arc::clone(&stop.0),
        }
    }

    /// Does pieces of work, the last one first. A thread goes on from one to the next, because they
    /// may be shorter than it takes to wake one, until somebody else waits for a thread.
    async fn on_threads<W: Send + 'static>(
        &self,
        works: Vec<W>,
        work: impl Fn(W) -> Result<(), QueryError> + Send + Sync + 'static,
    ) -> Result<(), QueryError> {
        let (left, work) = (Arc::new(Mutex::new(works)), Arc::new(work));
        let mut tasks = JoinSet::new();
        while !are_begun(&left) || !tasks.is_empty() {
            let needs_thread = tasks.len() < self.threads.count() && !are_begun(&left);
            tokio::select! {
                ended = tasks.join_next(), if !tasks.is_empty() => {
                    ended.map_or(Ok(()), outcome)?;
                }
                permit = self.threads.permit(), if needs_thread => {
                    let permit = permit?;
                    let (left, work) = (Arc::clone(&left), Arc::clone(&work));
                    let threads = Arc::clone(&self.threads);
                    self.threads.spawn(&mut tasks, move || {
                        while let Some(next) = next_of(&left) {
                            work(next)?;
                            if threads.are_wanted() {
                                break;
                            }
                        }
                        drop(permit);
                        Ok(())
                    });
                }
            }
        }
        Ok(())
    }

    /// Does lengthy work on one of the threads.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let permit = self.threads.permit().await?;
        let mut task = JoinSet::new();
        self.threads.spawn(&mut task, move || {
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
}

impl Drop for View {
    fn drop(&mut self) {
        let Work { rows, parts, cache_hits, cache_misses } = self.snapshot.work();
        cost::record(|cost| {
            cost.work.rows += rows;
            cost.work.parts += parts;
            cost.work.cache_hits += cache_hits;
            cost.work.cache_misses += cache_misses;
        });
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A walk through one shard.
pub(crate) struct Walk {
    snapshot: Arc<dyn Snapshot>,
    shard: u32,
    scan: Scan,
    memberships: Memberships,
    stop: Arc<AtomicBool>,
}

impl Walk {
    fn through_users<F: BatchFold>(mut self, mut fold: F) -> Result<F::Partial, QueryError> {
        let mut memberships = std::mem::take(&mut self.memberships);
        let mut cursor = self.snapshot.scan(self.shard, &self.scan)?;
        while let Some(batch) = cursor.next_users()? {
            self.check()?;
            let events = memberships.tell(&batch.events);
            fold.users(&batch.with(events))?;
        }
        Ok(fold.finish(memberships.dictionaries(cursor.dictionaries())))
    }

    fn through_events<F: EventFold>(mut self, mut fold: F) -> Result<F::Partial, QueryError> {
        let mut memberships = std::mem::take(&mut self.memberships);
        let mut cursor = self.snapshot.scan_events(self.shard, &self.scan)?;
        loop {
            self.check()?;
            if let Some(known) = fold.known()
                && cursor.pass_over(known)?
            {
                continue;
            }
            let Some(events) = cursor.next_events()? else { break };
            fold.events(&memberships.tell(&events))?;
        }
        Ok(fold.finish(memberships.dictionaries(cursor.dictionaries())))
    }

    /// The first and the last time of the events, or of their hours if the scan tells hours, whatever
    /// the conditions on them are.
    pub(crate) fn span<F: Fold<Partial = Span>>(mut self, _: F) -> Result<Span, QueryError> {
        self.scan.fields.clear();
        self.scan.numbers.clear();
        self.scan.wanted = Wanted::Ends;
        let mut cursor = self.snapshot.scan_events(self.shard, &self.scan)?;
        let mut span = None;
        while let Some(more) = cursor.next_span()? {
            self.check()?;
            F::merge(&mut span, more);
        }
        Ok(span)
    }

    /// Nobody waits for the answer of a stopped walk, so any error will do.
    fn check(&self) -> Result<(), QueryError> {
        if self.stop.load(Ordering::Relaxed) { Err(QueryError::Deadline) } else { Ok(()) }
    }
}

/// The next piece of work that is left.
fn next_of<T>(left: &Mutex<Vec<T>>) -> Option<T> {
    left.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// Whether all work has been begun.
fn are_begun<T>(left: &Mutex<Vec<T>>) -> bool {
    left.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// Leaves a result for the next walk to join, or joins it with the one that was left. Nobody
/// waits for a lock while results are joined.
fn join<F: Fold>(
    left: &Mutex<Option<F::Partial>>,
    mut partial: F::Partial,
) -> Result<(), QueryError> {
    loop {
        F::check(&partial)?;
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(other) = left.take() else {
            *left = Some(partial);
            return Ok(());
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
