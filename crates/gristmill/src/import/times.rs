//! Times as files write them.

use gristmill_model::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Reads a time: RFC 3339 with any offset, the same without an offset (UTC), epoch seconds,
/// milliseconds or microseconds told apart by size, or an access log's
/// `17/May/2015:10:05:03 +0000`.
pub(super) fn read_time(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let found = from_epoch(text).or_else(|| from_calendar(text));
    match found {
        Some(time) if time >= Timestamp::MIN && time < Timestamp::MAX => Ok(time),
        Some(_) => Err(format!("the time `{text}` is outside of the years 1 to 9999")),
        None => Err(format!("`{text}` is not a time that is known here")),
    }
}

fn from_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Seconds reach the year 5138 before they are taken for milliseconds.
    let micros_per_unit = match whole.unsigned_abs() {
        0..100_000_000_000 => 1_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000,
        _ => 1,
    };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    let fraction = (fraction * micros_per_unit as f64).round() as i64;
    let signed = if text.starts_with('-') { -fraction } else { fraction };
    Some(Timestamp(whole.checked_mul(micros_per_unit)?.checked_add(signed)?))
}

fn from_calendar(text: &str) -> Option<Timestamp> {
    let instant = || text.parse::<jiff::Timestamp>().ok();
    let without_offset = || {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let access_log = || jiff::Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", text).ok();
    let found = instant().or_else(access_log).or_else(without_offset)?;
    Some(Timestamp(found.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_time_is_read() {
        for (text, expected) in [
            ("2015-02-22T21:00:00Z", "2015-02-22T21:00:00Z"),
            ("2015-02-22T21:00:00.25+05:30", "2015-02-22T15:30:00.25Z"),
            ("2015-02-22 21:00:00", "2015-02-22T21:00:00Z"),
            ("2015-02-22", "2015-02-22T00:00:00Z"),
            ("17/May/2015:10:05:03 +0200", "2015-05-17T08:05:03Z"),
            ("1465413032", "2016-06-08T19:10:32Z"),
            ("1465413032.5", "2016-06-08T19:10:32.5Z"),
            ("1465413032123", "2016-06-08T19:10:32.123Z"),
            ("1465413032123456", "2016-06-08T19:10:32.123456Z"),
            ("-1.5", "1969-12-31T23:59:58.5Z"),
            (" 0 ", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(read_time(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_not_a_time() {
        for text in ["", "soon", "12:00", "1.2.3", "2015-13-01T00:00:00Z", "1e9", "99999-01-01"] {
            assert!(read_time(text).is_err(), "{text}");
        }
    }
}
