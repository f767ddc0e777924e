//! Metrics with their samples, and how Prometheus' text format writes them.

use std::fmt::{self, Display, Write};

/// A metric as Prometheus knows it: one name, one kind, and a sample for each set of labels.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One number of a metric.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// What comes behind the metric's name: nothing, or which number of a histogram it is.
    pub(crate) suffix: &'static str,
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) value: Number,
}

/// A number that is written as what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Whole(u64),
    Real(f64),
}

impl Kind {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Family {
    /// The name of a sample.
    pub(crate) fn name_of(&self, sample: &Sample) -> String {
        format!("{}{}", self.name, sample.suffix)
    }
}

impl Number {
    /// The nearest floating-point number.
    pub(crate) fn value(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Self::Whole(whole)
    }
}

impl From<i64> for Number {
    fn from(whole: i64) -> Self {
        u64::try_from(whole).map_or(Self::Real(whole as f64), Self::Whole)
    }
}

impl From<f64> for Number {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => Display::fmt(whole, formatter),
            Self::Real(real) => Display::fmt(real, formatter),
        }
    }
}

/// Metrics in the text format.
pub(crate) fn written(families: &[Family]) -> String {
    let mut text = String::with_capacity(8 * 1024);
    for family in families {
        write_family(&mut text, family);
    }
    text
}

// Writing to a string cannot fail.
fn write_family(text: &mut String, family: &Family) {
    let (name, help, kind) = (&family.name, family.help, family.kind.name());
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for Sample { suffix, labels, value } in &family.samples {
        let _ = write!(text, "{name}{suffix}");
        for (index, (label, value)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let _ = write!(text, "{opening}{label}=\"{}\"", Escaped(value));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(text, "{closing} {value}");
    }
}

/// The value of a label, between its quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => formatter.write_str("\\\\")?,
                '"' => formatter.write_str("\\\"")?,
                '\n' => formatter.write_str("\\n")?,
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_with_their_labels() {
        let sample = |suffix, labels, value| Sample { suffix, labels, value };
        let family = |name: &str, kind, samples| {
            let (name, help) = (name.to_owned(), "How many.");
            Family { name, kind, help, samples }
        };
        let tricky = "a\\b\"c\nd,{}".to_owned();
        let families = [
            family("plain", Kind::Counter, vec![sample("", vec![], Number::Whole(7))]),
            family("none", Kind::Gauge, vec![]),
            family(
                "long",
                Kind::Histogram,
                vec![
                    sample(
                        "_bucket",
                        vec![("le", "0.5".to_owned()), ("x", tricky)],
                        Number::Whole(1),
                    ),
                    sample("_sum", vec![], Number::Real(1e-7)),
                    sample("_sum", vec![], Number::Real(f64::NAN)),
                ],
            ),
        ];
        let text = "# HELP plain How many.\n# TYPE plain counter\nplain 7\n\
            # HELP none How many.\n# TYPE none gauge\n\
            # HELP long How many.\n# TYPE long histogram\n\
            long_bucket{le=\"0.5\",x=\"a\\\\b\\\"c\\nd,{}\"} 1\n\
            long_sum 0.0000001\nlong_sum NaN\n";
        assert_eq!(written(&families), text);
    }
}
