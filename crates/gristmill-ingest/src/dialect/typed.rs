//! Typed payloads: `user_event`, `transaction_event`, `system_event` and `custom_event`.
//!
//! A payload becomes a property under its own name, and says what its event is asked by: the action of a
//! user event, the name of a custom event, the type of a transaction or system event in lower case. What is
//! stored has the names of the proto files, in snake case and enums by name, whatever JSON came; all else is
//! kept as it was sent.

use std::borrow::Cow;

use super::draft::{Page, Place};
use super::json::{Kind, Reader, Syntax, quote};

/// The values of `event_type` that are no words of a sender's own, by their numbers.
const EVENT_TYPES: [&str; 5] = [
    "EVENT_TYPE_UNSPECIFIED",
    "EVENT_TYPE_USER",
    "EVENT_TYPE_TRANSACTION",
    "EVENT_TYPE_SYSTEM",
    "EVENT_TYPE_CUSTOM",
];
const TRANSACTION_TYPES: &[&str] = &[
    "TRANSACTION_TYPE_UNSPECIFIED",
    "TRANSACTION_TYPE_PURCHASE",
    "TRANSACTION_TYPE_REFUND",
    "TRANSACTION_TYPE_SUBSCRIPTION",
    "TRANSACTION_TYPE_TRANSFER",
];
const TRANSACTION_STATUSES: &[&str] = &[
    "TRANSACTION_STATUS_UNSPECIFIED",
    "TRANSACTION_STATUS_PENDING",
    "TRANSACTION_STATUS_COMPLETED",
    "TRANSACTION_STATUS_FAILED",
    "TRANSACTION_STATUS_CANCELLED",
];
const SYSTEM_TYPES: &[&str] = &[
    "SYSTEM_EVENT_TYPE_UNSPECIFIED",
    "SYSTEM_EVENT_TYPE_ERROR",
    "SYSTEM_EVENT_TYPE_WARNING",
    "SYSTEM_EVENT_TYPE_INFO",
    "SYSTEM_EVENT_TYPE_METRIC",
];
const SYSTEM_SEVERITIES: &[&str] = &[
    "SYSTEM_SEVERITY_UNSPECIFIED",
    "SYSTEM_SEVERITY_LOW",
    "SYSTEM_SEVERITY_MEDIUM",
    "SYSTEM_SEVERITY_HIGH",
    "SYSTEM_SEVERITY_CRITICAL",
];

/// What a payload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// `user_event`
    User,
    /// `transaction_event`
    Transaction,
    /// `system_event`
    System,
    /// `custom_event`
    Custom,
}

impl PayloadKind {
    /// The name of the property that the payload becomes.
    pub fn name(self) -> &'static str {
        match self {
            PayloadKind::User => "user_event",
            PayloadKind::Transaction => "transaction_event",
            PayloadKind::System => "system_event",
            PayloadKind::Custom => "custom_event",
        }
    }

    /// The kind that a member of an event names, in either case.
    pub(super) fn of(key: &str) -> Option<Self> {
        match key {
            "user_event" | "userEvent" => Some(PayloadKind::User),
            "transaction_event" | "transactionEvent" => Some(PayloadKind::Transaction),
            "system_event" | "systemEvent" => Some(PayloadKind::System),
            "custom_event" | "customEvent" => Some(PayloadKind::Custom),
            _ => None,
        }
    }

    /// The `event_type` of events with such a payload.
    fn event_type(self) -> &'static str {
        match self {
            PayloadKind::User => "EVENT_TYPE_USER",
            PayloadKind::Transaction => "EVENT_TYPE_TRANSACTION",
            PayloadKind::System => "EVENT_TYPE_SYSTEM",
            PayloadKind::Custom => "EVENT_TYPE_CUSTOM",
        }
    }

    /// The member that says what an event is asked by.
    fn telling_member(self) -> &'static str {
        match self {
            PayloadKind::User => "action",
            PayloadKind::Custom => "name",
            PayloadKind::Transaction | PayloadKind::System => "type",
        }
    }

    fn members(self) -> &'static [Member] {
        match self {
            PayloadKind::User => USER,
            PayloadKind::Transaction => TRANSACTION,
            PayloadKind::System => SYSTEM,
            PayloadKind::Custom => &[],
        }
    }
}

