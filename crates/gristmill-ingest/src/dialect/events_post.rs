//! `POST /events`, which two dialects share: an event is told by its fields.

use gristmill_model::Event;

use super::json::{Reader, Syntax};
use super::platform::{self, PlatformError};
use super::sessions::{self, SessionsError};
use super::{Context, body_text};

/// An event of `POST /events`, in the dialect that it was written in and must be answered in.
#[derive(Debug)]
pub enum EventsPost<'a> {
    /// A platform event; also whatever is neither.
    Platform(Result<Event<'a>, PlatformError>),
    /// A session event: it has `sessionId`, `eventType` or `payload`, and neither `id` nor
    /// `event_type`.
    Sessions(Result<Event<'a>, SessionsError>),
}

/// The event of a body.
pub fn events_post<'a>(body: &'a [u8], ctx: &Context<'a>) -> EventsPost<'a> {
    if body_text(body).is_ok_and(is_session_event) {
        EventsPost::Sessions(sessions::one(body, ctx))
    } else {
        EventsPost::Platform(platform::one(body, ctx))
    }
}

/// Tells by the keys, of a broken text by those before the break.
fn is_session_event(text: &str) -> bool {
    let (mut platform, mut sessions) = (false, false);
    let _: Result<(), Syntax> = Reader::new(text).object(|reader, key| {
        platform |= matches!(key.as_ref(), "id" | "event_type");
        sessions |= matches!(key.as_ref(), "sessionId" | "eventType" | "payload");
        reader.skip().map(drop)
    });
    sessions && !platform
}
