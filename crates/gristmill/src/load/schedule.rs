//! When requests of an open loop are due: at an even rate, whether or not answers come.

use std::time::Duration;

use tokio::time::Instant;

/// An even rate from a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    per_second: f64,
}

impl Schedule {
    /// Starts now with so many requests per second.
    pub(crate) fn start(per_second: f64) -> Self {
        Self { start: Instant::now(), per_second }
    }

    /// When the request of this number, from 0, is due.
    pub(crate) fn due(&self, request: u64) -> Instant {
        self.start + Duration::from_secs_f64(request as f64 / self.per_second)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
