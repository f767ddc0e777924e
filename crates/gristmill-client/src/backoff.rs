//! How long to wait before sending again.

use std::time::Duration;

/// The longest time that a `Retry-After` header is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Exponential waiting times between `first` and `longest`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The wait after the `failures`-th failure (from 1): doubling, and spread over the upper half
    /// by `random` so that clients that failed together do not come back together. A server that
    /// says when to come is not asked before.
    pub(crate) fn wait(
        &self,
        failures: u32,
        retry_after: Option<Duration>,
        random: u128,
    ) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let full = doubled.min(self.longest);
        let share = f64::from(random as u32) / f64::from(u32::MAX);
        let spread = full.mul_f64(0.5 + share / 2.0);
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        spread.max(asked)
    }
}

/// Reads a `Retry-After` header of whole seconds. The other form, a date, is not used by the
/// server and counts as absent.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

    #[test]
    fn waits_double_within_bounds_and_spread_over_the_upper_half() {
        for (failures, full) in [(1, 100), (2, 200), (3, 400), (7, 5_000), (4_000_000, 5_000)] {
            let full = Duration::from_millis(full);
            assert_eq!(BACKOFF.wait(failures, None, u128::MAX), full);
            assert_eq!(BACKOFF.wait(failures, None, 0), full / 2);
        }
    }

    #[test]
    fn a_server_that_names_a_time_is_obeyed_up_to_a_minute() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(BACKOFF.wait(1, asked(2), 0), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(1, asked(86_400), 0), Duration::from_secs(60));
        assert_eq!(BACKOFF.wait(9, asked(1), u128::MAX), Duration::from_secs(5));
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let headers = |value: &'static str| {
            [(http::header::RETRY_AFTER, http::HeaderValue::from_static(value))]
                .into_iter()
                .collect()
        };
        assert_eq!(retry_after(&headers("3")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&headers("Fri, 31 Dec 1999 23:59:59 GMT")), None);
        assert_eq!(retry_after(&http::HeaderMap::new()), None);
    }
}
