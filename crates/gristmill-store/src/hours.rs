//! Hours in the place of times: what a walk gives to questions that need to know no more.
//!
//! A user comes for a visit and does several things in it, so events have fewer hours than times,
//! and a question about days looks at each hour once instead of at each event.

use std::ops::Range;

use gristmill_model::{TimeRange, Timestamp};

/// How exactly a walk tells when events happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// The time of each event.
    Times,
    /// The hour of UTC of each event.
    Hours,
    /// Not at all. Only walks through users may ask for so little.
    Untold,
}

/// Rows that lie side by side and are of one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourRows {
    /// How many hours of UTC after 1970 began.
    pub hour: i32,
    /// The first row.
    pub start: u32,
    /// The row after the last one.
    pub end: u32,
}

impl HourRows {
    /// The rows.
    pub fn rows(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The first moment of the hour, in microseconds.
    pub fn begins(&self) -> i64 {
        begin_of(self.hour)
    }

    /// The first moment after the hour.
    pub fn ends(&self) -> i64 {
        end_of(self.hour)
    }
}

/// Whether a moment, in microseconds, is the first one of an hour of UTC.
pub fn is_whole_hour(time: i64) -> bool {
    time % Timestamp::HOUR == 0
}

/// The hour of a moment; of one that no calendar reaches the first or the last there is.
pub(crate) fn hour_of(time: i64) -> i32 {
    time.div_euclid(Timestamp::HOUR).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// The first moment of an hour.
pub(crate) fn begin_of(hour: i32) -> i64 {
    i64::from(hour) * Timestamp::HOUR
}

/// The first moment after an hour.
pub(crate) fn end_of(hour: i32) -> i64 {
    begin_of(hour) + Timestamp::HOUR
}

/// Whether a range begins or ends within an hour.
pub(crate) fn cuts_hours(range: &TimeRange) -> bool {
    range.start.into_iter().chain(range.end).any(|end| !is_whole_hour(end.0))
}

/// The whole hours of UTC in a range.
pub(crate) fn whole_hours(range: &TimeRange) -> TimeRange {
    let up = |time: Timestamp| Timestamp(time.0.saturating_add(Timestamp::HOUR - 1));
    let down = |time: Timestamp| Timestamp(begin_of(hour_of(time.0)));
    TimeRange { start: range.start.map(up).map(down), end: range.end.map(down) }
}

/// Appends the hours of rows of which `start` is the first, those that follow each other in one
/// hour together.
pub(crate) fn append_hours(times: &[i64], start: usize, into: &mut Vec<HourRows>) {
    let mut rest = times;
    let mut start = start as u32;
    while let Some(first) = rest.first() {
        let hour = hour_of(*first);
        let within = begin_of(hour)..end_of(hour);
        // There is at least one, whatever the hour of an impossible time is.
        let count = 1 + rest[1..].iter().take_while(|time| within.contains(time)).count();
        let end = start + count as u32;
        into.push(HourRows { hour, start, end });
        (rest, start) = (&rest[count..], end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_has_its_hour_and_rows_of_one_hour_are_together(
            times in proptest::collection::vec(-3 * Timestamp::HOUR..3 * Timestamp::HOUR, 0..40),
            start in 0..9_usize,
        ) {
            let mut hours = Vec::new();
            append_hours(&times, start, &mut hours);
            let rows = hours.iter().flat_map(|hour| hour.rows().map(|row| (row, hour.hour)));
            let expected = (start..).zip(times.iter().map(|time| hour_of(*time)));
            prop_assert!(rows.eq(expected));
            prop_assert!(hours.windows(2).all(|pair| pair[0].hour != pair[1].hour));
            prop_assert!(times.iter().all(|time| begin_of(hour_of(*time)) <= *time));
        }
    }

    proptest! {
        #[test]
        fn whole_hours_are_those_that_a_range_has_all_of(
            start in proptest::option::of(-9_000_000_000..9_000_000_000_i64),
            end in proptest::option::of(-9_000_000_000..9_000_000_000_i64),
            hour in -4..4_i32,
        ) {
            let range = TimeRange { start: start.map(Timestamp), end: end.map(Timestamp) };
            let has_all = range.contains(Timestamp(begin_of(hour)))
                && range.contains(Timestamp(end_of(hour) - 1));
            let whole = whole_hours(&range);
            prop_assert_eq!(whole.contains(Timestamp(begin_of(hour))), has_all);
            prop_assert!(!cuts_hours(&whole));
        }
    }

    #[test]
    fn impossible_times_have_some_hour() {
        let mut hours = Vec::new();
        append_hours(&[i64::MIN, i64::MIN, i64::MAX, 9_000_000_000_000_000_000], 0, &mut hours);
        assert!(hours.iter().flat_map(HourRows::rows).eq(0..4));
        assert!(hours.is_sorted_by_key(|hour| hour.hour));
    }
}
