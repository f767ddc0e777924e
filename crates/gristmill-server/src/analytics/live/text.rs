//! Answers that are JSON texts, and how a stream of server-sent events has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

/// The members of an answer, and of its `metadata`, that say nothing of the events.
const PASSING: [&str; 2] = ["last_updated", "processing_time"];

/// Whether two answers say the same of the events.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one == other || lasting(one).is_some_and(|lasting_one| Some(lasting_one) == lasting(other))
}

/// The members of an answer that say something of the events, `metadata` apart from the others.
fn lasting(text: &[u8]) -> Option<[BTreeMap<String, &str>; 2]> {
    let mut answer = members(text)?;
    let metadata = answer.remove("metadata").and_then(|text| members(text.as_bytes()));
    Some([answer, metadata.unwrap_or_default()])
}

fn members(text: &[u8]) -> Option<BTreeMap<String, &str>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(text).ok()?;
    let lasting = members.into_iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
    Some(lasting.map(|(name, value)| (name, value.get())).collect())
}

/// A text as the data of an event, with the event's end. A text of several lines, which
/// properties kept as they were sent can have, is put together again by the client.
pub(super) fn data(text: &[u8]) -> Bytes {
    let mut data = Vec::with_capacity(text.len() + 8);
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        data.extend_from_slice(b"data: ");
        data.extend_from_slice(line);
        data.push(b'\n');
    }
    data.push(b'\n');
    data.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_by_what_they_say_of_the_events() {
        let same = |one: &str, other: &str| is_same(one.as_bytes(), other.as_bytes());
        let answer = r#"{"n":1,"last_updated":"1","metadata":{"a":1,"processing_time":"1s"}}"#;
        assert!(same(answer, answer));
        assert!(same(answer, &answer.replace("\"1\"", "\"2\"").replace("1s", "2s")));
        assert!(!same(answer, &answer.replace("\"n\":1", "\"n\":2")));
        assert!(!same(answer, &answer.replace("\"a\":1", "\"a\":2")));
        // A name that a client chose is no name of ours.
        assert!(!same(
            r#"{"labels":{"processing_time":"1s"}}"#,
            r#"{"labels":{"processing_time":"2s"}}"#
        ));
        assert!(same("[1]", "[1]"));
        assert!(!same("[1]", "[2]"));
    }

    #[test]
    fn lines_are_data_of_their_own() {
        assert_eq!(data(b"{}"), "data: {}\n\n");
        assert_eq!(data(b"{\r\n}"), "data: {\ndata: \ndata: }\n\n");
    }
}
