//! The dialects of the four systems, from their own examples.

use gristmill_ingest::dialect::activity::{self, ActivityError};
use gristmill_ingest::dialect::clicks::{self, ClicksError};
use gristmill_ingest::dialect::platform::{self, PlatformError};
use gristmill_ingest::dialect::sessions::{self, SessionsError};
use gristmill_ingest::dialect::{BodyError, EventsPost, events_post};
use gristmill_model::{Event, Origin, Timestamp, limits};

use crate::{NOW, context, told};

const CLICK: &str = r#"{
    "event_id": "test_123",
    "user_id": "user_1",
    "event_type": "click",
    "page_url": "https://example.com",
    "time_stamp": "2025-11-05T20:00:00Z"
  }"#;

const PLATFORM: &str = r#"{
    "id": "event_123",
    "user_id": "user_456", 
    "event_type": "page_view",
    "properties": {
      "page": "/dashboard",
      "duration": "45"
    },
    "timestamp": 1640995200,
    "source": "web-app"
  }"#;

const ACTIVITY: &str = r#"{
    "user_id": "12345",
    "activity_type": "page_view",
    "timestamp": "2024-07-01T12:34:56Z",
    "metadata": {
      "page_url": "https://example.com/home",
      "referrer": "https://google.com"
    }
  }"#;

const SESSION: &str =
    r#"{"sessionId":"test-1","eventType":"page_view","payload":"{\"path\":\"/home\"}"}"#;

fn click(body: &str) -> Result<clicks::Click<'_>, ClicksError> {
    clicks::one(body.as_bytes(), &context(None))
}

fn platform(body: &str) -> Result<Event<'_>, PlatformError> {
    platform::one(body.as_bytes(), &context(None))
}

fn activity(body: &str) -> Result<Event<'_>, ActivityError> {
    activity::one(body.as_bytes(), &context(None))
}

fn session(body: &str) -> Result<Event<'_>, SessionsError> {
    sessions::one(body.as_bytes(), &context(None))
}

#[test]
fn a_click_is_taken_and_echoed() {
    let later = gristmill_ingest::dialect::Context {
        received: Timestamp(1_762_372_800_000_000),
        ..context(None)
    };
    let click = clicks::one(CLICK.as_bytes(), &later).unwrap();
    let event = &click.event;
    assert_eq!((event.id.as_str(), event.user.as_str()), ("test_123", "user_1"));
    assert_eq!((&*event.event_type, &*event.page_url), ("click", "https://example.com"));
    assert_eq!((event.time, event.origin), (Timestamp(1_762_372_800_000_000), Origin::Clicks));
    assert_eq!((&*event.properties, event.session.clone()), ("{}", None));
    assert_eq!(
        serde_json::to_string(&click.echo).unwrap(),
        r#"{"event_id":"test_123","user_id":"user_1","event_type":"click","page_url":"https://example.com","time_stamp":"2025-11-05T20:00:00Z"}"#
    );
}

#[test]
fn a_click_needs_its_four_fields() {
    for field in ["event_id", "user_id", "event_type", "page_url"] {
        for body in [
            CLICK.replace(field, "x"),
            CLICK.replace(&format!("\"{field}\": \""), &format!("\"{field}\":\"\",\"x\":\"")),
        ] {
            assert_eq!(click(&body).unwrap_err(), ClicksError::Missing(field));
        }
    }
    assert_eq!(click("{}").unwrap_err().to_string(), "missing required field: event_id");
    assert_eq!(click("null").unwrap_err(), ClicksError::Missing("event_id"));
}

#[test]
fn a_click_without_time_comes_now_and_one_from_the_future_too() {
    let body = CLICK.replace("time_stamp", "x");
    let without = click(&body).unwrap();
    assert_eq!(
        (without.event.time, without.echo.time_stamp.as_ref()),
        (NOW, "2024-07-01T12:34:56Z")
    );
    let future = click(CLICK).unwrap();
    assert_eq!((future.event.time, future.echo.time_stamp.as_ref()), (NOW, "2025-11-05T20:00:00Z"));
}

