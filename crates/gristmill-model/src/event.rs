//! An event: something a user did at a time.

use std::borrow::Cow;

use crate::{EventId, ProjectId, SessionId, Timestamp, UserId};

/// One event, decoded and valid. It may borrow from the request or the log record it came from.
///
/// Its identity is (project, user, event id): two events that agree in these are one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The project it belongs to; decided by the server, never by the event.
    pub project: ProjectId<'a>,
    /// Names the event within its project and user.
    pub id: EventId<'a>,
    /// Who did it. Empty for events that name nobody.
    pub user: UserId<'a>,
    /// The session it was part of, where the client tells one.
    pub session: Option<SessionId<'a>>,
    /// What was done, as the client calls it.
    pub event_type: Cow<'a, str>,
    /// When it happened, as the client says.
    pub time: Timestamp,
    /// When the server took it in.
    pub received: Timestamp,
    /// The application that sent it; empty if unknown.
    pub source: Cow<'a, str>,
    /// The page it happened on; empty if none.
    pub page_url: Cow<'a, str>,
    /// The dialect it came in.
    pub origin: Origin,
    /// Everything else: the text of a JSON object, kept as it was sent.
    pub properties: Cow<'a, str>,
}

impl Event<'_> {
    /// The text of `properties` for an event that has none.
    pub const NO_PROPERTIES: &'static str = "{}";

    /// The same event owning all its texts.
    pub fn into_owned(self) -> Event<'static> {
        Event {
            project: self.project.into_owned(),
            id: self.id.into_owned(),
            user: self.user.into_owned(),
            session: self.session.map(SessionId::into_owned),
            event_type: Cow::Owned(self.event_type.into_owned()),
            time: self.time,
            received: self.received,
            source: Cow::Owned(self.source.into_owned()),
            page_url: Cow::Owned(self.page_url.into_owned()),
            origin: self.origin,
            properties: Cow::Owned(self.properties.into_owned()),
        }
    }
}

/// The dialect that an event came in. The numbers are on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// The native API, `/v1/events`.
    Native = 0,
    /// Click events, `POST /ingest`.
    Clicks = 1,
    /// Platform events, `POST /events` with `id`.
    Platform = 2,
    /// User activities, `POST /activity`.
    Activity = 3,
    /// Session events, `POST /events` with `sessionId`.
    Sessions = 4,
}

impl Origin {
    /// Every origin, in the order of their numbers.
    pub const ALL: [Origin; 5] =
        [Origin::Native, Origin::Clicks, Origin::Platform, Origin::Activity, Origin::Sessions];

    /// The origin with this number on disk, if there is one.
    pub fn from_number(number: u8) -> Option<Origin> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number on disk.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The name in queries and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Native => "native",
            Origin::Clicks => "clicks",
            Origin::Platform => "platform",
            Origin::Activity => "activity",
            Origin::Sessions => "sessions",
        }
    }
}
