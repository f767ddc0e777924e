//! Messages in the shape of the HTTP API's answers, to hold the one against the other.

use gristmill_model::Timestamp;
use serde_json::{Value, json};

/// A time as RFC 3339.
pub(super) fn time(time: &prost_types::Timestamp) -> String {
    Timestamp(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000).to_string()
}

pub(super) fn maybe_time(at: Option<&prost_types::Timestamp>) -> Value {
    at.map_or(Value::Null, |at| json!(time(at)))
}

/// A length of time as a text in seconds.
pub(super) fn span(length: Option<&prost_types::Duration>) -> Value {
    let micros = |length: &prost_types::Duration| {
        length.seconds * 1_000_000 + i64::from(length.nanos) / 1_000
    };
    length.map_or(Value::Null, |length| json!(format!("{}s", micros(length) as f64 / 1e6)))
}

/// A text; none if it is empty.
pub(super) fn maybe(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

/// The answer of the HTTP API without what it says of itself.
pub(super) fn lasting(mut answer: Value) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("metadata");
        answer.remove("last_updated");
    }
    answer
}

/// Fails if two values differ by more than the last digit of a number.
pub(super) fn hold(rest: &Value, grpc: &Value, about: &str) {
    if let Some(difference) = difference(rest, grpc) {
        panic!("{about}: {difference}\nREST {rest}\ngRPC {grpc}");
    }
}

fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            let is_same = (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
            (!is_same).then(|| format!("{a} and {b}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(at, (a, b))| Some(format!("[{at}]{}", difference(a, b)?)))
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            a.iter().find_map(|(name, a)| {
                let found = difference(a, b.get(name).unwrap_or(&Value::Null))?;
                Some(format!(".{name}{found}"))
            })
        }
        _ => (one != other).then(|| format!(": {one} and {other}")),
    }
}
