//! What a client may do wrong in encoding, JSON and fields, natively: 400 for what is no JSON,
//! 422 for an event that is wrong.

use gristmill_ingest::dialect::{BodyError, Rejection, native};
use gristmill_model::{Coded, ErrorCode, limits};

use crate::{batch, context, decode, lines};

fn status(body: &[u8]) -> u16 {
    match native::one(body, &context(None)) {
        Err(error) => error.code().status(),
        Ok(posted) => match &posted.events[..] {
            [Ok(_)] => 200,
            [Err(rejection)] => rejection.code.status(),
            _ => panic!("one event has one result"),
        },
    }
}

fn refused(body: &str) -> Rejection {
    decode(body).unwrap_err()
}

fn with(field: &str, value: &str) -> String {
    match field {
        "event_type" => format!("{{\"event_type\":\"{value}\"}}"),
        _ => format!("{{\"event_type\":\"t\",\"{field}\":\"{value}\"}}"),
    }
}

#[test]
fn other_encodings_are_400() {
    let utf16: Vec<u8> =
        "{\"event_type\":\"t\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe], utf16.as_slice()].concat();
    for body in [
        b"\xef\xbb\xbf{\"event_type\":\"t\"}".as_slice(),
        &utf16,
        &marked,
        b"{\"event_type\":\"\xff\"}",
        b"{\"event_type\":\"\xc0\xaf\"}",
        b"{\"event_type\":\"\xed\xa0\x80\"}",
        b"{\"event_type\":\"t\",\"properties\":{\"a\":\"\xf0\x9f\x98\"}}",
        br#"{"event_type":"\ud800"}"#,
        br#"{"event_type":"t","properties":{"\udfff":1}}"#,
        br#"{"event_type":"t","ignored":["\ud800\ud800"]}"#,
    ] {
        assert_eq!(status(body), 400, "{}", String::from_utf8_lossy(body));
    }
    for body in [b"\xef\xbb\xbf\n".as_slice(), &marked, b""] {
        assert!(lines(body).is_err());
    }
}

