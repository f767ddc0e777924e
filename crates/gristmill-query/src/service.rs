//! The service behind every query route.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::{
    Coded, CohortAnswer, CohortDefinition, CohortQuery, ComparedSummary, ErrorCode,
    EventMetricsAnswer, EventMetricsQuery, Field, FunnelAnswer, FunnelQuery, FunnelUsersAnswer,
    FunnelUsersQuery, LifecycleAnswer, LifecycleQuery, PageCountQuery, PathsAnswer, PathsQuery,
    Positions, RetentionAnswer, RetentionQuery, SeriesAnswer, SeriesQuery, SessionsAnswer,
    SessionsQuery, StickinessAnswer, StickinessQuery, SummaryAnswer, SummaryQuery, TopAnswer,
    TopQuery, UserAnswer, UserListAnswer, UserListQuery, UserQuery,
};
use gristmill_store::cache::Cache;
use gristmill_store::{Store, StoreError};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::answers::{AnswerStats, Answers};
use crate::cohort::{self, Cohorts, QuestionCohorts};
use crate::fold::View;
use crate::threads::Threads;
use crate::{
    Cost, Kept, cost, event_metrics, funnel, kept, lifecycle, page_count, paths, retention, series,
    sessions, stickiness, summary, top, user, users,
};

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct QueryConfig {
    /// How many threads answer queries together.
    pub threads: usize,
    /// How long one query may take.
    pub deadline: Duration,
}

/// Answers questions. Dropping the future of an answer ends the work for it.
pub struct Query {
    store: Arc<dyn Store>,
    deadline: Duration,
    threads: Arc<Threads>,
    cohorts: Option<Arc<dyn Cohorts>>,
    answers: Option<Answers>,
}

/// Why a question was not answered.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The question makes no sense; names the parameter.
    #[error("{0}")]
    Invalid(String),
    /// It took too long.
    #[error("the query took longer than `query.deadline`: ask for a shorter range")]
    Deadline,
    /// What it is to include was not settled in time.
    #[error("the events up to `at_least` were not settled within `query.deadline`: ask again")]
    NotSettled,
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QueryError {
    /// The same about a question, with the place of the mistake.
    pub(crate) fn in_condition_on(self, field: &Field) -> Self {
        match self {
            QueryError::Invalid(what) => {
                QueryError::Invalid(format!("{what}, in the condition on `{}`", field.name()))
            }
            other => other,
        }
    }
}

impl Coded for QueryError {
    fn code(&self) -> ErrorCode {
        match self {
            QueryError::Invalid(_) => ErrorCode::InvalidArgument,
            QueryError::Deadline | QueryError::NotSettled => ErrorCode::DeadlineExceeded,
            QueryError::Store(error) => error.code(),
        }
    }
}

impl Query {
    /// A service over a store.
    pub fn new(config: QueryConfig, store: Arc<dyn Store>) -> Self {
        let QueryConfig { threads, deadline } = config;
        let threads = Arc::new(Threads::new(threads));
        Self { store, deadline, threads, cohorts: None, answers: None }
    }

    /// The same with saved cohorts, which filters may then ask for.
    pub fn with_cohorts(self, cohorts: Arc<dyn Cohorts>) -> Self {
        Self { cohorts: Some(cohorts), ..self }
    }

    /// The same with a cache for answers. It is used where the store tells versions.
    pub fn with_cache(self, cache: Arc<dyn Cache>) -> Self {
        Self { answers: Some(Answers::new(cache)), ..self }
    }

    /// How often answers were kept, if there is a cache.
    pub fn answer_stats(&self) -> Option<AnswerStats> {
        self.answers.as_ref().map(Answers::stats)
    }

    /// Gives the text that answers a request, kept or worked out by `work`, which asks what it has
    /// to ask of this service and tells the cost of it. `question` says everything that the text
    /// follows from, beside the store, and begins with the project. An error is whatever `work`
    /// gives that may not be kept.
    pub async fn text<E, W>(&self, question: &[u8], work: impl Fn() -> W) -> Result<Kept, E>
    where
        W: Future<Output = Result<(Bytes, Cost), E>>,
    {
        kept::text(&*self.store, self.answers.as_ref(), question, work).await
    }

    /// Waits until everything below `positions` can be queried, until the deadline.
    pub async fn wait_for(&self, positions: &Positions) -> Result<(), QueryError> {
        let mut progress = self.store.watch();
        let covered = progress.wait_for(|progress| progress.committed.covers(positions));
        let since = Instant::now();
        let waited = timeout(self.deadline, covered).await;
        cost::record(|cost| cost.waited += since.elapsed());
        waited.map_err(|_| QueryError::NotSettled)?.map_err(|_| StoreError::Closed)?;
        Ok(())
    }

    /// Totals.
    pub async fn summary(&self, query: SummaryQuery) -> Result<SummaryAnswer, QueryError> {
        self.in_time(async { summary::answer(&self.view().await?, &query).await }).await
    }

    /// Totals, and the event types of the range before.
    pub async fn compared_summary(
        &self,
        query: SummaryQuery,
    ) -> Result<ComparedSummary, QueryError> {
        self.in_time(async { summary::compared(&self.view().await?, &query).await }).await
    }

    /// Values over time.
    pub async fn series(&self, query: SeriesQuery) -> Result<SeriesAnswer, QueryError> {
        self.in_time(async { series::answer(&self.view().await?, &query).await }).await
    }

    /// The most frequent values of a field.
    pub async fn top(&self, query: TopQuery) -> Result<TopAnswer, QueryError> {
        self.in_time(async { top::answer(&self.view().await?, &query).await }).await
    }

