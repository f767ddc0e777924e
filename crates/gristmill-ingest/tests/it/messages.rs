//! Typed events: as messages and as JSON they are the same events.

use std::collections::BTreeMap;

use gristmill_ingest::dialect::message::{self, Message, PayloadKind};
use gristmill_ingest::dialect::{Options, Rejection, Until, native};
use gristmill_model::{Event, Timestamp};

use crate::{NOW, context, decode, event};

fn of(message: &Message<'_>) -> Result<Event<'static>, Rejection> {
    message::event(message, &context(None), 0).map(Event::into_owned)
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_message_and_its_json_are_one_event_down_to_the_derived_id() {
    let properties = texts(&[("plan", "pro \"x\""), ("a", "\u{1}")]);
    let message = Message {
        user: "u",
        session: "s",
        kind: 1,
        time: Some((NOW.0 / 1_000_000, 250_000_999)),
        source: "web",
        payload: Some((
            PayloadKind::User,
            r#"{"action":"click","page_url":"/p","metadata":{"k":"v"}}"#.to_owned(),
        )),
        properties: Some(&properties),
        properties_json: r#" {"n":1.5,"deep":{"x":[null]}} "#,
        ..Message::default()
    };
    let json = r#"{"user_id":"u","session_id":"s","event_type":"EVENT_TYPE_USER","source":"web",
        "timestamp":"2024-07-01T12:34:56.25Z",
        "user_event":{"action":"click","page_url":"/p","metadata":{"k":"v"}},
        "properties":{"a":"\u0001","plan":"pro \"x\"","n":1.5,"deep":{"x":[null]}}}"#;
    let told = of(&message).unwrap();
    assert_eq!(told, event(json));
    assert_eq!((&*told.event_type, &*told.page_url), ("click", "/p"));
    assert_eq!(told.id.as_str().chars().nth(14), Some('8'), "derived: {}", told.id);
}

#[test]
fn what_an_event_is_asked_by() {
    for (members, event_type) in [
        (r#""event_type":"EVENT_TYPE_USER""#, "EVENT_TYPE_USER"),
        (r#""event_type":1"#, "EVENT_TYPE_USER"),
        (r#""eventType":"EVENT_TYPE_USER","user_event":{"action":"click"}"#, "click"),
        (r#""event_type":1,"user_event":{"action":""}"#, "EVENT_TYPE_USER"),
        (r#""user_event":{"pageUrl":"/"}"#, "EVENT_TYPE_USER"),
        (r#""event_type":4,"custom_event":{"name":"Level Up"}"#, "Level Up"),
        (r#""event_type":2,"transaction_event":{"type":"TRANSACTION_TYPE_REFUND"}"#, "refund"),
        (r#""event_type":2,"transaction_event":{"type":1}"#, "purchase"),
        (r#""event_type":2,"transaction_event":{"type":0}"#, "EVENT_TYPE_TRANSACTION"),
        (r#""event_type":2,"transaction_event":{"type":"purchase"}"#, "purchase"),
        (r#""event_type":2,"transaction_event":{"type":"odd"}"#, "EVENT_TYPE_TRANSACTION"),
        (r#""systemEvent":{"type":"SYSTEM_EVENT_TYPE_ERROR"}"#, "error"),
        (r#""event_type":3,"type":"own","system_event":{"type":1}"#, "own"),
        (r#""type":"own""#, "own"),
        (r#""event_type":0,"type":"own""#, "own"),
        (r#""event_type":"free","type":"track","user_event":{"action":"click"}"#, "free"),
        (r#""event_type":"free","type":{"not":"a text"}"#, "free"),
    ] {
        assert_eq!(event(&format!("{{{members}}}")).event_type, event_type, "{members}");
    }
    for nothing in [r#""event_type":0"#, r#""event_type":"EVENT_TYPE_UNSPECIFIED""#, r#""type":1"#]
    {
        let rejection = decode(&format!("{{{nothing}}}")).unwrap_err();
        assert_eq!(rejection.pointer, "/event_type", "{nothing}");
    }
    for (kind, own, event_type) in [
        (1, "", Ok("EVENT_TYPE_USER")),
        (0, "own", Ok("own")),
        (3, "own", Ok("own")),
        (0, "", Err("/event_type")),
        (9, "own", Err("/event_type")),
        (-1, "own", Err("/event_type")),
    ] {
        let told = of(&Message { kind, event_type: own, ..Message::default() });
        let told = told.as_ref().map(|event| &*event.event_type).map_err(|wrong| wrong.pointer);
        assert_eq!(told, event_type, "{kind} {own:?}");
    }
}

#[test]
fn payloads_are_kept_in_the_names_of_the_proto_files() {
    for (sent, kept) in [
        (
            r#""userEvent":{"userAgent":"x","userContext":{"deviceType":"m","isNewUser":true},"metadata":{"camelCase":"y"}}"#,
            r#"{"user_event":{"user_agent":"x","user_context":{"device_type":"m","is_new_user":true},"metadata":{"camelCase":"y"}}}"#,
        ),
        (
            r#""transactionEvent":{"transactionId":"t","type":1,"status":2,"items":[{"itemId":"i"},{"name":"n"}],"metadata":{"customFields":{"aB":"c"}}}"#,
            r#"{"transaction_event":{"transaction_id":"t","type":"TRANSACTION_TYPE_PURCHASE","status":"TRANSACTION_STATUS_COMPLETED","items":[{"item_id":"i"},{"name":"n"}],"metadata":{"custom_fields":{"aB":"c"}}}}"#,
        ),
        (
            r#""systemEvent":{"severity":4,"metrics":{"cpuUsage":0.5}}"#,
            r#"{"system_event":{"severity":"SYSTEM_SEVERITY_CRITICAL","metrics":{"cpu_usage":0.5}}}"#,
        ),
        // What is right already is not touched, nor what is said twice, nor what is not known.
        (r#""user_event":{ "user_agent" : "x" }"#, r#"{"user_event":{ "user_agent" : "x" }}"#),
        (
            r#""user_event":{"userAgent":1,"user_agent":2}"#,
            r#"{"user_event":{"userAgent":1,"user_agent":2}}"#,
        ),
        (
            r#""custom_event":{"attributes":{"aB":1},"myOwn":[1]}"#,
            r#"{"custom_event":{"attributes":{"aB":1},"myOwn":[1]}}"#,
        ),
    ] {
        assert_eq!(event(&format!(r#"{{"event_type":"t",{sent}}}"#)).properties, kept);
    }
}

#[test]
fn messages_that_are_wrong_say_which_field_is() {
    let own = || Message { id: "e", event_type: "t", ..Message::default() };
    let some = texts(&[("a", "1"), ("user_event", "x")]);
    let long = "x".repeat(513);
    let user = |text: &str| Some((PayloadKind::User, text.to_owned()));
    for (what, message, pointer) in [
        ("nanoseconds", Message { time: Some((0, -1)), ..own() }, "/timestamp"),
        ("nanoseconds", Message { time: Some((0, 1_000_000_000)), ..own() }, "/timestamp"),
        ("year 0", Message { time: Some((-62_135_596_801, 0)), ..own() }, "/timestamp"),
        ("year 10000", Message { time: Some((i64::MAX, 0)), ..own() }, "/timestamp"),
        ("ahead", Message { time: Some((NOW.0 / 1_000_000 + 86_401, 0)), ..own() }, "/timestamp"),
        ("user", Message { user: &long, ..own() }, "/user_id"),
        ("control", Message { id: "\u{1}", ..own() }, "/id"),
        ("array", Message { properties_json: "[]", ..own() }, "/properties_json"),
        ("no json", Message { properties_json: "{\"a\":}", ..own() }, "/properties_json"),
        (
            "twice",
            Message { properties: Some(&some), properties_json: "{\"a\":2}", ..own() },
            "/properties_json",
        ),
        (
            "payload",
            Message { properties: Some(&some), payload: user("{}"), ..own() },
            "/properties",
        ),
        ("key twice", Message { properties_json: "{\"a\":1,\"a\":2}", ..own() }, ""),
        ("infinite", Message { payload: user("{\"x\":1e999}"), ..own() }, ""),
    ] {
        let rejection = of(&message).unwrap_err();
        assert_eq!(rejection.pointer, pointer, "{what}: {rejection}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(62), "]".repeat(62));
    assert!(of(&Message { properties_json: &deep, ..own() }).is_ok());
    let deeper = format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63));
    assert!(of(&Message { properties_json: &deeper, ..own() }).is_err());
    assert!(decode(&format!(r#"{{"event_type":"t","properties":{deep}}}"#)).is_ok());
}

#[test]
fn a_time_before_1970_and_the_earliest_are_taken() {
    let at = |seconds, nanos| {
        let time = Some((seconds, nanos));
        of(&Message { event_type: "t", time, ..Message::default() }).unwrap().time
    };
    assert_eq!(at(-1, 500_000_000), Timestamp(-500_000));
    assert_eq!(at(-62_135_596_800, 0), Timestamp::MIN);
    assert_eq!(at(0, 999), Timestamp(0));
}

#[test]
fn options_are_read_beside_an_event_and_beside_a_batch() {
    let options = |body: &str| {
        let one = native::one(body.as_bytes(), &context(None));
        one.map(|posted| posted.options).map_err(|error| error.to_string())
    };
    let asked =
        |text: &str| options(&format!(r#"{{"event":{{"event_type":"t"}},"options":{text}}}"#));
    assert_eq!(asked("null"), Ok(Options::default()));
    assert_eq!(asked("7"), Ok(Options::default()));
    let all =
        r#"{"async":true,"timeoutSeconds":3,"waitVisible":false,"validate_only":null,"x":[1]}"#;
    let wanted = Options { is_async: true, timeout_seconds: 3, ..Options::default() };
    assert_eq!(asked(all), Ok(wanted));
    assert_eq!(wanted.until(), Ok(Until::Queued));
    for wrong in [r#"{"async":"yes"}"#, r#"{"timeout_seconds":1.5}"#, r#"{"timeout_seconds":"3"}"#]
    {
        assert!(asked(wrong).is_err(), "{wrong}");
    }
    let contradiction = asked(r#"{"async":true,"wait_visible":true}"#).unwrap();
    assert!(contradiction.until().is_err());
    assert!(asked(r#"{"timeout_seconds":-1}"#).unwrap().timeout().is_err());
    // An event of its own may have a member of that name, which means nothing.
    let bare = options(r#"{"event_type":"t","options":{"async":true}}"#);
    assert_eq!(bare, Ok(Options::default()));
    let lines = br#"{"event":{"event_type":"t"},"options":{"validate_only":true}}"#;
    assert!(native::lines(lines, &context(None)).unwrap()[0].is_err());
}
