//! An event, and how it is written.

use std::fmt::Write;

use bytes::Bytes;
use gristmill_model::{Clock, Entropy, Timestamp, limits, ndjson};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

/// Something that happened. Only the type is required.
///
/// ```
/// use gristmill_client::Event;
///
/// let event = Event::new("purchase").user("ann").property("price", 9.5).property("plan", "pro");
/// # assert_eq!(event.user_id, "ann");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Event {
    /// Names the event within its user. If it is empty a random one is given when the event is
    /// sent, the same for all tries.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Who; the empty text is one user, "nobody".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_id: String,
    /// The visit it belongs to, if known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_id: String,
    /// What happened, such as `page_view`.
    pub event_type: String,
    /// When; if missing, when it is handed over to be sent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub timestamp: Option<Timestamp>,
    /// The application that sends.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub page_url: String,
    /// Whatever else there is to say.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
}

impl Event {
    /// An event of this type.
    pub fn new(event_type: impl Into<String>) -> Self {
        Self { event_type: event_type.into(), ..Self::default() }
    }

    /// Names it.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Says who.
    #[must_use]
    pub fn user(self, user_id: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), ..self }
    }

    /// Says in which visit.
    #[must_use]
    pub fn session(self, session_id: impl Into<String>) -> Self {
        Self { session_id: session_id.into(), ..self }
    }

    /// Says when.
    #[must_use]
    pub fn at(self, timestamp: Timestamp) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// Says which application sends it.
    #[must_use]
    pub fn source(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }

    /// Says where.
    #[must_use]
    pub fn page(self, page_url: impl Into<String>) -> Self {
        Self { page_url: page_url.into(), ..self }
    }

    /// Adds a property: any JSON.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }
}

/// Why an event cannot be sent at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EventError {
    /// It has no type.
    #[error("`event_type` is empty")]
    NoType,
    /// It is larger than any server takes.
    #[error("the event takes {bytes} bytes as json, more than {}", limits::LINE_BYTES)]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
    /// It cannot be written as JSON.
    #[error("the event cannot be written as json: {0}")]
    Unwritable(String),
}

/// Writes an event as a line of NDJSON. What it lacks of id and time it is given.
pub(crate) fn encode(
    event: &Event,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Bytes, EventError> {
    if event.event_type.is_empty() {
        return Err(EventError::NoType);
    }
    let mut line = Vec::with_capacity(256);
    line.push(b'{');
    if event.id.is_empty() {
        let mut id = String::with_capacity(48);
        // Writing to a text does not fail.
        let _ = write!(id, "\"id\":\"{:032x}\",", entropy.next_u128());
        line.extend_from_slice(id.as_bytes());
    }
    if event.timestamp.is_none() {
        let mut time = String::with_capacity(48);
        let _ = write!(time, "\"timestamp\":\"{}\",", clock.now());
        line.extend_from_slice(time.as_bytes());
    }
    let start = line.len();
    serde_json::to_writer(&mut line, event)
        .map_err(|error| EventError::Unwritable(error.to_string()))?;
    // The event's own brace falls away; an object that is not empty follows it, for it has a type.
    line.remove(start);
    line.push(b'\n');
    if line.len() > limits::LINE_BYTES {
        return Err(EventError::TooLarge { bytes: line.len() });
    }
    Ok(line.into())
}

/// The id in a line of NDJSON; empty if it has none.
pub(crate) fn id_of(line: &[u8]) -> String {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Named {
        id: String,
    }
    serde_json::from_slice::<Named>(line).unwrap_or_default().id
}

/// The lines of NDJSON, without their ends, and without those that the server takes for empty too.
pub(crate) fn lines_of(lines: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    ndjson::lines(lines).map(|line| lines.slice_ref(line))
}

fn as_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
    }

    impl Entropy for Fixed {
        fn next_u128(&self) -> u128 {
            7
        }
    }

    #[test]
    fn what_is_missing_is_given_and_what_is_there_stays() {
        let line = encode(&Event::new("view"), &Fixed, &Fixed).unwrap();
        let expected = "{\"id\":\"00000000000000000000000000000007\",\
                        \"timestamp\":\"1970-01-01T00:00:00Z\",\"event_type\":\"view\"}\n";
        assert_eq!(String::from_utf8_lossy(&line), expected);
        assert_eq!(id_of(&line), "00000000000000000000000000000007");

        let event = Event::new("buy\n").id("e1").user("ann").at(Timestamp(1_500_000));
        let line = encode(&event.property("n", 3), &Fixed, &Fixed).unwrap();
        let expected = "{\"id\":\"e1\",\"user_id\":\"ann\",\"event_type\":\"buy\\n\",\
                        \"timestamp\":\"1970-01-01T00:00:01.5Z\",\"properties\":{\"n\":3}}\n";
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }

    #[test]
    fn lines_that_the_server_passes_over_are_none() {
        let lines: Vec<_> = lines_of(&Bytes::from_static(b"{}\r\n\r\n \t\n\n {} ")).collect();
        assert_eq!(lines, ["{}", "{}"]);
    }

    #[test]
    fn what_no_server_takes_is_not_sent() {
        let encode = |event: &Event| encode(event, &Fixed, &Fixed);
        assert_eq!(encode(&Event::default()), Err(EventError::NoType));
        let large = Event::new("a").property("b", "x".repeat(limits::LINE_BYTES));
        assert!(matches!(encode(&large), Err(EventError::TooLarge { .. })));
    }
}
