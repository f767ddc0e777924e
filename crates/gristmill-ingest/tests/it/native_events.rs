use std::borrow::Cow;

use gristmill_model::{Event, EventId, Origin, ProjectId, SessionId, Timestamp, UserId};

use crate::{NOW, batch, event, lines, told};

#[test]
fn every_field_is_taken() {
    let body = r#" {
        "id": "e-1", "user_id": "u-1", "session_id": "s-1", "event_type": "view",
        "timestamp": "2024-07-01T14:34:55.25+02:00", "source": "web", "page_url": "/a?b=\u0026",
        "properties": {"n": 1e0, "b": [true, null], "s": "\u00e9"}
    } "#;
    assert_eq!(
        event(body),
        Event {
            project: ProjectId::new("default"),
            id: EventId::new("e-1"),
            user: UserId::new("u-1"),
            session: Some(SessionId::new("s-1")),
            event_type: Cow::Borrowed("view"),
            time: NOW.plus(-750_000),
            received: NOW,
            source: Cow::Borrowed("web"),
            page_url: Cow::Borrowed("/a?b=&"),
            origin: Origin::Native,
            properties: Cow::Borrowed(r#"{"n": 1e0, "b": [true, null], "s": "\u00e9"}"#),
        }
    );
}

#[test]
fn a_good_event_is_borrowed_whole() {
    let body = r#"{"id":"1","user_id":"u","event_type":"t","source":"s","page_url":"p",
                   "session_id":"x","timestamp":1719837296,"properties":{"a":1}}"#;
    let event = event(body);
    let range = body.as_bytes().as_ptr_range();
    for text in [
        event.id.as_str(),
        event.user.as_str(),
        &event.event_type,
        &event.source,
        &event.page_url,
        &event.properties,
        event.session.as_ref().unwrap().as_str(),
    ] {
        assert!(range.contains(&text.as_ptr()), "{text}");
    }
}

#[test]
fn a_type_is_enough() {
    let event = event(r#"{"event_type":"t"}"#);
    assert_eq!((event.user.as_str(), event.session.clone()), ("", None));
    assert_eq!((event.time, event.received), (NOW, NOW));
    assert_eq!((&*event.source, &*event.page_url, &*event.properties), ("", "", "{}"));
}

#[test]
fn null_and_empty_texts_are_absent() {
    let event = event(
        r#"{"event_type":"t","id":null,"user_id":null,"session_id":"","timestamp":null,
            "source":null,"page_url":null,"properties":null}"#,
    );
    assert_eq!((event.user.as_str(), event.session.clone(), event.time), ("", None, NOW));
    assert_eq!(event.id.as_str().len(), 36);
    assert_eq!(event.properties, "{}");
}

#[test]
fn an_event_may_be_wrapped() {
    // As the platform's own documentation posts it.
    let wrapped = r#"{
    "event": {
      "id": "evt-123",
      "user_id": "user-456",
      "event_type": "EVENT_TYPE_USER",
      "timestamp": "2024-01-01T12:00:00Z",
      "source": "web-app"
    }
  }"#;
    let event = event(wrapped);
    assert_eq!((event.id.as_str(), event.user.as_str()), ("evt-123", "user-456"));
    assert_eq!((&*event.event_type, &*event.source), ("EVENT_TYPE_USER", "web-app"));
    assert_eq!(event.time, Timestamp(1_704_110_400_000_000));

    let with_options = r#"{"options":{"async":true},"event":{"event_type":"t"},"x":1}"#;
    assert_eq!(self::event(with_options).event_type, "t");
    let not_wrapped = r#"{"event_type":"outer","event":{"event_type":"inner"}}"#;
    assert_eq!(self::event(not_wrapped).event_type, "outer");
    let twice = r#"{"event":{"event":{"event_type":"t"}}}"#;
    assert_eq!(crate::decode(twice).unwrap_err().pointer, "/event_type");
}

