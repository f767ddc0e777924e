//! Click events: `POST /ingest` with `event_id`, `user_id`, `event_type`, `page_url` and
//! `time_stamp`.
//!
//! The first four are required, as the interface always said. The answer is the event as it was
//! sent, for which an [`Echo`] comes with it.

use std::borrow::Cow;

use gristmill_model::{ErrorCode, Event, Origin};
use serde::Serialize;
use thiserror::Error;

use super::draft::{Draft, Place};
use super::go::{self, GoError};
use super::json::{Kind, Reader};
use super::{BodyError, Context, Rejection, body_text, time};

/// One click, and what to answer.
#[derive(Clone, Debug)]
pub struct Click<'a> {
    /// The event.
    pub event: Event<'a>,
    /// The event in the words of its client.
    pub echo: Echo<'a>,
}

/// The answer to a click: these fields as JSON, in this order, and a line feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are those of the interface")]
pub struct Echo<'a> {
    pub event_id: Cow<'a, str>,
    pub user_id: Cow<'a, str>,
    pub event_type: Cow<'a, str>,
    pub page_url: Cow<'a, str>,
    /// As the client wrote it; the time of arrival in RFC 3339 if it gave none.
    pub time_stamp: Cow<'a, str>,
}

/// Why a click was not taken. All are answered 400 with the error's text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClicksError {
    /// It is not JSON, a field has the wrong type, or its time cannot be read.
    #[error("invalid json body")]
    InvalidJson,
    /// A required field is missing or empty.
    #[error("missing required field: {0}")]
    Missing(&'static str),
    /// It breaks a limit.
    #[error("{0}")]
    Refused(Rejection),
}

impl From<GoError> for ClicksError {
    fn from(_: GoError) -> Self {
        ClicksError::InvalidJson
    }
}

impl From<BodyError> for ClicksError {
    fn from(_: BodyError) -> Self {
        ClicksError::InvalidJson
    }
}

/// The click of a body.
pub fn one<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Click<'a>, ClicksError> {
    let mut reader = Reader::new(body_text(body)?);
    let mut draft = Draft::new(Origin::Clicks);
    let mut page_url = Cow::default();
    let mut time_stamp = None;
    go::object(&mut reader, "", |reader, key| {
        match key {
            "event_id" => go::string(reader, "event_id", &mut draft.id)?,
            "user_id" => go::string(reader, "user_id", &mut draft.user)?,
            "event_type" => go::string(reader, "event_type", &mut draft.event_type)?,
            "page_url" => go::string(reader, "page_url", &mut page_url)?,
            "time_stamp" => {
                if !go::is_absent(reader, Kind::String, "time_stamp", "time.Time")? {
                    time_stamp = Some(reader.string()?);
                }
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    reader.end().map_err(GoError::from)?;
    if let Some(fault) = reader.take_fault() {
        return Err(refused(Rejection::fault(&fault, draft.id)));
    }
    for (field, value) in [
        ("event_id", &draft.id),
        ("user_id", &draft.user),
        ("event_type", &draft.event_type),
        ("page_url", &page_url),
    ] {
        if value.is_empty() {
            return Err(ClicksError::Missing(field));
        }
    }
    if let Some(text) = &time_stamp {
        draft.time = Some(time::rfc3339(text).ok_or(ClicksError::InvalidJson)?);
    }
    let echo = Echo {
        event_id: draft.id.clone(),
        user_id: draft.user.clone(),
        event_type: draft.event_type.clone(),
        page_url: page_url.clone(),
        time_stamp: time_stamp.unwrap_or_else(|| Cow::Owned(ctx.received.to_string())),
    };
    draft.page.offer(Place::Event, 0, page_url);
    let event = draft.finish(ctx, 0).map_err(refused)?;
    Ok(Click { event, echo })
}

fn refused(rejection: Rejection) -> ClicksError {
    match rejection.code {
        ErrorCode::InvalidBody => ClicksError::InvalidJson,
        _ => ClicksError::Refused(rejection),
    }
}
