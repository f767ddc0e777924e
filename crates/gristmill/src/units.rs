//! Byte sizes and lengths of time as people write them: `64 MiB`, `15m`. The one place that reads
//! and writes them, for the configuration and for flags alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written like `64 MiB`, `10 MB` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

/// A length of time, written like `250ms`, `15m` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A share between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Ratio(pub(crate) f64);

// It is never NaN.
impl Eq for Ratio {}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self(share)),
            false => Err(de::Error::custom(format!("{share} is not between 0.0 and 1.0"))),
        }
    }
}

/// The units of bytes, largest first; the binary ones are preferred for writing.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// As a `usize`, which on 64 bits holds every size.
    pub(crate) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Span {
    /// In microseconds, as the model counts; centuries are held to what an `i64` can say.
    pub(crate) fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size in bytes: write it like 64 MiB or 4096");
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.replace('_', "").parse().map_err(|_| wrong())?;
        let unit = match unit.trim() {
            "" => "B",
            unit => unit,
        };
        let (_, factor) = BYTE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(wrong)?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        match BYTE_UNITS[..4].iter().find(|(_, factor)| fits(*factor)) {
            Some((unit, factor)) => write!(f, "{} {unit}", self.0 / factor),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a length of time: write it like 250ms, 15m or 1h");
        let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| wrong())?;
        Duration::try_from(duration).map(Span).map_err(|_| wrong())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

/// Reads a value from its text, or from a bare number where that has a meaning.
struct TextVisitor<T> {
    expecting: &'static str,
    from_number: fn(u64) -> Option<T>,
}

impl<T: FromStr<Err = String>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let wrong = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
        (self.from_number)(number).ok_or_else(wrong)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a size in bytes like \"64 MiB\"";
        let from_number = |number| Some(ByteSize(number));
        deserializer.deserialize_any(TextVisitor { expecting, from_number })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A bare number would leave the unit to guessing.
        let expecting = "a length of time with its unit like \"15m\"";
        deserializer.deserialize_any(TextVisitor { expecting, from_number: |_| None })
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("64 MiB", 64 << 20, "64 MiB"),
            ("64mib", 64 << 20, "64 MiB"),
            ("1_536 KiB", 1_536 << 10, "1536 KiB"),
            ("10 MB", 10_000_000, "10000000 B"),
            ("4096", 4096, "4 KiB"),
            ("0", 0, "0 B"),
            ("2 TiB", 2 << 40, "2 TiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written), "{text}");
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for bad in ["", "MiB", "-1", "1.5 GiB", "64 MiBs", "64 M iB", "99999999 TiB", "_"] {
            let error = bad.parse::<ByteSize>().unwrap_err();
            assert!(error.contains("not a size in bytes"), "{bad}: {error}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_and_written() {
        for (text, millis, written) in [
            ("250ms", 250, "250ms"),
            ("15m", 900_000, "15m"),
            ("24h", 86_400_000, "24h"),
            ("1h 30m", 5_400_000, "1h 30m"),
            ("1s", 1_000, "1s"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), written);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for bad in ["", "15", "-1s", "1 fortnight", "1s ago"] {
            let error = bad.parse::<Span>().unwrap_err();
            assert!(error.contains("not a length of time"), "{bad}: {error}");
        }
    }
}
