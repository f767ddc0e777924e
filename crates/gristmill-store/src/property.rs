//! Reads one property out of the JSON text of an event's properties.
//!
//! The text is scanned once and values are skipped, not built, because this runs once per event
//! for every property that has no column of its own. The text was checked when the event came
//! in; should it be damaged all the same, what cannot be read counts as absent.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// The value at `path` in the JSON object `properties`: the text of a string, the JSON text of
/// any other value. `None` if there is no such key or its value is `null`; the empty string is a
/// value. Of repeated keys the first counts.
///
/// `path` is tried as one key first; if the object has no such key and `path` has a dot, what
/// comes after the first dot is looked for in the object that the part before it names.
pub fn property<'a>(properties: &'a str, path: &str) -> Option<Cow<'a, str>> {
    text_of(find(properties, path)?)
}

/// The property at one path, looked for in many objects, most of which may not have it.
pub(crate) struct PropertyAt<'p> {
    path: &'p str,
    last_name: memmem::Finder<'p>,
}

impl<'p> PropertyAt<'p> {
    pub(crate) fn new(path: &'p str) -> Self {
        let last_name = path.rsplit('.').next().unwrap_or(path);
        Self { path, last_name: memmem::Finder::new(last_name) }
    }

    /// As [`property`].
    pub(crate) fn of<'a>(&self, properties: &'a str) -> Option<Cow<'a, str>> {
        let bytes = properties.as_bytes();
        // Whatever the path leads through, a key ends with its last name, in plain or escaped.
        let may_have = self.last_name.find(bytes).is_some() || memchr(b'\\', bytes).is_some();
        if may_have { property(properties, self.path) } else { None }
    }
}

/// The number that a text is.
pub fn number(text: &str) -> Option<f64> {
    // `inf`, `nan` and the like are texts.
    let is_number =
        text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    if is_number { text.parse().ok() } else { None }
}

/// The number that a text is; NaN if there is no text, or it is no number or one without bounds.
pub(crate) fn finite_number(text: Option<&str>) -> f64 {
    text.and_then(number).filter(|number| number.is_finite()).unwrap_or(f64::NAN)
}

/// The members of a JSON object in order: each key and the JSON text of its value.
pub(crate) fn members(object: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let mut scanner = Scanner { text: object, at: 0 };
    let is_object = scanner.expect(b'{').is_some();
    std::iter::from_fn(move || {
        let (key, value) = if is_object { scanner.member() } else { None }?;
        Some((unescape(key), value))
    })
}

/// The elements of a JSON array in order, each as JSON text; nothing of any other value.
pub fn elements(array: &str) -> impl Iterator<Item = &str> {
    let mut scanner = Scanner { text: array, at: 0 };
    let is_array = scanner.expect(b'[').is_some();
    std::iter::from_fn(move || if is_array { scanner.element() } else { None })
}

/// What a property whose value has this JSON text is: see [`property`].
pub(crate) fn text_of(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => Some(unescape(value.get(1..value.len() - 1)?)),
        b'n' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

/// The JSON text of the value at `path`.
fn find<'a>(object: &'a str, path: &str) -> Option<&'a str> {
    let parent = path.split_once('.');
    let mut inner = None;
    let mut scanner = Scanner { text: object, at: 0 };
    scanner.expect(b'{')?;
    while let Some((key, value)) = scanner.member() {
        if names(key, path) {
            return Some(value);
        }
        if let Some((head, rest)) = parent
            && inner.is_none()
            && names(key, head)
        {
            inner = Some((value, rest));
        }
    }
    let (value, rest) = inner?;
    find(value, rest)
}

/// Whether the text between a key's quotes stands for `name`.
fn names(key: &str, name: &str) -> bool {
    if key.contains('\\') { unescape(key) == name } else { key == name }
}

/// Walks over JSON text. Every step gives `None` where the text ends or is not JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The next member of the object that the scanner stands in: the text between its key's
    /// quotes and the text of its value.
    fn member(&mut self) -> Option<(&'a str, &'a str)> {
        if self.peek()? == b',' {
            self.at += 1;
        }
        self.expect(b'"')?;
        let start = self.at;
        self.skip_string()?;
        let key = self.text.get(start..self.at - 1)?;
        self.expect(b':')?;
        Some((key, self.value()?))
    }

    /// The text of the next element of the array that the scanner stands in.
    fn element(&mut self) -> Option<&'a str> {
        if self.peek()? == b',' {
            self.at += 1;
        }
        self.value()
    }

    /// The text of the value that the scanner stands at; `None` where there is none.
    fn value(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => {
                self.at += 1;
                self.skip_string()?;
            }
            b'{' | b'[' => self.skip_nested()?,
            _ => self.skip_scalar(),
        }
        self.text.get(start..self.at).filter(|value| !value.is_empty())
    }

    /// From behind an opening quote to behind the closing one.
    fn skip_string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// From an opening bracket to behind the one that closes it.
    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => self.skip_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// To the end of a number or a literal.
    fn skip_scalar(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }
}

/// What the text between a JSON string's quotes stands for. Half of a surrogate pair becomes the
/// replacement character.
fn unescape(raw: &str) -> Cow<'_, str> {
    let Some((plain, mut rest)) = raw.split_once('\\') else {
        return Cow::Borrowed(raw);
    };
    let mut text = String::with_capacity(raw.len());
    text.push_str(plain);
    loop {
        rest = push_escaped(&mut text, rest);
        let Some((plain, after)) = rest.split_once('\\') else {
            text.push_str(rest);
            return Cow::Owned(text);
        };
        text.push_str(plain);
        rest = after;
    }
}

