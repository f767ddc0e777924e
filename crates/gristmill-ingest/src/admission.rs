//! Admission: what is in flight is bounded by bytes, and the store may not fall far behind.
//!
//! The budget counts in KiB, rounded up, so that a request without a body costs something too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gristmill_log::EventLog;
use gristmill_model::{Coded, ErrorCode, Positions};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::IngestConfig;

/// The budget of bytes in flight.
pub struct Admission {
    log: Arc<dyn EventLog>,
    committed: Box<dyn Fn() -> Positions + Send + Sync>,
    budget: Arc<Budget>,
    paced_backlog_records: u64,
    max_backlog_records: u64,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    held: OwnedSemaphorePermit,
    bytes: usize,
}

/// Why a request was not admitted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdmitError {
    /// The server holds as many bytes as it may.
    #[error(
        "the server holds as many unanswered bytes as `ingest.max_in_flight_bytes` allows: \
         send again after {retry_after_seconds} s"
    )]
    Busy {
        /// When to come again.
        retry_after_seconds: u64,
    },
    /// The store is too far behind the log.
    #[error(
        "the store is more than `ingest.max_backlog_records` behind the log: \
         send again after {retry_after_seconds} s"
    )]
    Behind {
        /// When to come again.
        retry_after_seconds: u64,
    },
}

/// What admission has done, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionStats {
    /// Requests admitted.
    pub requests: u64,
    /// Bytes of their bodies, as sent, and what they grew by.
    pub bytes: u64,
    /// Requests refused, or not allowed to grow, because the budget was used up.
    pub refused_busy: u64,
    /// Requests refused because the store was behind.
    pub refused_behind: u64,
    /// Bytes in flight now, in steps of 1 KiB.
    pub in_flight_bytes: u64,
}

impl AdmitError {
    /// The value of the `Retry-After` header; at least 1.
    pub fn retry_after_seconds(&self) -> u64 {
        match self {
            AdmitError::Busy { retry_after_seconds }
            | AdmitError::Behind { retry_after_seconds } => *retry_after_seconds,
        }
    }
}

impl Coded for AdmitError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Overloaded
    }
}

/// What is in flight is answered within milliseconds, so a second is enough.
const BUSY: AdmitError = AdmitError::Busy { retry_after_seconds: 1 };
/// A store that is behind needs longer to come back below its bound.
const BEHIND: AdmitError = AdmitError::Behind { retry_after_seconds: 2 };

/// How long an append waits for the store at most, and between two looks at it.
const PACE_TIME: Duration = Duration::from_secs(1);
const PACE_STEP: Duration = Duration::from_millis(2);

impl Admission {
    /// An empty budget as configured.
    pub fn new(
        config: &IngestConfig,
        log: Arc<dyn EventLog>,
        committed: Box<dyn Fn() -> Positions + Send + Sync>,
    ) -> Self {
        let budget = Arc::new(Budget::new(config.max_in_flight_bytes));
        let (paced, max) = (config.paced_backlog_records, config.max_backlog_records);
        Self { log, committed, budget, paced_backlog_records: paced, max_backlog_records: max }
    }

    /// Waits while the store is somewhat behind, so that clients are slowed to its speed rather
    /// than refused. Ends after a second even so; refusing is left to [`admit`](Self::admit).
    pub async fn pace(&self) {
        let end = Instant::now() + PACE_TIME;
        while self.backlog() > self.paced_backlog_records && Instant::now() < end {
            sleep(PACE_STEP).await;
        }
    }

    fn backlog(&self) -> u64 {
        self.log.durable().records_since(&(self.committed)())
    }

    /// Takes `bytes` of the budget. Never waits.
    pub fn admit(&self, bytes: usize) -> Result<Permit, AdmitError> {
        let held = self.budget.take(kib(bytes))?;
        if self.backlog() > self.max_backlog_records {
            self.budget.refused_behind.fetch_add(1, Relaxed);
            return Err(BEHIND);
        }
        self.budget.requests.fetch_add(1, Relaxed);
        self.budget.bytes.fetch_add(bytes as u64, Relaxed);
        Ok(Permit { budget: Arc::clone(&self.budget), held, bytes })
    }

    /// What it has done so far.
    pub fn stats(&self) -> AdmissionStats {
        let budget = &self.budget;
        let in_flight = budget.total.saturating_sub(budget.free.available_permits());
        AdmissionStats {
            requests: budget.requests.load(Relaxed),
            bytes: budget.bytes.load(Relaxed),
            refused_busy: budget.refused_busy.load(Relaxed),
            refused_behind: budget.refused_behind.load(Relaxed),
            in_flight_bytes: in_flight as u64 * KIB as u64,
        }
    }
}

impl Permit {
    /// Takes `bytes` more, for example for what a body inflated to. On an error the permit holds
    /// what it held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), AdmitError> {
        let grown = self.bytes.saturating_add(bytes);
        let more = kib(grown) - self.held.num_permits();
        if more > 0 {
            self.held.merge(self.budget.take(more)?);
        }
        self.budget.bytes.fetch_add(bytes as u64, Relaxed);
        self.bytes = grown;
        Ok(())
    }
}

const KIB: usize = 1_024;

/// What `bytes` cost, in KiB.
fn kib(bytes: usize) -> usize {
    bytes.div_ceil(KIB).max(1)
}

#[derive(Debug)]
struct Budget {
    total: usize,
    free: Arc<Semaphore>,
    requests: AtomicU64,
    bytes: AtomicU64,
    refused_busy: AtomicU64,
    refused_behind: AtomicU64,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let total = (bytes / KIB).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            total,
            free: Arc::new(Semaphore::new(total)),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            refused_busy: AtomicU64::new(0),
            refused_behind: AtomicU64::new(0),
        }
    }

    fn take(&self, kib: usize) -> Result<OwnedSemaphorePermit, AdmitError> {
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(kib).map_err(|_| {
            self.refused_busy.fetch_add(1, Relaxed);
            BUSY
        })
    }
}
