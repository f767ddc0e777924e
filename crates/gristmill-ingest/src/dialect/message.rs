//! Events as protobuf messages, in neutral terms: the server takes them out of the messages of its calls.
//!
//! What comes out is what the [native dialect](super::native) makes of the same event in JSON, down to the
//! derived id, if the JSON has its members in the order in which they are written here: the payload, then
//! `properties` in the order of their keys, then what `properties_json` holds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gristmill_model::{Event, Origin, Timestamp};

use super::draft::{Draft, Page, Place, field};
use super::json::{Reader, Syntax, quote};
use super::typed::{self, Payload};
use super::{Context, Rejection, time};

pub use super::typed::PayloadKind;

/// An event as its message says it. An empty text is absent.
#[derive(Debug, Default)]
pub struct Message<'a> {
    /// `id`
    pub id: &'a str,
    /// `user_id`
    pub user: &'a str,
    /// `session_id`
    pub session: &'a str,
    /// `event_type`, the number of an enum's value.
    pub kind: i32,
    /// `type`, in the sender's own words.
    pub event_type: &'a str,
    /// `timestamp`: seconds since 1970, and nanoseconds from there on.
    pub time: Option<(i64, i32)>,
    /// `source`
    pub source: &'a str,
    /// `page_url`
    pub page_url: &'a str,
    /// What the payload is about, and the payload as the text of a JSON object in the names of the proto
    /// files.
    pub payload: Option<(PayloadKind, String)>,
    /// `properties`; `None` is the same as none.
    pub properties: Option<&'a BTreeMap<String, String>>,
    /// `properties_json`, the text of an object.
    pub properties_json: &'a str,
}

/// The event of a message, which stands at `index` in its request.
pub fn event<'a>(
    message: &Message<'a>,
    ctx: &Context<'a>,
    index: usize,
) -> Result<Event<'a>, Rejection> {
    let id = message.id;
    draft(message).map_err(|fault| fault.about(id)).and_then(|draft| draft.finish(ctx, index))
}

/// The text of an object of texts, whose page it takes; `id` is that of the event.
pub(super) fn texts<'a>(
    texts: &BTreeMap<String, String>,
    id: &str,
    page: &mut Page<'_>,
) -> Result<Cow<'a, str>, Rejection> {
    if texts.is_empty() {
        return Ok(Cow::Borrowed(Event::NO_PROPERTIES));
    }
    let all = members(texts) + "}";
    object(&all, "/properties", Place::Properties, page, |reader, page| {
        page.read_object(Place::Properties, reader).map(drop)
    })
    .map_err(|wrong| wrong.about(id))?;
    Ok(Cow::Owned(all))
}

/// What is wrong with a message.
enum Wrong {
    Field(&'static str, String),
    Content(Rejection),
}

impl Wrong {
    fn about(self, id: &str) -> Rejection {
        match self {
            Wrong::Field(pointer, message) => Rejection::event(pointer, message, id),
            Wrong::Content(rejection) => Rejection { id: id.to_owned(), ..rejection },
        }
    }
}

fn draft<'a>(message: &Message<'a>) -> Result<Draft<'a>, Wrong> {
    let mut draft = Draft::new(Origin::Native);
    draft.id = Cow::Borrowed(message.id);
    draft.user = Cow::Borrowed(message.user);
    draft.session = Cow::Borrowed(message.session);
    draft.source = Cow::Borrowed(message.source);
    draft.time = message.time.map(moment).transpose()?;
    draft.page.offer(Place::Event, 0, Cow::Borrowed(message.page_url));
    let properties = properties(message, &mut draft.page)?;
    let payload = match &message.payload {
        None => None,
        Some((kind, text)) => {
            let page = &mut draft.page;
            Some(object(text, "", Place::Payload, page, |reader, page| {
                Payload::read(*kind, reader, page)
            })?)
        }
    };
    let named = usize::try_from(message.kind).ok().and_then(typed::event_type_name);
    let named = named.ok_or_else(|| {
        let why = format!("`event_type` {} is none that is known", message.kind);
        Wrong::Field("/event_type", why)
    })?;
    let (named, own) = (Cow::Borrowed(named), Cow::Borrowed(message.event_type));
    let event_type = typed::event_type(named, own, payload.as_ref());
    draft.event_type = Cow::Owned(event_type.into_owned());
    if draft.event_type.is_empty() {
        let why = "`event_type` is missing: set it, `type` or a payload".to_owned();
        return Err(Wrong::Field("/event_type", why));
    }
    draft.properties = match payload {
        None => properties,
        Some(payload) => {
            payload.check_beside(&properties).map_err(|why| Wrong::Field("/properties", why))?;
            Cow::Owned(payload.with(&properties))
        }
    };
    Ok(draft)
}

