//! On how many days of a week or month users are active.
//!
//! A user's events come in order of time, so the active days of a period are counted one after
//! another, and the user is noted once when the period ends.

use std::sync::Arc;

use gristmill_model::{
    Interval, PeriodActivity, StickinessAnswer, StickinessQuery, Timestamp, limits,
};
use gristmill_store::{Dictionaries, UserBatch};
use jiff::tz::TimeZone;

use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::{BatchFold, Fold, View};
use crate::select::{Matcher, Plan};
use crate::span::{laid_out_by_hours, zone};

/// The most days of a period.
const DAYS: usize = 31;

pub(crate) async fn answer(
    view: &View,
    query: &StickinessQuery,
) -> Result<StickinessAnswer, QueryError> {
    let zone = zone(&query.zone)?;
    let mut plan = Plan::new(&query.selection)?;
    let lay_out = |first, last| {
        Layout::of(&zone, query.period.interval(), first, last).ok_or_else(too_many_periods)
    };
    let by_hours = |layout: &Layout| layout.days.are_of_whole_hours();
    let Some((_, layout)) = laid_out_by_hours(view, &mut plan, lay_out, by_hours).await? else {
        return Ok(StickinessAnswer::default());
    };
    let layout = Arc::new(layout);
    let start = || StickinessFold {
        matcher: plan.matcher.clone(),
        layout: Arc::clone(&layout),
        users: vec![0; layout.days.len()],
    };
    let users = view.fold(&plan, start).await?;
    Ok(layout.answer(&users))
}

fn too_many_periods() -> QueryError {
    let most = limits::STICKINESS_PERIODS;
    QueryError::Invalid(format!(
        "the range has more than {most} periods: ask for a shorter one or a longer `period`"
    ))
}

/// The days of the range and the periods that they belong to.
struct Layout {
    days: Buckets,
    periods: Buckets,
    /// The first day of each day's period.
    first_days: Vec<usize>,
}

impl Layout {
    /// Days and periods of a range; `None` if they are too many.
    fn of(zone: &TimeZone, period: Interval, first: Timestamp, last: Timestamp) -> Option<Self> {
        let most = limits::STICKINESS_PERIODS;
        let periods = Buckets::covering(zone, period, first, last, most)?;
        let days = Buckets::covering(zone, Interval::Day, first, last, most * DAYS)?;
        let period_of = |day: usize| periods.find(days.start(day).0);
        let mut first_days: Vec<usize> = Vec::with_capacity(days.len());
        for day in 0..days.len() {
            let goes_on = day > 0 && period_of(day) == period_of(day - 1);
            first_days.push(if goes_on { first_days[day - 1] } else { day });
        }
        Some(Self { days, periods, first_days })
    }

    fn answer(&self, users: &[u64]) -> StickinessAnswer {
        let period = |days: &[usize]| {
            let (first, count) = (days[0], days.len());
            let period = self.periods.find(self.days.start(first).0);
            PeriodActivity {
                start: self.periods.start(period),
                exactly: users.iter().skip(first).take(count).copied().collect(),
            }
        };
        let periods = self.first_days.chunk_by(|a, b| a == b).map(period);
        StickinessAnswer { periods: periods.collect() }
    }
}

struct StickinessFold {
    matcher: Matcher,
    layout: Arc<Layout>,
    /// A period has as many cells as days, from the cell of its first day on: how many users were
    /// active on one day, on two, and so on.
    users: Vec<u64>,
}

impl Fold for StickinessFold {
    type Partial = Vec<u64>;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Vec<u64> {
        self.users
    }

    fn merge(into: &mut Vec<u64>, other: Vec<u64>) {
        if into.is_empty() {
            *into = other;
            return;
        }
        for (into, other) in into.iter_mut().zip(other) {
            *into += other;
        }
    }
}

impl BatchFold for StickinessFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { matcher, layout, users } = self;
        let moments = matcher.moments(&batch.events);
        for own in batch.moments() {
            let (mut end, mut first_day, mut active_days) = (i64::MIN, 0, 0);
            moments.for_each(own, |time| {
                if time < end {
                    return;
                }
                let day = layout.days.find(time);
                end = layout.days.end(day);
                if layout.first_days[day] != first_day {
                    note(users, first_day, active_days);
                    (first_day, active_days) = (layout.first_days[day], 0);
                }
                active_days += 1;
            });
            note(users, first_day, active_days);
        }
        Ok(())
    }
}

