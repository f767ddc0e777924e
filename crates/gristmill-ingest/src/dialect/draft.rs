//! What every dialect comes down to: a draft of an event, checked and given its id.

use std::borrow::Cow;
use std::hash::Hasher;

use gristmill_model::{ErrorCode, Event, EventId, Origin, SessionId, Timestamp, UserId, limits};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::json::{Fault, Kind, Reader, Syntax};
use super::{Context, Rejection};

/// An event as its client told it.
pub(super) struct Draft<'a> {
    pub(super) origin: Origin,
    /// Empty if the client gave none.
    pub(super) id: Cow<'a, str>,
    pub(super) user: Cow<'a, str>,
    /// Empty if there is none.
    pub(super) session: Cow<'a, str>,
    pub(super) event_type: Cow<'a, str>,
    /// The client's own time, if it gave one.
    pub(super) time: Option<Timestamp>,
    pub(super) source: Cow<'a, str>,
    pub(super) page: Page<'a>,
    pub(super) properties: Cow<'a, str>,
}

impl<'a> Draft<'a> {
    /// A draft that says nothing.
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            id: Cow::default(),
            user: Cow::default(),
            session: Cow::default(),
            event_type: Cow::default(),
            time: None,
            source: Cow::default(),
            page: Page::default(),
            properties: Cow::Borrowed(Event::NO_PROPERTIES),
        }
    }

    /// The event, if it keeps the limits. `index` is its place in the request.
    pub(super) fn finish(self, ctx: &Context<'a>, index: usize) -> Result<Event<'a>, Rejection> {
        if let Err((pointer, message)) = self.check() {
            return Err(Rejection::event(pointer, message, self.id));
        }
        let mut time = self.time.unwrap_or(ctx.received);
        if time.since(ctx.received) > limits::FUTURE_MICROS {
            if self.origin == Origin::Native {
                let message = "`timestamp` lies more than 24 hours ahead of the server's clock";
                return Err(Rejection::event("/timestamp", message, self.id));
            }
            time = ctx.received;
        }
        let id = if self.id.is_empty() { Cow::Owned(self.missing_id(ctx, index)) } else { self.id };
        Ok(Event {
            project: ctx.project.clone(),
            id: EventId::new(id),
            user: UserId::new(self.user),
            session: (!self.session.is_empty()).then(|| SessionId::new(self.session)),
            event_type: self.event_type,
            time,
            received: ctx.received,
            source: self.source,
            page_url: self.page.url,
            origin: self.origin,
            properties: self.properties,
        })
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        name(&self.id, "/id", limits::EVENT_ID_BYTES)?;
        name(&self.user, "/user_id", limits::USER_ID_BYTES)?;
        name(&self.session, "/session_id", limits::USER_ID_BYTES)?;
        name(&self.event_type, "/event_type", limits::EVENT_TYPE_BYTES)?;
        text(&self.source, "/source", limits::SOURCE_BYTES)?;
        text(&self.page.url, "/page_url", limits::PAGE_URL_BYTES)?;
        length(&self.properties, "/properties", limits::PROPERTIES_BYTES)
    }

    /// An id for an event without one: see the documentation of [`super`].
    fn missing_id(&self, ctx: &Context<'_>, index: usize) -> String {
        let key = ctx.idempotency_key.filter(|key| !key.is_empty());
        if key.is_none() && self.time.is_none() {
            return uuid(7, time_ordered(ctx.received, ctx.entropy.next_u128()));
        }
        // These bytes and the hash's zero key are for ever: they decide what is a repetition.
        let mut hasher = SipHasher13::new();
        let time = self.time.map_or(String::new(), |time| time.0.to_string());
        let place = key.map_or(String::new(), |_| index.to_string());
        for part in [
            ctx.project.as_str(),
            self.origin.as_str(),
            &self.user,
            &self.session,
            &self.event_type,
            &time,
            &self.source,
            &self.page.url,
            &self.properties,
            key.unwrap_or_default(),
            &place,
        ] {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part.as_bytes());
        }
        uuid(8, hasher.finish128().as_u128())
    }
}

/// The page of an event: the first that is found of `page_url`, `url`, `page` and `path`, in the
/// event itself, then in its payload, then in its properties.
#[derive(Default)]
pub(super) struct Page<'a> {
    pub(super) url: Cow<'a, str>,
    rank: Option<(Place, u8)>,
}

