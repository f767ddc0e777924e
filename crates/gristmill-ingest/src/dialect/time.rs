//! Times as clients write them.
//!
//! - RFC 3339 with any offset, also with a lower-case `t` or `z` or a space for the `T`. Digits
//!   beyond the microsecond are cut off. A leap second, `23:59:60` in UTC, is the next second.
//! - Epoch numbers, with a fraction or without, as JSON numbers or as texts. The unit is told by
//!   the size of the whole part, its sign aside: below 10^11 seconds (to the year 5138), below
//!   10^14 milliseconds (from 3 March 1973), below 10^17 microseconds (from 3 March 1973).
//!   Anything larger, and an exponent, is not a time.
//!
//! Every time lies in `Timestamp::MIN..Timestamp::MAX`.

use gristmill_model::Timestamp;

/// The time that a text says, in any of the forms.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    rfc3339(text).or_else(|| epoch(text))
}

/// The time that an RFC 3339 text says.
pub(super) fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let two = |at: usize| number(date_time.get(at..at + 2)?);
    let marks = [4, 7, 10, 13, 16].map(|at| date_time.get(at).copied().unwrap_or(0));
    if !matches!(marks, [b'-', b'-', b'T' | b't' | b' ', b':', b':']) {
        return None;
    }
    let year = number(date_time.get(..4)?)?;
    let (month, day, hour, minute, second) = (two(5)?, two(8)?, two(11)?, two(14)?, two(17)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, offset) = split_fraction(rest)?;
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
        - offset_seconds(offset)?;
    if second == 60 && seconds.rem_euclid(86_400) != 0 {
        return None;
    }
    in_range(Timestamp(seconds * Timestamp::SECOND + fraction))
}

/// The time that an epoch number says.
pub(super) fn epoch(text: &str) -> Option<Timestamp> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (digits, ""),
    };
    // A longer number would not be a time, and a shorter one fits an `i64`.
    if whole.len() > 18 {
        return None;
    }
    let whole = number(whole.as_bytes())?;
    let places = match whole {
        0..100_000_000_000 => 6,
        100_000_000_000..100_000_000_000_000 => 3,
        100_000_000_000_000..100_000_000_000_000_000 => 0,
        _ => return None,
    };
    let micros = whole * 10_i64.pow(places) + decimals(fraction.as_bytes(), places)?;
    in_range(Timestamp(sign * micros))
}

/// Whole seconds since 1970, held within what a time can be above, not below.
pub(super) fn seconds(seconds: i64) -> Option<Timestamp> {
    let time = Timestamp(seconds.saturating_mul(Timestamp::SECOND)).min(LAST);
    in_range(time)
}

const LAST: Timestamp = Timestamp(Timestamp::MAX.0 - 1);

/// The time, if an event may carry it.
pub(super) fn in_range(time: Timestamp) -> Option<Timestamp> {
    (Timestamp::MIN..Timestamp::MAX).contains(&time).then_some(time)
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |value: i64, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

/// The first `places` digits of a fraction as a whole number; all of it must be digits.
fn decimals(digits: &[u8], places: u32) -> Option<i64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(places as usize);
    Some(padded.fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

/// The microseconds of `.123`, and what follows; 0 if there is no fraction.
fn split_fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(after) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let length = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, offset) = after.split_at_checked(length)?;
    if digits.is_empty() { None } else { Some((decimals(digits, 6)?, offset)) }
}

