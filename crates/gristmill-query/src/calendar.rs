//! Where buckets of time begin in a time zone.
//!
//! The starts are laid out once per question; events then find their bucket by arithmetic, with
//! no calendar in the way. A minute or hour begins where the zone's clock shows a whole one, and
//! where a change of the clock puts it into another one; an hour that the clock repeats is two.
//! A day begins at its first moment, which need not be midnight.

use gristmill_model::{Interval, Micros, Timestamp};
use gristmill_store::is_whole_hour;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, ToSpan};

/// Adjoining buckets of time, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    starts: Vec<i64>,
    /// The first moment after each.
    ends: Vec<i64>,
    /// Time is also cut into cells of this width as a power of 2, several to a bucket.
    cell_bits: u32,
    /// The bucket in which each cell begins.
    bucket_of_cell: Vec<u32>,
    /// The bucket of each hour from the first start on, if they are of whole hours and not too many.
    bucket_of_hour: Vec<u16>,
    first_hour: i64,
}

/// About how many cells a bucket has, so that few cells have two buckets.
const CELLS: usize = 16;
/// How many cells there are at most, however many buckets.
const MOST_CELLS: usize = 1 << 14;
/// Up to so many hours, some seven years, each has its bucket in a table.
const MOST_HOURS: usize = 1 << 16;

impl Buckets {
    /// The buckets from the one of `first` to the one of `last`; `None` if they are more than
    /// `most`.
    pub(crate) fn covering(
        zone: &TimeZone,
        interval: Interval,
        first: Timestamp,
        last: Timestamp,
        most: usize,
    ) -> Option<Self> {
        let mut layout = Layout { zone, first, last, most, starts: Vec::new() };
        match interval {
            Interval::Minute => layout.clock(60 * Timestamp::SECOND)?,
            Interval::Hour => layout.clock(Timestamp::HOUR)?,
            Interval::Day => layout.dates(|date| date, 1.day())?,
            Interval::Week => layout.dates(monday, 1.week())?,
            Interval::Month => layout.dates(Date::first_of_month, 1.month())?,
        }
        Self::of(layout.starts)
    }

    /// Buckets that begin at these moments; `None` if there is none.
    fn of(starts: Vec<i64>) -> Option<Self> {
        let span = starts.last()?.abs_diff(*starts.first()?);
        let cells = (starts.len() * CELLS).min(MOST_CELLS);
        let width = (span / cells as u64).max(1);
        let cell_bits = width.next_power_of_two().trailing_zeros();
        let mut bucket_of_cell = Vec::new();
        let mut bucket = 0;
        for cell in 0..=span >> cell_bits {
            let begins = starts[0].saturating_add_unsigned(cell << cell_bits);
            while starts.get(bucket + 1).is_some_and(|start| *start <= begins) {
                bucket += 1;
            }
            bucket_of_cell.push(bucket as u32);
        }
        let ends = starts.iter().skip(1).copied().chain([i64::MAX]).collect();
        let bucket_of_hour = by_hours(&starts);
        let first_hour = starts[0].div_euclid(Timestamp::HOUR);
        Some(Self { starts, ends, cell_bits, bucket_of_cell, bucket_of_hour, first_hour })
    }

    /// How many there are, at least one.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether the hour of a moment tells its bucket.
    pub(crate) fn are_of_whole_hours(&self) -> bool {
        self.starts.iter().all(|start| is_whole_hour(*start))
    }

    /// The first moment of a bucket.
    pub(crate) fn start(&self, bucket: usize) -> Timestamp {
        Timestamp(self.starts[bucket])
    }

    /// The first moment after a bucket.
    pub(crate) fn end(&self, bucket: usize) -> i64 {
        self.ends[bucket]
    }

