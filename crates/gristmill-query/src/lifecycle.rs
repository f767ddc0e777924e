//! How many users are new, returning, resurrecting and dormant, bucket by bucket.
//!
//! A user's events come in order of time, so each active bucket is held against the active one
//! before it, and nothing else of the user is remembered.

use std::sync::Arc;

use gristmill_model::{
    Interval, LifecycleAnswer, LifecycleBucket, LifecycleQuery, TimeRange, Timestamp, limits,
};
use gristmill_store::{Dictionaries, UserBatch, is_whole_hour};
use jiff::tz::TimeZone;

use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::{BatchFold, Fold, View};
use crate::select::{Matcher, Plan};
use crate::span::{laid_out_by_hours, zone};

pub(crate) async fn answer(
    view: &View,
    query: &LifecycleQuery,
) -> Result<LifecycleAnswer, QueryError> {
    let zone = zone(&query.zone)?;
    let mut plan = Plan::new(&query.selection)?;
    let lay_out = |first, last| Timeline::of(&zone, query.interval, first, last);
    let by_hours = |timeline: &Timeline| {
        timeline.buckets.are_of_whole_hours() && is_whole_hour(timeline.before)
    };
    let Some((_, timeline)) = laid_out_by_hours(view, &mut plan, lay_out, by_hours).await? else {
        return Ok(LifecycleAnswer::default());
    };
    let timeline = Arc::new(timeline);
    // Who is new is only known from all events before.
    plan.scan.range = TimeRange { start: None, ..plan.scan.range };
    let start = || LifecycleFold {
        matcher: plan.matcher.clone(),
        timeline: Arc::clone(&timeline),
        counts: Counts(vec![LifecycleBucket::default(); SLOT_OF_FIRST + timeline.buckets.len()]),
    };
    let counts = view.fold(&plan, start).await?;
    let bucket = |(index, counts): (usize, &LifecycleBucket)| LifecycleBucket {
        start: timeline.buckets.start(index),
        ..*counts
    };
    let counts = counts.0.iter().skip(SLOT_OF_FIRST);
    Ok(LifecycleAnswer { buckets: counts.enumerate().map(bucket).collect() })
}

fn too_many_buckets() -> QueryError {
    let most = limits::LIFECYCLE_BUCKETS;
    QueryError::Invalid(format!(
        "the range has more than {most} buckets: ask for a shorter one or a coarser `granularity`"
    ))
}

/// The slots of time: everything up to the bucket before the range, that bucket, and from
/// [`SLOT_OF_FIRST`] on the buckets of the range.
const LONG_BEFORE: usize = 0;
const JUST_BEFORE: usize = 1;
const SLOT_OF_FIRST: usize = 2;

struct Timeline {
    /// Where the bucket before the range begins.
    before: i64,
    /// Where the range begins.
    start: i64,
    buckets: Buckets,
}

impl Timeline {
    fn of(
        zone: &TimeZone,
        interval: Interval,
        first: Timestamp,
        last: Timestamp,
    ) -> Result<Self, QueryError> {
        let buckets = Buckets::covering(zone, interval, first, last, limits::LIFECYCLE_BUCKETS);
        let buckets = buckets.ok_or_else(too_many_buckets)?;
        let before = buckets.start(0).plus(-1);
        let bucket_before = Buckets::covering(zone, interval, before, before, 1);
        let before = bucket_before.ok_or_else(too_many_buckets)?.start(0).0;
        Ok(Self { before, start: buckets.start(0).0, buckets })
    }

    /// The slot of a moment, and where it ends.
    fn slot(&self, time: i64) -> (usize, i64) {
        if time < self.before {
            return (LONG_BEFORE, self.before);
        }
        if time < self.start {
            return (JUST_BEFORE, self.start);
        }
        let bucket = self.buckets.find(time);
        (SLOT_OF_FIRST + bucket, self.buckets.end(bucket))
    }
}

struct LifecycleFold {
    matcher: Matcher,
    timeline: Arc<Timeline>,
    counts: Counts,
}

/// What is counted in each slot.
#[derive(Default)]
struct Counts(Vec<LifecycleBucket>);

impl Counts {
    /// Counts a user who is active in a slot, and was so in `earlier` before.
    fn active(&mut self, slot: usize, earlier: Option<usize>) {
        if earlier.is_some_and(|earlier| earlier + 1 != slot) {
            self.gone(earlier);
        }
        let counts = &mut self.0[slot];
        match earlier {
            None => counts.new += 1,
            Some(earlier) if earlier != LONG_BEFORE && earlier + 1 == slot => counts.returning += 1,
            Some(_) => counts.resurrecting += 1,
        }
    }

    /// Counts a user who is not active in the slot after `latest`.
    fn gone(&mut self, latest: Option<usize>) {
        let slot = latest.filter(|latest| *latest != LONG_BEFORE).map(|latest| latest + 1);
        if let Some(counts) = slot.and_then(|slot| self.0.get_mut(slot)) {
            counts.dormant += 1;
        }
    }
}

impl Fold for LifecycleFold {
    type Partial = Counts;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Counts {
        self.counts
    }

    fn merge(into: &mut Counts, other: Counts) {
        if into.0.is_empty() {
            *into = other;
            return;
        }
        for (into, other) in into.0.iter_mut().zip(other.0) {
            into.new += other.new;
            into.returning += other.returning;
            into.resurrecting += other.resurrecting;
            into.dormant += other.dormant;
        }
    }
}