/// The payload of an event.
pub(super) struct Payload<'a> {
    pub(super) kind: PayloadKind,
    /// The text of an object.
    pub(super) text: Cow<'a, str>,
    /// What the event is asked by; empty if the payload does not say.
    event_type: Cow<'a, str>,
}

impl<'a> Payload<'a> {
    /// Reads an object and takes the page that it names.
    pub(super) fn read(
        kind: PayloadKind,
        reader: &mut Reader<'a>,
        page: &mut Page<'a>,
    ) -> Result<Self, Syntax> {
        reader.kind()?;
        let start = reader.place();
        let mut event_type = Cow::default();
        reader.data_object(|reader, key| {
            match (Page::rank(key), reader.kind()?) {
                (Some(rank), Kind::String) => page.offer(Place::Payload, rank, reader.string()?),
                (None, Kind::String | Kind::Number) if key == kind.telling_member() => {
                    event_type = told_type(kind, reader)?;
                }
                _ => drop(reader.skip()?),
            }
            Ok(())
        })?;
        Ok(Self { kind, text: Cow::Borrowed(reader.text_since(start)), event_type })
    }

    /// The same in the names of the proto files.
    pub(super) fn in_proto_names(mut self) -> Self {
        if let Cow::Borrowed(text) = self.text {
            self.text = in_proto_names(self.kind.members(), text);
        }
        self
    }

    /// Says what is wrong if properties have a member of the payload's name.
    pub(super) fn check_beside(&self, properties: &str) -> Result<(), String> {
        let name = self.kind.name();
        if has_key(properties, name) {
            return Err(format!("`properties` holds `{name}`, and so does the event"));
        }
        Ok(())
    }

    /// The properties with the payload as their first member.
    pub(super) fn with(&self, properties: &str) -> String {
        let (name, text) = (self.kind.name(), &self.text);
        let members = properties.strip_prefix('{').unwrap_or("}").trim_ascii_start();
        let comma = if members.starts_with('}') { "" } else { "," };
        format!("{{\"{name}\":{text}{comma}{members}")
    }
}

/// What an event is asked by: a free text of `event_type`; else `type`; else what the payload says; else the
/// name of `event_type` or of the payload's kind. Empty if nothing says it.
pub(super) fn event_type<'a>(
    named: Cow<'a, str>,
    own: Cow<'a, str>,
    payload: Option<&Payload<'a>>,
) -> Cow<'a, str> {
    let is_unset = named.is_empty() || Some(&*named) == event_type_name(0);
    if !is_unset && !EVENT_TYPES.contains(&&*named) {
        return named;
    }
    if !own.is_empty() {
        return own;
    }
    match payload {
        Some(payload) if !payload.event_type.is_empty() => payload.event_type.clone(),
        _ if !is_unset => named,
        Some(payload) => Cow::Borrowed(payload.kind.event_type()),
        None => Cow::default(),
    }
}

/// The name of the `event_type` with a number.
pub(super) fn event_type_name(number: usize) -> Option<&'static str> {
    EVENT_TYPES.get(number).copied()
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

/// Reads the member that tells the type.
fn told_type<'a>(kind: PayloadKind, reader: &mut Reader<'a>) -> Result<Cow<'a, str>, Syntax> {
    let text = match reader.kind()? {
        Kind::String => reader.string()?,
        _ => Cow::Borrowed(reader.skip()?),
    };
    let (names, prefix) = match kind {
        PayloadKind::User | PayloadKind::Custom => return Ok(text),
        PayloadKind::Transaction => (TRANSACTION_TYPES, "TRANSACTION_TYPE_"),
        PayloadKind::System => (SYSTEM_TYPES, "SYSTEM_EVENT_TYPE_"),
    };
    let short = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase();
    let numbered = text.parse().ok().and_then(|number: usize| names.get(number).copied());
    let named = || names.iter().copied().find(|name| *name == text || short(name) == *text);
    let known = numbered.or_else(named).filter(|name| names.first() != Some(name));
    Ok(known.map_or(Cow::default(), |name| Cow::Owned(short(name))))
}

/// A member of a payload that JSON may call or write otherwise than the proto files.
struct Member {
    name: &'static str,
    holds: Holds,
}