    /// The bucket of an hour of UTC, counted from 1970, that is not before the first bucket; buckets
    /// must be of whole hours.
    #[inline]
    pub(crate) fn find_hour(&self, hour: i64) -> usize {
        match self.bucket_of_hour.len().checked_sub(1) {
            Some(last) => {
                let hour = hour.abs_diff(self.first_hour) as usize;
                usize::from(self.bucket_of_hour[hour.min(last)])
            }
            None => self.find(hour * Timestamp::HOUR),
        }
    }

    /// The bucket of a moment that is not before the first one's start.
    #[inline]
    pub(crate) fn find(&self, time: i64) -> usize {
        if !self.bucket_of_hour.is_empty() {
            return self.find_hour(time.div_euclid(Timestamp::HOUR));
        }
        let cell = (time.abs_diff(self.starts[0]) >> self.cell_bits) as usize;
        let first = self.bucket_of_cell[cell.min(self.bucket_of_cell.len() - 1)] as usize;
        // Hardly any cell has three buckets, and which of two it is can hardly be foretold.
        let last = self.ends.len() - 1;
        let mut bucket = (first + usize::from(self.ends[first] <= time)).min(last);
        while bucket < last && self.ends[bucket] <= time {
            bucket += 1;
        }
        bucket
    }
}

/// The bucket of each hour up to the start of the last bucket, if all begin with whole hours and these
/// are not too many.
fn by_hours(starts: &[i64]) -> Vec<u16> {
    let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return Vec::new() };
    let hours = (last.abs_diff(*first) / Timestamp::HOUR.unsigned_abs()) as usize + 1;
    if hours > MOST_HOURS || !starts.iter().all(|start| is_whole_hour(*start)) {
        return Vec::new();
    }
    let mut bucket = 0;
    let of_hour = |hour: usize| {
        let begins = first + hour as i64 * Timestamp::HOUR;
        bucket += usize::from(starts.get(bucket + 1).is_some_and(|start| *start <= begins));
        bucket as u16
    };
    (0..hours).map(of_hour).collect()
}

fn monday(date: Date) -> Date {
    let after = date.weekday().since(Weekday::Monday);
    date.checked_sub(i64::from(after).days()).unwrap_or(Date::MIN)
}

/// Lays out starts in order, dropping those before the bucket of `first`.
struct Layout<'a> {
    zone: &'a TimeZone,
    first: Timestamp,
    last: Timestamp,
    most: usize,
    starts: Vec<i64>,
}

impl Layout<'_> {
    /// Adds a start; `None` if there are too many.
    fn push(&mut self, start: i64) -> Option<()> {
        if start <= self.first.0 {
            self.starts.clear();
        }
        if self.starts.last() != Some(&start) {
            self.starts.push(start);
        }
        (self.starts.len() <= self.most).then_some(())
    }

    /// Minutes or hours: by arithmetic between the changes of the zone's clock.
    fn clock(&mut self, width: Micros) -> Option<()> {
        // No bucket is twice as wide as it should be, so the first one is met on the way.
        let mut from = self.first.0 - 2 * width;
        let mut before = None;
        loop {
            let offset = self.zone.to_offset(moment(from));
            let offset = i64::from(offset.seconds()) * Timestamp::SECOND;
            let change = self.zone.following(moment(from)).next();
            let until = change.map_or(i64::MAX, |change| change.timestamp().as_microsecond());
            let number = (from + offset).div_euclid(width);
            let whole = (from + offset).rem_euclid(width) == 0;
            if !whole && before.is_some_and(|before| before != number) {
                self.push(from)?;
            }
            let mut start = (number + i64::from(!whole)) * width - offset;
            while start < until && start <= self.last.0 {
                self.push(start)?;
                start += width;
            }
            if until > self.last.0 {
                return Some(());
            }
            before = Some((until - 1 + offset).div_euclid(width));
            from = until;
        }
    }

    /// Units of whole days: `floor` gives a date's unit, `step` leads from one to the next.
    fn dates(&mut self, floor: impl Fn(Date) -> Date, step: Span) -> Option<()> {
        let date = self.zone.to_datetime(moment(self.first.0)).date();
        let mut date = floor(date);
        loop {
            let start = first_moment(self.zone, date);
            if start > self.last.0 {
                return Some(());
            }
            self.push(start)?;
            let Ok(next) = date.checked_add(step) else {
                return Some(());
            };
            date = next;
        }
    }
}

