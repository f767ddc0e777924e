//! User activities: `POST /activity` with `user_id`, `activity_type`, `timestamp` and `metadata`,
//! whose `page_url` is required and whose `referrer` is not.
//!
//! Activities have no id, so that the same bytes sent again are the same event. The metadata
//! becomes the properties, as it was sent.

use std::borrow::Cow;
use std::fmt;

use gristmill_model::{ErrorCode, Event, Origin};
use thiserror::Error;

use super::draft::{Draft, Place};
use super::go::{self, GoError};
use super::json::{Kind, Reader};
use super::{BodyError, Context, Rejection, body_text, time};

/// Why an activity was not taken. All are answered 400 with the text as `error`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ActivityError {
    /// It is not JSON, or a field has the wrong type.
    #[error("{0}")]
    Json(String),
    /// Required fields are missing or empty.
    #[error("{0}")]
    Missing(MissingFields),
    /// Its time cannot be read, or it breaks a limit.
    #[error("{0}")]
    Refused(Rejection),
}

/// The required fields that are missing or empty, in the order of the interface. The text has a
/// line for each, in the words that its clients know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFields(Vec<&'static str>);

impl MissingFields {
    /// The fields by their paths in the interface's own types, e.g. `Metadata.PageURL`.
    pub fn paths(&self) -> &[&'static str] {
        &self.0
    }
}

impl fmt::Display for MissingFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let field = path.rsplit('.').next().unwrap_or(path);
            write!(
                f,
                "{separator}Key: 'UserActivity.{path}' Error:Field validation for '{field}' \
                 failed on the 'required' tag"
            )?;
        }
        Ok(())
    }
}

impl From<GoError> for ActivityError {
    fn from(error: GoError) -> Self {
        ActivityError::Json(error.0)
    }
}

impl From<BodyError> for ActivityError {
    fn from(error: BodyError) -> Self {
        ActivityError::Json(error.to_string())
    }
}

impl From<Rejection> for ActivityError {
    fn from(rejection: Rejection) -> Self {
        match rejection.code {
            ErrorCode::InvalidBody => ActivityError::Json(rejection.message),
            _ => ActivityError::Refused(rejection),
        }
    }
}

/// The activity of a body.
pub fn one<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Event<'a>, ActivityError> {
    let mut reader = Reader::new(body_text(body)?);
    let mut draft = Draft::new(Origin::Activity);
    let mut timestamp = Cow::default();
    let mut page_url = Cow::default();
    go::object(&mut reader, "", |reader, key| {
        match key {
            "user_id" => go::string(reader, "UserActivity.user_id", &mut draft.user)?,
            "activity_type" => {
                go::string(reader, "UserActivity.activity_type", &mut draft.event_type)?;
            }
            "timestamp" => go::string(reader, "UserActivity.timestamp", &mut timestamp)?,
            "metadata" => {
                if let Some(text) = metadata(reader, &mut page_url)? {
                    draft.properties = Cow::Borrowed(text);
                }
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    reader.end().map_err(GoError::from)?;
    if let Some(fault) = reader.take_fault() {
        return Err(Rejection::fault(&fault, "").into());
    }
    let required: Vec<_> = [
        ("UserID", &draft.user),
        ("ActivityType", &draft.event_type),
        ("Timestamp", &timestamp),
        ("Metadata.PageURL", &page_url),
    ]
    .into_iter()
    .filter_map(|(path, value)| value.is_empty().then_some(path))
    .collect();
    if !required.is_empty() {
        return Err(ActivityError::Missing(MissingFields(required)));
    }
    draft.time = Some(time::parse(&timestamp).ok_or_else(no_time)?);
    draft.page.offer(Place::Event, 0, page_url);
    Ok(draft.finish(ctx, 0)?)
}

/// Reads the metadata, gives its text and takes its page.
fn metadata<'a>(
    reader: &mut Reader<'a>,
    page_url: &mut Cow<'a, str>,
) -> Result<Option<&'a str>, GoError> {
    if go::is_absent(reader, Kind::Object, "UserActivity.metadata", "Metadata")? {
        return Ok(None);
    }
    let start = reader.place();
    go::object(reader, "UserActivity.metadata", |reader, key| {
        match key {
            "page_url" => go::string(reader, "UserActivity.metadata.page_url", page_url)?,
            "referrer" => {
                go::string(reader, "UserActivity.metadata.referrer", &mut Cow::default())?;
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    let text = reader.text_since(start);
    // The same text again, for what must not be in properties; it is short and seldom.
    reader.back_to(start);
    reader.skip()?;
    Ok(Some(text))
}

fn no_time() -> Rejection {
    let message = "`timestamp` is no time: use RFC 3339 or an epoch number";
    Rejection::event("/timestamp", message, "")
}