/// The seconds that `Z` or `±hh:mm` is ahead of UTC.
fn offset_seconds(offset: &[u8]) -> Option<i64> {
    match offset {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let seconds = hours * 3_600 + minutes * 60;
            let valid = hours <= 23 && minutes <= 59;
            valid.then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is the last day of a year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    365 * year + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn oracle(text: &str) -> Option<Timestamp> {
        let time: jiff::Timestamp = text.parse().ok()?;
        in_range(Timestamp(time.as_microsecond()))
    }

    proptest! {
        #[test]
        fn well_formed_times_are_read_as_jiff_reads_them(
            year in 0..10_000, month in 0..14, day in 0..33,
            hour in 0..25, minute in 0..61, second in 0..60,
            fraction in "(\\.[0-9]{1,9})?",
            offset in "Z|[+-]([01][0-9]|2[0-3]):[0-6][0-9]",
        ) {
            let text = format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}"
            );
            let ours = rfc3339(&text);
            // Before 1970 jiff rounds the fraction of a microsecond the other way.
            let cut: String = fraction.chars().take(7).collect();
            let theirs = oracle(&text.replace(&fraction, &cut));
            prop_assert_eq!(ours, if fraction.is_empty() { oracle(&text) } else { theirs }, "{}", text);
        }

        #[test]
        fn a_time_reads_back_from_its_own_text(micros in Timestamp::MIN.0..Timestamp::MAX.0) {
            prop_assert_eq!(rfc3339(&Timestamp(micros).to_string()), Some(Timestamp(micros)));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", digits in "[-0-9.T:Z+ ]{0,40}") {
            let _ = (parse(&text), parse(&digits));
        }
    }

    #[test]
    fn forms_of_one_moment_agree() {
        let moment = Some(Timestamp(1_719_837_296_000_000));
        for text in [
            "2024-07-01T12:34:56Z",
            "2024-07-01t12:34:56z",
            "2024-07-01 12:34:56Z",
            "2024-07-01T12:34:56.000000999Z",
            "2024-07-02T02:34:56+14:00",
            "2024-07-01T00:49:56-11:45",
            "1719837296",
            "1719837296.0000009",
            "1719837296000",
            "1719837296000000",
        ] {
            assert_eq!(parse(text), moment, "{text}");
        }
        assert_eq!(parse("1719837296.5"), Some(Timestamp(1_719_837_296_500_000)));
        assert_eq!(parse("1719837296000.25"), Some(Timestamp(1_719_837_296_000_250)));
        assert_eq!(parse("-1.5"), Some(Timestamp(-1_500_000)));
        assert_eq!(parse("0"), Some(Timestamp(0)));
    }

    #[test]
    fn a_leap_second_is_the_next_second() {
        let next = rfc3339("2017-01-01T00:00:00Z");
        assert_eq!(rfc3339("2016-12-31T23:59:60Z"), next);
        assert_eq!(rfc3339("2017-01-01T05:29:60+05:30"), next);
        assert_eq!(rfc3339("2016-12-31T23:59:60.25Z"), next.map(|time| time.plus(250_000)));
        assert_eq!(rfc3339("2016-12-31T12:00:60Z"), None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "x",
            "-",
            ".5",
            "5.",
            "1e9",
            "+5",
            "0x10",
            "NaN",
            " 1719837296",
            "1719837296 ",
            "2024-07-01",
            "2024-07-01T12:34:56",
            "2024-07-01T12:34Z",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-07-01T24:00:00Z",
            "2024-07-01T12:34:56.Z",
            "2024-07-01T12:34:56+24:00",
            "2024-07-01T12:34:56+0100",
            "Mon, 01 Jul 2024 12:34:56 GMT",
            "0000-12-31T23:59:59Z",
            "9999-12-31T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "100000000000000000",
            "1719837296000000000",
            "99999999999999999999999999",
            "２０２４-07-01T12:34:56Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("0001-01-01T00:00:00Z"), Some(Timestamp::MIN));
        assert_eq!(parse(&LAST.to_string()), Some(LAST));
        assert_eq!(parse(&Timestamp::MAX.to_string()), None);
    }

    #[test]
    fn thresholds_tell_the_unit() {
        assert_eq!(epoch("99999999999"), Some(Timestamp(99_999_999_999_000_000)));
        assert_eq!(epoch("100000000000"), Some(Timestamp(100_000_000_000_000)));
        assert_eq!(epoch("99999999999999"), Some(Timestamp(99_999_999_999_999_000)));
        assert_eq!(epoch("100000000000000"), Some(Timestamp(100_000_000_000_000)));
        assert_eq!(epoch("99999999999999999"), Some(Timestamp(99_999_999_999_999_999)));
        assert_eq!(epoch("-99999999999"), None);
        assert_eq!(seconds(i64::MAX), Some(LAST));
        assert_eq!(seconds(i64::MIN), None);
    }
}
