//! What the server counts. Numbers only go into memory here; `exposition.rs` writes them out.
//!
//! Nothing that a client sends ever becomes a label: routes come from the table of routes, all
//! else is one of a fixed few.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gristmill_model::Timestamp;
use http::StatusCode;

use crate::grpc::Calls;

/// The label of requests that no route takes.
const NO_ROUTE: &str = "other";
/// How many classes of status there are, from 1xx to 5xx.
const CLASSES: usize = 5;

/// Upper bounds of acknowledgement times, in microseconds.
const ACK_BOUNDS: &[u64] = &[
    500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 10_000_000,
];
/// Upper bounds of the times until an event can be queried, in microseconds.
const VISIBLE_BOUNDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many of something there are now.
#[derive(Debug, Default)]
pub(crate) struct Present(Arc<AtomicU64>);

impl Present {
    /// One more until the result is dropped.
    pub(crate) fn enter(&self) -> Entered {
        self.0.fetch_add(1, Relaxed);
        Entered(Arc::clone(&self.0))
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One of those that are counted as present.
#[derive(Debug)]
pub(crate) struct Entered(Arc<AtomicU64>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A distribution of times over fixed buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    /// One per bound, and one for what lies above all.
    counts: Box<[Counter]>,
    sum_micros: Counter,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { bounds, counts, sum_micros: Counter::default() }
    }

    /// Takes in a time.
    pub(crate) fn record(&self, time: Duration) {
        let micros = time.as_micros() as u64;
        let bucket = self.bounds.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.sum_micros.add(micros);
    }

    /// The upper bounds in seconds, each with the number of times up to it.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut total = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            total += count.get();
            (*bound as f64 / 1e6, total)
        })
    }

    /// How many times were taken in.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    /// The sum of all times, in seconds.
    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_micros.get() as f64 / 1e6
    }

    /// The mean time in milliseconds; 0 if there is none.
    pub(crate) fn mean_millis(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum_seconds() * 1e3 / count as f64,
        }
    }
}

/// All that the server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Events that a dialect with one event a request refused; ingestion counts the others.
    pub(crate) refused: Counter,
    /// Events that were answered as queued and were not appended.
    pub(crate) queued_lost: Counter,
    /// Bytes of ingestion requests' bodies, inflated.
    pub(crate) received_bytes: Counter,
    /// From a whole body to its acknowledgement.
    pub(crate) ack: Histogram,
    /// From a whole body until its events can be queried, sampled.
    pub(crate) visible: Histogram,
    /// Connections being served.
    pub(crate) connections_open: Present,
    /// Connections that were opened.
    pub(crate) connections_accepted: Counter,
    /// Connections that were refused for want of room.
    pub(crate) connections_refused: Counter,
    /// Connections that were given up because the client was too slow.
    pub(crate) connections_timed_out: Counter,
    /// Times that the system could not accept a connection.
    pub(crate) accept_errors: Counter,
    /// Requests with an API key that was wrong or not valid any more.
    pub(crate) wrong_keys: Counter,
    /// Handshakes that ended in a secure connection.
    pub(crate) tls_handshakes: Counter,
    /// Handshakes that failed or took too long.
    pub(crate) tls_failures: Counter,
    /// Connections to a listener under TLS whose client spoke in the clear.
    pub(crate) tls_plaintext: Counter,
    /// Requests that ended in a panic.
    pub(crate) panics: Counter,
    /// Subscriptions to live questions.
    pub(crate) live_subscriptions: Present,
    /// Times that a live question was answered, whether the answer had changed or not.
    pub(crate) live_answers: Counter,
    /// Rows of files that were walked through for live questions.
    pub(crate) live_rows: Counter,
    /// Times that a gateway tried a request again.
    pub(crate) relay_retries: Counter,
    /// Requests of a gateway that no process answered.
    pub(crate) relay_failures: Counter,
    /// How often each call ended how.
    pub(crate) calls: Calls,
    last_accepted: AtomicI64,
    paths: Vec<&'static str>,
    requests: Vec<[Counter; CLASSES]>,
}