/// The first moment of a date. Where the clock jumps over midnight this is the jump.
fn first_moment(zone: &TimeZone, date: Date) -> i64 {
    let midnight = date.to_datetime(Time::midnight());
    let ambiguous = zone.to_ambiguous_timestamp(midnight);
    let jumps = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
    let Ok(start) = ambiguous.compatible() else {
        // The edge of what the calendar can say.
        return if date < Date::ZERO { i64::MIN } else { i64::MAX };
    };
    let jump = jumps.then(|| {
        let just_after = jiff::Timestamp::from_microsecond(start.as_microsecond() + 1);
        zone.preceding(just_after.unwrap_or(start)).next()
    });
    jump.flatten().map_or(start, |jump| jump.timestamp()).as_microsecond()
}

fn moment(time: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(time).unwrap_or(if time < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONES: &[&str] = &[
        "UTC",
        "America/Sao_Paulo",
        "America/New_York",
        "Europe/Berlin",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Africa/Monrovia",
    ];
    const INTERVALS: [Interval; 5] =
        [Interval::Minute, Interval::Hour, Interval::Day, Interval::Week, Interval::Month];

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn starts(zone: &str, interval: Interval, first: &str, last: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let buckets = Buckets::covering(&zone, interval, at(first), at(last), 1_000).unwrap();
        buckets.starts.iter().map(|start| Timestamp(*start).to_string()).collect()
    }

    #[test]
    fn a_day_without_midnight_begins_at_one() {
        let days = starts(
            "America/Sao_Paulo",
            Interval::Day,
            "2016-10-15T12:00:00Z",
            "2016-10-17T12:00:00Z",
        );
        assert_eq!(days, ["2016-10-15T03:00:00Z", "2016-10-16T03:00:00Z", "2016-10-17T02:00:00Z"]);
        // Toronto jumped from 23:30 over midnight to 00:30.
        let day = starts(
            "America/Toronto",
            Interval::Day,
            "1919-03-31T05:00:00Z",
            "1919-03-31T05:00:00Z",
        );
        assert_eq!(day, ["1919-03-31T04:30:00Z"]);
        // Samoa had no 30 December 2011.
        let days =
            starts("Pacific/Apia", Interval::Day, "2011-12-30T09:00:00Z", "2011-12-31T11:00:00Z");
        assert_eq!(days, ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"]);
    }

    #[test]
    fn hours_follow_the_clock_of_the_zone() {
        let hours = starts(
            "Asia/Kathmandu",
            Interval::Hour,
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:20:00Z",
        );
        assert_eq!(hours, ["2023-12-31T23:15:00Z", "2024-01-01T00:15:00Z"]);
        // New York shows one o'clock twice.
        let hours = starts(
            "America/New_York",
            Interval::Hour,
            "2024-11-03T04:30:00Z",
            "2024-11-03T07:30:00Z",
        );
        let whole = ["04", "05", "06", "07"].map(|hour| format!("2024-11-03T{hour}:00:00Z"));
        assert_eq!(hours, whole);
        // Lord Howe jumps by half an hour, from 2:00 to 2:30, and back from 2:00 to 1:30.
        let zone = "Australia/Lord_Howe";
        let hours = starts(zone, Interval::Hour, "2024-10-05T14:45:00Z", "2024-10-05T16:45:00Z");
        let expected = ["14:30", "15:30", "16:00"].map(|hour| format!("2024-10-05T{hour}:00Z"));
        assert_eq!(hours, expected);
        let hours = starts(zone, Interval::Hour, "2024-04-06T14:45:00Z", "2024-04-06T15:45:00Z");
        assert_eq!(hours, ["2024-04-06T14:00:00Z", "2024-04-06T15:30:00Z"]);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let weeks =
            starts("Europe/Berlin", Interval::Week, "2024-03-24T22:59:59Z", "2024-04-01T12:00:00Z");
        let expected = ["2024-03-17T23:00:00Z", "2024-03-24T23:00:00Z", "2024-03-31T22:00:00Z"];
        assert_eq!(weeks, expected);
        let months = starts(
            "Europe/Berlin",
            Interval::Month,
            "2024-03-05T00:00:00Z",
            "2024-04-30T22:00:00Z",
        );
        let expected = ["2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z", "2024-04-30T22:00:00Z"];
        assert_eq!(months, expected);
    }

    #[test]
    fn the_calendars_edges_and_too_many_buckets_are_no_trouble() {
        for interval in INTERVALS {
            for zone in ZONES {
                let zone = TimeZone::get(zone).unwrap();
                for time in [Timestamp::MIN, Timestamp::MAX] {
                    assert_eq!(Buckets::covering(&zone, interval, time, time, 5).unwrap().len(), 1);
                }
                let all =
                    Buckets::covering(&zone, interval, Timestamp::MIN, Timestamp::MAX, 10_000);
                assert!(all.is_none());
            }
        }
    }

    /// What the zone's clock shows at the start of the bucket of `time`.
    fn expected(zone: &TimeZone, interval: Interval, time: i64) -> jiff::civil::DateTime {
        let clock = zone.to_datetime(moment(time));
        let date = clock.date();
        match interval {
            Interval::Minute => date.at(clock.hour(), clock.minute(), 0, 0),
            Interval::Hour => date.at(clock.hour(), 0, 0, 0),
            Interval::Day => date.at(0, 0, 0, 0),
            Interval::Week => monday(date).at(0, 0, 0, 0),
            Interval::Month => date.first_of_month().at(0, 0, 0, 0),
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_in_the_bucket_that_its_clock_shows(
            zone in proptest::sample::select(ZONES),
            interval in proptest::sample::select(&INTERVALS),
            from in -2_000_000_000_i64..2_500_000_000,
            offsets in proptest::collection::vec(0.0_f64..1.0, 1..20),
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let width = match interval {
                Interval::Minute | Interval::Hour => 20 * Timestamp::DAY,
                Interval::Day | Interval::Week | Interval::Month => 3_000 * Timestamp::DAY,
            };
            let first = from * Timestamp::SECOND;
            let times = offsets.iter().map(|offset| first + (offset * width as f64) as i64);
            let times: Vec<i64> = times.collect();
            let (low, high) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
            let buckets =
                Buckets::covering(&zone, interval, Timestamp(low), Timestamp(high), 50_000).unwrap();
            prop_assert!(buckets.starts.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(buckets.find(low), 0);
            prop_assert_eq!(buckets.find(high), buckets.len() - 1);
            for time in times {
                let bucket = buckets.find(time);
                let start = buckets.start(bucket).0;
                prop_assert!(start <= time && time < buckets.end(bucket));
                let hour = time - time.rem_euclid(Timestamp::HOUR);
                let told = buckets.are_of_whole_hours().then(|| buckets.find(hour));
                prop_assert!(told.is_none_or(|told| told == bucket));
                // All of a bucket shows the same unit; a bucket that does not begin on the whole
                // unit begins where the clock jumped.
                let shown = expected(&zone, interval, time);
                prop_assert_eq!(shown, expected(&zone, interval, start));
                if zone.to_datetime(moment(start)) != shown {
                    let jump = zone.following(moment(start - 1)).next().unwrap();
                    prop_assert_eq!(jump.timestamp().as_microsecond(), start);
                }
            }
        }
    }
}