/// Notes a user who was active on so many days of the period that begins with a day.
fn note(users: &mut [u64], first_day: usize, active_days: usize) {
    if active_days > 0 {
        users[first_day + active_days - 1] += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use gristmill_model::StickinessPeriod;
    use jiff::civil::{Date, Weekday};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, all, enough_worlds, event, selection, worlds};

    fn date(zone: &TimeZone, time: Timestamp) -> Date {
        let time = jiff::Timestamp::from_microsecond(time.0).unwrap();
        time.to_zoned(zone.clone()).date()
    }

    /// The first date of a date's period.
    fn period_of(date: Date, period: StickinessPeriod) -> Date {
        match period {
            StickinessPeriod::Week => {
                date.tomorrow().unwrap().nth_weekday(-1, Weekday::Monday).unwrap()
            }
            StickinessPeriod::Month => date.first_of_month(),
        }
    }

    /// By the definition: the periods' first dates, and how many users were active on one day or
    /// more, on two or more, and so on, over as many days as lie in the range.
    fn expected(world: &World, query: &StickinessQuery) -> Vec<(Date, Vec<u64>)> {
        let zone = TimeZone::get(&query.zone).unwrap();
        let events = world.selected(&query.selection);
        let range = query.selection.range;
        let times = || events.iter().map(|event| event.time);
        let (Some(first), Some(end)) =
            (range.start.or(times().min()), range.end.or(times().max().map(|last| last.plus(1))))
        else {
            return Vec::new();
        };
        let is_open = range.start.is_none() || range.end.is_none();
        if first >= end || (events.is_empty() && is_open) {
            return Vec::new();
        }
        let mut days: BTreeMap<Date, BTreeSet<Date>> = BTreeMap::new();
        let (mut day, last) = (date(&zone, first), date(&zone, end.plus(-1)));
        while day <= last {
            days.entry(period_of(day, query.period)).or_default().insert(day);
            day = day.tomorrow().unwrap();
        }
        let active = |user: &str, days: &BTreeSet<Date>| {
            let own = events.iter().filter(|event| event.user.as_str() == user);
            let dates: BTreeSet<Date> = own.map(|event| date(&zone, event.time)).collect();
            dates.intersection(days).count()
        };
        let users: BTreeSet<&str> = events.iter().map(|event| event.user.as_str()).collect();
        let users_of = |days: &BTreeSet<Date>, least: usize| {
            users.iter().filter(|user| active(user, days) >= least).count() as u64
        };
        days.into_iter()
            .map(|(period, days)| {
                (period, (1..=days.len()).map(|least| users_of(&days, least)).collect())
            })
            .collect()
    }

    proptest! {
        #![proptest_config(enough_worlds(1))]
        #[test]
        fn agrees_with_the_definition(
            world in worlds(),
            selection in selection(),
            months: bool,
            // The worlds' two minutes as hours, days, weeks and months.
            stretch in proptest::sample::select(&[100, 2_000, 9_000, 40_000, 200_000]),
            zone in proptest::sample::select(&["UTC", "Asia/Kathmandu", "America/Sao_Paulo", "America/Caracas"]),
        ) {
            let world = world.stretched(stretch);
            let query = StickinessQuery {
                selection: World::stretched_selection(selection, stretch),
                period: if months { StickinessPeriod::Month } else { StickinessPeriod::Week },
                zone: zone.to_owned(),
            };
            let answer = world.ask(async |service| service.stickiness(query.clone()).await).unwrap();
            let zone = TimeZone::get(zone).unwrap();
            let found: Vec<_> = answer.periods.iter()
                .map(|period| (date(&zone, period.start), period.at_least()))
                .collect();
            prop_assert_eq!(found, expected(&world, &query));
        }
    }

    fn ask(world: &World, zone: &str) -> Result<Vec<PeriodActivity>, String> {
        let query = StickinessQuery {
            selection: all(),
            period: StickinessPeriod::Week,
            zone: zone.to_owned(),
        };
        let answer = world.ask(async |service| service.stickiness(query.clone()).await);
        answer.map(|answer| answer.periods).map_err(|error| error.to_string())
    }

    #[test]
    fn days_are_those_of_the_zone() {
        // 1970-01-02 was a Friday. In Berlin 23:30 of that day in UTC was half an hour into the
        // next one.
        let friday = Timestamp::DAY;
        let times = [friday + 22 * Timestamp::HOUR, friday + 47 * Timestamp::HOUR / 2];
        let world = World::of(times.map(|time| event("u", time.to_string(), time)).to_vec());
        assert_eq!(ask(&world, "UTC").unwrap()[0].exactly, [1]);
        let in_berlin = ask(&world, "Europe/Berlin").unwrap();
        assert_eq!(in_berlin[0].exactly, [0, 1]);
        assert_eq!(in_berlin[0].start.to_string(), "1969-12-28T23:00:00Z");
    }

    #[test]
    fn too_many_periods_and_unknown_zones_are_refused() {
        let weeks = |count: i64| {
            let times = [0, (count - 1) * 7 * Timestamp::DAY];
            World::of(times.map(|time| event("u", time.to_string(), time)).to_vec())
        };
        let most = limits::STICKINESS_PERIODS as i64;
        assert_eq!(ask(&weeks(most), "UTC").unwrap().len(), limits::STICKINESS_PERIODS);
        assert!(ask(&weeks(most + 1), "UTC").unwrap_err().contains("more than 400 periods"));
        assert!(ask(&weeks(1), "Nowhere/Land").unwrap_err().contains("not a known time zone"));
    }
}
