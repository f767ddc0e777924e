use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::{Event, Interval, SessionId, Timestamp};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::testing::{World, all, enough_worlds, event, grouping, selection, value_of, worlds};

/// The sessions by the definition: the events of each, in order.
fn sessions_of<'a>(events: &[&'a Event<'a>], gap: Micros) -> Vec<Vec<&'a Event<'a>>> {
    let mut named: BTreeMap<(&str, &str), Vec<&Event<'_>>> = BTreeMap::new();
    let mut loose: BTreeMap<&str, Vec<&Event<'_>>> = BTreeMap::new();
    for event in events {
        let user = event.user.as_str();
        match &event.session {
            Some(id) => named.entry((user, id.as_str())).or_default().push(event),
            None => loose.entry(user).or_default().push(event),
        }
    }
    // The events are in log order, and the sort is stable.
    let by_time = |mut events: Vec<&'a Event<'a>>| {
        events.sort_by_key(|event| event.time);
        events
    };
    let mut sessions: Vec<_> = named.into_values().map(by_time).collect();
    for events in loose.into_values().map(by_time) {
        let parts = events.chunk_by(|a, b| b.time.since(a.time) <= gap);
        sessions.extend(parts.map(<[_]>::to_vec));
    }
    sessions
}

fn totals_of(sessions: &[&Vec<&Event<'_>>]) -> SessionTotals {
    let views =
        |session: &Vec<&Event<'_>>| session.iter().filter(|e| !e.page_url.is_empty()).count();
    SessionTotals {
        sessions: sessions.len() as u64,
        events: sessions.iter().map(|session| session.len() as u64).sum(),
        page_views: sessions.iter().map(|session| views(session) as u64).sum(),
        bounces: sessions.iter().filter(|session| views(session) == 1).count() as u64,
        duration: sessions.iter().map(|session| i128::from(duration(session))).sum(),
    }
}

fn duration(session: &[&Event<'_>]) -> Micros {
    let times = || session.iter().map(|event| event.time.0);
    times().max().unwrap() - times().min().unwrap()
}

fn pages_of<'a>(
    ends: impl Iterator<Item = Option<&'a &'a Event<'a>>>,
    limit: usize,
) -> Vec<SessionPage> {
    let mut pages: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for event in ends.flatten() {
        pages.entry(event.page_url.to_string()).or_default().push(event.user.as_str());
    }
    let page = |(page, users): (String, Vec<&str>)| SessionPage {
        page,
        sessions: users.len() as u64,
        users: users.into_iter().collect::<BTreeSet<_>>().len() as u64,
    };
    let mut pages: Vec<_> = pages.into_iter().map(page).collect();
    // The map gave them by page, and the sort is stable.
    pages.sort_by_key(|page| Reverse(page.sessions));
    pages.truncate(limit);
    pages
}

fn series_of(
    query: &SessionsQuery,
    world: &World,
    sessions: &[Vec<&Event<'_>>],
) -> Vec<SessionBucket> {
    let Some(series) = &query.series else { return Vec::new() };
    let Some((first, last)) = world.span(&query.selection) else { return Vec::new() };
    let zone = TimeZone::get(&series.zone).unwrap();
    let buckets = Buckets::covering(&zone, series.interval, first, last, 10_000).unwrap();
    let bucket = |bucket: usize| {
        let lies_in = |session: &&Vec<&Event<'_>>| {
            let time = session[0].time;
            time >= buckets.start(bucket) && time.0 < buckets.end(bucket)
        };
        let totals = totals_of(&sessions.iter().filter(lies_in).collect::<Vec<_>>());
        SessionBucket { start: buckets.start(bucket), totals }
    };
    (0..buckets.len()).map(bucket).collect()
}

fn groups_of(
    world: &World,
    query: &SessionsQuery,
    sessions: &[Vec<&Event<'_>>],
) -> (Vec<SessionGroup>, Option<SessionTotals>) {
    let Some(grouping) = &query.group_by else { return (Vec::new(), None) };
    let mut groups: BTreeMap<Option<String>, Vec<&Vec<&Event<'_>>>> = BTreeMap::new();
    for session in sessions {
        groups.entry(value_of(world, session[0], grouping)).or_default().push(session);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, sessions)| Reverse(sessions.len()));
    let others = groups.split_off(groups.len().min(query.limit));
    let group =
        |(value, sessions): (_, Vec<_>)| SessionGroup { value, totals: totals_of(&sessions) };
    let others: Vec<_> = others.into_iter().flat_map(|(_, sessions)| sessions).collect();
    let other = (!others.is_empty()).then(|| totals_of(&others));
    (groups.into_iter().map(group).collect(), other)
}

fn expected(world: &World, query: &SessionsQuery) -> SessionsAnswer {
    let events = world.selected(&query.selection);
    let sessions = sessions_of(&events, query.gap);
    let mut durations: Vec<_> = sessions.iter().map(|session| duration(session)).collect();
    durations.sort();
    let quantile = |level: f64| durations.get((durations.len() as f64 * level) as usize).copied();
    let views =
        |session: &&'_ Vec<&Event<'_>>| session.iter().any(|event| !event.page_url.is_empty());
    let viewing: Vec<_> = sessions.iter().filter(views).collect();
    let is_view = |event: &&&Event<'_>| !event.page_url.is_empty();
    let (groups, other_groups) = groups_of(world, query, &sessions);
    SessionsAnswer {
        totals: totals_of(&sessions.iter().collect::<Vec<_>>()),
        users: events.iter().map(|event| event.user.as_str()).collect::<BTreeSet<_>>().len() as u64,
        median_duration: quantile(0.5),
        p95_duration: quantile(0.95),
        entry_pages: pages_of(viewing.iter().map(|s| s.iter().find(is_view)), query.limit),
        exit_pages: pages_of(viewing.iter().map(|s| s.iter().rfind(is_view)), query.limit),
        series: series_of(query, world, &sessions),
        groups,
        other_groups,
    }
}

/// Buckets that are short and many, and long and few, with how far the world is stretched.
fn series() -> impl Strategy<Value = (i64, Option<SessionSeries>)> {
    let intervals = proptest::sample::select(&[
        (Interval::Minute, 1),
        (Interval::Minute, 10),
        (Interval::Hour, 400),
        (Interval::Day, 7_000),
        (Interval::Month, 60_000),
    ]);
    let zones = proptest::sample::select(&["UTC", "Asia/Kathmandu", "America/Sao_Paulo"]);
    (intervals, zones, any::<bool>()).prop_map(|((interval, stretch), zone, is_asked)| {
        let series = SessionSeries { interval, zone: zone.to_owned() };
        (stretch, is_asked.then_some(series))
    })
}

proptest! {
    #![proptest_config(enough_worlds(1))]
    #[test]
    fn agrees_with_the_definition(
        world in worlds(),
        selection in selection(),
        // Moments are multiples of 1.5 seconds: a gap may be just a pause, or 1 more or less.
        (pauses, off) in (1_i64..12, -1_i64..=1),
        limit in 1_usize..5,
        (stretch, series) in series(),
        group_by in proptest::option::of(grouping()),
    ) {
        let world = world.stretched(stretch);
        let query = SessionsQuery {
            selection: World::stretched_selection(selection, stretch),
            gap: pauses * 750_000 * stretch + off,
            limit,
            series,
            group_by,
        };
        let answer = world.ask(async |service| service.sessions(query.clone()).await);
        prop_assert_eq!(answer.unwrap(), expected(&world, &query));
    }
}

const MINUTE: Micros = 60 * Timestamp::SECOND;

/// An event of a user at a minute, in a session or not, on a page.
fn at(
    user: &'static str,
    minute: i64,
    session: &'static str,
    page: &'static str,
) -> Event<'static> {
    let id = format!("{minute}{session}{page}");
    let session = (!session.is_empty()).then(|| SessionId::new(session));
    Event { session, page_url: page.into(), ..event(user, id, minute * MINUTE) }
}

