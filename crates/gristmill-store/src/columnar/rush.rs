//! Whether events come in so fast that merging should wait.

use gristmill_model::{Micros, Timestamp};

/// So many events a second take a good part of two processors to take in. Somewhere above, merging
/// beside them takes from them and from questions what it cannot give back before they end.
const EVENTS_PER_SECOND: i64 = 100_000;
/// A tail that filled up in less time counts as one that took this long: how fast a few events came
/// says little.
const LEAST_TIME: Micros = Timestamp::SECOND / 10;
/// How long after a tail filled up quickly the next one may take at least.
const LASTS: Micros = 3 * Timestamp::SECOND;

/// Whether tails fill up fast.
#[derive(Debug, Default)]
pub(super) struct Rush {
    /// When the last tail that did so filled up, and how long it counts from then on.
    last: Option<(Timestamp, Micros)>,
}

impl Rush {
    /// Notes that a tail filled up just now.
    pub(super) fn note_full(&mut self, rows: usize, since: Timestamp, now: Timestamp) {
        let took = now.since(since).max(LEAST_TIME);
        let is_fast = rows as i64 * Timestamp::SECOND / took > EVENTS_PER_SECOND;
        self.last = is_fast.then(|| (now, LASTS.max(took.saturating_mul(2))));
    }

    /// Whether it goes on. A clock that was set back ends it.
    pub(super) fn is_on(&self, now: Timestamp) -> bool {
        self.last.is_some_and(|(full, lasts)| (0..lasts).contains(&now.since(full)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp(millis * 1_000)
    }

    #[test]
    fn many_events_in_a_short_time_are_a_rush_until_a_while_after_the_last() {
        let mut rush = Rush::default();
        assert!(!rush.is_on(at(0)));
        rush.note_full(200_000, at(1_000), at(2_900));
        assert!(rush.is_on(at(2_900)) && rush.is_on(at(6_699)));
        assert!(!rush.is_on(at(6_700)), "nothing came in twice the time");
        rush.note_full(200_000, at(7_000), at(7_500));
        assert!(rush.is_on(at(10_499)) && !rush.is_on(at(10_500)));
    }

    #[test]
    fn what_comes_slowly_or_is_too_little_to_tell_is_none() {
        let mut rush = Rush::default();
        rush.note_full(200_000, at(0), at(1_000));
        rush.note_full(200_000, at(2_000), at(4_100));
        assert!(!rush.is_on(at(4_100)));
        rush.note_full(9_999, at(5_000), at(5_000));
        assert!(!rush.is_on(at(5_000)));
        rush.note_full(usize::MAX >> 24, Timestamp(i64::MIN), at(5_000));
        assert!(!rush.is_on(at(5_000)), "since ever");
    }

    #[test]
    fn a_clock_that_is_set_back_ends_it() {
        let mut rush = Rush::default();
        rush.note_full(200_000, at(9_000), at(10_000));
        assert!(!rush.is_on(at(9_999)));
    }
}
