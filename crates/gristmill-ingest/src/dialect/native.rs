//! The native dialect: `/v1/events` and `/v1/events/batch`.
//!
//! An event is an object with the fields `event_type` (required), `id`, `user_id`, `session_id`,
//! `timestamp`, `source`, `page_url` and `properties` (an object of any JSON, kept as it was
//! sent). The names of the protobuf event in camel case (`eventType`, `userId`, `sessionId`,
//! `pageUrl`) are understood too, and so are its payload objects `user_event`,
//! `transaction_event`, `system_event` and `custom_event`: the payload becomes a property under
//! that name. `null` and, in texts, the empty text mean that a field is absent. Other fields are
//! ignored.
//!
//! What is wrong with one event never touches the others of its batch. Only a body that is not
//! JSON at all, or of another shape, fails as a whole; in NDJSON only the line does.

use std::borrow::Cow;

use gristmill_model::{ErrorCode, Event, Origin, limits};

use super::draft::{Draft, Page, Place, field};
use super::json::{Fault, Kind, Reader, Syntax};
use super::{BodyError, Context, Events, Rejection, body_text, check_count, check_start, time};

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON array of events, or an object whose `events` is one.
    Json,
    /// One event per line; blank lines are passed over.
    Ndjson,
}

/// The event of a body: bare, or as the `event` of an object. Gives exactly one item.
pub fn one<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Events<'a>, BodyError> {
    let mut reader = Reader::new(body_text(body)?);
    if reader.kind()? == Kind::Array {
        let message = "expected one event, not an array: send batches to /v1/events/batch";
        return Err(BodyError::Invalid(message.to_owned()));
    }
    reader.expect_object("expected an event")?;
    match document(&mut reader, ctx, 0)? {
        Err(rejection) if rejection.code == ErrorCode::InvalidBody => {
            Err(BodyError::Invalid(rejection.message))
        }
        event => Ok(vec![event]),
    }
}

/// The events of a batch, in order; maybe none.
pub fn batch<'a>(
    body: &'a [u8],
    ctx: &Context<'a>,
    format: Format,
) -> Result<Events<'a>, BodyError> {
    match format {
        Format::Json => json(body_text(body)?, ctx),
        Format::Ndjson => lines(body, ctx),
    }
}

fn json<'a>(text: &'a str, ctx: &Context<'a>) -> Result<Events<'a>, BodyError> {
    let mut reader = Reader::new(text);
    let mut events = None;
    if reader.kind()? == Kind::Array {
        events = Some(array(&mut reader, ctx)?);
    } else {
        reader.expect_object("expected an array of events, or an object with `events`")?;
        reader.object(|reader, key| {
            if key == "options" {
                check_options(reader.skip()?)?;
            } else if key != "events" {
                reader.skip()?;
            } else if events.replace(array(reader, ctx)?).is_some() {
                return Err(BodyError::Invalid("`events` stands twice".to_owned()));
            }
            Ok(())
        })?;
    }
    reader.end()?;
    events.ok_or_else(|| BodyError::Invalid("the object has no `events`".to_owned()))
}

fn array<'a>(reader: &mut Reader<'a>, ctx: &Context<'a>) -> Result<Events<'a>, BodyError> {
    let mut events = Events::new();
    let mut count = 0;
    if reader.kind()? != Kind::Array {
        return Err(BodyError::Invalid("`events` must be an array".to_owned()));
    }
    reader.array(|reader| {
        if count < limits::BATCH_EVENTS {
            events.push(reader.rooted(|reader| event(reader, ctx, count, Wrapping::None))?);
        } else {
            reader.skip()?;
        }
        count += 1;
        Ok::<_, BodyError>(())
    })?;
    check_count(count)?;
    Ok(events)
}

fn lines<'a>(body: &'a [u8], ctx: &Context<'a>) -> Result<Events<'a>, BodyError> {
    check_start(body)?;
    let mut reader = Reader::new("");
    let mut events = Events::new();
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut count = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        if count < limits::BATCH_EVENTS {
            events.push(self::line(line, &mut reader, ctx, count));
        }
        count += 1;
    }
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
        Ok(document(reader, ctx, index)?)
    });
    read.unwrap_or_else(|error| Err(Rejection::json(error.to_string(), "")))
}

