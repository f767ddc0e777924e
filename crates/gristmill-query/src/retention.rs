//! How many users of each cohort came back, bucket by bucket.
//!
//! A user's events come in order of time, so the buckets in which it entered and returned are
//! found in one pass, and ascend. Only these buckets are then held against each other.

use std::sync::Arc;

use gristmill_model::{
    Entry, RetentionAnswer, RetentionCohort, RetentionQuery, Return, TimeRange, Timestamp, limits,
};
use gristmill_store::{Dictionaries, HourRows, Precision, UserBatch, is_whole_hour};

use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::{BatchFold, Fold, View};
use crate::select::{Matcher, Plan};
use crate::span::{laid_out, laid_out_by_hours, zone};

/// The bits of the start and of the return events.
const START: u32 = 1;
const RETURN: u32 = 2;

pub(crate) async fn answer(
    view: &View,
    query: &RetentionQuery,
) -> Result<RetentionAnswer, QueryError> {
    let zone = zone(&query.zone)?;
    let mut plan = Plan::new(&query.selection)?;
    let most = limits::RETENTION_BUCKETS;
    let lay_out = |first, last| {
        Buckets::covering(&zone, query.interval, first, last, most).ok_or_else(|| {
            QueryError::Invalid(format!(
                "the range has more than {most} buckets: ask for a shorter one or a coarser \
                 `granularity`"
            ))
        })
    };
    // An event that begins is one that returns if all do. Otherwise which of two in an hour came
    // first may decide.
    let all_return = query.returning.event_types.is_empty() && query.returning.filters.is_empty();
    // Whether an event is before the range may decide as well.
    let begins_with_hour = plan.scan.range.start.is_none_or(|start| is_whole_hour(start.0));
    let laid_out = if all_return && begins_with_hour {
        laid_out_by_hours(view, &mut plan, lay_out, Buckets::are_of_whole_hours).await?
    } else {
        laid_out(view, &plan, lay_out).await?
    };
    let Some((first, buckets)) = laid_out else {
        return Ok(RetentionAnswer { cohorts: Vec::new() });
    };
    let buckets = Arc::new(buckets);
    let from = match plan.scan.precision {
        Precision::Times | Precision::Untold => first.0,
        Precision::Hours => first.0 - first.0.rem_euclid(Timestamp::HOUR),
    };
    plan.keep_matching(START, &query.start)?;
    plan.keep_matching(RETURN, &query.returning)?;
    if query.entry == Entry::FirstTime {
        // Whether an event is its user's first is only known from all events before.
        plan.scan.range = TimeRange { start: None, ..plan.scan.range };
    }
    let start = || RetentionFold {
        matcher: plan.matcher.clone(),
        entry: query.entry,
        counting: query.counting,
        from,
        buckets: Arc::clone(&buckets),
        triangle: Triangle::default(),
        entries: Vec::new(),
        returns: Vec::new(),
    };
    let mut triangle = view.fold(&plan, start).await?;
    if triangle.0.is_empty() {
        triangle = Triangle::of(buckets.len());
    }
    let cohort = |(bucket, cohort): (usize, Cohort)| RetentionCohort {
        start: buckets.start(bucket),
        users: cohort.users,
        retained: cohort.retained,
    };
    Ok(RetentionAnswer { cohorts: triangle.0.into_iter().enumerate().map(cohort).collect() })
}

/// The cohorts of all buckets.
#[derive(Default)]
struct Triangle(Vec<Cohort>);

#[derive(Clone)]
struct Cohort {
    users: u64,
    retained: Vec<u64>,
}

impl Triangle {
    fn of(buckets: usize) -> Self {
        let cohort = |bucket| Cohort { users: 0, retained: vec![0; buckets - bucket] };
        Self((0..buckets).map(cohort).collect())
    }
}

/// No bucket.
const NEVER: (usize, i64) = (usize::MAX, 0);

struct RetentionFold {
    matcher: Matcher,
    entry: Entry,
    counting: Return,
    /// Start events before this moment enter no cohort.
    from: i64,
    buckets: Arc<Buckets>,
    triangle: Triangle,
    /// Of the user at hand: each bucket with a start event and the time of its first one.
    entries: Vec<(usize, i64)>,
    /// Each bucket with a return event and the time of its last one, in front of what is left of
    /// users before; there is room for all buckets.
    returns: Vec<(usize, i64)>,
}

impl Fold for RetentionFold {
    type Partial = Triangle;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Triangle {
        self.triangle
    }

    fn merge(into: &mut Triangle, other: Triangle) {
        if into.0.is_empty() {
            *into = other;
            return;
        }
        for (into, other) in into.0.iter_mut().zip(other.0) {
            into.users += other.users;
            for (into, other) in into.retained.iter_mut().zip(other.retained) {
                *into += other;
            }
        }
    }
}

