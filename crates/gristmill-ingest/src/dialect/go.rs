//! What Go's `encoding/json` takes: keys in any case, `null` for "leave it as it is", the last of
//! two equal keys, and its words for a value of the wrong type.

use std::borrow::Cow;

use super::json::{Kind, Reader, Syntax};

/// Why Go would not take a body. The text is for the client.
#[derive(Debug)]
pub(super) struct GoError(pub(super) String);

impl From<Syntax> for GoError {
    fn from(syntax: Syntax) -> Self {
        GoError(syntax.to_string())
    }
}

/// Reads a struct; `member` is called at each value with the key in lower case and must read it.
/// `null` is a struct of no members.
pub(super) fn object<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    mut member: impl FnMut(&mut Reader<'a>, &str) -> Result<(), GoError>,
) -> Result<(), GoError> {
    if is_absent(reader, Kind::Object, field, "struct")? {
        return Ok(());
    }
    reader.object(|reader, key| match key {
        key if key.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            member(reader, &key.to_ascii_lowercase())
        }
        key => member(reader, &key),
    })
}

/// Reads a string into its place; `null` leaves it as it is.
pub(super) fn string<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    place: &mut Cow<'a, str>,
) -> Result<(), GoError> {
    if !is_absent(reader, Kind::String, field, "string")? {
        *place = reader.string()?;
    }
    Ok(())
}

/// Reads a whole number; `null` is none.
pub(super) fn int64(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<i64>, GoError> {
    if is_absent(reader, Kind::Number, field, "int64")? {
        return Ok(None);
    }
    let number = reader.number()?;
    number.parse().map(Some).map_err(|_| mismatch(&format!("number {number}"), field, "int64"))
}

/// Whether the next value is `null`, which is read; an error if it is not of the kind either.
pub(super) fn is_absent(
    reader: &mut Reader<'_>,
    wanted: Kind,
    field: &'static str,
    go_type: &str,
) -> Result<bool, GoError> {
    let found = match reader.kind()? {
        kind if kind == wanted => return Ok(false),
        Kind::Null => return reader.skip().map(|_| true).map_err(GoError::from),
        Kind::Object => "object",
        Kind::Array => "array",
        Kind::String => "string",
        Kind::Number => "number",
        Kind::Bool => "bool",
    };
    Err(mismatch(found, field, go_type))
}

fn mismatch(found: &str, field: &str, go_type: &str) -> GoError {
    let place = if field.is_empty() { "value".into() } else { format!("struct field {field}") };
    GoError(format!("json: cannot unmarshal {found} into Go {place} of type {go_type}"))
}
