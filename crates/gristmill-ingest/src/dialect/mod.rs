//! The dialects: each turns the bytes of a request into events that borrow from them.

use gristmill_model::{Coded, Entropy, ErrorCode, Event, ProjectId, Timestamp};
use thiserror::Error;

/// The facts of a request that its events need.
pub struct Context<'a> {
    /// The project, decided by the server.
    pub project: ProjectId<'a>,
    /// When the request came.
    pub received: Timestamp,
    /// The `Idempotency-Key` header, if any: makes derived ids the same for a repeated request.
    pub idempotency_key: Option<&'a str>,
    /// For ids that cannot be derived.
    pub entropy: &'a dyn Entropy,
}

/// The events of a request, each decoded or rejected, in order.
pub type Events<'a> = Vec<Result<Event<'a>, Rejection>>;

/// Why one event was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Rejection {
    /// What kind of error; `InvalidEvent` natively.
    pub code: ErrorCode,
    /// The field at fault as a JSON pointer, e.g. `/timestamp`; empty for the event as a whole.
    pub pointer: &'static str,
    /// What is wrong and what to do, in a sentence.
    pub message: String,
    /// The event's id, if it could be read.
    pub id: String,
}

/// Why a whole body was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// It is not JSON, or not of the shape that the route takes.
    #[error("{0}")]
    Invalid(String),
    /// It holds more events than a request may.
    #[error("the batch holds {count} events, more than {limit}: split it")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

impl Coded for BodyError {
    fn code(&self) -> ErrorCode {
        match self {
            BodyError::Invalid(_) => ErrorCode::InvalidBody,
            BodyError::TooMany { .. } => ErrorCode::TooLarge,
        }
    }
}