#[test]
fn the_keys_of_a_click_are_known_in_any_case() {
    let upper = CLICK.replace("event_id", "Event_ID").replace("user_id", "USER_ID");
    assert_eq!(click(&upper).unwrap().echo, click(CLICK).unwrap().echo);
    let twice = CLICK.replace("\"user_1\"", "\"a\", \"user_id\": \"b\", \"more\": [1]");
    assert_eq!(click(&twice).unwrap().event.user.as_str(), "b");
}

#[test]
fn a_broken_click_is_told_so() {
    for body in [
        "",
        "x",
        "[]",
        "1",
        "{} {}",
        "{\"event_id\": 1}",
        "{\"event_id\":\"\\ud800\"}",
        &CLICK.replace("2025-11-05T20:00:00Z", "yesterday"),
        &CLICK.replace("2025-11-05T20:00:00Z", "1762372800"),
        &CLICK.replace("\"2025-11-05T20:00:00Z\"", "1762372800"),
    ] {
        assert_eq!(click(body).unwrap_err().to_string(), "invalid json body", "{body}");
    }
    let long = CLICK.replace("user_1", &"x".repeat(513));
    assert!(matches!(click(&long).unwrap_err(), ClicksError::Refused(_)));
}

#[test]
fn a_platform_event_is_taken() {
    let event = platform(PLATFORM).unwrap();
    assert_eq!((event.id.as_str(), event.user.as_str()), ("event_123", "user_456"));
    assert_eq!((&*event.event_type, &*event.source), ("page_view", "web-app"));
    assert_eq!((&*event.page_url, event.origin), ("/dashboard", Origin::Platform));
    assert_eq!(event.time, Timestamp(1_640_995_200_000_000));
    let properties: serde_json::Value = serde_json::from_str(&event.properties).unwrap();
    assert_eq!(properties["duration"], "45");
}

