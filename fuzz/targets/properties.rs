//! Any text as the properties of an event, of which one is looked for.
#![no_main]

use std::borrow::Cow;

use gristmill_store::{elements, number, property};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (&str, &str)| {
    let (path, text) = input;
    let found = property(text, path);
    assert!(elements(text).count() <= text.len());
    let _ = number(text);
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return };
    // Of a key that stands twice the parser has the last.
    let is_plain = !path.contains('.') && text.matches(':').count() == object.len();
    match (is_plain, object.get(path)) {
        (false, _) => {}
        (true, None | Some(Value::Null)) => assert_eq!(found, None),
        (true, Some(Value::String(wanted))) => assert_eq!(found, Some(Cow::Borrowed(&**wanted))),
        (true, Some(wanted)) => {
            let found = found.expect("it is there");
            let found: Value = serde_json::from_str(&found).expect("a value is JSON");
            assert_eq!(&found, wanted);
        }
    }
});