enum Holds {
    Value,
    Enum(&'static [&'static str]),
    Message(&'static [Member]),
    Messages(&'static [Member]),
}

const fn value(name: &'static str) -> Member {
    Member { name, holds: Holds::Value }
}

const USER: &[Member] = &[
    value("page_url"),
    value("user_agent"),
    value("ip_address"),
    Member { name: "user_context", holds: Holds::Message(USER_CONTEXT) },
];
const USER_CONTEXT: &[Member] = &[value("device_type"), value("is_new_user")];
const TRANSACTION: &[Member] = &[
    value("transaction_id"),
    Member { name: "type", holds: Holds::Enum(TRANSACTION_TYPES) },
    Member { name: "status", holds: Holds::Enum(TRANSACTION_STATUSES) },
    value("payment_method"),
    Member { name: "items", holds: Holds::Messages(&[value("item_id")]) },
    Member { name: "metadata", holds: Holds::Message(TRANSACTION_METADATA) },
];
const TRANSACTION_METADATA: &[Member] =
    &[value("merchant_id"), value("store_id"), value("campaign_id"), value("custom_fields")];
const SYSTEM: &[Member] = &[
    Member { name: "type", holds: Holds::Enum(SYSTEM_TYPES) },
    Member { name: "severity", holds: Holds::Enum(SYSTEM_SEVERITIES) },
    Member { name: "metrics", holds: Holds::Message(SYSTEM_METRICS) },
];
const SYSTEM_METRICS: &[Member] = &[
    value("cpu_usage"),
    value("memory_usage"),
    value("disk_usage"),
    value("active_connections"),
    value("response_time"),
];

/// The text of an object that was read before, in the names of the proto files; as it is if nothing is
/// called otherwise, or if it calls one member both ways.
fn in_proto_names<'a>(members: &[Member], text: &'a str) -> Cow<'a, str> {
    let mut renamed = String::from("{");
    let mut names: Vec<Cow<'_, str>> = Vec::new();
    let mut differs = false;
    let read = Reader::new(text).object(|reader, key| {
        let value = reader.skip()?;
        let member = members.iter().find(|member| is_called(member.name, &key));
        let (name, value) = match member {
            None => (key, Cow::Borrowed(value)),
            Some(member) => {
                let value = member.holds.in_proto_names(value);
                differs |= member.name != key || matches!(value, Cow::Owned(_));
                (Cow::Borrowed(member.name), value)
            }
        };
        if !names.is_empty() {
            renamed.push(',');
        }
        quote(&mut renamed, &name);
        renamed.push(':');
        renamed.push_str(&value);
        names.push(name);
        Ok::<_, Syntax>(())
    });
    names.sort_unstable();
    let is_twice = names.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
    if read.is_err() || !differs || is_twice {
        return Cow::Borrowed(text);
    }
    renamed.push('}');
    Cow::Owned(renamed)
}

impl Holds {
    fn in_proto_names<'a>(&self, value: &'a str) -> Cow<'a, str> {
        match self {
            Holds::Enum(names) => {
                let name = value.parse().ok().and_then(|number: usize| names.get(number));
                name.map_or(Cow::Borrowed(value), |name| Cow::Owned(format!("\"{name}\"")))
            }
            Holds::Message(members) if value.starts_with('{') => in_proto_names(members, value),
            Holds::Messages(members) if value.starts_with('[') => {
                elements_in_proto_names(members, value)
            }
            Holds::Value | Holds::Message(_) | Holds::Messages(_) => Cow::Borrowed(value),
        }
    }
}

fn elements_in_proto_names<'a>(members: &[Member], text: &'a str) -> Cow<'a, str> {
    let mut renamed = Vec::new();
    let read = Reader::new(text).array(|reader| {
        let element = reader.skip()?;
        renamed.push(if element.starts_with('{') {
            in_proto_names(members, element)
        } else {
            Cow::Borrowed(element)
        });
        Ok::<_, Syntax>(())
    });
    if read.is_err() || renamed.iter().all(|element| matches!(element, Cow::Borrowed(_))) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("[{}]", renamed.join(",")))
}

/// Whether a key is a name, as it is or in camel case.
fn is_called(name: &str, key: &str) -> bool {
    name == key || (name.contains('_') && camel(name) == key)
}

fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    for (index, word) in name.split('_').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if index > 0 => camel.push(first.to_ascii_uppercase()),
            Some(first) => camel.push(first),
            None => {}
        }
        camel.push_str(letters.as_str());
    }
    camel
}
