//! Content types: what a body says it is.

use gristmill_ingest::dialect::native::Format;
use gristmill_model::ErrorCode;
use http::{HeaderMap, header};

use crate::problem::Problem;

/// The names of lines of JSON.
pub(crate) const NDJSON: [&str; 2] = ["application/x-ndjson", "application/ndjson"];

/// The format that the `Content-Type` of a native request names.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    named(headers).map_err(|what| {
        unsupported(what, "application/json, application/x-ndjson or application/ndjson")
    })
}

/// Makes sure that the `Content-Type` of a question is JSON.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let what = match named(headers) {
        Ok(Format::Json) => return Ok(()),
        Ok(Format::Ndjson) => "is not supported here",
        Err(what) => what,
    };
    Err(unsupported(what, "application/json"))
}

fn named(headers: &HeaderMap) -> Result<Format, &'static str> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let text = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| "is not ASCII")?,
        (None, _) => return Err("is missing"),
        (Some(_), Some(_)) => return Err("is given twice"),
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let format = if essence.eq_ignore_ascii_case("application/json") {
        Format::Json
    } else if NDJSON.iter().any(|ndjson| essence.eq_ignore_ascii_case(ndjson)) {
        Format::Ndjson
    } else {
        return Err("is not supported");
    };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim_matches('"');
        let is_utf8 = value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8");
        if name.eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err("has a charset other than utf-8");
        }
    }
    Ok(format)
}

fn unsupported(what: &str, use_instead: &str) -> Problem {
    let detail = format!("content-type {what}: use {use_instead}");
    Problem::new(ErrorCode::UnsupportedMedia, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn format_of(value: &'static str) -> Result<Format, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
        format(&headers).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn json_and_ndjson_in_utf_8_are_known() {
        assert_eq!(format_of("application/json"), Ok(Format::Json));
        assert_eq!(format_of("Application/JSON; charset=\"UTF-8\""), Ok(Format::Json));
        assert_eq!(format_of("application/x-ndjson;charset=utf-8"), Ok(Format::Ndjson));
        assert_eq!(format_of("application/ndjson"), Ok(Format::Ndjson));
        for bad in ["", "text/plain", "application/json; charset=latin1", "application/json+x"] {
            assert_eq!(format_of(bad), Err(415), "{bad}");
        }
    }
}
