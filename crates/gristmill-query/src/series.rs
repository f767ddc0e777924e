//! Values over time: events or distinct users per bucket of the calendar, one series per value of
//! a field if asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_model::{Metric, SeriesAnswer, SeriesPoint, SeriesQuery, limits};
use gristmill_store::{ABSENT, Dictionary, UserRun};

use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::{UserFold, View};
use crate::grid::Grid;
use crate::select::{Matcher, Plan};
use crate::span::{span, zone};
use crate::tally::Tally;

pub(crate) async fn answer(view: &View, query: &SeriesQuery) -> Result<SeriesAnswer, QueryError> {
    let zone = zone(&query.zone)?;
    let mut plan = Plan::new(&query.selection)?;
    let Some((first, last)) = span(view, &plan).await? else {
        return Ok(SeriesAnswer { points: Vec::new() });
    };
    let most = limits::SERIES_POINTS;
    let buckets = Buckets::covering(&zone, query.interval, first, last, most);
    let buckets = Arc::new(buckets.ok_or_else(too_many_points)?);
    let group = query.group_by.as_ref().map(|field| plan.column(field));
    let start = || SeriesFold {
        matcher: plan.matcher.clone(),
        group,
        metric: query.metric,
        buckets: Arc::clone(&buckets),
        grid: Grid::new(buckets.len()),
        tally: Tally::default(),
    };
    let groups = view.fold(&plan, start).await?;
    check_size(&groups)?;
    let points = match group {
        None => every_bucket(&buckets, &groups),
        Some(_) => used_buckets(&buckets, groups),
    };
    Ok(SeriesAnswer { points })
}

fn too_many_points() -> QueryError {
    let most = limits::SERIES_POINTS;
    QueryError::Invalid(format!(
        "the series has more than {most} points: ask for a shorter range or a coarser `granularity`"
    ))
}

fn too_many_groups() -> QueryError {
    let most = limits::SERIES_GROUPS;
    QueryError::Invalid(format!(
        "`group_by` makes more than {most} groups: choose a field with fewer values or add a filter"
    ))
}

/// The value of every bucket that has one, by group.
type Groups = BTreeMap<Option<String>, BTreeMap<usize, u64>>;

fn check_size(groups: &Groups) -> Result<(), QueryError> {
    if groups.len() > limits::SERIES_GROUPS {
        return Err(too_many_groups());
    }
    if groups.values().map(BTreeMap::len).sum::<usize>() > limits::SERIES_POINTS {
        return Err(too_many_points());
    }
    Ok(())
}

fn every_bucket(buckets: &Buckets, groups: &Groups) -> Vec<SeriesPoint> {
    let values = groups.get(&None);
    let value = |bucket| values.and_then(|values| values.get(&bucket)).copied().unwrap_or(0);
    (0..buckets.len())
        .map(|bucket| SeriesPoint {
            start: buckets.start(bucket),
            group: None,
            value: value(bucket),
        })
        .collect()
}

fn used_buckets(buckets: &Buckets, groups: Groups) -> Vec<SeriesPoint> {
    let point = |group: &Option<String>, (bucket, value)| SeriesPoint {
        start: buckets.start(bucket),
        group: group.clone(),
        value,
    };
    groups
        .into_iter()
        .flat_map(|(group, values)| values.into_iter().map(move |value| point(&group, value)))
        .collect()
}

struct SeriesFold {
    matcher: Matcher,
    group: Option<usize>,
    metric: Metric,
    buckets: Arc<Buckets>,
    grid: Grid,
    tally: Tally,
}