#[test]
fn the_protobuf_names_are_understood() {
    let event = event(
        r#"{"id":"1","userId":"u","sessionId":"s","eventType":"EVENT_TYPE_USER",
            "timestamp":"2024-01-01T12:00:00Z","properties":{"page":"/p","k":"v"},
            "userEvent":{"action":"click","pageUrl":"/from-payload","metadata":{"a":"b"}}}"#,
    );
    assert_eq!((event.user.as_str(), event.page_url.as_ref()), ("u", "/from-payload"));
    assert_eq!(event.session.unwrap().as_str(), "s");
    assert_eq!(
        event.properties,
        r#"{"user_event":{"action":"click","page_url":"/from-payload","metadata":{"a":"b"}},"page":"/p","k":"v"}"#
    );
    for (name, properties) in [
        ("transaction_event", r#"{"transaction_event":{"amount":1.5}}"#),
        ("systemEvent", r#"{"system_event":{"amount":1.5}}"#),
        ("custom_event", r#"{"custom_event":{"amount":1.5}}"#),
    ] {
        for empty in ["", r#","properties":{ }"#, r#","properties":null"#] {
            let body = format!(r#"{{"event_type":"t","{name}":{{"amount":1.5}}{empty}}}"#);
            let text = self::event(&body).properties.into_owned();
            assert_eq!(text.replace(' ', ""), properties);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}

#[test]
fn two_payloads_or_a_payload_and_its_name_are_refused() {
    let two = r#"{"event_type":"t","user_event":{},"custom_event":{}}"#;
    assert_eq!(crate::decode(two).unwrap_err().pointer, "");
    let name = r#"{"event_type":"t","user_event":{},"properties":{"user_event":1}}"#;
    assert_eq!(crate::decode(name).unwrap_err().pointer, "/properties");
    let other = r#"{"event_type":"t","user_event":{},"properties":{"custom_event":1}}"#;
    assert_eq!(event(other).properties, r#"{"user_event":{},"custom_event":1}"#);
}

#[test]
fn the_page_is_the_first_that_is_found() {
    for (fields, page) in [
        (r#""page_url":"/1","url":"/2""#, "/1"),
        (r#""path":"/4","url":"/2","page":"/3""#, "/2"),
        (r#""path":"/4","properties":{"page_url":"/5"}"#, "/4"),
        (r#""page_url":"","properties":{"path":"/8","page":"/7","url":"/6"}"#, "/6"),
        (r#""url":7,"properties":{"url":{},"page":"","path":"/8"}"#, "/8"),
        (
            r#""properties":{"url":"/b","nested":{"page_url":"/no"}},"user_event":{"url":"/a"}"#,
            "/a",
        ),
        (r#""properties":{"nested":{"page_url":"/no"}}"#, ""),
        (r#""properties":{"url":"a\u0000b","path":"/8"}"#, "/8"),
    ] {
        let body = format!(r#"{{"event_type":"t",{fields}}}"#);
        assert_eq!(event(&body).page_url, page, "{fields}");
    }
    let long = "x".repeat(8 * 1024 + 1);
    let body = format!(r#"{{"event_type":"t","properties":{{"url":"{long}","page":"/p"}}}}"#);
    assert_eq!(event(&body).page_url, "/p");
}

#[test]
fn unknown_fields_are_ignored_and_set_nothing() {
    let event = event(
        r#"{"event_type":"t","project":"other","tenant_id":"x","received":1,"received_at":"2001-01-01T00:00:00Z",
            "origin":"clicks","offset":7,"position":"p0-1","__proto__":{"a":1},"constructor":[{}]}"#,
    );
    assert_eq!(event.project.as_str(), "default");
    assert_eq!((event.received, event.origin), (NOW, Origin::Native));
    assert_eq!(event.properties, "{}");
}

#[test]
fn texts_are_kept_as_they_are() {
    let body =
        r#"{"event_type":" T ","id":"  ","user_id":"'; DROP TABLE x;--","session_id":"../🎉"}"#;
    let event = event(body);
    assert_eq!((&*event.event_type, event.id.as_str()), (" T ", "  "));
    assert_eq!(event.user.as_str(), "'; DROP TABLE x;--");
    assert_eq!(event.session.unwrap().as_str(), "../🎉");
}

#[test]
fn times_come_in_every_form() {
    for (text, micros) in [
        (r#""2024-07-01T12:34:56Z""#, NOW.0),
        ("1719837296", NOW.0),
        ("1719837296.000001", NOW.0 + 1),
        ("1719837296000", NOW.0),
        ("1719837296000001", NOW.0 + 1),
        (r#""1719837296""#, NOW.0),
        ("-1", -1_000_000),
        ("0", 0),
        (r#""0001-01-01T00:00:00Z""#, Timestamp::MIN.0),
        (r#""2024-07-02T12:34:56Z""#, NOW.0 + Timestamp::DAY),
    ] {
        let body = format!(r#"{{"event_type":"t","timestamp":{text}}}"#);
        assert_eq!(event(&body).time, Timestamp(micros), "{text}");
    }
    for text in [
        r#""2024-07-02T12:34:57Z""#,
        r#""""#,
        r#""yesterday""#,
        r#""2024-07-01T12:34:56""#,
        r#""Mon, 01 Jul 2024 12:34:56 GMT""#,
        "1e9",
        "1719837296000000000",
        "true",
        "[]",
        "{}",
    ] {
        let body = format!(r#"{{"event_type":"t","timestamp":{text}}}"#);
        let rejection = crate::decode(&body).unwrap_err();
        assert_eq!(rejection.pointer, "/timestamp", "{text}");
        assert!(rejection.message.contains("`timestamp`"), "{}", rejection.message);
    }
}

#[test]
fn a_batch_is_an_array_or_its_object() {
    for body in [
        r#"[{"event_type":"a"},{"event_type":"b"}]"#,
        r#" {"events":[ {"event_type":"a"} , {"event_type":"b"} ]} "#,
        r#"{"options":{"x":[1]},"events":[{"event_type":"a"},{"event_type":"b"}],"more":null}"#,
    ] {
        assert_eq!(told(&batch(body).unwrap()), [Ok("a"), Ok("b")], "{body}");
    }
    for body in ["[]", r#"{"events":[]}"#, " [ ] "] {
        assert_eq!(batch(body).unwrap(), [], "{body}");
    }
    for body in
        [r#"{}"#, r#"{"events":null}"#, r#"{"events":{}}"#, r#"{"events":[],"events":[]}"#, "1"]
    {
        assert!(batch(body).is_err(), "{body}");
    }
}

#[test]
fn one_bad_event_leaves_the_others_of_its_batch() {
    let events = batch(
        r#"[{"event_type":"a"}, {"event_type":7,"id":"x"}, 1, null, [], "s", {},
            {"event_type":"t","properties":{"a":1,"a":2},"id":"y"},
            {"event_type":"t","properties":{"a":"\ud800"}}, {"event_type":"t","properties":1e999},
            {"event":{"event_type":"t"}}, {"event_type":"z"}]"#,
    )
    .unwrap();
    let e = |pointer| Err(pointer);
    assert_eq!(
        told(&events),
        [
            Ok("a"),
            e("/event_type"),
            e(""),
            e(""),
            e(""),
            e(""),
            e("/event_type"),
            e(""),
            e(""),
            e(""),
            e("/event_type"),
            Ok("z"),
        ]
    );
    assert_eq!(events[1].as_ref().unwrap_err().id, "x");
    assert_eq!(events[7].as_ref().unwrap_err().id, "y");
    assert_eq!(events[7].as_ref().unwrap_err().code.status(), 400);
    assert_eq!(events[1].as_ref().unwrap_err().code.status(), 422);
}

#[test]
fn the_id_of_a_rejected_event_is_told_wherever_it_stands() {
    for body in [r#"{"id":"x","event_type":5}"#, r#"{"event_type":5,"id":"x"}"#] {
        assert_eq!(crate::decode(body).unwrap_err().id, "x");
    }
}

#[test]
fn lines_are_events_of_their_own() {
    let long = format!(r#"{{"event_type":"t","x":"{}"}}"#, "x".repeat(256 * 1024));
    let body = [
        br#"{"event_type":"a"}"#.as_slice(),
        b"\r\n\n  \r\n",
        br#"{"event_type":"b"} "#,
        b"\r\n",
        br#"{"event_type":"#,
        b"\n",
        b"{\"event_type\":\"\xff\"}\n",
        long.as_bytes(),
        b"\n{\"event_type\":\"t\"} {}\n",
        br#"{"event":{"event_type":"wrapped"}}"#,
        b"\n[]\n",
        br#"{"event_type":"last"}"#,
    ]
    .concat();
    let events = lines(&body).unwrap();
    let e = Err("");
    assert_eq!(told(&events), [Ok("a"), Ok("b"), e, e, e, e, Ok("wrapped"), e, Ok("last")]);
    let status = |at: usize| events[at].as_ref().unwrap_err().code.status();
    assert_eq!([2, 3, 4, 5, 7].map(status), [400, 400, 422, 400, 422]);
    assert_eq!(lines(b"\n\r\n").unwrap(), []);
}