/// The moment of a timestamp; parts of a microsecond are cut off.
fn moment((seconds, nanos): (i64, i32)) -> Result<Timestamp, Wrong> {
    let wrong = || {
        let why = "`timestamp` is no time from year 1 to 9999".to_owned();
        Wrong::Field("/timestamp", why)
    };
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(wrong());
    }
    let micros = seconds.checked_mul(Timestamp::SECOND);
    let micros = micros.and_then(|micros| micros.checked_add(i64::from(nanos) / 1_000));
    micros.map(Timestamp).and_then(time::in_range).ok_or_else(wrong)
}

/// The text of all properties beside the payload.
fn properties<'a>(message: &Message<'a>, page: &mut Page<'_>) -> Result<Cow<'a, str>, Wrong> {
    let texts = message.properties.filter(|texts| !texts.is_empty());
    let (all, pointer) = match (texts, message.properties_json.trim_ascii()) {
        (None, "") => return Ok(Cow::Borrowed(Event::NO_PROPERTIES)),
        (None, json) => (Cow::Borrowed(json), "/properties_json"),
        (Some(texts), json) => (Cow::Owned(merged(texts, json)?), "/properties"),
    };
    object(&all, pointer, Place::Properties, page, |reader, page| {
        page.read_object(Place::Properties, reader).map(drop)
    })?;
    Ok(all)
}

/// One object of texts and of the members of another object, if that is not empty.
fn merged(texts: &BTreeMap<String, String>, json: &str) -> Result<String, Wrong> {
    let mut all = members(texts);
    let mut twice = None;
    if !json.is_empty() {
        let mut reader = Reader::of_member(json);
        let read = reader.object(|reader, key| {
            if texts.contains_key(key.as_ref()) {
                twice = Some(key.into_owned());
            }
            reader.skip().map(drop)
        });
        read.and_then(|()| reader.end()).map_err(|syntax| not_json("/properties_json", syntax))?;
    }
    if let Some(key) = twice {
        let why = format!("`properties_json` holds `{key}`, and so does `properties`");
        return Err(Wrong::Field("/properties_json", why));
    }
    match json.strip_prefix('{').map(str::trim_ascii_start) {
        None | Some("}") => all.push('}'),
        Some(members) => {
            all.push(',');
            all.push_str(members);
        }
    }
    Ok(all)
}

/// The text of an object of texts that lacks its last brace.
fn members(texts: &BTreeMap<String, String>) -> String {
    let mut all = String::with_capacity(64 + texts.len() * 32);
    all.push('{');
    for (index, (key, text)) in texts.iter().enumerate() {
        if index > 0 {
            all.push(',');
        }
        quote(&mut all, key);
        all.push(':');
        quote(&mut all, text);
    }
    all
}

/// Reads the text of an object of free content and takes the page that it names.
fn object<'t, T>(
    text: &'t str,
    pointer: &'static str,
    place: Place,
    page: &mut Page<'_>,
    read: impl FnOnce(&mut Reader<'t>, &mut Page<'t>) -> Result<T, Syntax>,
) -> Result<T, Wrong> {
    let (mut reader, mut found) = (Reader::of_member(text), Page::default());
    let value = read(&mut reader, &mut found);
    let value = value.and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|syntax| not_json(pointer, syntax))?;
    if let Some(fault) = reader.take_fault() {
        return Err(Wrong::Content(Rejection::fault(&fault, "")));
    }
    page.offer(place, 0, Cow::Owned(found.url.into_owned()));
    Ok(value)
}

fn not_json(pointer: &'static str, syntax: Syntax) -> Wrong {
    Wrong::Field(pointer, format!("`{}`: {syntax}", field(pointer)))
}