fn asked() -> SessionsQuery {
    SessionsQuery { selection: all(), gap: 30 * MINUTE, limit: 10, series: None, group_by: None }
}

fn ask(events: Vec<Event<'static>>, query: &SessionsQuery) -> SessionsAnswer {
    World::of(events).ask(async |service| service.sessions(query.clone()).await).unwrap()
}

#[test]
fn only_sessions_without_an_id_are_cut_and_only_by_longer_pauses() {
    let durations = |events| {
        let answer = ask(events, &asked());
        (answer.totals.sessions, answer.totals.duration / i128::from(MINUTE))
    };
    assert_eq!(
        durations(vec![at("u", 0, "", ""), at("u", 30, "", ""), at("u", 60, "", "")]),
        (1, 60)
    );
    assert_eq!(durations(vec![at("u", 0, "", ""), at("u", 31, "", "")]), (2, 0));
    assert_eq!(durations(vec![at("u", 0, "s", ""), at("u", 5_000, "s", "")]), (1, 5_000));
    // Events with an id do not bridge a pause, and those without one do not part a session.
    let mixed =
        vec![at("u", 0, "", ""), at("u", 20, "s", ""), at("u", 40, "", ""), at("u", 90, "s", "")];
    assert_eq!(durations(mixed), (3, 70));
    assert_eq!(durations(vec![at("u", 0, "s", ""), at("v", 1, "s", "")]), (2, 0));
}

