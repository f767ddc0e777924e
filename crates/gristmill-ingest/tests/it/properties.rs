//! Whatever comes in, nothing panics and what is accepted is kept.

use gristmill_ingest::dialect::{activity, clicks, events_post, native, platform, sessions};
use gristmill_ingest::{Encoding, inflate};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::{batch, context, event};

fn everything(body: &[u8]) {
    let ctx = context(None);
    let _ = native::one(body, &ctx);
    let _ = native::batch(body, &ctx, native::Format::Json);
    let _ = native::batch(body, &ctx, native::Format::Ndjson);
    let _ = clicks::one(body, &ctx);
    let _ = platform::one_async(body, &ctx);
    let _ = platform::batch(body, &ctx);
    let _ = sessions::one(body, &ctx);
    let _ = activity::one(body, &ctx);
    let _ = events_post(body, &ctx);
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let _ = inflate(encoding, body.to_vec().into(), 10_000);
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from("2024-07-01T12:34:56Z")),
        Just(Value::from("{\"path\":\"/home\"}")),
    ];
    leaf.prop_recursive(4, 30, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            object(inner).prop_map(Value::Object),
        ]
    })
}

/// Objects of the keys that the dialects know, and others.
fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let known = [
        "id",
        "event_id",
        "eventId",
        "user_id",
        "userId",
        "session_id",
        "sessionId",
        "event_type",
        "eventType",
        "activity_type",
        "timestamp",
        "time_stamp",
        "ts",
        "source",
        "page_url",
        "url",
        "properties",
        "metadata",
        "payload",
        "event",
        "events",
        "user_event",
        "customEvent",
    ];
    let key = prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    prop::collection::btree_map(key, value, 0..10).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        everything(&body);
    }

    #[test]
    fn no_json_panics(body in object(json()), cut in any::<prop::sample::Index>()) {
        let text = Value::Object(body).to_string();
        everything(text.as_bytes());
        everything(format!("[{text},{text}]").as_bytes());
        everything(format!("{{\"events\":[{text}]}}").as_bytes());
        everything(format!("{{\"event\":{text}}}").as_bytes());
        everything(&text.as_bytes()[..cut.index(text.len())]);
    }

    #[test]
    fn properties_are_kept_to_the_byte(properties in object(json()), pretty in any::<bool>()) {
        let properties = Value::Object(properties);
        let text = if pretty {
            serde_json::to_string_pretty(&properties).unwrap()
        } else {
            properties.to_string()
        };
        let body = format!(r#"{{"event_type":"t","properties": {text} ,"id":"1"}}"#);
        let event = event(&body);
        prop_assert_eq!(event.properties.as_ref(), text.as_str());
        prop_assert_eq!(event.id.as_str(), "1");
    }

    #[test]
    fn an_event_is_judged_alike_alone_and_in_a_batch(fields in object(json())) {
        prop_assume!(!fields.contains_key("event"));
        let mut fields = fields;
        fields.insert("id".into(), "fixed".into());
        let text = Value::Object(fields).to_string();
        let wrapped = format!("{{\"event\":{text}}}");
        let listed = format!("[{{\"event_type\":\"a\"}},{text},7]");
        let alone = native::one(text.as_bytes(), &context(None)).unwrap().events;
        prop_assert_eq!(&native::one(wrapped.as_bytes(), &context(None)).unwrap().events, &alone);
        prop_assert_eq!(&batch(&listed).unwrap()[1], &alone[0]);
        let line = native::batch(text.as_bytes(), &context(None), native::Format::Ndjson);
        prop_assert_eq!(line.unwrap().events, alone);
    }
}
