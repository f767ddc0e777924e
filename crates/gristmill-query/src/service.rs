//! The service behind every query route.

use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{
    Coded, ErrorCode, FunnelAnswer, FunnelQuery, PageCountQuery, Positions, SeriesAnswer,
    SeriesQuery, SummaryAnswer, SummaryQuery, TopAnswer, TopQuery, UserAnswer, UserQuery,
};
use gristmill_store::{Store, StoreError};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::fold::View;
use crate::{funnel, page_count, series, summary, top, user};

/// What an operator may set.
#[derive(Clone, Debug)]
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
    threads: Arc<Semaphore>,
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
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for QueryError {
    fn code(&self) -> ErrorCode {
        match self {
            QueryError::Invalid(_) => ErrorCode::InvalidArgument,
            QueryError::Deadline => ErrorCode::DeadlineExceeded,
            QueryError::Store(error) => error.code(),
        }
    }
}

impl Query {
    /// A service over a store.
    pub fn new(config: QueryConfig, store: Arc<dyn Store>) -> Self {
        let QueryConfig { threads, deadline } = config;
        let threads = Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS)));
        Self { store, deadline, threads }
    }

    /// Waits until everything below `positions` can be queried, until the deadline.
    pub async fn wait_for(&self, positions: &Positions) -> Result<(), QueryError> {
        let mut progress = self.store.watch();
        let covered = progress.wait_for(|progress| progress.committed.covers(positions));
        self.in_time(async { covered.await.map(drop).map_err(|_| StoreError::Closed.into()) }).await
    }

    /// Totals.
    pub async fn summary(&self, query: SummaryQuery) -> Result<SummaryAnswer, QueryError> {
        self.in_time(async { summary::answer(&self.view().await?, &query).await }).await
    }

    /// Values over time.
    pub async fn series(&self, query: SeriesQuery) -> Result<SeriesAnswer, QueryError> {
        self.in_time(async { series::answer(&self.view().await?, &query).await }).await
    }

    /// The most frequent values of a field.
    pub async fn top(&self, query: TopQuery) -> Result<TopAnswer, QueryError> {
        self.in_time(async { top::answer(&self.view().await?, &query).await }).await
    }

    /// One user.
    pub async fn user(&self, query: UserQuery) -> Result<UserAnswer, QueryError> {
        self.in_time(async { user::answer(&self.view().await?, &query).await }).await
    }

    /// How far users came through steps.
    pub async fn funnel(&self, query: FunnelQuery) -> Result<FunnelAnswer, QueryError> {
        self.in_time(async { funnel::answer(&self.view().await?, &query).await }).await
    }

    /// How many events a user made on a page.
    pub async fn page_count(&self, query: PageCountQuery) -> Result<u64, QueryError> {
        self.in_time(async { page_count::answer(&self.view().await?, &query).await }).await
    }

    async fn view(&self) -> Result<View, QueryError> {
        Ok(View::new(self.store.snapshot().await?, Arc::clone(&self.threads)))
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        timeout(self.deadline, answer).await.unwrap_or(Err(QueryError::Deadline))
    }
}