impl BatchFold for RetentionFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        // Folds wait for their turn with nothing in their hands.
        if self.returns.is_empty() {
            self.triangle = Triangle::of(self.buckets.len());
            self.returns.resize(self.buckets.len(), NEVER);
        }
        let (entry, counting) = (self.entry, self.counting);
        let is_plain = self.matcher.keeps_all() && counting == Return::Exact;
        if is_plain && entry == Entry::FirstTime && !batch.events.hours.is_empty() {
            for own in batch.moments() {
                self.plain_user(&batch.events.hours[own]);
            }
            return Ok(());
        }
        let mut matcher = std::mem::take(&mut self.matcher);
        let moments = matcher.moments(&batch.events);
        for own in batch.moments() {
            self.user(&moments.times[own.clone()], &moments.sets[own]);
        }
        self.matcher = matcher;
        Ok(())
    }
}

impl RetentionFold {
    /// Takes in one user's hours, where the first event ever is the start and all events are returns.
    fn plain_user(&mut self, hours: &[HourRows]) {
        let Some(first) = hours.first().filter(|first| first.begins() >= self.from) else { return };
        let cohort = self.buckets.find_hour(first.hour.into());
        let counts = &mut self.triangle.0[cohort];
        counts.users += 1;
        let mut latest = NEVER.0;
        for hour in hours {
            let bucket = self.buckets.find_hour(hour.hour.into());
            // Whether an hour is in the bucket of the one before can hardly be foretold.
            counts.retained[bucket - cohort] += u64::from(bucket != latest);
            latest = bucket;
        }
    }

    /// Takes in one user's events, given their times and the bits that each keeps.
    fn user(&mut self, times: &[i64], sets: &[u32]) {
        self.entries.clear();
        // Mostly none is before the range.
        let first = match times.first() {
            Some(first) if *first < self.from => times.partition_point(|time| *time < self.from),
            _ => 0,
        };
        if sets[..first].iter().any(|set| set & START != 0) {
            // Only events before the range are read where the first one ever counts.
            return;
        }
        let (mut returns, mut latest) = (0, NEVER.0);
        for (&time, set) in times.iter().zip(sets).skip(first) {
            let bucket = self.buckets.find(time);
            if set & START != 0 {
                let is_in = match self.entry {
                    Entry::FirstTime => !self.entries.is_empty(),
                    Entry::Recurring => self.entries.last().is_some_and(|last| last.0 == bucket),
                };
                if !is_in {
                    self.entries.push((bucket, time));
                }
            }
            if set & RETURN != 0 {
                // Whether a moment is in the bucket of the one before can hardly be foretold.
                returns += usize::from(bucket != latest);
                self.returns[returns - 1] = (bucket, time);
                latest = bucket;
            }
        }
        self.count(returns);
    }