/// Reads a whole text as one event, bare or wrapped.
fn document<'a>(
    reader: &mut Reader<'a>,
    ctx: &Context<'a>,
    index: usize,
) -> Result<Result<Event<'a>, Rejection>, Syntax> {
    let event = event(reader, ctx, index, Wrapping::Allowed)?;
    reader.end()?;
    Ok(event)
}

/// Whether an object that is no event may hold one as its `event`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    Allowed,
    None,
}

fn event<'a>(
    reader: &mut Reader<'a>,
    ctx: &Context<'a>,
    index: usize,
    wrapping: Wrapping,
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
    match fields.wrapped {
        Some(place) if wrapping == Wrapping::Allowed && fault.is_none() && fields.is_envelope() => {
            if let Err(error) = check_options(fields.options) {
                return Ok(Err(Rejection::json(error.to_string(), "")));
            }
            let end = reader.place();
            reader.back_to(place);
            let event = reader.rooted(|reader| self::event(reader, ctx, index, Wrapping::None))?;
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
    payload: Option<(&'static str, &'a str)>,
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
            "event_type" | "eventType" => ("/event_type", &mut self.draft.event_type),
            "source" => ("/source", &mut self.draft.source),
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
        if let Some(name) = payload_name(key) {
            return self.payload(reader, name);
        }
        match key {
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

    fn payload(&mut self, reader: &mut Reader<'a>, name: &'static str) -> Result<(), Syntax> {
        if reader.kind()? != Kind::Object {
            // A message that is not set is `null`; anything else is no payload of ours.
            return reader.skip().map(drop);
        }
        let text = self.draft.page.read_object(Place::Payload, reader)?;
        if self.payload.replace((name, text)).is_some() {
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
        self.draft.event_type.is_empty()
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
        if self.draft.event_type.is_empty() {
            let message = "`event_type` is missing or empty";
            return Err(Rejection::event("/event_type", message, self.draft.id));
        }
        self.draft.properties = match (self.payload, self.properties) {
            (None, properties) => Cow::Borrowed(properties.unwrap_or(Event::NO_PROPERTIES)),
            (Some((name, _)), Some(properties)) if has_key(properties, name) => {
                let message = format!("`properties` holds `{name}`, and so does the event");
                return Err(Rejection::event("/properties", message, self.draft.id));
            }
            (Some((name, payload)), properties) => {
                Cow::Owned(with_payload(name, payload, properties.unwrap_or_default()))
            }
        };
        self.draft.finish(ctx, index)
    }
}

/// Refuses the options of a request that wants its events checked and not kept: keeping them
/// would be the opposite. The text was read before; one that is no object asks for nothing.
fn check_options(options: &str) -> Result<(), BodyError> {
    let mut validates_only = false;
    let _: Result<(), Syntax> = Reader::new(options).object(|reader, key| {
        let is_set = !matches!(reader.skip()?, "false" | "null");
        validates_only |= is_set && matches!(key.as_ref(), "validate_only" | "validateOnly");
        Ok(())
    });
    if validates_only {
        return Err(BodyError::Invalid("`options.validate_only` is not supported".to_owned()));
    }
    Ok(())
}

/// The properties with a payload as their first member.
fn with_payload(name: &str, payload: &str, properties: &str) -> String {
    let members = properties.strip_prefix('{').unwrap_or("}").trim_ascii_start();
    let comma = if members.starts_with('}') { "" } else { "," };
    format!("{{\"{name}\":{payload}{comma}{members}")
}

/// Whether an object that was read before has a key.
fn has_key(object: &str, name: &str) -> bool {
    let mut found = false;
    let read = Reader::new(object).object(|reader, key| {
        found |= key == name;
        reader.skip().map(drop)
    });
    found || read.is_err()
}

fn payload_name(key: &str) -> Option<&'static str> {
    match key {
        "user_event" | "userEvent" => Some("user_event"),
        "transaction_event" | "transactionEvent" => Some("transaction_event"),
        "system_event" | "systemEvent" => Some("system_event"),
        "custom_event" | "customEvent" => Some("custom_event"),
        _ => None,
    }
}
