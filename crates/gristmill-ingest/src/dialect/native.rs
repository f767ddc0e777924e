//! The native dialect: `/v1/events` and `/v1/events/batch`.
//!
//! An event is an object with the fields `event_type`, `id`, `user_id`, `session_id`, `timestamp`, `source`,
//! `page_url` and `properties` (an object of any JSON, kept as it was sent). The names of the protobuf event
//! in camel case (`eventType`, `userId`, `sessionId`, `pageUrl`) are understood too, and so are its payload
//! objects `user_event`, `transaction_event`, `system_event` and `custom_event`: the payload becomes a
//! property under that name. `null` and, in texts, the empty text mean that a field is absent. Other fields
//! are ignored.
//!
//! `event_type` is required, and free text. Only where it is missing, or names or numbers a value of the
//! protobuf enum, do `type` and then the payload say what the event is asked by.
//!
//! What is wrong with one event never touches the others of its batch. Only a body that is not
//! JSON at all, or of another shape, fails as a whole; in NDJSON only the line does.

use std::borrow::Cow;

use gristmill_model::{ErrorCode, Event, Origin, limits, ndjson};

use super::draft::{Draft, Page, Place, field};
use super::json::{Fault, Kind, Reader, Syntax};
use super::options::Options;
use super::typed::{self, Payload, PayloadKind};
use super::{BodyError, Context, Events, Rejection, body_text, check_count, check_start, time};

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON array of events, or an object whose `events` is one.
    Json,
    /// One event per line; blank lines are passed over.
    Ndjson,
}

/// What a body holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Posted<'a> {
    /// The events, in order.
    pub events: Events<'a>,
    /// What an object around them has as `options`.
    pub options: Options,
}

/// The event of a body: bare, or as the `event` of an object. Gives exactly one item.
pub fn one<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Posted<'a>, BodyError> {
    let mut reader = Reader::new(body_text(body)?);
    if reader.kind()? == Kind::Array {
        let message = "expected one event, not an array: send batches to /v1/events/batch";
        return Err(BodyError::Invalid(message.to_owned()));
    }
    reader.expect_object("expected an event")?;
    let mut options = "";
    match document(&mut reader, ctx, 0, &mut options)? {
        Err(rejection) if rejection.code == ErrorCode::InvalidBody => {
            Err(BodyError::Invalid(rejection.message))
        }
        event => Ok(Posted { events: vec![event], options: Options::read(options)? }),
    }
}

/// The events of a batch, in order; maybe none.
pub fn batch<'a>(
    body: &'a [u8],
    ctx: &Context<'a>,
    format: Format,
) -> Result<Posted<'a>, BodyError> {
    match format {
        Format::Json => json(body_text(body)?, ctx),
        Format::Ndjson => Ok(Posted { events: lines(body, ctx)?, options: Options::default() }),
    }
}

/// The events of lines, each of which is one; blank lines are passed over.
pub fn lines<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Events<'a>, BodyError> {
    check_start(body)?;
    let mut reader = Reader::new("");
    let mut events = Events::new();
    let mut count = 0;
    for line in ndjson::lines(body) {
        if count < limits::BATCH_EVENTS {
            events.push(self::line(line, &mut reader, ctx, count));
        }
        count += 1;
    }
    check_count(count)?;
    Ok(events)
}

fn json<'a>(text: &'a str, ctx: &Context<'a>) -> Result<Posted<'a>, BodyError> {
    let mut reader = Reader::new(text);
    let mut events = None;
    let mut options = Options::default();
    if reader.kind()? == Kind::Array {
        events = Some(array(&mut reader, ctx)?);
    } else {
        reader.expect_object("expected an array of events, or an object with `events`")?;
        reader.object(|reader, key| {
            if key == "options" {
                options = Options::read(reader.skip()?)?;
            } else if key != "events" {
                reader.skip()?;
            } else if events.replace(array(reader, ctx)?).is_some() {
                return Err(BodyError::Invalid("`events` stands twice".to_owned()));
            }
            Ok(())
        })?;
    }
    reader.end()?;
    let events =
        events.ok_or_else(|| BodyError::Invalid("the object has no `events`".to_owned()))?;
    Ok(Posted { events, options })
}

fn array<'a>(reader: &mut Reader<'a>, ctx: &Context<'a>) -> Result<Events<'a>, BodyError> {
    let mut events = Events::new();
    let mut count = 0;
    if reader.kind()? != Kind::Array {
        return Err(BodyError::Invalid("`events` must be an array".to_owned()));
    }
    reader.array(|reader| {
        if count < limits::BATCH_EVENTS {
            events.push(reader.rooted(|reader| event(reader, ctx, count, Wrapping::Refused))?);
        } else {
            reader.skip()?;
        }
        count += 1;
        Ok::<_, BodyError>(())
    })?;
    check_count(count)?;
    Ok(events)
}

