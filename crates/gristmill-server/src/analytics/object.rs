//! The JSON objects of a question, taken member by member as the parameters of a target are, so
//! that what is wrong is named and what is left over is known to be unknown.
//!
//! Values stay text until they are taken, so that nothing is built of what nobody asked for.

use std::fmt;
use std::ops::RangeInclusive;

use gristmill_model::ErrorCode;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::problem::Problem;

/// The members of an object that have not been taken yet.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// The object's own name; empty for the body.
    name: String,
    members: Vec<(String, &'a RawValue)>,
}

/// A value with the name that errors give it.
#[derive(Debug)]
pub(super) struct Member<'a> {
    name: String,
    value: &'a RawValue,
}

impl<'a> Object<'a> {
    /// The object that is a body.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(ErrorCode::InvalidBody, detail);
        let body = body.trim_ascii();
        if body.is_empty() {
            return Err(invalid("the body is empty: send a JSON object".to_owned()));
        }
        let value: &RawValue = serde_json::from_slice(body)
            .map_err(|error| invalid(format!("the body is not JSON: {error}")))?;
        let object = Member { name: String::new(), value }.object();
        object.map_err(|_| invalid("the body must be a JSON object".to_owned()))
    }

    /// The name that errors give a member.
    pub(super) fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Whether a member is given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(given, _)| given == key)
    }

    /// A member that may be given once; `null` is none.
    pub(super) fn take(&mut self, key: &str) -> Result<Option<Member<'a>>, Problem> {
        let name = self.name_of(key);
        let mut taken = self.members.extract_if(.., |(given, _)| given == key);
        let (first, second) = (taken.next(), taken.next());
        if second.is_some() {
            return Err(Problem::argument(format!("`{name}` is given more than once")));
        }
        let value = first.map(|(_, value)| value).filter(|value| value.get() != "null");
        Ok(value.map(|value| Member { name, value }))
    }

    /// A member that is a text.
    pub(super) fn take_text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        self.take(key)?.map(|member| member.read("a string")).transpose()
    }

    /// A member that is one text or an array of them.
    pub(super) fn take_texts(&mut self, key: &str) -> Result<Vec<String>, Problem> {
        match self.take(key)? {
            None => Ok(Vec::new()),
            Some(member) if member.value.get().starts_with('[') => {
                member.read("a string or an array of strings")
            }
            Some(member) => Ok(vec![member.read("a string or an array of strings")?]),
        }
    }

    /// A member that is an array of anything.
    pub(super) fn take_array(&mut self, key: &str) -> Result<Option<Vec<Member<'a>>>, Problem> {
        self.take(key)?.map(|member| member.array()).transpose()
    }

    /// A member that is a whole number within bounds.
    pub(super) fn take_whole(
        &mut self,
        key: &str,
        bounds: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Problem> {
        let Some(member) = self.take(key)? else { return Ok(None) };
        let what = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let number = member.read(&what)?;
        if bounds.contains(&number) { Ok(Some(number)) } else { Err(member.must_be(&what)) }
    }

    /// All members, which must be texts.
    pub(super) fn into_texts(self) -> Result<Vec<(String, String)>, Problem> {
        let text = |(key, value): &(String, &'a RawValue)| {
            let member = Member { name: self.name_of(key), value };
            Ok((key.clone(), member.read("a string")?))
        };
        self.members.iter().map(text).collect()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), Problem> {
        let Some((key, _)) = self.members.first() else { return Ok(()) };
        // Enough to find it by; a client may send any number of keys of any length.
        let key: String = key.chars().take(100).collect();
        Err(Problem::argument(format!("`{}` is unknown", self.name_of(&key))))
    }
}

/// A value that has no parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Number(f64),
    Flag(bool),
}

impl<'a> Member<'a> {
    /// A value that is not a member of anything.
    pub(super) fn new(name: &str, value: &'a RawValue) -> Self {
        Self { name: name.to_owned(), value }
    }

    /// The name that errors give it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The text of the value.
    pub(super) fn raw(&self) -> &'a RawValue {
        self.value
    }

    /// The value as an object.
    pub(super) fn object(self) -> Result<Object<'a>, Problem> {
        match serde_json::from_str(self.value.get()) {
            Ok(Members(members)) => Ok(Object { name: self.name, members }),
            Err(_) => Err(self.must_be("an object")),
        }
    }

    /// The value as an array of anything.
    pub(super) fn array(&self) -> Result<Vec<Member<'a>>, Problem> {
        let values: Vec<&'a RawValue> =
            serde_json::from_str(self.value.get()).map_err(|_| self.must_be("an array"))?;
        let element = |(index, value)| Member { name: format!("{}[{index}]", self.name), value };
        Ok(values.into_iter().enumerate().map(element).collect())
    }

    /// The value as one that has no parts.
    pub(super) fn scalar(&self) -> Result<Scalar, Problem> {
        let what = "a string, a number, true or false";
        match self.value.get().as_bytes().first() {
            Some(b'"') => self.read(what).map(Scalar::Text),
            Some(b't' | b'f') => self.read(what).map(Scalar::Flag),
            Some(b'-' | b'0'..=b'9') => self.read(what).map(Scalar::Number),
            _ => Err(self.must_be(what)),
        }
    }

    /// The value as a text, or the text of a number.
    pub(super) fn text_or_number(&self) -> Result<String, Problem> {
        match self.value.get() {
            text if text.starts_with('"') => self.read("a string or a number"),
            text if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                Ok(text.to_owned())
            }
            _ => Err(self.must_be("a string or a number")),
        }
    }

    fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Problem> {
        serde_json::from_str(self.value.get()).map_err(|_| self.must_be(what))
    }

    /// Says what the value should be.
    pub(super) fn must_be(&self, what: &str) -> Problem {
        let name: String = self.name.chars().take(100).collect();
        Problem::argument(format!("`{name}` must be {what}"))
    }
}

/// The members of an object in order, also those with the same key.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Entries).map(Members)
    }
}