impl BatchFold for LifecycleFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { matcher, timeline, counts } = self;
        let moments = matcher.moments(&batch.events);
        for own in batch.moments() {
            let (mut end, mut latest) = (i64::MIN, None);
            moments.for_each(own, |time| {
                if time >= end {
                    let (slot, slot_end) = timeline.slot(time);
                    counts.active(slot, latest);
                    (latest, end) = (Some(slot), slot_end);
                }
            });
            counts.gone(latest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gristmill_model::{Interval, Selection, Timestamp};
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, all, enough_worlds, event, selection, worlds};

    /// The buckets by the definition, user by user. All of time is cut into buckets here.
    fn expected(world: &World, query: &LifecycleQuery) -> Vec<LifecycleBucket> {
        let zone = TimeZone::get(&query.zone).unwrap();
        let Some((first, last)) = world.span(&query.selection) else { return Vec::new() };
        let mut selection = query.selection.clone();
        selection.range.start = None;
        let ever = world.selected(&selection);
        let earliest = ever.iter().map(|event| event.time).fold(first, Timestamp::min);
        // Two buckets of the longest kind more, so that each bucket of the range has one before.
        let earliest = earliest.plus(-63 * Timestamp::DAY);
        let buckets = Buckets::covering(&zone, query.interval, earliest, last, 1_000_000).unwrap();
        let users: BTreeSet<&str> = ever.iter().map(|event| event.user.as_str()).collect();
        let active: Vec<BTreeSet<usize>> = users
            .into_iter()
            .map(|user| {
                let own = ever.iter().filter(|event| event.user.as_str() == user);
                own.map(|event| buckets.find(event.time.0)).collect()
            })
            .collect();
        let count = |is_counted: &dyn Fn(&BTreeSet<usize>) -> bool| {
            active.iter().filter(|active| is_counted(active)).count() as u64
        };
        (buckets.find(first.0)..buckets.len())
            .map(|now| LifecycleBucket {
                start: buckets.start(now),
                new: count(&|active| active.first() == Some(&now)),
                returning: count(&|active| active.contains(&now) && active.contains(&(now - 1))),
                resurrecting: count(&|active| {
                    active.contains(&now)
                        && !active.contains(&(now - 1))
                        && active.range(..now).next().is_some()
                }),
                dormant: count(&|active| active.contains(&(now - 1)) && !active.contains(&now)),
            })
            .collect()
    }

    proptest! {
        #![proptest_config(enough_worlds(1))]
        #[test]
        fn agrees_with_the_definition(
            world in worlds(),
            selection in selection(),
            // Buckets that are short and many, and long and few, beside the worlds' two minutes.
            (interval, stretch) in proptest::sample::select(&[
                (Interval::Minute, 1), (Interval::Minute, 10), (Interval::Hour, 400),
                (Interval::Day, 7_000), (Interval::Week, 20_000), (Interval::Month, 60_000),
            ]),
            zone in proptest::sample::select(&["UTC", "Asia/Kathmandu", "America/Sao_Paulo", "America/Caracas"]),
        ) {
            let world = world.stretched(stretch);
            let query = LifecycleQuery {
                selection: World::stretched_selection(selection, stretch),
                interval,
                zone: zone.to_owned(),
            };
            let answer = world.ask(async |service| service.lifecycle(query.clone()).await);
            prop_assert_eq!(answer.unwrap().buckets, expected(&world, &query));
        }
    }

    fn ask(days: &[i64], zone: &str, range: TimeRange) -> Result<Vec<[u64; 4]>, String> {
        let events = days.iter().map(|day| event("u", day.to_string(), day * Timestamp::DAY));
        let selection = Selection { range, ..all() };
        let query = LifecycleQuery { selection, interval: Interval::Day, zone: zone.to_owned() };
        let world = World::of(events.collect());
        let answer = world.ask(async |service| service.lifecycle(query.clone()).await);
        let counts = |b: &LifecycleBucket| [b.new, b.returning, b.resurrecting, b.dormant];
        answer
            .map(|answer| answer.buckets.iter().map(counts).collect())
            .map_err(|error| error.to_string())
    }

    fn at_noon(day: i64) -> Option<Timestamp> {
        Some(Timestamp(day * Timestamp::DAY + 12 * Timestamp::HOUR))
    }

    #[test]
    fn a_user_comes_stays_goes_and_comes_back() {
        let new = [1, 0, 0, 0];
        let returning = [0, 1, 0, 0];
        let resurrecting = [0, 0, 1, 0];
        let dormant = [0, 0, 0, 1];
        let days = [1, 2, 5];
        let found = ask(&days, "UTC", TimeRange::ALL);
        assert_eq!(found, Ok(vec![new, returning, dormant, [0; 4], resurrecting]));
        // What happened before the range decides who the user is in it, and the bucket in which
        // it begins is a whole one.
        let range = TimeRange { start: at_noon(2), end: at_noon(7) };
        let found = ask(&days, "UTC", range);
        assert_eq!(found, Ok(vec![returning, dormant, [0; 4], resurrecting, dormant, [0; 4]]));
        let range = TimeRange { start: at_noon(3), end: at_noon(4) };
        assert_eq!(ask(&days, "UTC", range), Ok(vec![dormant, [0; 4]]));
        let range = TimeRange { start: at_noon(5), end: None };
        assert_eq!(ask(&[1, 2, 6], "UTC", range), Ok(vec![[0; 4], resurrecting]));
    }

    #[test]
    fn too_many_buckets_and_unknown_zones_are_refused() {
        let most = limits::LIFECYCLE_BUCKETS as i64;
        assert_eq!(ask(&[1, most], "UTC", TimeRange::ALL).unwrap().len() as i64, most);
        let error = ask(&[0, most], "UTC", TimeRange::ALL).unwrap_err();
        assert!(error.contains("more than 1000 buckets"), "{error}");
        let error = ask(&[0], "Nowhere/Land", TimeRange::ALL).unwrap_err();
        assert!(error.contains("not a known time zone"), "{error}");
    }
}