/// Where a page may stand, the best place first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Event,
    Payload,
    Properties,
}

impl<'a> Page<'a> {
    /// How good a name for a page a key is, 0 being the best; `None` if it is none.
    pub(super) fn rank(key: &str) -> Option<u8> {
        match key {
            "page_url" | "pageUrl" => Some(0),
            "url" => Some(1),
            "page" => Some(2),
            "path" => Some(3),
            _ => None,
        }
    }

    /// Takes a page unless it is empty or a better one is known. Only what the client names its
    /// event's `page_url` is taken whatever it is, and refused later if it cannot be kept.
    pub(super) fn offer(&mut self, place: Place, rank: u8, url: Cow<'a, str>) {
        let named = (place, rank) == (Place::Event, 0);
        let better = self.rank.is_none_or(|known| (place, rank) < known);
        if better && !url.is_empty() && (named || text(&url, "", limits::PAGE_URL_BYTES).is_ok()) {
            self.rank = Some((place, rank));
            self.url = url;
        }
    }

    /// Reads an object of free content, gives its text and takes the page that it names.
    pub(super) fn read_object(
        &mut self,
        place: Place,
        reader: &mut Reader<'a>,
    ) -> Result<&'a str, Syntax> {
        reader.kind()?;
        let start = reader.place();
        reader.data_object(|reader, key| {
            match Page::rank(key) {
                Some(rank) if reader.kind()? == Kind::String => {
                    self.offer(place, rank, reader.string()?);
                }
                _ => {
                    reader.skip()?;
                }
            }
            Ok(())
        })?;
        Ok(reader.text_since(start))
    }
}

impl Rejection {
    /// A rejection for what is noted while reading.
    pub(super) fn fault(fault: &Fault, id: impl Into<String>) -> Self {
        Self { code: fault.code(), pointer: "", message: fault.to_string(), id: id.into() }
    }

    /// A rejection of an event that is not JSON.
    pub(super) fn json(message: String, id: impl Into<String>) -> Self {
        Self { code: ErrorCode::InvalidBody, pointer: "", message, id: id.into() }
    }

    /// A rejection of an event that is well-formed JSON.
    pub(super) fn event(
        pointer: &'static str,
        message: impl Into<String>,
        id: impl Into<String>,
    ) -> Self {
        let (message, id) = (message.into(), id.into());
        Self { code: ErrorCode::InvalidEvent, pointer, message, id }
    }
}

/// Checks an id or a type: opaque, but without control characters.
fn name(value: &str, pointer: &'static str, limit: usize) -> Result<(), (&'static str, String)> {
    length(value, pointer, limit)?;
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err((pointer, format!("`{}` holds a control character", field(pointer))));
    }
    Ok(())
}

/// Checks a text that only must not hold NUL, which databases cannot keep.
fn text(value: &str, pointer: &'static str, limit: usize) -> Result<(), (&'static str, String)> {
    length(value, pointer, limit)?;
    if value.as_bytes().contains(&0) {
        return Err((pointer, format!("`{}` holds a NUL character", field(pointer))));
    }
    Ok(())
}

fn length(value: &str, pointer: &'static str, limit: usize) -> Result<(), (&'static str, String)> {
    if value.len() > limit {
        let message =
            format!("`{}` takes {} bytes, more than {limit}", field(pointer), value.len());
        return Err((pointer, message));
    }
    Ok(())
}

/// The name of the field that a pointer points at.
pub(super) fn field(pointer: &'static str) -> &'static str {
    pointer.trim_start_matches('/')
}

/// 48 bits of milliseconds before the random bits.
fn time_ordered(received: Timestamp, random: u128) -> u128 {
    let millis = received.0.max(0) as u128 / 1_000;
    millis << 80 | random >> 48
}

/// The text of a UUID of a version, made of all bits but the six that say what it is.
fn uuid(version: u128, bits: u128) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | version << 76 | 0b10 << 62;
    let mut text = String::with_capacity(36);
    for nibble in (0..32).rev() {
        if matches!(nibble, 23 | 19 | 15 | 11) {
            text.push('-');
        }
        let digit = HEX.get((bits >> (nibble * 4)) as usize & 0xf);
        text.push(char::from(digit.copied().unwrap_or(b'0')));
    }
    text
}