impl UserFold for SeriesFold {
    type Partial = Groups;

    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { buckets, grid, tally, .. } = self;
        let codes = self.group.map(|column| run.columns[column]);
        tally.next_user();
        // Times ascend, so most events fall into the cell of the one before.
        let (mut end, mut bucket, mut code, mut cell) = (i64::MIN, 0, ABSENT, 0);
        self.matcher.for_each(run, |row| {
            let time = run.times[row];
            let group = codes.map_or(ABSENT, |codes| codes[row]);
            if time >= end || group != code {
                if time >= end {
                    bucket = buckets.find(time);
                    end = buckets.end(bucket);
                }
                code = group;
                cell = grid.cell(Tally::slot(code), bucket);
                tally.grow(grid.cells());
            }
            tally.add(cell);
        });
        if grid.rows() > limits::SERIES_GROUPS {
            return Err(too_many_groups());
        }
        if tally.used() > limits::SERIES_POINTS {
            return Err(too_many_points());
        }
        Ok(())
    }

    fn finish(self, dictionaries: &[Dictionary]) -> Groups {
        let mut groups = Groups::new();
        for (slot, first_bucket, cells) in self.grid.pages() {
            let dictionary = self.group.map(|column| &dictionaries[column]);
            let text = dictionary.and_then(|dictionary| dictionary.text(Tally::code(slot)));
            let values = groups.entry(text.map(str::to_owned)).or_default();
            for (bucket, cell) in (first_bucket..).zip(self.tally.range(cells)) {
                if cell.count > 0 {
                    let value = match self.metric {
                        Metric::Count => cell.count,
                        Metric::UniqueUsers => u64::from(cell.users),
                    };
                    values.insert(bucket, value);
                }
            }
        }
        groups
    }

    fn merge(into: &mut Groups, other: Groups) {
        for (group, values) in other {
            let known = into.entry(group).or_default();
            for (bucket, value) in values {
                *known.entry(bucket).or_default() += value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gristmill_model::{Event, Field, Interval, Timestamp};
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{World, all, event, field, selection, text, worlds};

    const INTERVALS: &[Interval] = &[Interval::Minute, Interval::Hour, Interval::Day];

    fn expected(world: &World, query: &SeriesQuery) -> Vec<SeriesPoint> {
        let zone = TimeZone::get(&query.zone).unwrap();
        let events = world.selected(&query.selection);
        let range = query.selection.range;
        let data = events.iter().map(|event| event.time);
        let first = range.start.or(data.clone().min());
        let last = range.end.map(|end| end.plus(-1)).or(data.max());
        let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
        if first > last || (events.is_empty() && (range.start.is_none() || range.end.is_none())) {
            return Vec::new();
        }
        let buckets = Buckets::covering(&zone, query.interval, first, last, 1_000_000).unwrap();
        let mut points: BTreeMap<(Option<String>, usize), Vec<&str>> = BTreeMap::new();
        for event in &events {
            let group = query.group_by.as_ref().and_then(|field| text(event, field));
            let bucket = (0..buckets.len()).find(|bucket| event.time.0 < buckets.end(*bucket));
            points.entry((group, bucket.unwrap())).or_default().push(event.user.as_str());
        }
        if query.group_by.is_none() {
            for bucket in 0..buckets.len() {
                points.entry((None, bucket)).or_default();
            }
        }
        let value = |users: Vec<&str>| match query.metric {
            Metric::Count => users.len() as u64,
            Metric::UniqueUsers => users.into_iter().collect::<BTreeSet<_>>().len() as u64,
        };
        points
            .into_iter()
            .map(|((group, bucket), users)| SeriesPoint {
                start: buckets.start(bucket),
                group,
                value: value(users),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn agrees_with_counting(
            world in worlds(),
            selection in selection(),
            interval in proptest::sample::select(INTERVALS),
            zone in proptest::sample::select(&["UTC", "Asia/Kathmandu", "America/Sao_Paulo"]),
            by_users: bool,
            group_by in proptest::option::of(field()),
        ) {
            let metric = if by_users { Metric::UniqueUsers } else { Metric::Count };
            let query = SeriesQuery { selection, metric, interval, zone: zone.to_owned(), group_by };
            let answer = world.ask(async |service| service.series(query.clone()).await);
            prop_assert_eq!(answer.unwrap().points, expected(&world, &query));
        }
    }

    fn refused(world: &World, query: &SeriesQuery) -> String {
        let answer = world.ask(async |service| service.series(query.clone()).await);
        answer.unwrap_err().to_string()
    }

    #[test]
    fn what_would_be_too_large_is_refused() {
        let mut query = SeriesQuery {
            selection: all(),
            metric: Metric::Count,
            interval: Interval::Minute,
            zone: "Nowhere/Land".to_owned(),
            group_by: None,
        };
        let users = |count: i64, gap: i64| {
            let ids = (0..count).map(|id| (id.to_string(), id * gap));
            World::of(ids.map(|(id, time)| event("u", id, time)).collect())
        };
        let minute = 60 * Timestamp::SECOND;
        let world = users(2, minute * limits::SERIES_POINTS as i64);
        assert!(refused(&world, &query).starts_with("`tz` is not a known time zone"));
        query.zone = "UTC".to_owned();
        assert!(refused(&world, &query).contains("more than 100000 points"));
        query.interval = Interval::Hour;
        let world = users(limits::SERIES_GROUPS as i64 + 1, 1);
        query.group_by = Some(Field::EventId);
        assert!(refused(&world, &query).contains("more than 1000 groups"));
        query.group_by = Some(Field::EventType);
        let answer = world.ask(async |service| service.series(query.clone()).await).unwrap();
        assert_eq!(answer.points.len(), 1);
        assert_eq!((answer.points[0].start, answer.points[0].value), (Timestamp(0), 1_001));
    }

    #[test]
    fn groups_with_many_points_are_refused_by_their_sum() {
        // 400 groups with 300 points each, in one user: more than the limit in one shard.
        let events = (0..120_000_i64).map(|n| Event {
            source: (n % 400).to_string().into(),
            ..event("u", n.to_string(), n / 400 * Timestamp::HOUR)
        });
        let query = SeriesQuery {
            selection: all(),
            metric: Metric::UniqueUsers,
            interval: Interval::Hour,
            zone: "UTC".to_owned(),
            group_by: Some(Field::Source),
        };
        assert!(refused(&World::of(events.collect()), &query).contains("more than 100000 points"));
    }
}
