use std::collections::BTreeMap;

use gristmill_model::Event;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::testing::{World, all, enough_worlds, event, selection, worlds};

/// A value with its name and unit.
type Carried = (&'static str, &'static str, f64);

/// Properties, and the metrics that they carry. Sums of the values are exact in any order.
const CARRIED: &[(&str, &[Carried])] = &[
    ("{}", &[]),
    (r#"{"plan":"free","custom_event":{"name":"x"}}"#, &[]),
    (
        r#"{"plan":"free","custom_event":{"name":"x","metrics":[{"name":"a","value":1,"unit":"s"},
            {"unit":"s","value":-2.5e0,"name":"b"}]}}"#,
        &[("a", "s", 1.0), ("b", "s", -2.5)],
    ),
    (
        r#"{"plan":"pro","custom_event":{"metrics":[{"name":"a","value":7},{"name":"a","value":7}]}}"#,
        &[("a", "", 7.0), ("a", "", 7.0)],
    ),
    (
        r#"{"custom_event":{"metrics":[{"name":"\u0061","value":"0.5","unit":"s"},{"name":"b","unit":null}]}}"#,
        &[("a", "s", 0.5), ("b", "", 0.0)],
    ),
    (
        r#"{"custom_event":{"metrics":[{"name":"a","value":"much"},{"name":"","value":1},{"value":2},
            {"name":null},{"name":"a","value":1e999},[1],3,null,{"name":"c","value":-0.0}]}}"#,
        &[("c", "", 0.0)],
    ),
    (r#"{"custom_event":{"metrics":{"name":"a","value":1}}}"#, &[]),
    (r#"{"custom_event":"[{\"name\":\"a\",\"value\":1}]"}"#, &[]),
    (r#"{"metrics":[{"name":"a","value":1}]}"#, &[]),
];

const REDUCTIONS: &[Reduction] = &[
    Reduction::Count,
    Reduction::Of(Aggregate::Sum),
    Reduction::Of(Aggregate::Average),
    Reduction::Of(Aggregate::Minimum),
    Reduction::Of(Aggregate::Maximum),
    Reduction::Of(Aggregate::Percentile(95)),
    Reduction::Of(Aggregate::Percentile(99)),
    Reduction::Of(Aggregate::Percentile(50)),
];

fn carried(event: &Event<'_>) -> &'static [Carried] {
    let is_it = |(text, _): &&(&str, _)| *text == event.properties;
    CARRIED.iter().find(is_it).map(|(_, carried)| *carried).unwrap()
}

fn reduced(mut numbers: Vec<f64>, reduction: Reduction) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let count = numbers.len();
    let sum: f64 = numbers.iter().sum();
    match reduction {
        Reduction::Count => count as f64,
        Reduction::Of(Aggregate::Sum) => sum,
        Reduction::Of(Aggregate::Average) => sum / count as f64,
        Reduction::Of(Aggregate::Minimum) => numbers[0],
        Reduction::Of(Aggregate::Maximum) => numbers[count - 1],
        Reduction::Of(Aggregate::Percentile(percent)) => {
            numbers[(count * usize::from(percent) / 100).min(count - 1)]
        }
    }
}

fn expected(world: &World, query: &EventMetricsQuery) -> Vec<EventMetric> {
    let mut all: BTreeMap<(&str, &str), (Vec<f64>, Timestamp)> = BTreeMap::new();
    for event in world.selected(&query.selection) {
        for (name, unit, value) in carried(event) {
            if query.names.is_empty() || query.names.iter().any(|wanted| wanted == name) {
                let metric = all.entry((name, unit)).or_insert((Vec::new(), event.time));
                metric.0.push(*value);
                metric.1 = metric.1.max(event.time);
            }
        }
    }
    let metric = |((name, unit), (numbers, latest)): ((&str, &str), (Vec<f64>, Timestamp))| {
        let (name, unit, count) = (name.to_owned(), unit.to_owned(), numbers.len() as u64);
        EventMetric { name, unit, value: Some(reduced(numbers, query.reduction)), count, latest }
    };
    all.into_iter().map(metric).collect()
}

proptest! {
    #![proptest_config(enough_worlds(1))]
    #[test]
    fn agrees_with_reducing_lists(
        world in worlds(),
        carried in proptest::collection::vec(select(CARRIED), 150),
        selection in selection(),
        names in proptest::sample::subsequence(&["a", "b", "d"], 0..=2),
        reduction in select(REDUCTIONS),
    ) {
        let world = world.changed(|index, event| event.properties = carried[index].0.into());
        let names = names.into_iter().map(str::to_owned).collect();
        let query = EventMetricsQuery { selection, names, reduction };
        let answer = world.ask(async |service| service.event_metrics(query.clone()).await);
        prop_assert_eq!(answer.unwrap().metrics, expected(&world, &query));
    }
}

/// A world of one event for each array of metrics.
fn world_of(arrays: impl IntoIterator<Item = String>) -> World {
    let event = |(index, array): (usize, String)| Event {
        properties: format!(r#"{{"custom_event":{{"metrics":{array}}}}}"#).into(),
        ..event("a", index.to_string(), 0)
    };
    World::of(arrays.into_iter().enumerate().map(event).collect())
}

fn asked(world: &World, names: &[&str], reduction: Reduction) -> Result<Vec<EventMetric>, String> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let query = EventMetricsQuery { selection: all(), names, reduction };
    let answer = world.ask(async |service| service.event_metrics(query.clone()).await);
    answer.map(|answer| answer.metrics).map_err(|error| error.to_string())
}

#[test]
fn a_sum_that_no_number_can_say_has_no_value() {
    let world = world_of([r#"[{"name":"a","value":1e308},{"name":"a","value":1e308}]"#.to_owned()]);
    let sum = asked(&world, &[], Reduction::Of(Aggregate::Sum)).unwrap();
    assert_eq!((sum[0].value, sum[0].count), (None, 2));
    let greatest = asked(&world, &[], Reduction::Of(Aggregate::Maximum)).unwrap();
    assert_eq!(greatest[0].value, Some(1e308));
}

#[test]
fn metrics_are_told_apart_up_to_a_limit() {
    let elements = |from: usize| {
        let elements: Vec<_> =
            (from..from + 1_000).map(|n| format!(r#"{{"name":"m{n}"}}"#)).collect();
        format!("[{}]", elements.join(","))
    };
    let most = limits::EVENT_METRICS;
    let world = world_of((0..most).step_by(1_000).map(elements));
    assert_eq!(asked(&world, &[], Reduction::Count).unwrap().len(), most);
    let world = world_of((0..=most).step_by(1_000).map(elements));
    let error = asked(&world, &[], Reduction::Count).unwrap_err();
    assert!(error.starts_with("the events carry more than 10000 different metrics"), "{error}");
    assert_eq!(asked(&world, &["m7", "m10001"], Reduction::Count).unwrap().len(), 2);
}

#[test]
fn names_take_room_up_to_a_limit() {
    assert!(check(1, limits::EVENT_METRICS_BYTES).is_ok());
    assert!(check(1, limits::EVENT_METRICS_BYTES + 1).is_err());
}

#[test]
fn numbers_are_kept_up_to_a_limit() {
    let reduction = Reduction::Of(Aggregate::Percentile(95));
    let wanted = Wanted { names: Vec::new(), reduction, numbers: AtomicUsize::new(0) };
    assert!(wanted.spend(limits::EVENT_METRIC_NUMBERS).is_ok());
    assert!(wanted.spend(0).is_ok());
    let error = wanted.spend(1).unwrap_err().to_string();
    assert!(error.starts_with("the percentiles are of more than 20000000 numbers"), "{error}");
}