#[test]
fn what_is_no_json_is_400() {
    let deep =
        format!(r#"{{"event_type":"t","properties":{}1{}}}"#, "[".repeat(129), "]".repeat(129));
    let endless = "[".repeat(100_000);
    for body in [
        "",
        " ",
        "null",
        "1",
        "\"x\"",
        "true",
        "[]",
        "nul",
        "{",
        "}",
        "{\"event_type\":\"t\"",
        r#"{"event_type":"t"}x"#,
        r#"{"event_type":"t"}{"event_type":"t"}"#,
        r#"{"event_type":"t",}"#,
        r#"{'event_type':'t'}"#,
        r#"{event_type:"t"}"#,
        r#"{"event_type":"t"/*c*/}"#,
        "// c\n{\"event_type\":\"t\"}",
        r#"{"event_type":"t";}"#,
        r#"{"event_type":"t","event_type":"u"}"#,
        r#"{"event_type":"t","id":"1","id":"1"}"#,
        r#"{"event_type":"t","x":1,"x":1}"#,
        r#"{"event_type":"t","properties":{"a":1,"a":1}}"#,
        r#"{"event_type":"t","properties":{"a":{"b":1,"\u0062":1}}}"#,
        r#"{"event_type":"t","properties":{"a":NaN}}"#,
        r#"{"event_type":"t","properties":{"a":Infinity}}"#,
        r#"{"event_type":"t","properties":{"a":-Infinity}}"#,
        r#"{"event_type":"t","properties":{"a":1e999}}"#,
        r#"{"event_type":"t","properties":{"a":01}}"#,
        r#"{"event_type":"t","properties":{"a":+1}}"#,
        r#"{"event_type":"t","properties":{"a":.5}}"#,
        r#"{"event_type":"t","properties":{"a":"\x"}}"#,
        r#"{"event_type":"t","properties":{"a":"\u00g0"}}"#,
        "{\"event_type\":\"a\nb\"}",
        &deep,
        &endless,
    ] {
        assert_eq!(status(body.as_bytes()), 400, "{body:.80}");
    }
    assert!(matches!(batch(&endless), Err(BodyError::Invalid(_))));
    assert!(matches!(batch(r#"[{"event_type":"t"},]"#), Err(BodyError::Invalid(_))));
}

#[test]
fn numbers_are_kept_to_the_last_digit() {
    for number in ["9007199254740993", "18446744073709551616", "1e308", "-0", "0.1000", "1E-7"] {
        let body = format!(r#"{{"event_type":"t","properties":{{"n":{number}}}}}"#);
        assert_eq!(crate::event(&body).properties, format!(r#"{{"n":{number}}}"#));
    }
}

#[test]
fn too_much_of_anything_is_422() {
    let keys: Vec<_> = (0..100_000).map(|n| format!("\"k{n}\":0")).collect();
    let many = keys.join(",");
    let megabyte = "x".repeat(1 << 20);
    for (pointer, body) in [
        ("", format!(r#"{{"event_type":"t","properties":{{{many}}}}}"#)),
        ("", format!(r#"{{"event_type":"t",{many}}}"#)),
        ("", format!(r#"{{"event_type":"t","properties":{{"{megabyte}":1}}}}"#)),
        ("/properties", format!(r#"{{"event_type":"t","properties":{{"a":"{megabyte}"}}}}"#)),
        ("/id", with("id", &"x".repeat(257))),
        ("/user_id", with("user_id", &"x".repeat(513))),
        ("/session_id", with("session_id", &"x".repeat(513))),
        ("/event_type", with("event_type", &"x".repeat(201))),
        ("/source", with("source", &"x".repeat(201))),
        ("/page_url", with("page_url", &"x".repeat(8193))),
    ] {
        let rejection = refused(&body);
        assert_eq!((rejection.pointer, rejection.code), (pointer, ErrorCode::InvalidEvent));
        assert!(rejection.message.len() < 200, "{}", rejection.message);
    }
}

#[test]
fn the_limits_themselves_are_taken() {
    for (field, limit) in [
        ("id", 256),
        ("user_id", 512),
        ("session_id", 512),
        ("event_type", 200),
        ("source", 200),
        ("page_url", 8192),
    ] {
        assert!(decode(&with(field, &"x".repeat(limit))).is_ok(), "{field}");
    }
    let overhead = r#"{"a":""}"#.len();
    let value = "x".repeat(limits::PROPERTIES_BYTES - overhead);
    let body = |value: &str| format!(r#"{{"event_type":"t","properties":{{"a":"{value}"}}}}"#);
    assert!(decode(&body(&value)).is_ok());
    assert!(decode(&body(&(value + "x"))).is_err());
}

#[test]
fn control_characters_in_names_are_422() {
    for field in ["id", "user_id", "session_id", "event_type"] {
        for value in [r"a\u0000b", r"\n", r"\u001f", r"\u007f", "\u{7f}"] {
            let rejection = refused(&with(field, value));
            assert_eq!(rejection.pointer.trim_start_matches('/'), field, "{value}");
        }
    }
    for field in ["source", "page_url"] {
        assert!(decode(&with(field, r"\u0000")).is_err());
        assert!(decode(&with(field, r"\t")).is_ok());
    }
}

#[test]
fn wrong_types_are_422_and_name_the_field() {
    for field in ["id", "user_id", "session_id", "event_type", "source", "page_url"] {
        for value in ["1", "true", "{}", "[1]"] {
            if (field, value) == ("event_type", "1") {
                // That is a user event by its number, as the JSON of protobuf may have it.
                continue;
            }
            let body = match field {
                "event_type" => format!(r#"{{"event_type":{value}}}"#),
                _ => format!(r#"{{"event_type":"t","{field}":{value}}}"#),
            };
            let rejection = refused(&body);
            assert_eq!(rejection.message, format!("`{field}` must be a string"));
            assert_eq!(rejection.code.status(), 422);
        }
    }
    for value in ["1", "\"{}\"", "[]", "false"] {
        let rejection = refused(&format!(r#"{{"event_type":"t","properties":{value}}}"#));
        assert_eq!(rejection.message, "`properties` must be an object");
    }
    for body in ["{}", r#"{"event_type":""}"#, r#"{"event_type":null}"#] {
        assert_eq!(refused(body).message, "`event_type` is missing or empty");
    }
}

#[test]
fn too_many_events_are_counted_and_refused() {
    let event = r#"{"event_type":"t"}"#;
    let full = vec![event; limits::BATCH_EVENTS];
    let over = vec![event; limits::BATCH_EVENTS + 5];
    let array = |events: &[&str]| format!("[{}]", events.join(","));
    assert_eq!(batch(&array(&full)).unwrap().len(), limits::BATCH_EVENTS);
    assert_eq!(lines(full.join("\n").as_bytes()).unwrap().len(), limits::BATCH_EVENTS);
    let refused =
        BodyError::TooMany { count: limits::BATCH_EVENTS + 5, limit: limits::BATCH_EVENTS };
    assert_eq!(batch(&array(&over)).unwrap_err(), refused);
    assert_eq!(lines(over.join("\n").as_bytes()).unwrap_err(), refused);
    assert_eq!(refused.code().status(), 413);
}
