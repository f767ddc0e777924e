//! The dialects: each turns the bytes of a request into events that borrow from them.
//!
//! Every dialect reads the body once, with the same reader, and ends in the same checks, so that
//! a limit or a rule holds for all of them. Nothing in an event can set its project, its time of
//! arrival or its place in the log.
//!
//! # When a repeated request is the same event
//!
//! An event is named by (project, user, id). A client that gives each event an id may repeat it at
//! will: it counts once. An event that comes without an id, or with an empty one, gets one:
//!
//! - **It tells its own time.** The id is derived from the project, the dialect, the user, the
//!   session, the type, the time, the source, the page and the bytes of its properties. The same
//!   bytes sent again are the same event. So are two events that a client meant to be two, if they
//!   agree in all of this: such a client should give ids, or times fine enough.
//! - **The request has an `Idempotency-Key`.** The key and the event's place in the request are
//!   part of what the id is derived from, and the event's own time only if it has one. The same
//!   request sent again under the same key is the same events; equal events of one request are
//!   different events.
//! - **Neither.** The id is random, in the order of arrival, and each request is a new event.
//!
//! Properties are compared as bytes: other whitespace or another order of keys is another event.
//! A time is compared as the moment it means, however it is written.

pub mod activity;
pub mod clicks;
mod draft;
mod events_post;
mod foreign;
mod go;
mod json;
pub mod message;
pub mod native;
mod options;
pub mod platform;
pub mod sessions;
mod time;
mod typed;

use gristmill_model::{Coded, Entropy, ErrorCode, Event, ProjectId, Timestamp, limits};
use thiserror::Error;

pub use events_post::{EventsPost, events_post};
pub use foreign::foreign;
pub use options::{Options, Until};

/// The time that a text says: RFC 3339 with any offset, or an epoch number in seconds,
/// milliseconds or microseconds. What events may say, parameters of questions may say too.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    time::parse(text)
}

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
    /// `InvalidEvent`; or `InvalidBody` where the JSON of this one event is at fault (a key twice,
    /// half a surrogate pair, an infinite number, a line of NDJSON that is no JSON).
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

impl From<json::Syntax> for BodyError {
    fn from(syntax: json::Syntax) -> Self {
        BodyError::Invalid(syntax.to_string())
    }
}

/// Refuses what no dialect can be: nothing at all, or text of another encoding.
fn check_start(body: &[u8]) -> Result<(), BodyError> {
    let why = match body {
        [] => "the body is empty",
        [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => {
            "the body starts with a byte order mark: send UTF-8 without one"
        }
        _ => return Ok(()),
    };
    Err(BodyError::Invalid(why.to_owned()))
}

/// The text of a body.
fn body_text(body: &[u8]) -> Result<&str, BodyError> {
    check_start(body)?;
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        BodyError::Invalid(format!("the body is not UTF-8: byte {at} begins no character"))
    })
}

/// Refuses a batch of more events than a request may hold.
fn check_count(count: usize) -> Result<(), BodyError> {
    let limit = limits::BATCH_EVENTS;
    if count > limit { Err(BodyError::TooMany { count, limit }) } else { Ok(()) }
}