    /// What the metrics that events carry come to.
    pub async fn event_metrics(
        &self,
        query: EventMetricsQuery,
    ) -> Result<EventMetricsAnswer, QueryError> {
        self.in_time(async { event_metrics::answer(&self.view().await?, &query).await }).await
    }

    /// One user.
    pub async fn user(&self, query: UserQuery) -> Result<UserAnswer, QueryError> {
        // What is so at one moment need not be so at the next.
        cost::record(|cost| cost.basis.add(None));
        self.in_time(async { user::answer(&self.view().await?, &query).await }).await
    }

    /// A list of users.
    pub async fn users(&self, query: UserListQuery) -> Result<UserListAnswer, QueryError> {
        self.in_time(async { users::answer(&self.view().await?, &query).await }).await
    }

    /// On how many days of a period users come.
    pub async fn stickiness(&self, query: StickinessQuery) -> Result<StickinessAnswer, QueryError> {
        self.in_time(async { stickiness::answer(&self.view().await?, &query).await }).await
    }

    /// How users come, stay, go and come back.
    pub async fn lifecycle(&self, query: LifecycleQuery) -> Result<LifecycleAnswer, QueryError> {
        self.in_time(async { lifecycle::answer(&self.view().await?, &query).await }).await
    }

    /// How many users came back.
    pub async fn retention(&self, query: RetentionQuery) -> Result<RetentionAnswer, QueryError> {
        self.in_time(async { retention::answer(&self.view().await?, &query).await }).await
    }

    /// How far users came through steps.
    pub async fn funnel(&self, query: FunnelQuery) -> Result<FunnelAnswer, QueryError> {
        self.in_time(async { funnel::answer(&self.view().await?, &query).await }).await
    }

    /// How many sessions there are, and what they are like.
    pub async fn sessions(&self, query: SessionsQuery) -> Result<SessionsAnswer, QueryError> {
        self.in_time(async { sessions::answer(&self.view().await?, &query).await }).await
    }

    /// The most frequent steps after or before an event.
    pub async fn paths(&self, query: PathsQuery) -> Result<PathsAnswer, QueryError> {
        self.in_time(async { paths::answer(&self.view().await?, &query).await }).await
    }

    /// Who reached a step of a funnel.
    pub async fn funnel_users(
        &self,
        query: FunnelUsersQuery,
    ) -> Result<FunnelUsersAnswer, QueryError> {
        self.in_time(async { funnel::users(&self.view().await?, &query).await }).await
    }

    /// How many events a user made on a page.
    pub async fn page_count(&self, query: PageCountQuery) -> Result<u64, QueryError> {
        self.in_time(async {
            match page_count::look_up(&*self.store, self.answers.as_ref(), &query).await? {
                Some(count) => Ok(count),
                None => page_count::answer(&self.view().await?, &query).await,
            }
        })
        .await
    }

    /// Who belongs to a cohort.
    pub async fn cohort(&self, query: CohortQuery) -> Result<CohortAnswer, QueryError> {
        self.in_time(async { cohort::answer(&self.view().await?, query).await }).await
    }

    /// Makes sure that a definition can be asked for: that its filters can be read, are not too
    /// many, and ask for no cohort.
    pub fn check_cohort(&self, definition: &CohortDefinition) -> Result<(), QueryError> {
        cohort::check(definition)
    }

    async fn view(&self) -> Result<View, QueryError> {
        let view = View::new(self.store.snapshot().await?, Arc::clone(&self.threads));
        Ok(view.with_cohorts(QuestionCohorts::of(self.cohorts.clone())))
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let since = Instant::now();
        let answer = timeout(self.deadline, answer).await.unwrap_or(Err(QueryError::Deadline));
        cost::record(|cost| cost.answered += since.elapsed());
        answer
    }
}

#[cfg(test)]
mod tests {
    use gristmill_model::Partition;
    use gristmill_store::MemoryStore;

    use super::*;
    use crate::testing::{all, batch, event};

    fn service(store: &Arc<MemoryStore>, deadline: Duration) -> Query {
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        Query::new(QueryConfig { threads: 0, deadline }, store)
    }

    #[tokio::test]
    async fn waiting_ends_when_the_positions_are_covered() {
        let store = Arc::new(MemoryStore::new(1));
        let query = service(&store, Duration::from_secs(60));
        let token: Positions = [(Partition(0), 2)].into_iter().collect();
        query.wait_for(&Positions::start()).await.unwrap();
        let commits = async {
            for id in 0..2 {
                store.commit(batch(id, &[event("a", id.to_string(), 1)])).await.unwrap();
            }
        };
        // The wait is polled first, so it begins before the commits.
        let (waited, ()) = tokio::join!(query.wait_for(&token), commits);
        waited.unwrap();
        let answer = query.summary(SummaryQuery { selection: all() }).await.unwrap();
        assert_eq!(answer.total_events, 2);
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline() {
        let query = service(&Arc::new(MemoryStore::new(1)), Duration::from_millis(10));
        let token: Positions = [(Partition(0), 1)].into_iter().collect();
        let error = query.wait_for(&token).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
        assert!(error.to_string().contains("`at_least`"), "{error}");
    }

    #[tokio::test]
    async fn answering_ends_at_the_deadline() {
        let query = service(&Arc::new(MemoryStore::new(1)), Duration::from_millis(10));
        let error = query.in_time(std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
        assert!(error.to_string().contains("shorter range"), "{error}");
    }

    #[test]
    fn answers_can_be_awaited_on_any_thread() {
        fn sendable<T: Send>(_: T) {}
        let query = service(&Arc::new(MemoryStore::new(1)), Duration::ZERO);
        sendable(query.summary(SummaryQuery { selection: all() }));
        sendable(query.wait_for(&Positions::start()));
    }
}
