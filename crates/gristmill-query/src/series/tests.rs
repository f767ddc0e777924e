use gristmill_model::{
    Aggregate, Event, EventMatch, Field, Formula, Grouping, Interval, Metric, Selection, Series,
    SeriesGroup, SessionId, Totals,
};

use super::*;
use crate::testing::{World, all, event};

/// A question for the count of everything by hour.
fn question() -> SeriesQuery {
    SeriesQuery {
        selection: all(),
        series: vec![one("A", Metric::Count)],
        formulas: Vec::new(),
        interval: Interval::Hour,
        zone: "UTC".to_owned(),
        group_by: Vec::new(),
        top: None,
        compare: Compare::Nothing,
        totals: Totals::PerBucket,
    }
}

fn one(name: &str, metric: Metric) -> Series {
    Series { name: name.to_owned(), metric, events: EventMatch::default() }
}

/// The values of each line, with its group.
fn lines(world: &World, query: &SeriesQuery) -> Vec<(Option<String>, Vec<f64>)> {
    let answer = world.ask(async |service| service.series(query.clone()).await).unwrap();
    let line = |line: SeriesLine| {
        let values = line.points.iter().map(|point| point.value.unwrap()).collect();
        match line.group {
            SeriesGroup::Values(group) => (group.into_iter().next().flatten(), values),
            SeriesGroup::Other => (Some("(other)".to_owned()), values),
        }
    };
    answer.lines.into_iter().map(line).collect()
}

fn refused(world: &World, query: &SeriesQuery) -> String {
    let answer = world.ask(async |service| service.series(query.clone()).await);
    answer.unwrap_err().to_string()
}

fn from(source: &'static str, user: &'static str, id: u8, hour: i64) -> Event<'static> {
    Event { source: source.into(), ..event(user, id.to_string(), hour * Timestamp::HOUR) }
}

#[test]
fn more_hours_than_have_cells_at_once_are_counted() {
    let last = 9_000;
    let world =
        World::of(vec![from("x", "u", 1, 0), from("x", "u", 2, last), from("x", "v", 3, last)]);
    let lines = lines(&world, &question());
    let mut expected = vec![0.0; last as usize + 1];
    (expected[0], expected[last as usize]) = (1.0, 2.0);
    assert_eq!(lines, [(None, expected)]);
}

#[test]
fn the_others_are_counted_together_and_are_not_the_value_other() {
    let world = World::of(vec![
        from("other", "u", 1, 0),
        from("other", "v", 2, 0),
        from("y", "u", 3, 0),
        from("x", "u", 4, 1),
        from("z", "u", 5, 1),
        from("z", "u", 6, 1),
    ]);
    let group_by = vec![Grouping::Field(Field::Source)];
    let query = SeriesQuery { group_by, top: Some(2), ..question() };
    let text = |text: &str| Some(text.to_owned());
    let expected =
        [(text("other"), vec![2.0]), (text("z"), vec![2.0]), (text("(other)"), vec![1.0, 1.0])];
    assert_eq!(lines(&world, &query), expected);
    // Of groups with the same value the lower one is told apart.
    let series = vec![one("A", Metric::UniqueUsers)];
    let query = SeriesQuery { series, interval: Interval::Day, ..query };
    let expected =
        [(text("other"), vec![2.0]), (text("x"), vec![1.0]), (text("(other)"), vec![1.0])];
    assert_eq!(lines(&world, &query), expected);
}

#[test]
fn running_totals_count_a_user_and_a_session_once() {
    let session = |event: Event<'static>, session: &'static str| Event {
        session: Some(SessionId::new(session)),
        ..event
    };
    let world = World::of(vec![
        session(from("x", "u", 1, 0), "s"),
        session(from("x", "v", 2, 1), "s"),
        from("x", "v", 3, 1),
        session(from("x", "u", 4, 2), "s"),
        session(from("x", "u", 5, 3), "t"),
    ]);
    let metrics = [Metric::Count, Metric::UniqueUsers, Metric::Sessions, Metric::PerUserAverage];
    let series = metrics.into_iter().zip(["A", "B", "C", "D"]);
    let query = SeriesQuery {
        series: series.map(|(metric, name)| one(name, metric)).collect(),
        totals: Totals::Running,
        ..question()
    };
    let values: Vec<_> = lines(&world, &query).into_iter().map(|(_, values)| values).collect();
    let expected =
        [[1.0, 3.0, 4.0, 5.0], [1.0, 2.0, 2.0, 2.0], [1.0, 2.0, 2.0, 3.0], [1.0, 1.5, 2.0, 2.5]];
    assert_eq!(values, expected);
}