#[test]
fn bounces_have_one_page_view_and_pages_of_one_moment_are_in_log_order() {
    let answer = ask(
        vec![
            at("u", 5, "s", "/late"),
            at("u", 5, "s", "/later"),
            at("u", 0, "s", ""),
            at("u", 9, "s", ""),
            at("v", 0, "s", "/late"),
            at("v", 1, "s", ""),
            at("w", 0, "s", ""),
        ],
        &asked(),
    );
    let totals = SessionTotals {
        sessions: 3,
        events: 7,
        page_views: 3,
        bounces: 1,
        duration: i128::from(10 * MINUTE),
    };
    assert_eq!(answer.totals, totals);
    let page = |page: &str, sessions| SessionPage { page: page.into(), sessions, users: sessions };
    assert_eq!(answer.entry_pages, [page("/late", 2)]);
    assert_eq!(answer.exit_pages, [page("/late", 1), page("/later", 1)]);
    assert_eq!(answer.median_duration, Some(MINUTE));
    assert_eq!(answer.p95_duration, Some(9 * MINUTE));
}

#[test]
fn a_session_lies_in_the_day_of_its_first_event_also_where_the_clock_changes() {
    // Sao Paulo skipped the first hour of 16 October 2016, which began at 3:00 UTC.
    let midnight = 1_476_586_800 / 60;
    let series = SessionSeries { interval: Interval::Day, zone: "America/Sao_Paulo".into() };
    let query = SessionsQuery { series: Some(series), ..asked() };
    let events = [-1, 1, 22 * 60 + 59, 23 * 60].map(|minute| at("u", midnight + minute, "", ""));
    let answer = ask(events.to_vec(), &query);
    let days: Vec<_> = answer
        .series
        .iter()
        .map(|day| (day.start.to_string(), day.totals.sessions, day.totals.events))
        .collect();
    assert_eq!(
        days,
        [
            ("2016-10-15T03:00:00Z".to_owned(), 1, 2),
            ("2016-10-16T03:00:00Z".to_owned(), 1, 2),
            ("2016-10-17T02:00:00Z".to_owned(), 0, 0),
        ]
    );
}

#[test]
fn quantiles_are_those_of_quantile_exact() {
    assert_eq!(quantile(&mut [], 0, 50), None);
    assert_eq!(quantile(&mut [], 3, 95), Some(0));
    assert_eq!(quantile(&mut [7, 5], 2, 50), Some(7));
    assert_eq!(quantile(&mut [7, 5], 4, 50), Some(5));
    let mut longer: Vec<Micros> = (1..=20).rev().collect();
    assert_eq!(quantile(&mut longer, 20, 95), Some(20));
    assert_eq!(quantile(&mut longer, 20, 50), Some(11));
}

#[test]
fn senseless_and_too_large_questions_are_refused() {
    let refused = |query: SessionsQuery| {
        let world = World::of(vec![at("u", 0, "", ""), at("u", 60 * 100_001, "", "")]);
        let answer = world.ask(async |service| service.sessions(query.clone()).await);
        answer.unwrap_err().to_string()
    };
    assert_eq!(refused(SessionsQuery { gap: 0, ..asked() }), "`gap` must be longer than 0");
    for limit in [0, 1_001] {
        let error = refused(SessionsQuery { limit, ..asked() });
        assert_eq!(error, "`limit` must be from 1 to 1000");
    }
    let series = |zone: &str| {
        let series = SessionSeries { interval: Interval::Hour, zone: zone.to_owned() };
        refused(SessionsQuery { series: Some(series), ..asked() })
    };
    assert!(series("UTC").starts_with("the series has more than 100000 points"));
    assert!(series("Nowhere/Land").starts_with("`tz` is not a known time zone"));
    let size = |timed, pages, groups| {
        check_size(Sizes { timed, pages, groups }).map_err(|error| error.to_string())
    };
    assert_eq!(size(20_000_000, 1_000_000, 1_000_000), Ok(()));
    assert!(size(20_000_001, 0, 0).unwrap_err().contains("more than 20000000 sessions"));
    assert!(size(0, 1_000_001, 0).unwrap_err().contains("1000000 different `page_url`"));
    assert!(size(0, 0, 1_000_001).unwrap_err().starts_with("`group_by` makes more than 1000000"));
    let sums = |groups: usize| Sums {
        groups: (0..groups).map(|n| (Some(n.to_string()), SessionTotals::default())).collect(),
        ..Sums::default()
    };
    assert!(SessionsFold::check(&sums(limits::SESSION_VALUES)).is_ok());
    assert!(SessionsFold::check(&sums(limits::SESSION_VALUES + 1)).is_err());
}