#[test]
fn a_platform_event_needs_id_and_type_only() {
    assert!(platform(r#"{"id":"1","event_type":"t"}"#).is_ok());
    for body in
        ["{}", r#"{"id":"1"}"#, r#"{"event_type":"t"}"#, r#"{"id":"","event_type":"t"}"#, "null"]
    {
        assert_eq!(platform(body).unwrap_err().to_string(), "Event ID and type are required");
    }
}

#[test]
fn platform_times_are_whole_seconds() {
    let time = |text: &str| {
        platform(&format!(r#"{{"id":"1","event_type":"t","timestamp":{text}}}"#)).map(|e| e.time)
    };
    assert_eq!(time("1640995200"), Ok(Timestamp(1_640_995_200_000_000)));
    assert_eq!(time("-5"), Ok(Timestamp(-5_000_000)));
    for text in ["0", "null", "1640995200000", "9223372036854775807"] {
        assert_eq!(time(text), Ok(NOW), "{text}");
    }
    for text in
        ["\"2024-01-01T00:00:00Z\"", "\"1640995200\"", "1.5", "1e3", "9223372036854775808", "true"]
    {
        let error = time(text).unwrap_err();
        assert!(error.to_string().starts_with("Invalid JSON: json: cannot unmarshal"), "{error}");
    }
    assert!(matches!(time("-9223372036854775808"), Err(PlatformError::Refused(_))));
}

#[test]
fn platform_properties_may_be_any_json() {
    let body = r#"{"id":"1","event_type":"t","properties":{"a":1,"b":{"c":[null,true]}}}"#;
    assert_eq!(platform(body).unwrap().properties, r#"{"a":1,"b":{"c":[null,true]}}"#);
    let null = r#"{"ID":"1","Event_Type":"t","properties":null}"#;
    assert_eq!(platform(null).unwrap().properties, "{}");
    for bad in ["[]", "1", "\"x\"", r#"{"a":1,"a":2}"#, r#"{"a":1e999}"#] {
        let body = format!(r#"{{"id":"1","event_type":"t","properties":{bad}}}"#);
        assert!(matches!(platform(&body), Err(PlatformError::Json(_))), "{bad}");
    }
}

#[test]
fn broken_platform_json_is_told_so() {
    for body in
        ["", "{", "[]", "1", r#"{"id":1,"event_type":"t"}"#, r#"{"id":"1","event_type":"t"} x"#]
    {
        let text = platform(body).unwrap_err().to_string();
        assert!(text.starts_with("Invalid JSON: "), "{text}");
        assert!(platform::one_async(body.as_bytes(), &context(None)).is_err());
    }
    assert_eq!(
        platform(r#"{"id":1}"#).unwrap_err().to_string(),
        "Invalid JSON: json: cannot unmarshal number into Go struct field Event.id of type string"
    );
}

#[test]
fn an_async_platform_event_is_taken_whatever_it_lacks() {
    let ctx = context(None);
    let event = platform::one_async(b"{}", &ctx).unwrap();
    assert_eq!((&*event.event_type, event.user.as_str()), ("", ""));
    assert_eq!(event.id.as_str().len(), 36);
    assert_eq!(
        platform::one_async(PLATFORM.as_bytes(), &ctx).unwrap(),
        platform(PLATFORM).unwrap()
    );
}

#[test]
fn a_platform_batch_gives_a_result_per_event() {
    let ctx = context(None);
    let long = "x".repeat(300);
    let body = format!(
        r#"{{"events":[{PLATFORM},{{"id":"{long}","event_type":"b"}},{{"event_type":"c"}}]}}"#
    );
    let events = platform::batch(body.as_bytes(), &ctx).unwrap();
    assert_eq!(told(&events), [Ok("page_view"), Err("/id"), Ok("c")]);
    assert_eq!(events[1].as_ref().unwrap_err().id, long);
    for empty in ["{}", r#"{"events":[]}"#, r#"{"events":null}"#, "null"] {
        assert_eq!(platform::batch(empty.as_bytes(), &ctx).unwrap(), [], "{empty}");
    }
    for bad in ["", "[]", r#"{"events":{}}"#, r#"{"events":[1]}"#, r#"{"events":[{"id":1}]}"#] {
        let error = platform::batch(bad.as_bytes(), &ctx).unwrap_err();
        assert!(matches!(error, PlatformError::Json(_)), "{bad}");
    }
    let many = format!(r#"{{"events":[{}]}}"#, vec!["{}"; limits::BATCH_EVENTS + 1].join(","));
    let error = platform::batch(many.as_bytes(), &ctx).unwrap_err();
    assert!(matches!(error, PlatformError::TooMany(BodyError::TooMany { .. })));
}

#[test]
fn an_activity_is_taken_and_is_the_same_when_sent_again() {
    let event = activity(ACTIVITY).unwrap();
    assert_eq!((event.user.as_str(), &*event.event_type), ("12345", "page_view"));
    assert_eq!((event.time, event.origin), (NOW, Origin::Activity));
    assert_eq!(event.page_url, "https://example.com/home");
    assert!(event.properties.starts_with('{') && event.properties.contains("google.com"));
    assert_eq!(activity(ACTIVITY).unwrap().id, event.id);
}

#[test]
fn what_an_activity_lacks_is_told_as_its_validator_does() {
    let line = |path: &str, field: &str| {
        format!(
            "Key: 'UserActivity.{path}' Error:Field validation for '{field}' failed on the 'required' tag"
        )
    };
    let lines = [
        line("UserID", "UserID"),
        line("ActivityType", "ActivityType"),
        line("Timestamp", "Timestamp"),
        line("Metadata.PageURL", "PageURL"),
    ];
    for body in ["{}", r#"{"user_id":"","metadata":{}}"#, r#"{"metadata":null}"#] {
        assert_eq!(activity(body).unwrap_err().to_string(), lines.join("\n"));
    }
    let without = ACTIVITY.replace("activity_type", "x");
    assert_eq!(activity(&without).unwrap_err().to_string(), lines[1]);
    let without = ACTIVITY.replace("page_url", "x");
    assert_eq!(activity(&without).unwrap_err().to_string(), lines[3]);
    let without = ACTIVITY.replace("referrer", "x");
    assert!(activity(&without).is_ok());
}

#[test]
fn a_broken_activity_is_told_so() {
    for body in
        ["", "x", "[]", r#"{"user_id":1}"#, r#"{"metadata":"x"}"#, r#"{"metadata":{"page_url":1}}"#]
    {
        assert!(matches!(activity(body), Err(ActivityError::Json(_))), "{body}");
    }
    let body = ACTIVITY.replace("2024-07-01T12:34:56Z", "some day");
    assert!(matches!(activity(&body), Err(ActivityError::Refused(_))));
    let body = ACTIVITY.replace("\"referrer\"", "\"k\":1,\"k\"");
    assert!(matches!(activity(&body), Err(ActivityError::Json(_))));
    let body = ACTIVITY.replace("2024-07-01T12:34:56Z", "1719837296");
    assert_eq!(activity(&body).unwrap().time, NOW);
}

#[test]
fn a_session_event_is_taken() {
    let event = session(SESSION).unwrap();
    assert_eq!((event.user.as_str(), &*event.event_type), ("test-1", "page_view"));
    assert_eq!(event.session.as_ref().unwrap().as_str(), "test-1");
    assert_eq!((&*event.properties, &*event.page_url), (r#"{"path":"/home"}"#, "/home"));
    assert_eq!((event.time, event.origin), (NOW, Origin::Sessions));
    let full = r#"{"eventId":"e","sessionId":"s","eventType":"t","payload":"p","ts":"2024-07-01T12:00:00.5Z"}"#;
    let event = session(full).unwrap();
    assert_eq!((event.id.as_str(), event.time), ("e", Timestamp(1_719_835_200_500_000)));
}

#[test]
fn a_payload_that_is_no_object_is_kept_as_text() {
    for raw in [
        r#""plain""#,
        r#""[1,2]""#,
        r#""{\"a\":""#,
        r#""{\"a\":1,\"a\":2}""#,
        r#""{} {}""#,
        r#""é\n\"q\"""#,
        "12.50",
        "true",
    ] {
        let body = format!(r#"{{"sessionId":"s","eventType":"t","payload":{raw}}}"#);
        assert_eq!(session(&body).unwrap().properties, format!(r#"{{"payload":{raw}}}"#));
    }
}

#[test]
fn a_session_event_needs_its_three_fields() {
    for field in ["sessionId", "eventType", "payload"] {
        for value in ["\"\"", "\" \\t\"", "null"] {
            let body =
                SESSION.replace(&format!("\"{field}\":"), &format!("\"{field}\":{value},\"x\":"));
            assert_eq!(session(&body).unwrap_err(), SessionsError::Blank(field));
        }
        let body = SESSION.replace(&format!("\"{field}\":"), &format!("\"{field}\":{{}},\"x\":"));
        assert!(matches!(session(&body).unwrap_err(), SessionsError::Json(_)));
    }
    for body in ["", "[]", "null", "{"] {
        assert!(matches!(session(body), Err(SessionsError::Json(_))), "{body}");
    }
    let ts = |value: &str| {
        session(&SESSION.replacen('{', &format!("{{\"ts\":{value},"), 1)).map(|e| e.time)
    };
    assert_eq!(ts("1719837295.5"), Ok(NOW.plus(-500_000)));
    assert_eq!(ts("\"2030-01-01T00:00:00Z\""), Ok(NOW));
    assert!(ts("\"x\"").is_err() && ts("[]").is_err());
}

#[test]
fn one_route_serves_two_dialects() {
    let post = |body: &str| match events_post(body.as_bytes(), &context(None)) {
        EventsPost::Platform(result) => ("platform", result.is_ok()),
        EventsPost::Sessions(result) => ("sessions", result.is_ok()),
    };
    assert_eq!(post(PLATFORM), ("platform", true));
    assert_eq!(post(SESSION), ("sessions", true));
    assert_eq!(post(r#"{"sessionId":"s"}"#), ("sessions", false));
    assert_eq!(post(r#"{"sessionId":"s","eventType":"t","payload":{}}"#), ("sessions", false));
    assert_eq!(post(r#"{"sessionId":"s","eventType":"t","payl"#), ("sessions", false));
    assert_eq!(post(r#"{"id":"1","event_type":"t","payload":"x"}"#), ("platform", true));
    for body in ["", "{}", "x", "[]", r#"{"event_type":"t"}"#] {
        assert_eq!(post(body), ("platform", false), "{body}");
    }
}