#[test]
fn percentiles_are_elements_and_what_is_no_number_does_not_count() {
    let texts = ["\"40\"", "10", "20.0", "30", "\"ten\"", "null", "1e400"];
    let events = texts.iter().enumerate().map(|(index, number)| Event {
        properties: format!(r#"{{"n":{number}}}"#).into(),
        ..from("x", "u", index as u8, 0)
    });
    let world = World::of(events.collect());
    let value = |aggregate| {
        let metric = Metric::Number(aggregate, Field::from_name("n"));
        let query = SeriesQuery { series: vec![one("A", metric)], ..question() };
        lines(&world, &query)[0].1[0]
    };
    assert_eq!(value(Aggregate::Percentile(50)), 30.0);
    assert_eq!(value(Aggregate::Percentile(99)), 40.0);
    assert_eq!(value(Aggregate::Minimum), 10.0);
    assert_eq!(value(Aggregate::Average), 25.0);
}

#[test]
fn what_would_be_too_large_is_refused() {
    let mut query =
        SeriesQuery { interval: Interval::Minute, zone: "Nowhere/Land".to_owned(), ..question() };
    let users = |count: i64, gap: i64| {
        let ids = (0..count).map(|id| (id.to_string(), id * gap));
        World::of(ids.map(|(id, time)| event("u", id, time)).collect())
    };
    let minute = 60 * Timestamp::SECOND;
    let world = users(2, minute * limits::SERIES_POINTS as i64);
    assert!(refused(&world, &query).starts_with("`tz` is not a known time zone"));
    query.zone = "UTC".to_owned();
    assert!(refused(&world, &query).contains("more than 100000 points"));
    // Two series have room for half as many buckets each.
    let world = users(2, minute * limits::SERIES_POINTS as i64 / 2);
    query.series.push(one("B", Metric::Count));
    assert!(refused(&world, &query).contains("more than 100000 points"));
    query.series.pop();
    assert_eq!(lines(&world, &query)[0].1.len(), 50_001);
    query.interval = Interval::Hour;
    let world = users(limits::SERIES_GROUPS as i64 + 1, 1);
    query.group_by = vec![Grouping::Field(Field::EventId)];
    assert!(refused(&world, &query).contains("more than 1000 groups: ask for the `top` ones"));
    query.group_by.push(Grouping::Field(Field::Source));
    assert!(refused(&world, &query).contains("more than 1000 groups"));
    query.top = Some(1_000);
    assert_eq!(lines(&world, &query).len(), 1_001);
    query.group_by = vec![Grouping::Field(Field::EventType)];
    assert_eq!(lines(&world, &query), [(Some("a".to_owned()), vec![1_001.0])]);
}

#[test]
fn groups_with_many_points_are_refused_by_their_sum() {
    // 400 groups with 300 points each, in one user: more than the limit in one shard.
    let events = (0..120_000_i64).map(|n| Event {
        source: (n % 400).to_string().into(),
        ..event("u", n.to_string(), n / 400 * Timestamp::HOUR)
    });
    let query = SeriesQuery {
        series: vec![one("A", Metric::UniqueUsers)],
        group_by: vec![Grouping::Field(Field::Source)],
        ..question()
    };
    assert!(refused(&World::of(events.collect()), &query).contains("more than 100000 points"));
}

#[test]
fn senseless_questions_are_refused() {
    let formula = |name: &str, expression: &str| Formula {
        name: name.to_owned(),
        expression: expression.to_owned(),
    };
    let many = (0..11).map(|index| one(&index.to_string(), Metric::Count)).collect();
    let twice = vec![one("A", Metric::Count), one("A", Metric::Count)];
    let nameless = vec![one("", Metric::Count)];
    let three = [Field::Source, Field::Origin, Field::EventType].map(Grouping::Field).into();
    let is_b = formula("F", "B");
    for (query, wrong) in [
        (SeriesQuery { series: Vec::new(), ..question() }, "`series` must be from 1 to 10"),
        (SeriesQuery { series: many, ..question() }, "`series` must be from 1 to 10"),
        (SeriesQuery { series: twice, ..question() }, "`series[1].name` is already that of"),
        (SeriesQuery { series: nameless, ..question() }, "`series[0].name` is empty"),
        (
            SeriesQuery { formulas: vec![formula("A", "1")], ..question() },
            "`formulas[0].name` is already that of another one: \"A\"",
        ),
        (
            SeriesQuery { formulas: vec![formula("x", "1"), is_b], ..question() },
            "`formulas[1].expression` is wrong at character 1: there is no series",
        ),
        (
            SeriesQuery { formulas: vec![formula(&"x".repeat(101), "1")], ..question() },
            "`formulas[0].name` is longer than 100 bytes",
        ),
        (
            SeriesQuery { formulas: vec![formula("x", "1"); 11], ..question() },
            "`formulas` must be 10 at most",
        ),
        (SeriesQuery { group_by: three, ..question() }, "`group_by` must be 2 fields at most"),
        (
            SeriesQuery { group_by: vec![Grouping::Field(Field::Source); 2], ..question() },
            "`group_by` names `source` twice",
        ),
        (SeriesQuery { top: Some(1), ..question() }, "`top` needs a `group_by`"),
        (SeriesQuery { top: Some(0), ..question() }, "`top` must be from 1 to 1000"),
        (
            SeriesQuery { compare: Compare::PreviousPeriod, ..question() },
            "`compare` needs a range with `start` and `end`",
        ),
    ] {
        let refused = refused(&World::default(), &query);
        assert!(refused.starts_with(wrong), "{wrong}: {refused}");
    }
    let range = TimeRange { start: Some(Timestamp::MIN), end: Some(Timestamp::MIN.plus(1)) };
    let selection = Selection { range, ..all() };
    let query = SeriesQuery { selection, compare: Compare::PreviousPeriod, ..question() };
    assert!(refused(&World::default(), &query).starts_with("`compare` needs a period"));
}
