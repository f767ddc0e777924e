use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use gristmill_model::{
    Event, EventId, EventPage, EventPlace, Selection, SessionId, TimeRange, UserEvent, UserPage,
    UserSession,
};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::testing::{World, all, enough_worlds, event, filter};

/// The day on which Sao Paulo's clock skipped midnight.
const MIDDLE: i64 = 1_476_586_800 * Timestamp::SECOND;
const PEOPLE: &[&str] = &["p", "q", "r", "s", "t", "u", "v"];
const ZONES: &[&str] = &["UTC", "Asia/Kathmandu", "America/Sao_Paulo"];
const SALES: &[&str] = &["purchase", "transaction", "EVENT_TYPE_TRANSACTION"];
const OTHERS: &[&str] = &["view", "transactions", "refund"];

/// Properties, and what they are worth in an event of any type and in a sale.
const PROPERTIES: &[(&str, Option<f64>, Option<f64>)] = &[
    ("{}", None, Some(0.0)),
    (r#"{"amount":10}"#, None, Some(10.0)),
    (r#"{"amount":"7.5","revenue":1}"#, None, Some(7.5)),
    (r#"{"amount":"x","revenue":3,"value":4}"#, None, Some(3.0)),
    (r#"{"amount":"inf","revenue":"1e999","value":-2}"#, None, Some(-2.0)),
    (r#"{"transaction_event":{"amount":20.5},"amount":1}"#, Some(20.5), Some(20.5)),
    (r#"{"transaction_event":{},"revenue":6}"#, Some(6.0), Some(6.0)),
    (r#"{"transaction_event":{"amount":5,"status":"TRANSACTION_STATUS_FAILED"}}"#, None, None),
    (r#"{"transaction_event":{"amount":5,"status":1}}"#, None, None),
    (r#"{"transaction_event":{"amount":4,"type":2,"status":2}}"#, Some(-4.0), Some(-4.0)),
    (
        r#"{"transaction_event":{"amount":2,"type":"TRANSACTION_TYPE_REFUND"}}"#,
        Some(-2.0),
        Some(-2.0),
    ),
    (r#"{"transaction_event":null,"value":8}"#, None, Some(8.0)),
];

/// Events of some users, up to so many, within some weeks, six hours apart, so that ties are common.
fn events(
    users: &'static [&'static str],
    most: usize,
) -> impl Strategy<Value = Vec<Event<'static>>> {
    let who = (select(users), select(&[None, Some("s"), Some("t"), Some("r")]));
    let kinds = prop_oneof![select(SALES), select(OTHERS)];
    let what = (kinds, select(PROPERTIES), select(&["", "/x", "/y", "/z"]));
    let event = (who, what, -200..200_i64).prop_map(|((user, session), what, quarter)| {
        let (event_type, (properties, ..), page) = what;
        Event {
            session: session.map(SessionId::new),
            event_type: event_type.into(),
            page_url: page.into(),
            properties: properties.into(),
            ..event(user, String::new(), MIDDLE + quarter / 2 * 6 * Timestamp::HOUR)
        }
    });
    proptest::collection::vec(event, 0..most).prop_map(|events| {
        let named = |(n, event)| Event { id: EventId::new(format!("{n}")), ..event };
        (0..).zip(events).map(named).collect()
    })
}

fn range() -> impl Strategy<Value = TimeRange> {
    let edge = || proptest::option::of((-120..120_i64).prop_map(at));
    (edge(), edge()).prop_map(|(start, end)| TimeRange { start, end })
}

fn at(quarter: i64) -> Timestamp {
    Timestamp(MIDDLE + quarter * 6 * Timestamp::HOUR)
}

/// The user's selected events in order.
fn in_order<'a>(world: &'a World, query: &UserQuery) -> Vec<&'a Event<'static>> {
    let mut events = world.selected(&query.selection);
    events.retain(|event| event.user.as_str() == query.user);
    // The world keeps events in log order, and the sort is stable.
    events.sort_by_key(|event| event.time);
    events
}

fn date(zone: &TimeZone, time: Timestamp) -> Date {
    jiff::Timestamp::from_microsecond(time.0).unwrap().to_zoned(zone.clone()).date()
}

/// What an event adds to the revenue, if it is a transaction.
fn worth(event: &Event<'_>) -> Option<f64> {
    let known = PROPERTIES.iter().find(|(text, ..)| *text == event.properties);
    let (_, worth, worth_as_sale) = *known.unwrap();
    if SALES.contains(&event.event_type.as_ref()) { worth_as_sale } else { worth }
}

fn expected_profile(events: &[&Event<'_>], query: &UserQuery) -> Option<UserProfile> {
    let zone = TimeZone::get(&query.zone).unwrap();
    let days: BTreeSet<Date> = events.iter().map(|event| date(&zone, event.time)).collect();
    let end = query.selection.range.end.map_or(query.now, |end| end.plus(-1).min(query.now));
    let today = date(&zone, end);
    let lately = today.checked_sub(27.days()).unwrap()..=today;
    let mut sessions: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    let mut pages: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        if let Some(session) = &event.session {
            sessions.entry(session.as_str()).or_default().push(event.time);
        }
        if !event.page_url.is_empty() {
            *pages.entry(&event.page_url).or_default() += 1;
        }
    }
    let mut sessions: Vec<_> = sessions
        .into_iter()
        .map(|(id, times)| UserSession {
            id: id.to_owned(),
            start: *times.iter().min().unwrap(),
            end: *times.iter().max().unwrap(),
            events: times.len() as u64,
        })
        .collect();
    sessions.sort_by_key(|session| Reverse(session.start));
    let durations: i64 = sessions.iter().map(|session| session.end.0 - session.start.0).sum();
    let mut pages: Vec<_> = pages
        .into_iter()
        .map(|(page, events)| UserPage { page_url: page.to_owned(), events })
        .collect();
    pages.sort_by_key(|page| Reverse(page.events));
    let worths: Vec<f64> = events.iter().filter_map(|event| worth(event)).collect();
    Some(UserProfile {
        first_seen: events.first()?.time,
        last_seen: events.last()?.time,
        total_events: events.len() as u64,
        total_sessions: sessions.len() as u64,
        mean_session_duration: (!sessions.is_empty()).then(|| durations / sessions.len() as i64),
        sessions,
        active_days: days.len() as u64,
        engaged_days: days.iter().filter(|day| lately.contains(day)).count() as u64,
        transactions: worths.len() as u64,
        revenue: worths.iter().sum(),
        top_pages: pages,
    })
}

fn expected_events(events: &[&Event<'_>]) -> Vec<UserEvent> {
    let event = |event: &&Event<'_>| UserEvent {
        id: event.id.to_string(),
        session: event.session.as_ref().map(ToString::to_string),
        event_type: event.event_type.to_string(),
        time: event.time,
        source: event.source.to_string(),
        page_url: event.page_url.to_string(),
        properties: event.properties.to_string(),
    };
    events.iter().map(event).collect()
}

fn place(event: &Event<'_>) -> EventPlace {
    EventPlace { time: event.time, id: event.id.to_string() }
}

fn query(page: EventPage, limit: usize) -> UserQuery {
    let (selection, user, zone) = (all(), "u".to_owned(), "UTC".to_owned());
    UserQuery { selection, user, zone, now: at(0), page, limit }
}

fn ask(world: &World, query: &UserQuery) -> UserAnswer {
    world.ask(async |service| service.user(query.clone()).await).unwrap()
}

/// What a user's question is to find, given which kind of page it asks for and from where on.
fn expected(
    world: &World,
    query: &mut UserQuery,
    (kind, index): (u8, proptest::sample::Index),
) -> UserAnswer {
    let events = in_order(world, query);
    let (count, limit) = (events.len(), query.limit);
    let slice = if kind == 0 || count == 0 {
        count.saturating_sub(limit)..count
    } else if kind == 1 {
        query.page = EventPage::Oldest;
        0..limit.min(count)
    } else if kind == 2 {
        let end = index.index(count);
        query.page = EventPage::OlderThan(place(events[end]));
        end.saturating_sub(limit)..end
    } else {
        let before = index.index(count);
        query.page = EventPage::NewerThan(place(events[before]));
        before + 1..(before + 1 + limit).min(count)
    };
    UserAnswer {
        profile: expected_profile(&events, query),
        events: expected_events(&events[slice.clone()]),
        has_older: slice.start > 0,
        has_newer: slice.end < count,
    }
}

proptest! {
    #![proptest_config(enough_worlds(1))]
    #[test]
    fn agrees_with_the_definition(
        events in events(PEOPLE, 250),
        (range, filters) in (range(), proptest::collection::vec(filter(), 0..2)),
        now in -150..150_i64,
        zone in select(ZONES),
        limit in 0_usize..8,
        page in (0..4_u8, any::<proptest::sample::Index>()),
    ) {
        let world = World::of(events);
        let selection = Selection { range, filters, ..all() };
        let (now, zone) = (at(now), zone.to_owned());
        let one = UserQuery { selection, now, zone, ..query(EventPage::Newest, limit) };
        let of = |user: &&str| {
            let mut query = UserQuery { user: (*user).to_owned(), ..one.clone() };
            let expected = expected(&world, &mut query, page);
            (query, expected)
        };
        let (queries, expected): (Vec<_>, Vec<_>) = PEOPLE.iter().map(of).unzip();
        let answers = world.ask(async |service| {
            let mut answers = Vec::new();
            for query in &queries {
                answers.push(service.user(query.clone()).await.unwrap());
            }
            answers
        });
        prop_assert_eq!(answers, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn pages_meet_every_event_once_while_new_ones_arrive(
        events in events(&["u", "u", "v"], 60),
        (known, arriving) in (0..40_usize, 0..4_usize),
        limit in 1_usize..5,
        backward: bool,
    ) {
        let first = if backward { EventPage::Newest } else { EventPage::Oldest };
        let mut query = query(first, limit);
        let mut known = known.min(events.len());
        let world = World::of(events[..known].to_vec());
        let known_at_first: Vec<_> =
            in_order(&world, &query).iter().map(|event| event.id.to_string()).collect();
        let mut met = HashSet::new();
        loop {
            let world = World::of(events[..known].to_vec());
            let answer = ask(&world, &query);
            for event in &answer.events {
                prop_assert!(met.insert(event.id.clone()), "{} comes twice", event.id);
            }
            let goes_on = if backward { answer.has_older } else { answer.has_newer };
            let edge = if backward { answer.events.first() } else { answer.events.last() };
            let Some(edge) = edge.filter(|_| goes_on) else { break };
            let place = EventPlace { time: edge.time, id: edge.id.clone() };
            query.page =
                if backward { EventPage::OlderThan(place) } else { EventPage::NewerThan(place) };
            known = events.len().min(known + arriving);
        }
        prop_assert!(known_at_first.iter().all(|id| met.contains(id)));
    }
}

#[test]
fn a_page_goes_on_from_an_event_that_is_gone() {
    let ids = ["1", "2", "3"];
    let world = World::of((0..).zip(ids).map(|(n, id)| event("u", id.to_owned(), n)).collect());
    let gone = |time| EventPlace { time: Timestamp(time), id: "gone".to_owned() };
    let found = |page| {
        let answer = ask(&world, &query(page, 9));
        answer.events.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(found(EventPage::OlderThan(gone(2))), ["1", "2"]);
    assert_eq!(found(EventPage::NewerThan(gone(0))), ["2", "3"]);
    assert!(found(EventPage::NewerThan(gone(9))).is_empty());
}

#[test]
fn only_the_last_sessions_and_the_first_pages_are_listed() {
    let count = limits::USER_SESSIONS as i64 + 5;
    let visit = |n: i64| Event {
        session: Some(SessionId::new(format!("s{n:05}"))),
        page_url: format!("/{}", n % 12).into(),
        ..event("u", n.to_string(), n)
    };
    let world = World::of((0..count).map(visit).collect());
    let profile = ask(&world, &query(EventPage::Newest, 1)).profile.unwrap();
    assert_eq!(profile.total_sessions as i64, count);
    assert_eq!(profile.sessions.len(), limits::USER_SESSIONS);
    assert_eq!(profile.sessions[0].id, format!("s{:05}", count - 1));
    assert_eq!(profile.top_pages.len(), limits::USER_PAGES);
    assert_eq!((profile.top_pages[0].page_url.as_str(), profile.top_pages[0].events), ("/0", 84));
}

#[test]
fn wrong_questions_are_refused() {
    let refused = |query: UserQuery| {
        let answer = World::default().ask(async |service| service.user(query.clone()).await);
        answer.unwrap_err().to_string()
    };
    let many = query(EventPage::Newest, limits::USER_EVENTS + 1);
    assert_eq!(refused(many), "`limit` must be at most 10000");
    let nowhere = UserQuery { zone: "Nowhere/Land".to_owned(), ..query(EventPage::Newest, 1) };
    assert!(refused(nowhere).contains("not a known time zone"));
}
