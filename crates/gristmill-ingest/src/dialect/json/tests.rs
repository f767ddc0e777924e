use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A value as `serde_json` would build it, built with the reader.
fn value(reader: &mut Reader<'_>) -> Result<Value, Syntax> {
    Ok(match reader.kind()? {
        Kind::Object => {
            let mut map = serde_json::Map::new();
            reader.object(|reader, key| {
                map.insert(key.into_owned(), value(reader)?);
                Ok::<_, Syntax>(())
            })?;
            Value::Object(map)
        }
        Kind::Array => {
            let mut list = Vec::new();
            reader.array(|reader| {
                list.push(value(reader)?);
                Ok::<_, Syntax>(())
            })?;
            Value::Array(list)
        }
        Kind::String => Value::String(reader.string()?.into_owned()),
        Kind::Number => serde_json::from_str(reader.number()?).unwrap_or(Value::Null),
        Kind::Bool | Kind::Null => serde_json::from_str(reader.skip()?).unwrap(),
    })
}

/// Reads the text in both ways the reader knows; they must agree.
fn read(text: &str) -> Result<(Value, Option<Fault>), Syntax> {
    let mut reader = Reader::new(text);
    let built = value(&mut reader).and_then(|value| reader.end().map(|()| value));
    let built_fault = reader.take_fault();
    let mut reader = Reader::new(text);
    let skipped = reader.skip().and_then(|raw| reader.end().map(|()| raw));
    assert_eq!(built.as_ref().err(), skipped.as_ref().err());
    assert_eq!(skipped.map_or("", |raw| raw), built.as_ref().map_or("", |_| text.trim_ascii()));
    Ok((built?, reader.take_fault().or(built_fault)))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\é]{0,6}", inner, 0..12)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Whether `serde_json` takes a text and the reader notes no fault that it could not see.
fn agrees(text: &str) {
    let oracle = serde_json::from_str::<Value>(text);
    match (oracle, read(text)) {
        (Ok(oracle), Ok((ours, None))) => assert_eq!(oracle, ours, "{text}"),
        // What serde_json takes and the reader notes: keys that stand twice.
        (Ok(_), Ok((_, Some(fault)))) => {
            assert!(matches!(fault, Fault::DuplicateKey(_)), "{text}: {fault}");
        }
        // What serde_json refuses and the reader notes.
        (Err(error), Ok((_, fault))) => {
            let known = matches!(fault, Some(Fault::LoneSurrogate | Fault::InfiniteNumber));
            assert!(known, "{text}: {error}, but {fault:?}");
        }
        (Ok(_), Err(syntax)) => panic!("{text}: {syntax}"),
        (Err(_), Err(_)) => {}
    }
}

proptest! {
    #[test]
    fn any_value_is_read_as_serde_json_reads_it(value in json()) {
        agrees(&value.to_string());
        agrees(&serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn texts_near_json_are_taken_or_refused_as_by_serde_json(
        value in json(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(br#"{}[],:"\ud8ef0019-+.eE ntrl"#.to_vec()),
        cut in any::<bool>(),
    ) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(text) = String::from_utf8(bytes) {
            agrees(&text);
        }
    }

    #[test]
    fn texts_of_json_characters_are_taken_or_refused_as_by_serde_json(
        text in r#"[{}\[\],:"\\ud8bfntrlase0-9+.E \x09\x0a\x00é]{0,24}"#,
    ) {
        agrees(&text);
        agrees(&format!("\"{text}\""));
        agrees(&format!("[{text}]"));
        agrees(&format!("{{\"a\":{text}}}"));
    }
}

#[test]
fn escapes_are_undone() {
    for text in [
        r#""""#,
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\u00e9\u4e2d\ud83d\ude00x""#,
        r#""12345678\n12345678é\u0000""#,
        "\"1234567\u{7f}\u{80}\u{ff}\"",
    ] {
        agrees(text);
    }
}

#[test]
fn half_surrogates_are_noted() {
    for text in
        [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x""#, r#""\ude00\ud83d""#]
    {
        assert_eq!(read(text).unwrap().1, Some(Fault::LoneSurrogate), "{text}");
        agrees(text);
    }
}

#[test]
fn numbers_must_be_finite_and_may_be_long() {
    let long = "9".repeat(400);
    for text in ["1e999", "-1e999", "[1E+400]", &long] {
        assert_eq!(read(text).unwrap().1, Some(Fault::InfiniteNumber), "{text}");
    }
    for text in ["18446744073709551616", "9007199254740993", "1e308", "-0", "1e-999", "0.5"] {
        let mut reader = Reader::new(text);
        assert_eq!(reader.skip(), Ok(text));
        assert_eq!(reader.take_fault(), None);
    }
}

#[test]
fn keys_are_counted_measured_and_compared_after_their_escapes() {
    let keys = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"k{n}\":{n}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let fault = |text: &str| read(text).unwrap().1;
    assert_eq!(fault(&keys(256)), None);
    assert_eq!(fault(&keys(257)), Some(Fault::TooManyKeys));
    assert_eq!(fault(&keys(100_000)), Some(Fault::TooManyKeys));
    assert_eq!(fault(&format!("{{\"{}\":1}}", "k".repeat(256))), None);
    assert_eq!(fault(&format!("{{\"{}\":1}}", "k".repeat(257))), Some(Fault::LongKey));
    let twice = Some(Fault::DuplicateKey("a".into()));
    assert_eq!(fault(r#"{"a":1,"b":{"a":2},"\u0061":3}"#), twice);
    assert_eq!(fault(r#"[{"a":1},{"x":{"a":1,"a":2}}]"#), twice);
    assert_eq!(fault(r#"{"a":{"a":{"b":1}},"b":[{"a":1},{"a":1}]}"#), None);
    let many = keys(100).replace("\"k99\"", "\"k0\"");
    assert_eq!(fault(&many), Some(Fault::DuplicateKey("k0".into())));
}

#[test]
fn keys_that_look_much_alike_are_told_apart() {
    // All have the same length, and the same first, middle and last byte.
    let alike = |count: usize| -> Vec<String> {
        (10..10 + count).map(|n| format!("a{n}-bc{n}d")).collect()
    };
    let fault = |keys: &[String]| {
        let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":0")).collect();
        read(&format!("{{{}}}", members.join(","))).unwrap().1
    };
    for count in [2, 16, 17, 80] {
        let mut keys = alike(count);
        assert_eq!(fault(&keys), None, "{count}");
        keys[count - 1] = r"\u0061".to_owned() + &keys[0][1..];
        assert_eq!(fault(&keys), Some(Fault::DuplicateKey("a10-bc10d".into())), "{count}");
    }
}

#[test]
fn nesting_is_bounded_without_recursion_beyond_the_bound() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(JSON_DEPTH)).is_ok());
    assert!(read(&nested(JSON_DEPTH + 1)).is_err());
    assert!(read(&"[".repeat(1_000_000)).is_err());
    assert!(read(&"{\"a\":".repeat(1_000_000)).is_err());
}
