//! Small random worlds in which ties, repeated events and absent values are common, and what a
//! question over them should find, said as directly as possible.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_model::{
    Behaviour, CohortDefinition, Comparison, Event, EventId, EventMatch, Field, Filter, Grouping,
    Origin, Partition, Position, Positions, ProjectId, Selection, SessionId, Test, TimeRange,
    Timestamp, UserId, Value,
};
use gristmill_store::{Commit, MemoryStore, Row, Store, property};
use proptest::prelude::*;
use proptest::sample::select;
use regex::Regex;

use crate::columnar_testing::{Columnar, Layout, Memory, columnar_share};
use crate::{Cohorts, Query, QueryConfig, QueryError, Recall, RecallRoom};

pub(crate) const USERS: &[&str] = &["", "a", "b", "c", "d", "e", "f"];
pub(crate) const TYPES: &[&str] = &["a", "b", "c"];
pub(crate) const PAGES: &[&str] = &["", "/x", "/y"];
const SESSIONS: &[Option<&str>] = &[None, Some("s"), Some("t")];
const PROPERTIES: &[&str] = &[
    "{}",
    r#"{"plan":"free"}"#,
    r#"{"plan":"pro","n":1}"#,
    r#"{"plan":""}"#,
    r#"{"plan":null,"o":{"k":"v"}}"#,
];
/// The hour in which Sao Paulo's clock skips midnight.
const MIDDLE: i64 = 1_476_586_800 * Timestamp::SECOND;
/// In tests a moment is a multiple of this, so that ties are common.
pub(crate) const TICK: i64 = 1_500_000;

/// How many events a commit has.
const COMMIT: usize = 40;

/// What was offered to the store, in order, without repeats.
#[derive(Debug, Default)]
pub(crate) struct World {
    offered: Vec<Event<'static>>,
}

impl World {
    /// A world of these events.
    pub(crate) fn of(offered: Vec<Event<'static>>) -> Self {
        Self { offered }
    }

    /// The world with all times so many times as far from the middle.
    pub(crate) fn stretched(mut self, factor: i64) -> Self {
        for event in &mut self.offered {
            event.time = stretched(event.time, factor);
        }
        self
    }

    /// The selection that keeps of a stretched world what it keeps of the world.
    pub(crate) fn stretched_selection(mut selection: Selection, factor: i64) -> Selection {
        let TimeRange { start, end } = &mut selection.range;
        [start, end].into_iter().flatten().for_each(|time| *time = stretched(*time, factor));
        selection
    }

    /// The world with every event changed, given how many came before.
    pub(crate) fn changed(mut self, change: impl Fn(usize, &mut Event<'static>)) -> Self {
        self.offered.iter_mut().enumerate().for_each(|(index, event)| change(index, event));
        self
    }

    /// The selected events in log order, by going through all of them.
    pub(crate) fn selected(&self, selection: &Selection) -> Vec<&Event<'static>> {
        let mut known = HashSet::new();
        let first = self.offered.iter().filter(|event| {
            known.insert((event.project.as_str(), event.user.as_str(), event.id.as_str()))
        });
        let types = &selection.event_types;
        first
            .filter(|event| event.project == selection.project)
            .filter(|event| selection.range.contains(event.time))
            .filter(|event| types.is_empty() || types.iter().any(|t| *t == event.event_type))
            .filter(|event| selection.filters.iter().all(|filter| holds(event, filter)))
            .collect()
    }

    /// The first and the last moment that a question with buckets is about, if there are any.
    pub(crate) fn span(&self, selection: &Selection) -> Option<(Timestamp, Timestamp)> {
        let TimeRange { start, end } = selection.range;
        let events = self.selected(selection);
        let times = || events.iter().map(|event| event.time);
        let first = start.or(times().min())?;
        let last = end.map(|end| end.plus(-1)).or(times().max())?;
        let has_both = start.is_some() && end.is_some();
        (first <= last && (has_both || !events.is_empty())).then_some((first, last))
    }

