//! The service behind every query route.

use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{
    Coded, ErrorCode, FunnelAnswer, FunnelQuery, PageCountQuery, Positions, SeriesAnswer,
    SeriesQuery, SummaryAnswer, SummaryQuery, TopAnswer, TopQuery, UserAnswer, UserQuery,
};
use gristmill_store::{Store, StoreError};
use thiserror::Error;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct QueryConfig {
    /// How many threads answer queries together.
    pub threads: usize,
    /// How long one query may take.
    pub deadline: Duration,
}

/// Answers questions.
pub struct Query {
    store: Arc<dyn Store>,
    config: QueryConfig,
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
        Self { store, config }
    }

    /// Waits until everything below `positions` can be queried, until the deadline.
    pub async fn wait_for(&self, positions: &Positions) -> Result<(), QueryError> {
        let _ = (positions, &self.store, &self.config);
        Err(QueryError::Deadline)
    }

    /// Totals.
    pub async fn summary(&self, query: SummaryQuery) -> Result<SummaryAnswer, QueryError> {
        let _ = query;
        Err(QueryError::Deadline)
    }

    /// Values over time.
    pub async fn series(&self, query: SeriesQuery) -> Result<SeriesAnswer, QueryError> {
        let _ = query;
        Err(QueryError::Deadline)
    }

    /// The most frequent values of a field.
    pub async fn top(&self, query: TopQuery) -> Result<TopAnswer, QueryError> {
        let _ = query;
        Err(QueryError::Deadline)
    }

    /// One user.
    pub async fn user(&self, query: UserQuery) -> Result<UserAnswer, QueryError> {
        let _ = query;
        Err(QueryError::Deadline)
    }

    /// How far users came through steps.
    pub async fn funnel(&self, query: FunnelQuery) -> Result<FunnelAnswer, QueryError> {
        let _ = query;
        Err(QueryError::Deadline)
    }

    /// How many events a user made on a page.
    pub async fn page_count(&self, query: PageCountQuery) -> Result<u64, QueryError> {
        let _ = query;
        Err(QueryError::Deadline)
    }
}
