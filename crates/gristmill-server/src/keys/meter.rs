//! How much is sent with a key, held against its limits.
//!
//! A rate is a bucket that holds what a second brings. A request passes if the bucket is not empty and
//! then takes all that it costs, so that the largest batch passes too and those after it wait until its
//! debt is paid. A quota is exact: what does not fit into the rest of the day is refused whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gristmill_model::{ErrorCode, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::limits::Limits;
use super::usage::Totals;
use crate::problem::Problem;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const SECOND: i64 = 1_000_000_000;
/// The longest debt, in nanoseconds: an hour. It also bounds what a jump of the clock can cost.
const LONGEST_DEBT: i64 = 3_600 * SECOND;
const DAY_SECONDS: u64 = 86_400;

/// The meter of one key in this process.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Bucket,
    bytes: Bucket,
    /// The day that the totals are about, in days since 1970.
    day: i64,
    /// What all processes had counted when they last told each other.
    told: Totals,
    /// What this one has counted since.
    untold: Totals,
}

/// The moment at which a bucket is full again, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: i64,
}

impl Bucket {
    /// How long until something may pass, if nothing may now.
    fn wait(self, now: i64) -> Option<i64> {
        let debt = self.full_at - now - SECOND;
        (debt >= 0).then_some(debt + 1)
    }

    /// Forgets a debt that is too long, which the clock has made by going back.
    fn cap(&mut self, now: i64) {
        self.full_at = self.full_at.min(now + SECOND + LONGEST_DEBT);
    }

    fn take(&mut self, now: i64, cost: u64, rate: u64) {
        let time = i128::from(cost) * i128::from(SECOND) / i128::from(rate.max(1));
        let time = time.min(i128::from(LONGEST_DEBT)) as i64;
        let full_at = self.full_at.clamp(now, now + SECOND + LONGEST_DEBT);
        self.full_at = (full_at + time).min(now + SECOND + LONGEST_DEBT);
    }

    fn left(self, now: i64, rate: u64) -> u64 {
        let free = (now + SECOND - self.full_at).clamp(0, SECOND);
        (i128::from(free) * i128::from(rate) / i128::from(SECOND)) as u64
    }

    fn seconds_until_full(self, now: i64) -> u64 {
        ((self.full_at - now).max(0) as u64).div_ceil(SECOND as u64)
    }
}

/// Whether an answer says already what is left, as one does that another process has given.
pub(crate) fn tells_limits(headers: &HeaderMap) -> bool {
    headers.contains_key(RATE_LIMIT)
}

impl Meter {
    /// A meter that has counted nothing.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Whether something is counted that other processes must hear of.
    pub(crate) fn has_quota(&self) -> bool {
        self.limits.has_quota()
    }

    /// Whether anything at all may be sent now.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Problem> {
        self.at(now).check(&self.limits, now, Totals { events: 1, bytes: 1 })
    }

    /// Counts what is sent, or refuses it and counts nothing.
    pub(crate) fn charge(&self, now: Timestamp, events: u64, bytes: u64) -> Result<(), Problem> {
        let mut state = self.at(now);
        let cost = Totals { events, bytes };
        state.check(&self.limits, now, cost)?;
        let now = nanos(now);
        if let Some(rate) = self.limits.events_per_second {
            state.events.take(now, events, rate);
        }
        if let Some(rate) = self.limits.bytes_per_second {
            state.bytes.take(now, bytes, rate);
        }
        state.untold = state.untold.plus(cost);
        Ok(())
    }

    /// Writes what is left into the headers of an answer.
    pub(crate) fn tell(&self, now: Timestamp, headers: &mut HeaderMap) {
        let state = self.at(now);
        let (at, used) = (nanos(now), state.told.plus(state.untold));
        let (mut policies, mut rests) = (Vec::new(), Vec::new());
        let mut add = |name: &str, most: u64, window: u64, left: u64, until: u64| {
            policies.push(format!("\"{name}\";q={most};w={window}"));
            rests.push(format!("\"{name}\";r={left};t={until}"));
        };
        let limits = &self.limits;
        let rates = [
            ("events", limits.events_per_second, state.events),
            ("bytes", limits.bytes_per_second, state.bytes),
        ];
        for (name, rate, bucket) in rates {
            if let Some(rate) = rate {
                add(name, rate, 1, bucket.left(at, rate), bucket.seconds_until_full(at));
            }
        }
        let quotas = [
            ("events-day", limits.events_per_day, used.events),
            ("bytes-day", limits.bytes_per_day, used.bytes),
        ];
        for (name, quota, used) in quotas {
            if let Some(quota) = quota {
                add(name, quota, DAY_SECONDS, quota.saturating_sub(used), until_midnight(now));
            }
        }
        for (name, parts) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, rests)] {
            if let Ok(value) = HeaderValue::from_str(&parts.join(", ")) {
                headers.insert(name, value);
            }
        }
    }

    /// What has been counted and not told to other processes, and the day that it is of.
    pub(crate) fn untold(&self, now: Timestamp) -> (i64, Totals) {
        let state = self.at(now);
        (state.day, state.untold)
    }

    /// Takes in what all processes have counted on a day; `told` of it was this one's, untold before.
    pub(crate) fn hear(&self, day: i64, all: Totals, told: Totals) {
        let mut state = self.lock();
        if state.day == day {
            state.told = all;
            state.untold = state.untold.minus(told);
        }
    }

    /// The state, in the day that it is.
    fn at(&self, now: Timestamp) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let today = day_of(now);
        if state.day != today {
            *state =
                State { events: state.events, bytes: state.bytes, day: today, ..State::default() };
        }
        state.events.cap(nanos(now));
        state.bytes.cap(nanos(now));
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, limits: &Limits, now: Timestamp, cost: Totals) -> Result<(), Problem> {
        let used = self.told.plus(self.untold);
        for (what, quota, used, cost) in [
            ("events", limits.events_per_day, used.events, cost.events),
            ("bytes", limits.bytes_per_day, used.bytes, cost.bytes),
        ] {
            if quota.is_some_and(|quota| used.saturating_add(cost) > quota) {
                let detail = format!("this key's {what} of today (UTC) are used up");
                return Err(refused(detail, until_midnight(now)));
            }
        }
        for (what, rate, bucket) in [
            ("events", limits.events_per_second, self.events),
            ("bytes", limits.bytes_per_second, self.bytes),
        ] {
            if let Some(wait) = rate.and_then(|_| bucket.wait(nanos(now))) {
                let detail = format!("more {what} a second are sent with this key than it allows");
                return Err(refused(detail, (wait as u64).div_ceil(SECOND as u64)));
            }
        }
        Ok(())
    }
}

