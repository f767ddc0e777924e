//! What a question should find, said as directly as possible, held against the answer.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::{
    Aggregate, Event, EventMatch, Field, Formula, Interval, Metric, Selection, Series, SeriesGroup,
    SeriesPoint, Totals,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::testing::{
    TYPES, World, enough_worlds, filter, grouping, matches, selection, text, value_of, worlds,
};

/// JSON texts of values, some of them numbers.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-2.5",
    "0.1",
    "1e16",
    "-1e16",
    "-0.0",
    "3",
    "\"7\"",
    "\"x\"",
    "\"inf\"",
    "\"nan\"",
    "true",
    "1e999",
    "[1]",
    "0.30000000000000004",
];

fn number(event: &Event<'_>, field: &Field) -> Option<f64> {
    let text = text(event, field)?;
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && !text.contains('n')).then_some(number)
}

/// Whether an event has what a metric is about.
fn counts(event: &Event<'_>, metric: &Metric) -> bool {
    match metric {
        Metric::Count | Metric::UniqueUsers | Metric::PerUserAverage => true,
        Metric::Sessions => event.session.is_some(),
        Metric::Number(_, field) => number(event, field).is_some(),
    }
}

/// The value of a metric by its definition.
fn value(metric: &Metric, events: &[&Event<'_>]) -> Option<f64> {
    let users: BTreeSet<&str> = events.iter().map(|event| event.user.as_str()).collect();
    let (count, users) = (events.len() as f64, users.len() as f64);
    let (aggregate, field) = match metric {
        Metric::Count => return Some(count),
        Metric::UniqueUsers => return Some(users),
        Metric::PerUserAverage => return (users > 0.0).then_some(count / users),
        Metric::Sessions => {
            let session = |event: &&Event<'_>| {
                Some((event.user.to_string(), event.session.as_ref()?.to_string()))
            };
            return Some(events.iter().filter_map(session).collect::<BTreeSet<_>>().len() as f64);
        }
        Metric::Number(aggregate, field) => (aggregate, field),
    };
    let mut numbers: Vec<f64> = events.iter().filter_map(|event| number(event, field)).collect();
    numbers.sort_by(f64::total_cmp);
    // All numbers of the tests are multiples of 2^-60.
    let scale = 2.0_f64.powi(60);
    let sum: i128 = numbers.iter().map(|number| (number * scale) as i128).sum();
    let sum = sum as f64 / scale;
    match aggregate {
        Aggregate::Sum => Some(sum),
        Aggregate::Average => (!numbers.is_empty()).then(|| sum / numbers.len() as f64),
        Aggregate::Minimum => numbers.first().copied(),
        Aggregate::Maximum => numbers.last().copied(),
        Aggregate::Percentile(percent) => {
            let index = (f64::from(*percent) / 100.0 * numbers.len() as f64).floor() as usize;
            numbers.get(index.min(numbers.len().saturating_sub(1))).copied()
        }
    }
}

/// What is expected of formulas: their value from those of the series A and B.
type Expected = fn(f64, f64) -> f64;
const FORMULAS: &[(&str, Expected)] = &[
    ("A / B * 100", |a, b| a / b * 100.0),
    ("A - 2 * -B", |a, b| a - 2.0 * -b),
    ("(A + B) / 0", |_, _| f64::INFINITY),
];

/// The answer by its definition, point by point.
struct Oracle<'a> {
    world: &'a World,
    query: &'a SeriesQuery,
    zone: TimeZone,
    top: Option<Vec<Vec<Option<String>>>>,
}

