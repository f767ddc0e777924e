//! `grpc-timeout`: how long the client waits.

use std::time::Duration;

use gristmill_model::ErrorCode;
use http::HeaderMap;

use crate::problem::Problem;

/// The header.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// How many digits it may have.
const DIGITS: usize = 8;

/// How long the client waits, if it says so.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let wrong = || {
        let detail =
            "grpc-timeout must be one to eight digits and one of the units H, M, S, m, u and n";
        Problem::new(ErrorCode::InvalidArgument, detail)
    };
    value.to_str().ok().and_then(parse).map(Some).ok_or_else(wrong)
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if !(1..=DIGITS).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nothing_else() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for wrong in ["", "1", "S", "-1S", "+1S", "1.5S", "123456789S", "1s", "1 S", "１S", "1é"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