fn refused(detail: String, seconds: u64) -> Problem {
    Problem::new(ErrorCode::QuotaExceeded, detail).retry_after(seconds)
}

fn nanos(time: Timestamp) -> i64 {
    time.0.saturating_mul(1_000)
}

/// The day of a time in UTC, in days since 1970.
pub(super) fn day_of(time: Timestamp) -> i64 {
    time.0.div_euclid(Timestamp::DAY)
}

/// How many seconds are left of the day.
fn until_midnight(now: Timestamp) -> u64 {
    let left = Timestamp::DAY - now.0.rem_euclid(Timestamp::DAY);
    (left as u64).div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

    fn header(meter: &Meter, now: Timestamp, name: HeaderName) -> String {
        let mut headers = HeaderMap::new();
        meter.tell(now, &mut headers);
        headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_rate_holds_on_average_and_lets_large_batches_pass() {
        let limits = Limits { events_per_second: Some(100), ..Limits::default() };
        let meter = Meter::new(limits);
        assert_eq!(header(&meter, NOW, RATE_LIMIT_POLICY), "\"events\";q=100;w=1");
        meter.charge(NOW, 40, 0).unwrap();
        assert_eq!(header(&meter, NOW, RATE_LIMIT), "\"events\";r=60;t=1");
        meter.charge(NOW, 260, 0).unwrap();
        let refused = meter.charge(NOW, 1, 0).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::QuotaExceeded);
        // 300 events are two seconds more than one second allows.
        assert!(meter.check(NOW.plus(1_999_999)).is_err());
        assert!(meter.check(NOW.plus(2_000_001)).is_ok());
        let (mut passed, mut now) = (0, NOW.plus(3_000_000));
        for _ in 0..10_000 {
            passed += u64::from(meter.charge(now, 1, 0).is_ok());
            now = now.plus(1_000);
        }
        assert!((1_000..=1_101).contains(&passed), "{passed} in 10 s at 100 a second");
    }

    #[test]
    fn a_jump_of_the_clock_costs_an_hour_at_most() {
        let limits = Limits { events_per_second: Some(1), ..Limits::default() };
        let meter = Meter::new(limits);
        meter.charge(NOW, 1_000_000, 0).unwrap();
        assert!(meter.check(NOW.plus(3_598_000_000)).is_err());
        assert!(meter.check(NOW.plus(3_600_000_000)).is_ok());
        // Back by a day.
        let before = NOW.plus(-Timestamp::DAY);
        assert!(meter.check(before).is_err());
        assert!(meter.check(before.plus(3_600_000_001)).is_ok());
    }

    #[test]
    fn a_quota_is_exact_and_begins_anew_at_midnight() {
        let limits =
            Limits { events_per_day: Some(10), bytes_per_day: Some(100), ..Limits::default() };
        let meter = Meter::new(limits);
        meter.charge(NOW, 6, 10).unwrap();
        assert!(meter.charge(NOW, 5, 10).is_err());
        assert!(meter.charge(NOW, 1, 91).is_err());
        let rests = "\"events-day\";r=4;t=86400, \"bytes-day\";r=90;t=86400";
        assert_eq!(header(&meter, NOW, RATE_LIMIT), rests);
        // Another process has counted too.
        let (day, mine) = meter.untold(NOW);
        assert_eq!((mine.events, mine.bytes), (6, 10));
        meter.charge(NOW, 1, 1).unwrap();
        meter.hear(day, Totals { events: 8, bytes: 20 }, mine);
        assert!(meter.charge(NOW, 2, 1).is_err());
        meter.charge(NOW, 1, 1).unwrap();
        assert!(meter.check(NOW).is_err());
        let tomorrow = NOW.plus(Timestamp::DAY);
        assert!(meter.check(NOW.plus(Timestamp::DAY - 1)).is_err());
        meter.charge(tomorrow, 10, 100).unwrap();
        assert!(meter.check(tomorrow).is_err());
    }
}
