//! Times: microseconds UTC inside, calendars only at the edges.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A length of time in microseconds.
pub type Micros = i64;

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Micros);

impl Timestamp {
    /// One second in microseconds.
    pub const SECOND: Micros = 1_000_000;
    /// One hour in microseconds.
    pub const HOUR: Micros = 3_600 * Self::SECOND;
    /// One day of 24 hours in microseconds.
    pub const DAY: Micros = 24 * Self::HOUR;
    /// The earliest time an event may carry: 0001-01-01T00:00:00Z.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800 * Self::SECOND);
    /// The first moment an event may no longer carry: 9999-12-30T00:00:00Z, early enough that
    /// every time zone can still write what lies before.
    pub const MAX: Timestamp = Timestamp(253_402_128_000 * Self::SECOND);

    /// This time moved by `by` microseconds, held within what an `i64` can say.
    pub fn plus(self, by: Micros) -> Timestamp {
        Timestamp(self.0.saturating_add(by))
    }

    /// The microseconds from `earlier` to this time.
    pub fn since(self, earlier: Timestamp) -> Micros {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(Self::SECOND)
    }
}

/// RFC 3339 in UTC, with as many digits of the second as are needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => fmt::Display::fmt(&timestamp, f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// A text that no [`Timestamp`] is printed as.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a time: use RFC 3339")]
pub struct TimestampParseError;

/// What it is printed as; also any other RFC 3339, cut to microseconds.
impl FromStr for Timestamp {
    type Err = TimestampParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(micros) = text.strip_suffix("us") {
            return micros.parse().map(Timestamp).map_err(|_| TimestampParseError);
        }
        let timestamp = text.parse::<jiff::Timestamp>().map_err(|_| TimestampParseError)?;
        Ok(Timestamp(timestamp.as_microsecond()))
    }
}

/// A range of time, half-open; a missing end is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment inside.
    pub start: Option<Timestamp>,
    /// The first moment after it.
    pub end: Option<Timestamp>,
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange { start: None, end: None };

    /// Whether `time` lies inside.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| time >= start) && self.end.is_none_or(|end| time < end)
    }

    /// Whether any moment from `first` to `last`, both included, lies inside.
    pub fn overlaps(&self, first: Timestamp, last: Timestamp) -> bool {
        self.start.is_none_or(|start| last >= start) && self.end.is_none_or(|end| first < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(1_500_000).to_string(), "1970-01-01T00:00:01.5Z");
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T00:00:00Z");
        for time in [Timestamp(-1), Timestamp::MIN, Timestamp::MAX, Timestamp(i64::MIN)] {
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimestampParseError));
    }

    #[test]
    fn ranges_are_half_open() {
        let range = TimeRange { start: Some(Timestamp(10)), end: Some(Timestamp(20)) };
        assert!(range.contains(Timestamp(10)) && !range.contains(Timestamp(20)));
        assert!(range.overlaps(Timestamp(0), Timestamp(10)));
        assert!(!range.overlaps(Timestamp(20), Timestamp(30)));
        assert!(TimeRange::ALL.contains(Timestamp::MIN));
    }
}
