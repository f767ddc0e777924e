//! Session events: `POST /events` with `sessionId`, `eventType`, `payload` (a JSON text in a
//! string) and maybe `eventId` and `ts`.
//!
//! The session is also the user. A payload that is the text of an object becomes the properties;
//! any other text becomes the property `payload`.

use std::borrow::Cow;

use gristmill_model::{ErrorCode, Event, Origin, Timestamp};
use thiserror::Error;

use super::draft::{Draft, Page, Place};
use super::json::{Kind, Reader, Syntax};
use super::{BodyError, Context, Rejection, body_text, time};

/// Why an event was not taken. All are answered 400.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SessionsError {
    /// It is not JSON, or a field has the wrong type.
    #[error("{0}")]
    Json(String),
    /// A required field is missing, empty or blank.
    #[error("`{0}` must not be blank")]
    Blank(&'static str),
    /// It breaks a limit.
    #[error("{0}")]
    Refused(Rejection),
}

impl From<BodyError> for SessionsError {
    fn from(error: BodyError) -> Self {
        SessionsError::Json(error.to_string())
    }
}

impl From<Syntax> for SessionsError {
    fn from(syntax: Syntax) -> Self {
        SessionsError::Json(syntax.to_string())
    }
}

impl From<Rejection> for SessionsError {
    fn from(rejection: Rejection) -> Self {
        match rejection.code {
            ErrorCode::InvalidBody => SessionsError::Json(rejection.message),
            _ => SessionsError::Refused(rejection),
        }
    }
}

/// The event of a body.
pub fn one<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Event<'a>, SessionsError> {
    let mut reader = Reader::new(body_text(body)?);
    let mut draft = Draft::new(Origin::Sessions);
    let mut payload = Payload::default();
    reader.expect_object("expected an event")?;
    reader.object(|reader, key| {
        match key.as_ref() {
            "eventId" => draft.id = text(reader, "eventId")?,
            "sessionId" => draft.session = text(reader, "sessionId")?,
            "eventType" => draft.event_type = text(reader, "eventType")?,
            "payload" => {
                reader.kind()?;
                let start = reader.place();
                payload.text = text(reader, "payload")?;
                payload.raw = reader.text_since(start);
            }
            "ts" => draft.time = ts(reader)?,
            _ => drop(reader.skip()?),
        }
        Ok::<_, SessionsError>(())
    })?;
    reader.end()?;
    if let Some(fault) = reader.take_fault() {
        return Err(Rejection::fault(&fault, draft.id).into());
    }
    for (field, value) in [
        ("sessionId", &draft.session),
        ("eventType", &draft.event_type),
        ("payload", &payload.text),
    ] {
        if value.trim().is_empty() {
            return Err(SessionsError::Blank(field));
        }
    }
    draft.user = draft.session.clone();
    draft.properties = payload.into_properties(&mut draft.page);
    Ok(draft.finish(ctx, 0)?)
}

/// The inner payload: its text, and the JSON that says it.
#[derive(Default)]
struct Payload<'a> {
    text: Cow<'a, str>,
    raw: &'a str,
}

impl<'a> Payload<'a> {
    fn into_properties(self, page: &mut Page<'a>) -> Cow<'a, str> {
        match object_page(&self.text) {
            Some(found) => {
                page.offer(Place::Payload, 0, Cow::Owned(found));
                self.text
            }
            None => Cow::Owned(format!("{{\"payload\":{}}}", self.raw)),
        }
    }
}

/// The page that the text of an object names, maybe empty; `None` if it is no object or one that
/// must not be taken as properties.
fn object_page(text: &str) -> Option<String> {
    let mut reader = Reader::new(text);
    if reader.kind().ok()? != Kind::Object {
        return None;
    }
    let mut page = Page::default();
    page.read_object(Place::Payload, &mut reader).ok()?;
    reader.end().ok()?;
    reader.take_fault().is_none().then(|| page.url.into_owned())
}

/// A string; other scalars stand for their text, as they always did here.
fn text<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<Cow<'a, str>, SessionsError> {
    match reader.kind()? {
        Kind::String => Ok(reader.string()?),
        Kind::Number | Kind::Bool => Ok(Cow::Borrowed(reader.skip()?)),
        Kind::Null => Ok(reader.skip().map(|_| Cow::default())?),
        Kind::Object | Kind::Array => {
            Err(SessionsError::Json(format!("`{field}` must be a string")))
        }
    }
}

fn ts(reader: &mut Reader<'_>) -> Result<Option<Timestamp>, SessionsError> {
    let time = match reader.kind()? {
        Kind::String => time::parse(&reader.string()?),
        Kind::Number => time::epoch(reader.number()?),
        Kind::Null => return Ok(reader.skip().map(|_| None)?),
        Kind::Bool | Kind::Object | Kind::Array => None,
    };
    time.map(Some).ok_or_else(|| SessionsError::Json("`ts` is no time".to_owned()))
}
