//! NDJSON: one JSON object per line. Values keep their types.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::lines::{Found, Lines};
use super::rows::{Row, RowError, Value, digest};

/// The rows of an NDJSON file. Empty lines are skipped.
pub(super) struct NdjsonRows {
    lines: Lines,
}

impl NdjsonRows {
    pub(super) fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self { lines: Lines::new(reader) }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, RowError> {
        loop {
            match self.lines.advance()? {
                Found::End => return Ok(None),
                Found::TooLong => return Err(RowError::too_long(self.lines.number())),
                Found::Line if self.lines.line().trim_ascii().is_empty() => {}
                Found::Line => break,
            }
        }
        let line = self.lines.number();
        let text = self.lines.line();
        let object: Object<'_> = serde_json::from_slice(text).map_err(|error| RowError::Bad {
            line,
            reason: format!("not a JSON object: {error}"),
        })?;
        let fields = object.0.into_iter().map(|(name, value)| (name, Value::Json(value)));
        Ok(Some(Row { line, fields: fields.collect(), digest: digest(line, [text]) }))
    }
}

/// The members of a JSON object in their order; of a name that stands twice the last.
pub(super) struct Object<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Key(name), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some(member) => member.1 = value,
                        None => members.push((name, value)),
                    }
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
