//! The period before a range.

use gristmill_model::{Interval, Micros, TimeRange, Timestamp};
use jiff::tz::TimeZone;

use crate::calendar::Buckets;

/// The range from `first` to `last`, both included, moved back by as many buckets as it touches:
/// each end stays as far from the start of its bucket, as far as the bucket goes. `None` if
/// calendars do not reach so far.
pub(super) fn previous(
    zone: &TimeZone,
    interval: Interval,
    first: Timestamp,
    last: Timestamp,
    touched: usize,
) -> Option<TimeRange> {
    let widest = widest(interval);
    // Room for the buckets before, and for the one after, which says where the last one ends.
    let back = widest.checked_mul(touched as Micros + 1)?;
    let earliest = first.plus(-back).max(Timestamp::MIN);
    let room = usize::MAX;
    let buckets = Buckets::covering(zone, interval, earliest, last.plus(widest), room)?;
    let moved = |bucket: usize| bucket.checked_sub(touched);
    let (from, to) = (buckets.find(first.0), buckets.find(last.0));
    let (moved_from, moved_to) = (moved(from)?, moved(to)?);
    let start = buckets.start(moved_from).plus(first.since(buckets.start(from)));
    let end = buckets.start(moved_to).plus(last.since(buckets.start(to)) + 1);
    // A whole bucket stays a whole one, also if the other is longer.
    let is_whole = last.0 + 1 == buckets.end(to);
    let whole = Timestamp(buckets.end(moved_to));
    Some(TimeRange {
        start: Some(start.min(Timestamp(buckets.end(moved_from) - 1))),
        end: Some(if is_whole { whole } else { end.min(whole) }),
    })
}

/// No bucket is wider.
fn widest(interval: Interval) -> Micros {
    match interval {
        Interval::Minute => 2 * 60 * Timestamp::SECOND,
        Interval::Hour => 2 * Timestamp::HOUR,
        Interval::Day => 2 * Timestamp::DAY,
        Interval::Week => 9 * Timestamp::DAY,
        Interval::Month => 33 * Timestamp::DAY,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    /// The start and the end of the period before.
    fn before(zone: &str, interval: Interval, start: &str, end: &str) -> [String; 2] {
        let zone = TimeZone::get(zone).unwrap();
        let (first, last) = (at(start), at(end).plus(-1));
        let touched = Buckets::covering(&zone, interval, first, last, 1_000).unwrap().len();
        let range = previous(&zone, interval, first, last, touched).unwrap();
        [range.start, range.end].map(|time| time.unwrap().to_string())
    }

    #[test]
    fn whole_buckets_lie_just_before() {
        let months = before("UTC", Interval::Month, "2025-03-01T00:00:00Z", "2025-05-01T00:00:00Z");
        assert_eq!(months, ["2025-01-01T00:00:00Z", "2025-03-01T00:00:00Z"]);
        let longer = before("UTC", Interval::Month, "2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z");
        assert_eq!(longer, ["2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"]);
        // The clock of Berlin went forward on 31 March 2024.
        let days =
            before("Europe/Berlin", Interval::Day, "2024-03-31T22:00:00Z", "2024-04-02T22:00:00Z");
        assert_eq!(days, ["2024-03-29T23:00:00Z", "2024-03-31T22:00:00Z"]);
        // A day of 23 hours has 23 hours before it.
        let hours =
            before("Europe/Berlin", Interval::Hour, "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z");
        assert_eq!(hours, ["2024-03-30T00:00:00Z", "2024-03-30T23:00:00Z"]);
    }

    #[test]
    fn ends_keep_their_places_in_their_buckets() {
        let days = before("UTC", Interval::Day, "2025-03-05T06:00:00Z", "2025-03-06T18:00:00Z");
        assert_eq!(days, ["2025-03-03T06:00:00Z", "2025-03-04T18:00:00Z"]);
        // February has no 30th.
        let month = before("UTC", Interval::Month, "2025-03-30T00:00:00Z", "2025-04-01T00:00:00Z");
        assert_eq!(month, ["2025-02-28T23:59:59.999999Z", "2025-03-01T00:00:00Z"]);
        let month = before("UTC", Interval::Month, "2025-03-01T00:00:00Z", "2025-03-31T00:00:00Z");
        assert_eq!(month, ["2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"]);
    }

    #[test]
    fn the_edges_of_the_calendar_are_no_trouble() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        for interval in INTERVALS {
            for time in [Timestamp::MIN, Timestamp::MAX.plus(-1)] {
                previous(&zone, interval, time, time, 1);
            }
        }
    }

    const INTERVALS: [Interval; 5] =
        [Interval::Minute, Interval::Hour, Interval::Day, Interval::Week, Interval::Month];

    proptest! {
        #[test]
        fn there_are_as_many_buckets_before(
            zone in proptest::sample::select(&[
                "UTC", "America/Sao_Paulo", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia",
            ]),
            interval in proptest::sample::select(&INTERVALS),
            seconds in -2_000_000_000_i64..2_500_000_000,
            widths in 0.0_f64..9.0,
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let first = Timestamp(seconds * Timestamp::SECOND);
            let last = first.plus((widths * widest(interval) as f64) as i64);
            let touched = Buckets::covering(&zone, interval, first, last, 1_000).unwrap();
            let range = previous(&zone, interval, first, last, touched.len()).unwrap();
            let (start, end) = (range.start.unwrap(), range.end.unwrap());
            prop_assert!(start < end && end <= touched.start(0));
            let before = Buckets::covering(&zone, interval, start, end.plus(-1), 1_000).unwrap();
            prop_assert_eq!(before.len(), touched.len());
            // They adjoin.
            let both = Buckets::covering(&zone, interval, start, last, 1_000).unwrap();
            prop_assert_eq!(both.len(), 2 * touched.len());
        }
    }
}