fn line<'a>(
    line: &'a [u8],
    reader: &mut Reader<'a>,
    ctx: &Context<'a>,
    index: usize,
) -> Result<Event<'a>, Rejection> {
    if line.len() > limits::LINE_BYTES {
        let message =
            format!("the line takes {} bytes, more than {}", line.len(), limits::LINE_BYTES);
        return Err(Rejection::event("", message, ""));
    }
    let read = body_text(line).and_then(|text| {
        reader.turn_to(text);
        let mut options = "";
        let event = document(reader, ctx, index, &mut options)?;
        if Options::read(options)?.validate_only {
            let message = "a line has no `options.validate_only` of its own: send JSON";
            return Err(BodyError::Invalid(message.to_owned()));
        }
        Ok(event)
    });
    read.unwrap_or_else(|error| Err(Rejection::json(error.to_string(), "")))
}

/// Reads a whole text as one event, bare or wrapped, and the text of the options beside a wrapped one.
fn document<'a>(
    reader: &mut Reader<'a>,
    ctx: &Context<'a>,
    index: usize,
    options: &mut &'a str,
) -> Result<Result<Event<'a>, Rejection>, Syntax> {
    let event = event(reader, ctx, index, Wrapping::Allowed(options))?;
    reader.end()?;
    Ok(event)
}

/// Whether an object that is no event may hold one as its `event`, and where its options go then.
enum Wrapping<'o, 'a> {
    Allowed(&'o mut &'a str),
    Refused,
}

fn event<'a>(
    reader: &mut Reader<'a>,
    ctx: &Context<'a>,
    index: usize,
    wrapping: Wrapping<'_, 'a>,
) -> Result<Result<Event<'a>, Rejection>, Syntax> {
    if reader.kind()? != Kind::Object {
        reader.skip()?;
        let fault = reader.take_fault();
        return Ok(Err(match fault {
            Some(fault) => Rejection::fault(&fault, ""),
            None => Rejection::event("", "an event must be an object", ""),
        }));
    }
    let mut fields = Fields::new();
    reader.data_object(|reader, key| fields.member(reader, key))?;
    let fault = reader.take_fault();
    match (fields.wrapped, wrapping) {
        (Some(place), Wrapping::Allowed(options)) if fault.is_none() && fields.is_envelope() => {
            *options = fields.options;
            let end = reader.place();
            reader.back_to(place);
            let event =
                reader.rooted(|reader| self::event(reader, ctx, index, Wrapping::Refused))?;
            reader.back_to(end);
            Ok(event)
        }
        _ => Ok(fields.finish(fault, ctx, index)),
    }
}

/// The fields of an event as far as they were read.
struct Fields<'a> {
    draft: Draft<'a>,
    properties: Option<&'a str>,
    payload: Option<Payload<'a>>,
    /// The member `type`, where it is a text.
    own_type: Cow<'a, str>,
    /// Where the value of `event` starts.
    wrapped: Option<usize>,
    /// The text of `options`, which means something beside a wrapped event only.
    options: &'a str,
    /// The first field at fault, and why.
    wrong: Option<(&'static str, String)>,
}

impl<'a> Fields<'a> {
    fn new() -> Self {
        Self {
            draft: Draft::new(Origin::Native),
            properties: None,
            payload: None,
            own_type: Cow::default(),
            wrapped: None,
            options: "",
            wrong: None,
        }
    }

    /// Reads the value of a key.
    fn member(&mut self, reader: &mut Reader<'a>, key: &str) -> Result<(), Syntax> {
        let (pointer, place) = match key {
            "id" => ("/id", &mut self.draft.id),
            "user_id" | "userId" => ("/user_id", &mut self.draft.user),
            "session_id" | "sessionId" => ("/session_id", &mut self.draft.session),
            "source" => ("/source", &mut self.draft.source),
            "event_type" | "eventType" => return self.event_type(reader),
            _ => return self.other_member(reader, key),
        };
        match reader.kind()? {
            Kind::String => *place = reader.string()?,
            Kind::Null => drop(reader.skip()?),
            _ => {
                reader.skip()?;
                self.wrong(pointer, "must be a string");
            }
        }
        Ok(())
    }

