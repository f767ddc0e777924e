//! Platform events: `POST /events`, `/events/async` and `/events/batch` with `id`, `user_id`,
//! `event_type`, `properties`, `timestamp` (whole seconds) and `source`.
//!
//! The same fields may come as a [`Message`]. Properties may hold any JSON, not only strings. A timestamp that is missing or 0 is the time of
//! arrival. Only [`one`] asks for an id and a type.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gristmill_model::{ErrorCode, Event, Origin, Timestamp, limits};
use thiserror::Error;

use super::draft::{Draft, Place};
use super::go::{self, GoError};
use super::json::{Kind, Reader};
use super::{BodyError, Context, Events, Rejection, body_text, check_count, message, time};

/// Why a request was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlatformError {
    /// It is not JSON, or a field has the wrong type: 400 with the text as `error`.
    #[error("Invalid JSON: {0}")]
    Json(String),
    /// The id or the type is missing or empty: 400 with the text as `message`.
    #[error("Event ID and type are required")]
    Required,
    /// It breaks a limit, or its time is none: 400 with the text as `message`.
    #[error("Failed to send event: {0}")]
    Refused(Rejection),
    /// The batch is too large: 413.
    #[error("{0}")]
    TooMany(BodyError),
}

impl From<GoError> for PlatformError {
    fn from(error: GoError) -> Self {
        PlatformError::Json(error.0)
    }
}

impl From<BodyError> for PlatformError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Invalid(message) => PlatformError::Json(message),
            BodyError::TooMany { .. } => PlatformError::TooMany(error),
        }
    }
}

impl From<Rejection> for PlatformError {
    fn from(rejection: Rejection) -> Self {
        match rejection.code {
            ErrorCode::InvalidBody => PlatformError::Json(rejection.message),
            _ => PlatformError::Refused(rejection),
        }
    }
}

/// The event of a body, which must have an id and a type.
pub fn one<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Event<'a>, PlatformError> {
    let draft = single(body)??;
    if draft.id.is_empty() || draft.event_type.is_empty() {
        return Err(PlatformError::Required);
    }
    Ok(draft.finish(ctx, 0)?)
}

/// The event of a body, whatever it lacks.
pub fn one_async<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Event<'a>, PlatformError> {
    Ok(single(body)??.finish(ctx, 0)?)
}

/// The events of a body `{"events": […]}`, in order; maybe none.
pub fn batch<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Events<'a>, PlatformError> {
    let mut reader = Reader::new(body_text(body)?);
    let mut events = Events::new();
    let mut count = 0;
    go::object(&mut reader, "", |reader, key| {
        let field = "BatchEventsRequest.events";
        if key != "events" {
            reader.skip()?;
            return Ok(());
        }
        events.clear();
        count = 0;
        if go::is_absent(reader, Kind::Array, field, "[]*Event")? {
            return Ok(());
        }
        reader.array(|reader| {
            if count < limits::BATCH_EVENTS {
                let draft = reader.rooted(draft)?;
                events.push(draft.and_then(|draft| draft.finish(ctx, count)));
            } else {
                reader.skip()?;
            }
            count += 1;
            Ok(())
        })
    })?;
    reader.end().map_err(GoError::from)?;
    check_count(count)?;
    Ok(events)
}

/// An event as its message says it. An empty text is absent.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names are those of the interface")]
pub struct Message<'a> {
    pub id: &'a str,
    pub user_id: &'a str,
    pub event_type: &'a str,
    pub properties: &'a BTreeMap<String, String>,
    /// Seconds since 1970; 0 is the time of arrival.
    pub timestamp: i64,
    pub source: &'a str,
}

/// The event of a message, which must have an id and a type.
pub fn one_message<'a>(
    message: &Message<'a>,
    ctx: &Context<'a>,
) -> Result<Event<'a>, PlatformError> {
    if message.id.is_empty() || message.event_type.is_empty() {
        return Err(PlatformError::Required);
    }
    Ok(batch_message(message, ctx, 0)?)
}

/// The event of a message at a place of a batch, whatever it lacks.
pub fn batch_message<'a>(
    message: &Message<'a>,
    ctx: &Context<'a>,
    index: usize,
) -> Result<Event<'a>, Rejection> {
    let mut draft = Draft::new(Origin::Platform);
    draft.id = Cow::Borrowed(message.id);
    draft.user = Cow::Borrowed(message.user_id);
    draft.event_type = Cow::Borrowed(message.event_type);
    draft.source = Cow::Borrowed(message.source);
    draft.properties = message::texts(message.properties, message.id, &mut draft.page)?;
    if message.timestamp != 0 {
        draft.time = time::seconds(message.timestamp);
        if draft.time.is_none() {
            return Err(no_time(draft.id));
        }
    }
    draft.finish(ctx, index)
}

type DraftResult<'a> = Result<Draft<'a>, Rejection>;

fn single(body: &[u8]) -> Result<DraftResult<'_>, PlatformError> {
    let mut reader = Reader::new(body_text(body)?);
    let draft = draft(&mut reader)?;
    reader.end().map_err(GoError::from)?;
    Ok(draft)
}

fn draft<'a>(reader: &mut Reader<'a>) -> Result<DraftResult<'a>, GoError> {
    let mut draft = Draft::new(Origin::Platform);
    let mut timestamp = None;
    go::object(reader, "", |reader, key| {
        match key {
            "id" => go::string(reader, "Event.id", &mut draft.id)?,
            "user_id" => go::string(reader, "Event.user_id", &mut draft.user)?,
            "event_type" => go::string(reader, "Event.event_type", &mut draft.event_type)?,
            "source" => go::string(reader, "Event.source", &mut draft.source)?,
            "timestamp" => timestamp = go::int64(reader, "Event.timestamp")?.or(timestamp),
            "properties" => {
                if !go::is_absent(reader, Kind::Object, "Event.properties", "map[string]string")? {
                    let text = draft.page.read_object(Place::Properties, reader)?;
                    draft.properties = Cow::Borrowed(text);
                }
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    if let Some(fault) = reader.take_fault() {
        return Ok(Err(Rejection::fault(&fault, draft.id)));
    }
    match timestamp.filter(|seconds| *seconds != 0).map(time::seconds) {
        Some(None) => Ok(Err(no_time(draft.id))),
        time => {
            draft.time = time.flatten();
            Ok(Ok(draft))
        }
    }
}

fn no_time(id: Cow<'_, str>) -> Rejection {
    let first = Timestamp::MIN.seconds();
    let message = format!("`timestamp` must be seconds since 1970, not below {first}");
    Rejection::event("/timestamp", message, id)
}
