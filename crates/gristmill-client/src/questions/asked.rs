//! The request that asks a question.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// The request that asks a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub(crate) target: String,
    pub(crate) body: Option<Value>,
}

impl Asked {
    /// Gets a path.
    pub fn get(path: &str) -> Self {
        Self { target: path.to_owned(), body: None }
    }

    /// Posts JSON to a path.
    pub fn post(path: &str, body: &impl Serialize) -> Self {
        // The questions of this crate always can be written; `null` is refused by the server.
        let body = serde_json::to_value(body).unwrap_or_default();
        Self { target: path.to_owned(), body: Some(body) }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        encode(name, &mut self.target);
        self.target.push('=');
        encode(value, &mut self.target);
        self
    }

    /// Adds a parameter if there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

/// Percent-encodes a text for use in a path or a query.
pub(super) fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}
