//! The value of a record: the event as JSON, so that any consumer can read the topic.
//!
//! ```json
//! {"id":"…","user_id":"…","session_id":"…","event_type":"…","timestamp":"2026-01-02T03:04:05.000006Z",
//!  "source":"…","page_url":"…","project":"…","origin":"native","received_at":"…","properties":{…}}
//! ```
//!
//! It is what the native API takes, with the project, the dialect that the event came in, and its
//! time of arrival. `session_id`, `source` and `page_url` are left out where there is none.
//! `properties` are the bytes that were sent. docs/formats.md is the contract with other readers.

use std::borrow::Cow;

use gristmill_model::{Event, EventId, Origin, ProjectId, SessionId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Appends the value of an event's record.
pub(super) fn write(event: &Event<'_>, out: &mut Vec<u8>) {
    member(out, "{\"id\":", event.id.as_str());
    member(out, ",\"user_id\":", event.user.as_str());
    if let Some(session) = &event.session {
        member(out, ",\"session_id\":", session.as_str());
    }
    member(out, ",\"event_type\":", &event.event_type);
    member(out, ",\"timestamp\":", &event.time.to_string());
    if !event.source.is_empty() {
        member(out, ",\"source\":", &event.source);
    }
    if !event.page_url.is_empty() {
        member(out, ",\"page_url\":", &event.page_url);
    }
    member(out, ",\"project\":", event.project.as_str());
    member(out, ",\"origin\":", event.origin.as_str());
    member(out, ",\"received_at\":", &event.received.to_string());
    out.extend_from_slice(b",\"properties\":");
    out.extend_from_slice(event.properties.as_bytes());
    out.push(b'}');
}

/// The event of a value that [`write`] made.
pub(super) fn read(value: &[u8]) -> Result<Event<'_>, String> {
    let json: Canonical<'_> =
        serde_json::from_slice(value).map_err(|error| format!("not a record of ours: {error}"))?;
    let time =
        |name: &str, text: &str| text.parse().map_err(|_| format!("`{name}` is no time: {text}"));
    let origin = Origin::ALL.into_iter().find(|origin| origin.as_str() == json.origin.0);
    Ok(Event {
        project: ProjectId::new(json.project.0),
        id: EventId::new(json.id.0),
        user: UserId::new(json.user_id.0),
        session: json.session_id.map(|session| SessionId::new(session.0)),
        event_type: json.event_type.0,
        time: time("timestamp", &json.timestamp.0)?,
        received: time("received_at", &json.received_at.0)?,
        source: json.source.map_or(Cow::Borrowed(""), |source| source.0),
        page_url: json.page_url.map_or(Cow::Borrowed(""), |page| page.0),
        origin: origin.ok_or_else(|| format!("`origin` is not known: {}", json.origin.0))?,
        properties: Cow::Borrowed(json.properties.get()),
    })
}

#[derive(Deserialize)]
struct Canonical<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    user_id: Text<'a>,
    session_id: Option<Text<'a>>,
    event_type: Text<'a>,
    timestamp: Text<'a>,
    source: Option<Text<'a>>,
    page_url: Option<Text<'a>>,
    project: Text<'a>,
    origin: Text<'a>,
    received_at: Text<'a>,
    properties: &'a RawValue,
}

/// A text that is borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn member(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(name.as_bytes());
    // A vector takes every byte, and a text is always JSON.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use gristmill_model::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::sample;

    fn json() -> impl Strategy<Value = String> {
        let text = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
        let number = any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap());
        let leaf = prop_oneof![text, number, Just("1.50e3".into()), Just("\"\\u0041\\/\"".into())];
        leaf.prop_recursive(4, 16, 4, |inner| {
            let member = (any::<String>(), inner.clone());
            let object = proptest::collection::vec(member, 0..4).prop_map(|members| {
                let members = members.into_iter().map(|(key, value)| {
                    format!("{} :\t{value}", serde_json::to_string(&key).unwrap())
                });
                format!("{{ {} }}", members.collect::<Vec<_>>().join(" ,\n"))
            });
            let array = proptest::collection::vec(inner, 0..4)
                .prop_map(|items| format!("[{}]", items.join(",")));
            prop_oneof![object, array]
        })
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[a-z0-9-]{0,40}"]
    }

    fn event() -> impl Strategy<Value = Event<'static>> {
        let names = (text(), text(), text(), proptest::option::of(text()), text());
        let times = (any::<i64>(), Timestamp::MIN.0..Timestamp::MAX.0);
        (names, times, text(), text(), 0..5_u8, json()).prop_map(
            |(
                (project, id, user, session, event_type),
                (time, received),
                source,
                page,
                origin,
                properties,
            )| {
                Event {
                    project: ProjectId::new(project),
                    id: EventId::new(id),
                    user: UserId::new(user),
                    session: session.map(SessionId::new),
                    event_type: event_type.into(),
                    time: Timestamp(time),
                    received: Timestamp(received),
                    source: source.into(),
                    page_url: page.into(),
                    origin: Origin::from_number(origin).unwrap(),
                    properties: properties.into(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_event_reads_back_to_the_byte(event in event()) {
            let mut value = Vec::new();
            write(&event, &mut value);
            prop_assert_eq!(read(&value), Ok(event));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&value).is_ok());
        }

        #[test]
        fn nothing_that_others_write_ends_in_a_panic(value in any::<Vec<u8>>()) {
            let _ = read(&value);
        }
    }

    #[test]
    fn the_format_never_changes() {
        let mut event = sample(2);
        event.properties = r#"{"n": 1.0}"#.into();
        let mut value = Vec::new();
        write(&event, &mut value);
        let expected = concat!(
            r#"{"id":"event-2","user_id":"user-2","session_id":"session-2","event_type":"view","#,
            r#""timestamp":"2023-11-14T22:13:20.000002Z","source":"conformance","#,
            r#""page_url":"https://example.com/2","project":"default","origin":"platform","#,
            r#""received_at":"2023-11-14T22:13:20.5Z","properties":{"n": 1.0}}"#,
        );
        assert_eq!(String::from_utf8(value).unwrap(), expected);
    }
}