    /// Asks a service over a store of three shards that took the events in several commits: most
    /// worlds a store that keeps a list, some one that keeps columns, of these some several times, so that
    /// the last answer comes from what the store keeps for questions that are asked again. A hash of the
    /// events decides. Every other one of these is asked after each commit, as a live question is.
    pub(crate) fn ask<T>(&self, question: impl AsyncFn(Query) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let number = self.number();
        runtime.unwrap().block_on(async {
            if number.is_multiple_of(columnar_share()) {
                let choice = number / columnar_share();
                let layout = Layout::ALL[choice % Layout::ALL.len()];
                let memory = Memory::ALL[choice / Layout::ALL.len() % Memory::ALL.len()];
                let columnar = Columnar::open(layout, memory);
                let store = Arc::clone(&columnar.store);
                let recall = Recall::new(&RecallRoom::of(1 << 20));
                let is_live = (choice / Layout::ALL.len() / Memory::ALL.len()) % 2 == 1;
                let ask = async || match is_live {
                    true => recall.during(question(service(Arc::clone(&store) as _))).await,
                    false => question(service(Arc::clone(&store) as _)).await,
                };
                let settle = async || {
                    columnar.settle().await;
                    if is_live {
                        ask().await;
                    }
                };
                // Small commits change few pieces.
                let commit = if is_live { COMMIT / 2 } else { COMMIT };
                self.fill(&*store, commit, settle).await;
                columnar.finish().await;
                for _ in 1..memory.asks() {
                    ask().await;
                }
                ask().await
            } else {
                let store = Arc::new(MemoryStore::new(3));
                self.fill(&*store, COMMIT, async || {}).await;
                question(service(store)).await
            }
        })
    }

    /// A number that looks random and is the same for the same events.
    fn number(&self) -> usize {
        let mut hasher = DefaultHasher::new();
        for event in &self.offered {
            (event.user.as_str(), event.id.as_str(), event.time.0).hash(&mut hasher);
        }
        // The lower half of it fits into any `usize`.
        hasher.finish() as u32 as usize
    }

    async fn fill(&self, store: &dyn Store, commit: usize, settle: impl AsyncFn()) {
        let mut next = 0;
        for events in self.offered.chunks(commit) {
            store.commit(batch(next, events)).await.unwrap();
            next += events.len() as u64;
            settle().await;
        }
    }
}

fn service(store: Arc<dyn Store>) -> Query {
    let config = QueryConfig { threads: 2, deadline: Duration::from_secs(60) };
    Query::new(config, store).with_cohorts(Arc::new(Frequent))
}

/// One saved cohort, called `frequent`: who has done `a` twice.
struct Frequent;

#[async_trait]
impl Cohorts for Frequent {
    async fn definition(
        &self,
        _: &ProjectId<'_>,
        id: &str,
    ) -> Result<Option<CohortDefinition>, QueryError> {
        let (event_types, filters) = (vec!["a".to_owned()], Vec::new());
        let events = EventMatch { event_types, filters };
        let often = Behaviour { events, range: TimeRange::ALL, at_least: 2, at_most: None };
        Ok((id == "frequent").then_some(CohortDefinition::Did(often)))
    }
}