impl Oracle<'_> {
    fn answer(mut self) -> SeriesAnswer {
        let query = self.query;
        let mut answer = SeriesAnswer { lines: Vec::new(), previous: None };
        let events = self.world.selected(&query.selection);
        let range = query.selection.range;
        let times = || events.iter().map(|event| event.time);
        let first = range.start.or(times().min());
        let last = range.end.map(|end| end.plus(-1)).or(times().max());
        let (Some(first), Some(last)) = (first, last) else { return answer };
        let is_open = range.start.is_none() || range.end.is_none();
        if first > last || (events.is_empty() && is_open) {
            return answer;
        }
        self.top = query.top.map(|top| self.top_groups(&events, top));
        let buckets = self.buckets(first, last);
        answer.lines = self.lines(&events, Period::Range, &buckets, &buckets);
        if query.compare == Compare::PreviousPeriod {
            let touched = buckets.len();
            let range = previous(&self.zone, query.interval, first, last, touched).unwrap();
            let selection = Selection { range, ..query.selection.clone() };
            let events = self.world.selected(&selection);
            let before = self.buckets(range.start.unwrap(), range.end.unwrap().plus(-1));
            answer.previous = Some(range);
            answer.lines.extend(self.lines(&events, Period::Previous, &before, &buckets));
        }
        answer
    }

    fn buckets(&self, first: Timestamp, last: Timestamp) -> Buckets {
        Buckets::covering(&self.zone, self.query.interval, first, last, 1_000_000).unwrap()
    }

    fn values(&self, event: &Event<'_>) -> Vec<Option<String>> {
        self.query.group_by.iter().map(|grouping| value_of(self.world, event, grouping)).collect()
    }

    fn top_groups(&self, events: &[&Event<'_>], top: usize) -> Vec<Vec<Option<String>>> {
        let series = &self.query.series[0];
        let mut groups: BTreeMap<Vec<Option<String>>, Vec<&Event<'_>>> = BTreeMap::new();
        for event in events.iter().filter(|event| matches(event, &series.events)) {
            if counts(event, &series.metric) {
                groups.entry(self.values(event)).or_default().push(event);
            }
        }
        let mut ranked: Vec<_> = groups.into_iter().collect();
        // The map gave them by value, and the sort is stable.
        let total = |events: &[&Event<'_>]| value(&series.metric, events).unwrap() + 0.0;
        ranked.sort_by(|(_, a), (_, b)| total(b).total_cmp(&total(a)));
        ranked.into_iter().map(|(group, _)| group).take(top).collect()
    }

    fn group(&self, event: &Event<'_>) -> SeriesGroup {
        let values = self.values(event);
        match &self.top {
            Some(top) if !top.contains(&values) => SeriesGroup::Other,
            _ => SeriesGroup::Values(values),
        }
    }

    /// All groups in their order.
    fn groups(&self, events: &[&Event<'_>]) -> Vec<SeriesGroup> {
        let mut all: BTreeSet<Vec<Option<String>>> =
            events.iter().map(|event| self.values(event)).collect();
        if self.query.group_by.is_empty() {
            all.insert(Vec::new());
        }
        let Some(top) = &self.top else {
            return all.into_iter().map(SeriesGroup::Values).collect();
        };
        let top = top.iter().cloned().map(SeriesGroup::Values);
        top.chain([SeriesGroup::Other]).collect()
    }

    fn lines(
        &self,
        events: &[&Event<'_>],
        period: Period,
        buckets: &Buckets,
        range: &Buckets,
    ) -> Vec<SeriesLine> {
        let query = self.query;
        let mut lines = Vec::new();
        // The value of a series in a group up to each bucket, and whether there is a point.
        let cell = |series: &Series, group: &SeriesGroup, bucket: usize| {
            let is_in = |event: &&&Event<'_>, from: usize| {
                let found = (0..buckets.len()).find(|n| event.time.0 < buckets.end(*n)).unwrap();
                (from..=bucket).contains(&found)
                    && matches(event, &series.events)
                    && self.group(event) == *group
            };
            let from = if query.totals == Totals::Running { 0 } else { bucket };
            let events: Vec<_> =
                events.iter().filter(|event| is_in(event, from)).copied().collect();
            let has_point = events.iter().any(|event| counts(event, &series.metric));
            (value(&series.metric, &events), has_point || query.group_by.is_empty())
        };
        let mut add =
            |name: &str, group: &SeriesGroup, point: &dyn Fn(usize) -> (Option<f64>, bool)| {
                let points: Vec<SeriesPoint> = (0..buckets.len())
                    .filter_map(|bucket| {
                        let (value, has_point) = point(bucket);
                        let before = (period == Period::Previous).then(|| range.start(bucket));
                        let start = buckets.start(bucket);
                        has_point.then_some(SeriesPoint { start, compared_with: before, value })
                    })
                    .collect();
                if !points.is_empty() {
                    let (name, group) = (name.to_owned(), group.clone());
                    lines.push(SeriesLine { name, period, group, points });
                }
            };
        let groups = self.groups(events);
        for series in &query.series {
            for group in &groups {
                add(&series.name, group, &|bucket| cell(series, group, bucket));
            }
        }
        for formula in &query.formulas {
            let expected = FORMULAS.iter().find(|(text, _)| *text == formula.expression).unwrap().1;
            for group in &groups {
                add(&formula.name, group, &|bucket| {
                    let cells: Vec<_> =
                        query.series.iter().map(|one| cell(one, group, bucket)).collect();
                    let value = cells[0].0.zip(cells[1].0).map(|(a, b)| expected(a, b));
                    let has_point = cells.iter().any(|(_, has_point)| *has_point);
                    (value.filter(|value| value.is_finite()), has_point)
                });
            }
        }
        lines
    }
}

fn metric() -> impl Strategy<Value = Metric> {
    const AGGREGATES: &[Aggregate] = &[
        Aggregate::Sum,
        Aggregate::Average,
        Aggregate::Minimum,
        Aggregate::Maximum,
        Aggregate::Percentile(50),
        Aggregate::Percentile(90),
        Aggregate::Percentile(95),
        Aggregate::Percentile(99),
    ];
    let field = select(&["n", "n", "n", "id", "plan"]).prop_map(Field::from_name);
    prop_oneof![
        Just(Metric::Count),
        Just(Metric::UniqueUsers),
        Just(Metric::Sessions),
        Just(Metric::PerUserAverage),
        (select(AGGREGATES), field).prop_map(|(aggregate, field)| Metric::Number(aggregate, field)),
    ]
}

/// One series, or up to three with formulas.
fn series() -> impl Strategy<Value = (Vec<Series>, Vec<Formula>)> {
    let types = proptest::sample::subsequence(TYPES, 0..=2);
    let filters = prop_oneof![
        3 => Just(Vec::new()),
        1 => filter().prop_map(|filter| vec![filter]),
    ];
    let events = (types, filters).prop_map(|(types, filters)| EventMatch {
        event_types: types.into_iter().map(str::to_owned).collect(),
        filters,
    });
    let series = proptest::collection::vec((metric(), events), 1..4);
    (series, proptest::sample::subsequence(FORMULAS, 0..=2)).prop_map(|(series, formulas)| {
        let one =
            |((metric, events), name): (_, &str)| Series { name: name.to_owned(), metric, events };
        let series: Vec<Series> = series.into_iter().zip(["A", "B", "C"]).map(one).collect();
        let formula = |(text, _): (&str, Expected)| Formula {
            name: format!("formula {text}"),
            expression: text.to_owned(),
        };
        let formulas = formulas.into_iter().map(formula).collect();
        let formulas = if series.len() > 1 { formulas } else { Vec::new() };
        (series, formulas)
    })
}

proptest! {
    #![proptest_config(enough_worlds(1))]
    #[test]
    fn agrees_with_the_definition(
        world in worlds(),
        selection in selection(),
        (series, formulas) in series(),
        // Buckets that are short and many, and long and few, beside the worlds' two minutes.
        (interval, stretch) in select(&[
            (Interval::Minute, 1), (Interval::Minute, 10), (Interval::Hour, 400),
            (Interval::Day, 7_000), (Interval::Week, 20_000), (Interval::Month, 60_000),
        ]),
        zone in select(&["UTC", "Asia/Kathmandu", "America/Sao_Paulo", "America/Caracas"]),
        group_by in proptest::collection::vec(grouping(), 0..=2),
        top in proptest::option::of(1_usize..5),
        (compare, running) in (any::<bool>(), any::<bool>()),
        every in select(&[1, 1, 5]),
    ) {
        let world = world.stretched(stretch).changed(|index, event| {
            if index % 4 != 0 && index % every == 0 {
                let number = NUMBERS[index * 7 % NUMBERS.len()];
                event.properties = format!(r#"{{"plan":"pro","n":{number}}}"#).into();
            }
        });
        let mut query = SeriesQuery {
            selection: World::stretched_selection(selection, stretch),
            series,
            formulas,
            interval,
            zone: zone.to_owned(),
            top: top.filter(|_| !group_by.is_empty()),
            group_by,
            compare: if compare { Compare::PreviousPeriod } else { Compare::Nothing },
            totals: if running { Totals::Running } else { Totals::PerBucket },
        };
        query.group_by.dedup();
        let range = &mut query.selection.range;
        if compare {
            range.start = range.start.or(range.end.map(|end| end.plus(-stretch * 50_000_000)));
            range.end = range.end.or(range.start.map(|start| start.plus(stretch * 50_000_000)));
            if range.start.is_none() {
                query.compare = Compare::Nothing;
            }
        }
        let oracle = Oracle {
            world: &world,
            query: &query,
            zone: TimeZone::get(zone).unwrap(),
            top: None,
        };
        let answer = world.ask(async |service| service.series(query.clone()).await);
        prop_assert_eq!(answer.unwrap(), oracle.answer());
    }
}
