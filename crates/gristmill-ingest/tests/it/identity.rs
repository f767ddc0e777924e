//! When two posts are one event: the documentation of `dialect`.

use gristmill_ingest::dialect::{Context, native};
use gristmill_model::ProjectId;
use proptest::prelude::*;

use crate::{NOW, context, event};

const TIMED: &str =
    r#"{"event_type":"t","user_id":"u","timestamp":1719837296,"properties":{"a":1}}"#;
const UNTIMED: &str = r#"{"event_type":"t","user_id":"u"}"#;

fn id(body: &str, ctx: &Context<'_>) -> String {
    let events = native::one(body.as_bytes(), ctx).unwrap().events;
    events[0].as_ref().unwrap().id.to_string()
}

fn version(id: &str) -> char {
    assert_eq!(id.len(), 36);
    for (at, character) in id.char_indices() {
        assert_eq!(character == '-', matches!(at, 8 | 13 | 18 | 23), "{id}");
    }
    assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    id.chars().nth(14).unwrap()
}

#[test]
fn an_event_with_its_own_time_is_the_same_when_it_is_sent_again() {
    let first = id(TIMED, &context(None));
    assert_eq!(version(&first), '8');
    // The derivation is for ever: this id was written down when it was made.
    assert_eq!(first, GOLDEN);
    let later = Context { received: NOW.plus(1), ..context(None) };
    assert_eq!(id(TIMED, &later), first);
    let other_words = TIMED.replace("1719837296", "\"2024-07-01T14:34:56+02:00\"");
    assert_eq!(id(&other_words, &context(None)), first);
    assert_eq!(id(&TIMED.replace("{\"event_type\"", "{\"id\":\"\",\"event_type\""), &later), first);
}

const GOLDEN: &str = "9198cb49-bd20-8dcd-b5f1-2ca67567ab72";

#[test]
fn any_difference_is_another_event() {
    let other = Context { project: ProjectId::new("other"), ..context(None) };
    let mut ids = vec![id(TIMED, &context(None)), id(TIMED, &other)];
    for (from, to) in [
        ("\"t\"", "\"u\""),
        ("\"u\"", "\"v\""),
        ("1719837296", "1719837297"),
        ("{\"a\":1}", "{\"a\": 1}"),
        ("{\"a\":1}", "{\"b\":1}"),
        ("{\"event", "{\"source\":\"s\",\"event"),
        ("{\"event", "{\"session_id\":\"s\",\"event"),
        ("{\"event", "{\"page_url\":\"s\",\"event"),
    ] {
        ids.push(id(&TIMED.replacen(from, to, 1), &context(None)));
    }
    ids.push(id(TIMED, &context(Some("k"))));
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[test]
fn without_time_or_key_each_post_is_a_new_event() {
    let ids = [id(UNTIMED, &context(None)), id(UNTIMED, &context(None))];
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        assert_eq!(version(&id), '7');
        let millis = u64::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
        assert_eq!(millis as i64, NOW.0 / 1_000);
    }
    assert_eq!(version(&id(UNTIMED, &context(Some("")))), '7');
}

#[test]
fn a_key_makes_a_repeated_request_the_same_events() {
    let body = format!("[{UNTIMED},{UNTIMED},{TIMED},{TIMED}]");
    let ids = |key: &'static str, received| {
        let ctx = Context { received, ..context(Some(key)) };
        let events = native::batch(body.as_bytes(), &ctx, native::Format::Json).unwrap().events;
        events.into_iter().map(|event| event.unwrap().id.to_string()).collect::<Vec<_>>()
    };
    let first = ids("k", NOW);
    assert_eq!(ids("k", NOW.plus(77)), first);
    assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert!(ids("l", NOW).iter().all(|id| !first.contains(id)));
}

#[test]
fn a_given_id_stays_whatever_else_there_is() {
    let body = r#"{"event_type":"t","id":"mine","timestamp":1}"#;
    assert_eq!(id(body, &context(Some("k"))), "mine");
}

proptest! {
    #[test]
    fn derived_ids_are_equal_for_equal_content_and_else_differ(
        a in ("[a-c]{0,3}", "[a-c]{1,3}", "[a-c]{0,3}", 0..3_i64, "[a-c]{0,3}"),
        b in ("[a-c]{0,3}", "[a-c]{1,3}", "[a-c]{0,3}", 0..3_i64, "[a-c]{0,3}"),
    ) {
        let body = |(user, kind, source, time, value): &(String, String, String, i64, String)| format!(
            r#"{{"user_id":"{user}","event_type":"{kind}","source":"{source}","timestamp":{time},
                "properties":{{"v":"{value}"}}}}"#
        );
        let (first, second) = (body(&a), body(&b));
        prop_assert_eq!(event(&first).id == event(&second).id, a == b);
        prop_assert_eq!(event(&first).id, event(&first).id);
    }
}
