//! Times, lengths of time and numbers, as messages have them.

use gristmill_model::{Micros, TimeRange, Timestamp};
use gristmill_proto::analytics::v1;
use tokio::time::Instant;

use crate::problem::Problem;

const NANOS_PER_MICRO: i64 = 1_000;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// The range that a message says; all of time, if it says none.
pub(super) fn range_of(range: Option<v1::TimeRange>) -> Result<TimeRange, Problem> {
    let v1::TimeRange { start, end } = range.unwrap_or_default();
    let start = start.map(|time| time_of("time_range.start", time)).transpose()?;
    let end = end.map(|time| time_of("time_range.end", time)).transpose()?;
    Ok(TimeRange { start, end })
}

/// The time that a message says, cut to microseconds.
fn time_of(place: &str, time: prost_types::Timestamp) -> Result<Timestamp, Problem> {
    let wrong = || {
        Problem::argument(format!(
            "`{place}` is no time: use whole seconds of the years 1 to 9999 and nanos below 10^9"
        ))
    };
    if !(0..NANOS_PER_SECOND).contains(&time.nanos) {
        return Err(wrong());
    }
    let micros = time.seconds.checked_mul(Timestamp::SECOND).ok_or_else(wrong)?;
    let time = Timestamp(micros).plus(i64::from(time.nanos) / NANOS_PER_MICRO);
    if (Timestamp::MIN..Timestamp::MAX).contains(&time) { Ok(time) } else { Err(wrong()) }
}

/// A time as a message.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.0.rem_euclid(Timestamp::SECOND) * NANOS_PER_MICRO;
    prost_types::Timestamp { seconds: time.seconds(), nanos: nanos as i32 }
}

/// A range as a message.
pub(super) fn time_range(range: TimeRange) -> v1::TimeRange {
    v1::TimeRange { start: range.start.map(timestamp), end: range.end.map(timestamp) }
}

/// A length of time as a message.
pub(super) fn duration(micros: Micros) -> prost_types::Duration {
    let (seconds, rest) = (micros / Timestamp::SECOND, micros % Timestamp::SECOND);
    prost_types::Duration { seconds, nanos: (rest * NANOS_PER_MICRO) as i32 }
}

/// How long it is since then, as a message.
pub(super) fn duration_since(since: Instant) -> prost_types::Duration {
    duration(since.elapsed().as_micros() as Micros)
}

/// The text of a length of time, as questions are read. One that is negative has a text that no
/// question takes.
pub(super) fn duration_text(duration: prost_types::Duration) -> String {
    format!("{}.{:09}s", duration.seconds, duration.nanos)
}

/// A count, held within what a message can say.
pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A number, held within what a message can say.
pub(super) fn small(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for time in [Timestamp::MIN, Timestamp(-1), Timestamp(0), Timestamp(1_500_001)] {
            assert_eq!(time_of("t", timestamp(time)).unwrap(), time);
        }
        let bad =
            [(0, -1), (0, NANOS_PER_SECOND), (i64::MAX, 0), (i64::MIN, 0), (253_402_128_000, 0)];
        for (seconds, nanos) in bad {
            let time = prost_types::Timestamp { seconds, nanos };
            let problem = time_of("time_range.end", time).unwrap_err();
            assert!(problem.detail().starts_with("`time_range.end` is no time"));
        }
    }

    #[test]
    fn lengths_of_time_have_texts() {
        let text = |seconds, nanos| duration_text(prost_types::Duration { seconds, nanos });
        assert_eq!(text(90, 0), "90.000000000s");
        assert_eq!(text(0, 1_000), "0.000001000s");
        assert!(text(-1, 0).starts_with('-') && text(0, -5).contains('-'));
        assert_eq!(
            duration(-1_500_000),
            prost_types::Duration { seconds: -1, nanos: -500_000_000 }
        );
    }
}