    /// Counts the user at hand, who returned in so many buckets, in its cohorts.
    fn count(&mut self, returns: usize) {
        let Self { triangle, entries, counting, .. } = self;
        let returns = &self.returns[..returns];
        for &(cohort, entered) in entries.iter() {
            let counts = &mut triangle.0[cohort];
            counts.users += 1;
            let mut after = returns.iter().filter(|(bucket, latest)| {
                *bucket > cohort || (*bucket == cohort && *latest >= entered)
            });
            match counting {
                Return::Exact => {
                    after.for_each(|(bucket, _)| counts.retained[bucket - cohort] += 1);
                }
                Return::Rolling => {
                    let buckets = after.next_back().map_or(0, |(bucket, _)| bucket - cohort + 1);
                    counts.retained[..buckets].iter_mut().for_each(|count| *count += 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use gristmill_model::{Event, EventMatch, Interval};
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{
        TYPES, World, all, enough_worlds, event, filter, matches, selection, worlds,
    };

    /// The cohorts by the definition, cell by cell.
    fn expected(world: &World, query: &RetentionQuery) -> Vec<RetentionCohort> {
        let zone = TimeZone::get(&query.zone).unwrap();
        let in_range = world.selected(&query.selection);
        let Some((first, last)) = world.span(&query.selection) else { return Vec::new() };
        let mut selection = query.selection.clone();
        selection.range.start = None;
        let ever = world.selected(&selection);
        let buckets = Buckets::covering(&zone, query.interval, first, last, 10_000).unwrap();
        let bucket_of = |time: Timestamp| {
            (0..buckets.len()).find(|bucket| time.0 < buckets.end(*bucket)).unwrap()
        };
        let users: BTreeSet<_> = in_range.iter().map(|event| event.user.as_str()).collect();
        // Of each cohort the users with the time they entered.
        let mut cohorts: BTreeMap<usize, Vec<(&str, Timestamp)>> = BTreeMap::new();
        for user in users {
            let starts = |events: &[&Event<'_>]| -> Vec<Timestamp> {
                let own = events.iter().filter(|event| event.user.as_str() == user);
                own.filter(|e| matches(e, &query.start)).map(|event| event.time).collect()
            };
            let mut entered: BTreeMap<usize, Timestamp> = BTreeMap::new();
            for time in starts(&in_range) {
                if query.entry == Entry::FirstTime && starts(&ever).iter().any(|t| *t < time) {
                    continue;
                }
                let entry = entered.entry(bucket_of(time)).or_insert(time);
                *entry = (*entry).min(time);
            }
            for (bucket, time) in entered {
                cohorts.entry(bucket).or_default().push((user, time));
            }
        }
        let returns = |user: &str, entered: Timestamp| -> BTreeSet<usize> {
            let own = in_range.iter().filter(|event| event.user.as_str() == user);
            let after = own.filter(|e| e.time >= entered && matches(e, &query.returning));
            after.map(|event| bucket_of(event.time)).collect()
        };
        let cohort = |bucket: usize| {
            let users = cohorts.remove(&bucket).unwrap_or_default();
            let retained = (bucket..buckets.len()).map(|later| {
                let came = |(user, entered): &&(&str, Timestamp)| {
                    returns(user, *entered).iter().any(|returned| match query.counting {
                        Return::Exact => *returned == later,
                        Return::Rolling => *returned >= later,
                    })
                };
                users.iter().filter(came).count() as u64
            });
            let retained = retained.collect();
            RetentionCohort { start: buckets.start(bucket), users: users.len() as u64, retained }
        };
        (0..buckets.len()).map(cohort).collect()
    }

    fn events() -> impl Strategy<Value = EventMatch> {
        let types = proptest::sample::subsequence(TYPES, 0..=2);
        let filters = prop_oneof![
            3 => Just(Vec::new()),
            1 => filter().prop_map(|filter| vec![filter]),
        ];
        (types, filters).prop_map(|(types, filters)| EventMatch {
            event_types: types.into_iter().map(str::to_owned).collect(),
            filters,
        })
    }

    proptest! {
        #![proptest_config(enough_worlds(1))]
        #[test]
        fn agrees_with_the_definition(
            world in worlds(),
            selection in selection(),
            (start, returning) in (events(), events()),
            first_time: bool,
            rolling: bool,
            // Buckets that are short and many, and long and few, beside the worlds' two minutes.
            (interval, stretch) in proptest::sample::select(&[
                (Interval::Minute, 1), (Interval::Minute, 10), (Interval::Hour, 400),
                (Interval::Day, 7_000), (Interval::Week, 20_000), (Interval::Month, 60_000),
            ]),
            zone in proptest::sample::select(&["UTC", "Asia/Kathmandu", "America/Sao_Paulo", "America/Caracas"]),
        ) {
            let world = world.stretched(stretch);
            let query = RetentionQuery {
                selection: World::stretched_selection(selection, stretch),
                start,
                returning,
                entry: if first_time { Entry::FirstTime } else { Entry::Recurring },
                counting: if rolling { Return::Rolling } else { Return::Exact },
                interval,
                zone: zone.to_owned(),
            };
            let answer = world.ask(async |service| service.retention(query.clone()).await);
            prop_assert_eq!(answer.unwrap().cohorts, expected(&world, &query));
        }
    }

    #[test]
    fn too_many_buckets_and_unknown_zones_are_refused() {
        let days = |count: i64| {
            World::of(
                (0..2)
                    .map(|n| event("u", n.to_string(), n * (count - 1) * Timestamp::DAY))
                    .collect(),
            )
        };
        let ask = |world: &World, zone: &str| {
            let query = RetentionQuery {
                selection: all(),
                start: EventMatch::default(),
                returning: EventMatch::default(),
                entry: Entry::FirstTime,
                counting: Return::Exact,
                interval: Interval::Day,
                zone: zone.to_owned(),
            };
            let answer = world.ask(async |service| service.retention(query.clone()).await);
            answer.map(|answer| answer.cohorts.len()).map_err(|error| error.to_string())
        };
        let most = limits::RETENTION_BUCKETS as i64;
        assert_eq!(ask(&days(most), "UTC"), Ok(limits::RETENTION_BUCKETS));
        assert!(ask(&days(most + 1), "UTC").unwrap_err().contains("more than 400 buckets"));
        assert!(ask(&days(1), "Nowhere/Land").unwrap_err().contains("not a known time zone"));
    }
}
