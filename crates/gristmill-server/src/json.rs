//! JSON as answers write it, by hand where a value tree or a derive would cost more than the answer.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use gristmill_model::Timestamp;
use http::{HeaderValue, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Appends a string with its quotes.
pub(crate) fn string(buffer: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(buffer, text);
}

/// Appends a number.
pub(crate) fn number(buffer: &mut Vec<u8>, number: u64) {
    let _ = serde_json::to_writer(buffer, &number);
}

/// An answer of JSON text.
pub(crate) fn answer(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An answer of a value.
pub(crate) fn respond(status: StatusCode, value: &impl Serialize) -> Response {
    answer(status, text(value))
}

/// The text of a value whose keys are strings, which cannot fail to have one.
pub(crate) fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A time, as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A number, or `null`; a whole one is written without a fraction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) Option<f64>);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Beyond this not every whole number has a floating-point number of its own.
        const WHOLE: f64 = 9_007_199_254_740_992.0;
        match self.0 {
            None => serializer.serialize_none(),
            Some(value) if value.fract() == 0.0 && value.abs() <= WHOLE => {
                serializer.serialize_i64(value as i64)
            }
            Some(value) => serializer.serialize_f64(value),
        }
    }
}