    fn other_member(&mut self, reader: &mut Reader<'a>, key: &str) -> Result<(), Syntax> {
        if let Some(rank) = Page::rank(key) {
            return self.page(reader, rank);
        }
        if let Some(kind) = PayloadKind::of(key) {
            return self.payload(reader, kind);
        }
        match key {
            "type" if reader.kind()? == Kind::String => {
                self.own_type = reader.string()?;
                Ok(())
            }
            "timestamp" => self.timestamp(reader),
            "properties" => self.properties(reader),
            "event" if reader.kind()? == Kind::Object => {
                self.wrapped = Some(reader.place());
                reader.rooted(Reader::skip).map(drop)
            }
            "options" => {
                self.options = reader.skip()?;
                Ok(())
            }
            _ => reader.skip().map(drop),
        }
    }

    fn event_type(&mut self, reader: &mut Reader<'a>) -> Result<(), Syntax> {
        match reader.kind()? {
            Kind::String => self.draft.event_type = reader.string()?,
            Kind::Null => drop(reader.skip()?),
            Kind::Number => {
                let number = reader.number()?.parse().ok();
                match number.and_then(typed::event_type_name) {
                    Some(name) => self.draft.event_type = Cow::Borrowed(name),
                    None => self.wrong("/event_type", "must be a string, or a number from 0 to 4"),
                }
            }
            _ => {
                reader.skip()?;
                self.wrong("/event_type", "must be a string");
            }
        }
        Ok(())
    }

    fn timestamp(&mut self, reader: &mut Reader<'a>) -> Result<(), Syntax> {
        let time = match reader.kind()? {
            Kind::String => time::parse(&reader.string()?),
            Kind::Number => time::epoch(reader.number()?),
            kind => {
                reader.skip()?;
                if kind != Kind::Null {
                    self.wrong("/timestamp", "must be a string or a number");
                }
                return Ok(());
            }
        };
        if time.is_none() {
            let hint = "is no time from year 1 to 9999: use RFC 3339 or an epoch number";
            self.wrong("/timestamp", hint);
        }
        self.draft.time = time;
        Ok(())
    }

    fn properties(&mut self, reader: &mut Reader<'a>) -> Result<(), Syntax> {
        match reader.kind()? {
            Kind::Object => {
                let text = self.draft.page.read_object(Place::Properties, reader)?;
                self.properties = Some(text);
            }
            Kind::Null => drop(reader.skip()?),
            _ => {
                reader.skip()?;
                self.wrong("/properties", "must be an object");
            }
        }
        Ok(())
    }

    fn payload(&mut self, reader: &mut Reader<'a>, kind: PayloadKind) -> Result<(), Syntax> {
        if reader.kind()? != Kind::Object {
            // A message that is not set is `null`; anything else is no payload of ours.
            return reader.skip().map(drop);
        }
        let payload = Payload::read(kind, reader, &mut self.draft.page)?.in_proto_names();
        if self.payload.replace(payload).is_some() {
            self.wrong("", "an event has at most one payload object");
        }
        Ok(())
    }

    fn page(&mut self, reader: &mut Reader<'a>, rank: u8) -> Result<(), Syntax> {
        match (reader.kind()?, rank) {
            (Kind::String, _) => self.draft.page.offer(Place::Event, rank, reader.string()?),
            (kind, 0) if kind != Kind::Null => {
                reader.skip()?;
                self.wrong("/page_url", "must be a string");
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    }

    fn wrong(&mut self, pointer: &'static str, why: &str) {
        self.wrong.get_or_insert_with(|| match field(pointer) {
            "" => (pointer, why.to_owned()),
            field => (pointer, format!("`{field}` {why}")),
        });
    }

    /// Whether this is an envelope around an event and not an event itself.
    fn is_envelope(&self) -> bool {
        self.draft.event_type.is_empty() && self.payload.is_none()
    }

    fn finish(
        mut self,
        fault: Option<Fault>,
        ctx: &Context<'a>,
        index: usize,
    ) -> Result<Event<'a>, Rejection> {
        if let Some(fault) = fault {
            return Err(Rejection::fault(&fault, self.draft.id));
        }
        if let Some((pointer, message)) = self.wrong.take() {
            return Err(Rejection::event(pointer, message, self.draft.id));
        }
        let payload = self.payload.as_ref();
        self.draft.event_type = typed::event_type(self.draft.event_type, self.own_type, payload);
        if self.draft.event_type.is_empty() {
            let message = "`event_type` is missing or empty";
            return Err(Rejection::event("/event_type", message, self.draft.id));
        }
        let properties = self.properties.unwrap_or(Event::NO_PROPERTIES);
        self.draft.properties = match payload {
            None => Cow::Borrowed(properties),
            Some(payload) => {
                if let Err(message) = payload.check_beside(properties) {
                    return Err(Rejection::event("/properties", message, self.draft.id));
                }
                Cow::Owned(payload.with(properties))
            }
        };
        self.draft.finish(ctx, index)
    }
}
