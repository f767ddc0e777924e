//! Latencies in a histogram of fixed memory: microseconds with three significant digits.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// The longest latency that is told apart; longer ones count as this long.
const LONGEST_MICROS: u64 = 600_000_000;

/// Many latencies.
#[derive(Clone)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram takes")]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
        Self { histogram: histogram.expect("constant bounds are valid") }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros.max(1));
    }

    pub(crate) fn add_all(&mut self, other: &Latencies) {
        // Both have the same bounds, so adding cannot fail.
        let _ = self.histogram.add(&other.histogram);
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that this share of requests did not exceed, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.histogram.value_at_quantile(share) as f64 / 1e3
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.histogram.max() as f64 / 1e3
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 0 {
            return f.write_str("nothing measured");
        }
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            self.quantile_ms(0.5),
            self.quantile_ms(0.99),
            self.max_ms()
        )
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::json!({
            "count": self.count(),
            "p50_ms": self.quantile_ms(0.5),
            "p90_ms": self.quantile_ms(0.9),
            "p95_ms": self.quantile_ms(0.95),
            "p99_ms": self.quantile_ms(0.99),
            "p999_ms": self.quantile_ms(0.999),
            "max_ms": self.max_ms(),
        })
        .serialize(serializer)
    }
}