impl Metrics {
    /// Zeros for a table of routes.
    pub(crate) fn new(paths: &[&'static str]) -> Self {
        Self {
            refused: Counter::default(),
            queued_lost: Counter::default(),
            received_bytes: Counter::default(),
            ack: Histogram::new(ACK_BOUNDS),
            visible: Histogram::new(VISIBLE_BOUNDS),
            connections_open: Present::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_timed_out: Counter::default(),
            accept_errors: Counter::default(),
            wrong_keys: Counter::default(),
            tls_handshakes: Counter::default(),
            tls_failures: Counter::default(),
            tls_plaintext: Counter::default(),
            panics: Counter::default(),
            live_subscriptions: Present::default(),
            live_answers: Counter::default(),
            live_rows: Counter::default(),
            relay_retries: Counter::default(),
            relay_failures: Counter::default(),
            calls: Calls::default(),
            last_accepted: AtomicI64::new(0),
            paths: paths.to_vec(),
            requests: (0..=paths.len()).map(|_| Default::default()).collect(),
        }
    }

    /// Events were acknowledged.
    pub(crate) fn accepted(&self, now: Timestamp) {
        self.last_accepted.store(now.0, Relaxed);
    }

    /// When events were last acknowledged, if ever.
    pub(crate) fn last_accepted(&self) -> Option<Timestamp> {
        Some(Timestamp(self.last_accepted.load(Relaxed))).filter(|time| time.0 != 0)
    }

    /// The number of the route that takes a path; one past the last if none does.
    pub(crate) fn route(&self, path: &str) -> usize {
        let takes = |route: &&str| match route.split_once('{') {
            None => **route == *path,
            Some((prefix, rest)) => path.strip_prefix(prefix).is_some_and(|given| {
                let end = rest.split_once('}').map_or("", |(_, end)| end);
                given.strip_suffix(end).is_some_and(|name| !name.is_empty() && !name.contains('/'))
            }),
        };
        self.paths.iter().position(takes).unwrap_or(self.paths.len())
    }

    /// The path of a route by its number, as the table of routes has it.
    pub(crate) fn path_of(&self, route: usize) -> &'static str {
        self.paths.get(route).copied().unwrap_or(NO_ROUTE)
    }

    /// A request of a route was answered.
    pub(crate) fn answered(&self, route: usize, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.requests.get(route).and_then(|classes| classes.get(class)) {
            count.add(1);
        }
    }

    /// Every route, status class and number of requests that is not 0.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, usize, u64)> + '_ {
        let paths = self.paths.iter().copied().chain([NO_ROUTE]);
        paths.zip(&self.requests).flat_map(|(path, classes)| {
            let counts = classes.iter().map(Counter::get).zip(1..);
            counts.filter(|(count, _)| *count > 0).map(move |(count, class)| (path, class, count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_by_path_and_strangers_share_one() {
        let metrics = Metrics::new(&["/a", "/users/{id}", "/users/{id}/x"]);
        assert_eq!(metrics.route("/a"), 0);
        assert_eq!(metrics.route("/users/7"), 1);
        assert_eq!(metrics.route("/users/7/x"), 2);
        assert_eq!(metrics.route("/users//x"), 3);
        assert_eq!(metrics.route("/users/7/x/"), 3);
        assert_eq!(metrics.route("/evil"), 3);
        metrics.answered(1, StatusCode::OK);
        metrics.answered(3, StatusCode::NOT_FOUND);
        let seen: Vec<_> = metrics.requests().collect();
        assert_eq!(seen, [("/users/{id}", 2, 1), ("other", 4, 1)]);
    }

    #[test]
    fn buckets_are_cumulative_and_hold_their_bound() {
        let histogram = Histogram::new(&[1_000, 2_000]);
        for micros in [1_000, 1_001, 5_000] {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(0.001, 1), (0.002, 2)]);
        assert_eq!(histogram.count(), 3);
        assert!((histogram.sum_seconds() - 0.007_001).abs() < 1e-9);
    }
}