/// Adds what the escape behind a backslash stands for and gives what follows it.
fn push_escaped<'a>(text: &mut String, escape: &'a str) -> &'a str {
    let mut rest = escape.chars();
    match rest.next() {
        Some('u') => return push_code_point(text, rest.as_str()),
        Some('b') => text.push('\u{8}'),
        Some('f') => text.push('\u{c}'),
        Some('n') => text.push('\n'),
        Some('r') => text.push('\r'),
        Some('t') => text.push('\t'),
        Some(other) => text.push(other),
        None => {}
    }
    rest.as_str()
}

fn push_code_point<'a>(text: &mut String, digits: &'a str) -> &'a str {
    let Some((first, rest)) = hex(digits) else {
        text.push(char::REPLACEMENT_CHARACTER);
        return digits;
    };
    if (0xD800..0xDC00).contains(&first)
        && let Some((second, after)) = rest.strip_prefix("\\u").and_then(hex)
        && (0xDC00..0xE000).contains(&second)
    {
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        return after;
    }
    text.push(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
    rest
}

fn hex(digits: &str) -> Option<(u32, &str)> {
    let (code, rest) = digits.split_at_checked(4)?;
    Some((u32::from_str_radix(code, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn get<'a>(properties: &'a str, path: &str) -> Option<Cow<'a, str>> {
        let found = property(properties, path);
        assert_eq!(PropertyAt::new(path).of(properties), found);
        found
    }

    #[test]
    fn strings_give_their_text_and_other_values_their_json() {
        let json = r#" { "a" : "x\"\\\n\u00e9\ud83d\ude00" , "b":-1.50e3,"c":[1, {"d":"]"}],
            "e":true, "f":null, "g":"", "h":{"i":{"j":"deep"}}, "k.l":"one key", "k":{"l":"two"} }"#;
        assert_eq!(get(json, "a").as_deref(), Some("x\"\\\né😀"));
        assert_eq!(get(json, "b").as_deref(), Some("-1.50e3"));
        assert_eq!(get(json, "c").as_deref(), Some(r#"[1, {"d":"]"}]"#));
        assert_eq!(get(json, "e").as_deref(), Some("true"));
        assert_eq!(get(json, "f"), None);
        assert_eq!(get(json, "g").as_deref(), Some(""));
        assert_eq!(get(json, "h.i.j").as_deref(), Some("deep"));
        assert_eq!(get(json, "h.i").as_deref(), Some(r#"{"j":"deep"}"#));
        assert_eq!(get(json, "k.l").as_deref(), Some("one key"));
        assert_eq!(get(json, "d"), None);
        assert_eq!(get(json, "a.x"), None);
        assert_eq!(get("{}", "a"), None);
    }

    #[test]
    fn escaped_keys_are_found_and_repeated_ones_give_the_first() {
        assert_eq!(get(r#"{"\u0061b":1,"ab":2}"#, "ab").as_deref(), Some("1"));
        assert_eq!(get(r#"{"\"":1}"#, "\"").as_deref(), Some("1"));
        assert_eq!(get(r#"{"\"":1}"#, r#"\""#), None);
        assert_eq!(get(r#"{"":3}"#, "").as_deref(), Some("3"));
        assert_eq!(get(r#"{"a":"\ud800x"}"#, "a").as_deref(), Some("\u{fffd}x"));
    }

    #[test]
    fn arrays_have_elements_and_nothing_else_has() {
        let of = |text| elements(text).collect::<Vec<_>>();
        assert_eq!(
            of(r#" [ 1, "]" ,[2],{"a":[3]}, null]"#),
            ["1", r#""]""#, "[2]", r#"{"a":[3]}"#, "null"]
        );
        for text in ["[]", "[ ]", "", "{}", r#"{"a":1}"#, "1", r#""[1]""#, "null"] {
            assert!(of(text).is_empty(), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = "[a-c.\"\\\\\n\u{e9}\u{1F600}{}\\[\\]:,]{0,4}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 24, 4, move |inner| {
            let members = proptest::collection::btree_map(text, inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| members.into_iter().collect()),
            ]
        });
        proptest::collection::btree_map(text, value, 0..5)
            .prop_map(|members| members.into_iter().collect())
    }

    fn expected(object: &Value, path: &str) -> Option<Value> {
        object.get(path).cloned().or_else(|| {
            let (head, rest) = path.split_once('.')?;
            expected(object.get(head)?, rest)
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(
            object in json(),
            path in "[a-c]?(\\.[a-c])?|[a-c\"\\\\\u{e9}]{0,2}",
            pretty: bool,
        ) {
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            let found = get(&text, &path);
            match expected(&object, &path) {
                None | Some(Value::Null) => prop_assert_eq!(found, None),
                Some(Value::String(text)) => prop_assert_eq!(found.as_deref(), Some(text.as_str())),
                Some(other) => {
                    let found: Value = serde_json::from_str(&found.unwrap()).unwrap();
                    prop_assert_eq!(found, other);
                }
            }
        }

        #[test]
        fn elements_are_those_of_a_parser(
            array in proptest::collection::vec(json(), 0..4),
            pretty: bool,
        ) {
            let array = Value::from(array);
            let text = if pretty { format!("{array:#}") } else { array.to_string() };
            let found = elements(&text).map(|element| serde_json::from_str(element).unwrap());
            prop_assert_eq!(found.collect::<Vec<Value>>(), array.as_array().unwrap().clone());
        }

        #[test]
        fn survives_any_text(text in "[{}\\[\\]\":,\\\\nu0-9a.\u{e9} ]{0,40}", path in "[a.]{0,3}") {
            let _ = get(&text, &path);
            let _ = get(&format!("{{\"a\":{text}"), &path);
            let array = format!("[{text}");
            prop_assert!(elements(&array).count() <= array.len());
        }
    }
}