/// A commit of these events as the next records of one partition.
pub(crate) fn batch(first: u64, events: &[Event<'static>]) -> Commit<'static> {
    let partition = Partition(0);
    let row = |(offset, event): (u64, &Event<'static>)| Row {
        position: Position { partition, offset },
        event: event.clone(),
    };
    let next: Positions = [(partition, first + events.len() as u64)].into_iter().collect();
    Commit { rows: (first..).zip(events).map(row).collect(), quarantine: Vec::new(), next }
}

/// A plain event.
pub(crate) fn event(user: &'static str, id: String, time: i64) -> Event<'static> {
    Event {
        project: ProjectId::new("default"),
        id: EventId::new(id),
        user: UserId::new(user),
        session: None,
        event_type: "a".into(),
        time: Timestamp(time),
        received: Timestamp(0),
        source: "".into(),
        page_url: "".into(),
        origin: Origin::Native,
        properties: Event::NO_PROPERTIES.into(),
    }
}

/// What an event has in a field.
pub(crate) fn text(event: &Event<'_>, field: &Field) -> Option<String> {
    let text = match field {
        Field::EventType => event.event_type.to_string(),
        Field::UserId => event.user.to_string(),
        Field::SessionId | Field::SessionWithinUser => event.session.as_ref()?.to_string(),
        Field::Source => event.source.to_string(),
        Field::PageUrl => event.page_url.to_string(),
        Field::Origin => event.origin.as_str().to_owned(),
        Field::EventId => event.id.to_string(),
        Field::Properties => event.properties.to_string(),
        Field::Property(path) => property(&event.properties, path)?.into_owned(),
    };
    Some(text)
}

/// What an event of a world is grouped by.
pub(crate) fn value_of(world: &World, event: &Event<'_>, grouping: &Grouping) -> Option<String> {
    match grouping {
        Grouping::Field(field) => text(event, field),
        Grouping::Cohort(_) => {
            let events = world.selected(&all());
            let same = |other: &&&Event<'_>| other.user == event.user && other.event_type == "a";
            let belongs = events.iter().filter(same).count() >= 2;
            Some(if belongs { Grouping::IN } else { Grouping::OUT }.to_owned())
        }
    }
}

/// What events of worlds may be grouped by.
pub(crate) fn grouping() -> impl Strategy<Value = Grouping> {
    prop_oneof![
        4 => field().prop_map(Grouping::Field),
        1 => Just(Grouping::Cohort("frequent".to_owned())),
    ]
}

/// Everything of the default project.
pub(crate) fn all() -> Selection {
    Selection {
        project: ProjectId::new("default"),
        range: TimeRange::ALL,
        event_types: Vec::new(),
        filters: Vec::new(),
    }
}

/// How many worlds each of so many tests of an analysis is given: together they meet 20,000 histories, for
/// nearly all seven users of a world have done something.
pub(crate) fn enough_worlds(tests: u32) -> ProptestConfig {
    ProptestConfig::with_cases(3_400 / tests)
}

/// Up to 150 events.
pub(crate) fn worlds() -> impl Strategy<Value = World> {
    proptest::collection::vec(random_event(), 0..150).prop_map(World::of)
}

fn random_event() -> impl Strategy<Value = Event<'static>> {
    let who = (select(USERS), 0..60_u32, select(SESSIONS), 0..20_u8);
    let what = (select(TYPES), -40..40_i64, select(PAGES), select(PROPERTIES));
    (who, what).prop_map(|((user, id, session, project), (event_type, tick, page, properties))| {
        Event {
            project: ProjectId::new(if project == 0 { "other" } else { "default" }),
            session: session.map(SessionId::new),
            event_type: event_type.into(),
            page_url: page.into(),
            origin: Origin::ALL[usize::from(project % 5)],
            properties: properties.into(),
            ..event(user, id.to_string(), moment(tick))
        }
    })
}

fn moment(tick: i64) -> i64 {
    MIDDLE + tick * TICK
}

fn stretched(time: Timestamp, factor: i64) -> Timestamp {
    Timestamp(MIDDLE + (time.0 - MIDDLE) * factor)
}

/// A field that worlds have values in.
pub(crate) fn field() -> impl Strategy<Value = Field> {
    const NAMES: &[&str] =
        &["event_type", "user_id", "session_id", "page_url", "origin", "plan", "o.k", "id"];
    select(NAMES).prop_map(Field::from_name)
}

/// Whether a filter keeps an event, said as directly as possible.
pub(crate) fn holds(event: &Event<'_>, filter: &Filter) -> bool {
    let (field, test) = match filter {
        Filter::Where(field, test) => (field, test),
        Filter::All(filters) => return filters.iter().all(|filter| holds(event, filter)),
        Filter::Any(filters) => return filters.iter().any(|filter| holds(event, filter)),
        Filter::Not(filter) => return !holds(event, filter),
    };
    let Some(text) = text(event, field) else { return false };
    let same = |value: &Value| match value {
        Value::Text(other) => text == *other,
        Value::Number(other) => text.parse() == Ok(*other),
    };
    match test {
        Test::Exists => true,
        Test::In(values) => values.iter().any(same),
        Test::Compare(Comparison::Less, Value::Number(n)) => {
            text.parse().is_ok_and(|t: f64| t < *n)
        }
        Test::Compare(how, Value::Number(n)) => {
            *how == Comparison::AtLeast && text.parse().is_ok_and(|t: f64| t >= *n)
        }
        Test::Compare(Comparison::Greater, Value::Text(other)) => text > *other,
        Test::Compare(how, Value::Text(other)) => *how == Comparison::AtMost && text <= *other,
        Test::Contains(part) => text.contains(part),
        Test::StartsWith(start) => text.starts_with(start),
        Test::EndsWith(end) => text.ends_with(end),
        // Tests of cohorts put the users in the place of their cohort.
        Test::MemberOf(id) => panic!("nobody knows the cohort {id}"),
        Test::Matches(pattern) => Regex::new(pattern).unwrap().is_match(&text),
    }
}

/// Whether an event is among those that something is about.
pub(crate) fn matches(event: &Event<'_>, wanted: &EventMatch) -> bool {
    let types = &wanted.event_types;
    (types.is_empty() || types.iter().any(|kind| *kind == event.event_type))
        && wanted.filters.iter().all(|filter| holds(event, filter))
}

/// A filter that often keeps something.
pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        3 => equality(),
        1 => (field(), value_test()).prop_map(|(field, test)| Filter::Where(field, test)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::All),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::Any),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

fn value_test() -> impl Strategy<Value = Test> {
    let text = || select(&["", "a", "b", "/", "/x", "free", "r", "1"]).prop_map(str::to_owned);
    let value = || prop_oneof![text().prop_map(Value::Text), Just(Value::Number(1.0))];
    let number = || (0..60_u8).prop_map(|number| Value::Number(f64::from(number)));
    prop_oneof![
        Just(Test::Exists),
        proptest::collection::vec(value(), 0..3).prop_map(Test::In),
        number().prop_map(|value| Test::Compare(Comparison::Less, value)),
        number().prop_map(|value| Test::Compare(Comparison::AtLeast, value)),
        text().prop_map(|text| Test::Compare(Comparison::Greater, Value::Text(text))),
        text().prop_map(|text| Test::Compare(Comparison::AtMost, Value::Text(text))),
        text().prop_map(Test::Contains),
        text().prop_map(Test::StartsWith),
        text().prop_map(Test::EndsWith),
        select(&["^.r", "[0-9]$", "(?i)FREE", ""]).prop_map(|p| Test::Matches(p.to_owned())),
    ]
}

fn equality() -> impl Strategy<Value = Filter> {
    const PAIRS: &[(&str, &str)] = &[
        ("user_id", "a"),
        ("session_id", "s"),
        ("page_url", ""),
        ("page_url", "/x"),
        ("plan", "free"),
        ("plan", ""),
        ("n", "1"),
        ("o.k", "v"),
        ("event_type", "b"),
        ("source", "none"),
    ];
    select(PAIRS).prop_map(|(name, text)| Filter::equals(Field::from_name(name), text))
}

/// A selection that often keeps something.
pub(crate) fn selection() -> impl Strategy<Value = Selection> {
    let end = || proptest::option::of((-41..41_i64).prop_map(|tick| Timestamp(moment(tick))));
    let types = proptest::sample::subsequence(TYPES, 0..=2);
    let filters = prop_oneof![
        3 => Just(Vec::new()),
        2 => proptest::collection::vec(filter(), 1..3),
    ];
    (end(), end(), types, filters).prop_map(|(start, end, types, filters)| Selection {
        range: TimeRange { start, end },
        event_types: types.into_iter().map(str::to_owned).collect(),
        filters,
        ..all()
    })
}
