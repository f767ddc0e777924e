//! Records of other producers, as the older systems wrote them.

use gristmill_model::{Origin as Dialect, Timestamp};

use super::*;

fn record(offset: u64, value: &str) -> ForeignRecord<'_> {
    let time = Timestamp(1_750_000_000_000_000);
    ForeignRecord { topic: "t", partition: 2, offset, time, value: value.as_bytes() }
}

fn event(value: &str) -> Event<'static> {
    Dialects.read(&record(7, value)).unwrap()
}

#[test]
fn records_of_older_systems_are_understood() {
    let click = event(
        r#"{"event_id":"e1","user_id":"u1","event_type":"click","page_url":"/home",
            "time_stamp":"2024-05-01T10:00:00.5Z"}"#,
    );
    assert_eq!(
        (click.origin, click.id.as_str(), &*click.page_url),
        (Dialect::Clicks, "e1", "/home")
    );
    assert_eq!(click.time.to_string(), "2024-05-01T10:00:00.5Z");
    assert_eq!(click.received, Timestamp(1_750_000_000_000_000));

    let platform = event(
        r#"{"id":"event_1","user_id":"u2","event_type":"page_view","properties":{"page":"/p"},
            "timestamp":1714557600,"source":"web"}"#,
    );
    assert_eq!((platform.origin, platform.id.as_str()), (Dialect::Platform, "event_1"));
    assert_eq!((&*platform.page_url, &*platform.source), ("/p", "web"));

    let activity = event(
        r#"{"user_id":"u3","activity_type":"page_view","timestamp":"2024-05-01T10:00:00Z",
            "metadata":{"page_url":"/a","referrer":""}}"#,
    );
    assert_eq!((activity.origin, &*activity.page_url), (Dialect::Activity, "/a"));

    let session = event(
        r#"{"eventId":"e4","sessionId":"s4","eventType":"view","payload":"{\"url\":\"/s\"}",
            "ts":"2024-05-01T10:00:00Z"}"#,
    );
    assert_eq!((session.origin, session.id.as_str()), (Dialect::Sessions, "e4"));
    assert_eq!(session.session.as_ref().map(gristmill_model::SessionId::as_str), Some("s4"));

    let native = event(r#"{"event_type":"signup","user_id":"u5","page_url":"/n"}"#);
    assert_eq!((native.origin, &*native.event_type), (Dialect::Native, "signup"));
}

/// Where a record names itself, or tells its own time, its copies are one event; where it does
/// neither, it is named by its place, and always the same.
#[test]
fn an_id_that_is_missing_follows_from_the_record() {
    let timed = r#"{"user_id":"u","activity_type":"a","timestamp":"2024-05-01T10:00:00Z",
                    "metadata":{"page_url":"/a","referrer":""}}"#;
    let untimed = r#"{"event_type":"signup","user_id":"u"}"#;
    let id = |offset, value| Dialects.read(&record(offset, value)).unwrap().id;
    assert_eq!(id(1, timed), id(2, timed));
    assert_eq!(id(1, untimed), id(1, untimed));
    assert_ne!(id(1, untimed), id(2, untimed));
}

#[test]
fn what_makes_no_sense_is_told_with_a_reason() {
    for (value, reason) in [
        ("not json", "invalid JSON"),
        (r#"{"event_id":"e","user_id":"u","event_type":"click"}"#, "page_url"),
        (r#"{"sessionId":"s","eventType":"v","payload":{}}"#, "payload"),
        (r#"{"user_id":"u"}"#, "event_type"),
        ("", "empty"),
    ] {
        let told = Dialects.read(&record(1, value)).unwrap_err();
        assert!(told.contains(reason), "{value}: {told}");
    }
}
