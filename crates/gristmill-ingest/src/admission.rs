//! Admission: what is in flight is bounded by bytes, and the store may not fall far behind.

use std::sync::Arc;

use gristmill_log::EventLog;
use gristmill_model::{Coded, ErrorCode, Positions};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;

use crate::IngestConfig;

/// The budget of bytes in flight.
pub struct Admission {
    log: Arc<dyn EventLog>,
    committed: Box<dyn Fn() -> Positions + Send + Sync>,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _held: Option<OwnedSemaphorePermit>,
}

/// Why a request was not admitted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdmitError {
    /// The server holds as many bytes as it may.
    #[error("the server holds as many unanswered bytes as `ingest.max_in_flight_bytes` allows: send again after {retry_after_seconds} s")]
    Busy {
        /// When to come again.
        retry_after_seconds: u64,
    },
    /// The store is too far behind the log.
    #[error("the store is more than `ingest.max_backlog_records` behind the log: send again after {retry_after_seconds} s")]
    Behind {
        /// When to come again.
        retry_after_seconds: u64,
    },
}

impl AdmitError {
    /// The value of the `Retry-After` header.
    pub fn retry_after_seconds(&self) -> u64 {
        match self {
            AdmitError::Busy { retry_after_seconds } | AdmitError::Behind { retry_after_seconds } => {
                *retry_after_seconds
            }
        }
    }
}

impl Coded for AdmitError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Overloaded
    }
}

impl Admission {
    /// An empty budget as configured.
    pub fn new(
        _config: &IngestConfig,
        log: Arc<dyn EventLog>,
        committed: Box<dyn Fn() -> Positions + Send + Sync>,
    ) -> Self {
        Self { log, committed }
    }

    /// Takes `bytes` of the budget.
    pub fn admit(&self, _bytes: usize) -> Result<Permit, AdmitError> {
        let _behind = self.log.durable().records_since(&(self.committed)());
        Ok(Permit { _held: None })
    }
}

impl Permit {
    /// Takes `bytes` more.
    pub fn grow(&mut self, _bytes: usize) -> Result<(), AdmitError> {
        Ok(())
    }
}
