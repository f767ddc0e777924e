//! Whether events come in so fast that merging should wait.

use gristmill_model::{Micros, Timestamp};

/// So many events a second take a good part of two processors to take in. Somewhere above, merging
/// beside them takes from them and from questions what it cannot give back before they end.
const EVENTS_PER_SECOND: i64 = 100_000;
/// A tail that filled up in less time counts as one that took this long: how fast a few events came
/// says little.
const LEAST_TIME: Micros = Timestamp::SECOND / 10;
/// How long after a tail filled up quickly the next one may take.
const LASTS: Micros = 3 * Timestamp::SECOND;

/// Events that come in fast, and until when they count as that.
#[derive(Debug, Default)]
pub(super) struct Rush {
    until: Option<Timestamp>,
}

impl Rush {
    /// Notes that a tail filled up just now.
    pub(super) fn note_full(&mut self, rows: usize, since: Timestamp, now: Timestamp) {
        let took = now.since(since).max(LEAST_TIME);
        let is_fast = rows as i64 * Timestamp::SECOND > EVENTS_PER_SECOND * took;
        self.until = is_fast.then(|| Timestamp(now.0.saturating_add(LASTS)));
    }

    /// Whether it goes on.
    pub(super) fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_events_in_a_short_time_are_a_rush_until_a_while_after_the_last() {
        let at = |millis: i64| Timestamp(millis * 1_000);
        let mut rush = Rush::default();
        assert!(!rush.is_on(at(0)));
        rush.note_full(200_000, at(1_000), at(2_900));
        assert!(rush.is_on(at(2_900)) && rush.is_on(at(5_899)));
        assert!(!rush.is_on(at(5_900)), "nothing came since");
        rush.note_full(200_000, at(6_000), at(8_100));
        assert!(!rush.is_on(at(8_100)), "they took longer");
        rush.note_full(9_999, at(9_000), at(9_000));
        assert!(!rush.is_on(at(9_000)), "too few to tell");
    }
}
