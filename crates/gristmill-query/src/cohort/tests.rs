//! Cohorts by their definition: going through every user's events, behaviour by behaviour.

use std::collections::BTreeSet;

use gristmill_model::{
    EventMatch, Filter, FunnelOrder, FunnelQuery, FunnelStep, SummaryQuery, Test, Timestamp, Value,
};
use proptest::prelude::*;

use super::*;
use crate::Query;
use crate::testing::{TYPES, USERS, World, all, enough_worlds, event, filter, selection, worlds};

/// One saved cohort, called `c`.
struct One(CohortDefinition);

#[async_trait]
impl Cohorts for One {
    async fn definition(
        &self,
        _: &ProjectId<'_>,
        id: &str,
    ) -> Result<Option<CohortDefinition>, QueryError> {
        Ok((id == "c").then(|| self.0.clone()))
    }
}

fn belongs(world: &World, user: &str, definition: &CohortDefinition) -> bool {
    match definition {
        CohortDefinition::All(inner) => inner.iter().all(|d| belongs(world, user, d)),
        CohortDefinition::Any(inner) => inner.iter().any(|d| belongs(world, user, d)),
        CohortDefinition::Not(inner) => !belongs(world, user, inner),
        CohortDefinition::Did(behaviour) => {
            let EventMatch { event_types, filters } = behaviour.events.clone();
            let selection = Selection { range: behaviour.range, event_types, filters, ..all() };
            let events = world.selected(&selection);
            let count = events.iter().filter(|event| event.user.as_str() == user).count() as u64;
            count >= behaviour.at_least && behaviour.at_most.is_none_or(|most| count <= most)
        }
    }
}

/// Who belongs, in order.
fn expected(world: &World, definition: &CohortDefinition) -> Vec<String> {
    let everybody = world.selected(&all());
    let users: BTreeSet<_> = everybody.iter().map(|event| event.user.as_str()).collect();
    let members = users.into_iter().filter(|user| belongs(world, user, definition));
    members.map(str::to_owned).collect()
}

/// The filter with the members of the cohort `c` in its place.
fn with_members(filter: &Filter, members: &[String]) -> Filter {
    let all = |filters: &[Filter]| filters.iter().map(|f| with_members(f, members)).collect();
    match filter {
        Filter::All(filters) => Filter::All(all(filters)),
        Filter::Any(filters) => Filter::Any(all(filters)),
        Filter::Not(inner) => Filter::Not(Box::new(with_members(inner, members))),
        Filter::Where(field, Test::MemberOf(_)) => {
            let values = members.iter().cloned().map(Value::Text).collect();
            Filter::Where(field.clone(), Test::In(values))
        }
        Filter::Where(..) => filter.clone(),
    }
}

fn did(events: EventMatch, at_least: u64, at_most: Option<u64>) -> CohortDefinition {
    CohortDefinition::Did(Behaviour { events, range: TimeRange::ALL, at_least, at_most })
}

fn of_type(event_type: &str) -> EventMatch {
    EventMatch { event_types: vec![event_type.to_owned()], filters: Vec::new() }
}

fn definition() -> impl Strategy<Value = CohortDefinition> {
    let types = proptest::sample::subsequence(TYPES, 0..=2);
    let filters = prop_oneof![
        2 => Just(Vec::new()),
        1 => filter().prop_map(|filter| vec![filter]),
    ];
    let at_most = proptest::option::of(0..4_u64);
    let behaviour = (types, filters, selection(), 0..4_u64, at_most).prop_map(
        |(types, filters, Selection { range, .. }, at_least, at_most)| {
            let event_types = types.into_iter().map(str::to_owned).collect();
            let events = EventMatch { event_types, filters };
            CohortDefinition::Did(Behaviour { events, range, at_least, at_most })
        },
    );
    behaviour.prop_recursive(3, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(CohortDefinition::All),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(CohortDefinition::Any),
            inner.prop_map(|inner| CohortDefinition::Not(Box::new(inner))),
        ]
    })
}

/// A filter that asks for the cohort `c`, alone and beside others.
fn cohort_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::cohort("c")),
        Just(Filter::Not(Box::new(Filter::cohort("c")))),
        filter().prop_map(|filter| Filter::Any(vec![filter, Filter::cohort("c")])),
        filter().prop_map(|filter| Filter::All(vec![Filter::cohort("c"), filter])),
    ]
}

fn ask(world: &World, query: &CohortQuery) -> Result<CohortAnswer, String> {
    let answer = world.ask(async |service| service.cohort(query.clone()).await);
    answer.map_err(|error| error.to_string())
}

fn query(definition: CohortDefinition) -> CohortQuery {
    CohortQuery { project: ProjectId::new("default"), definition, after: None, limit: 100 }
}

proptest! {
    #![proptest_config(enough_worlds(2))]
    #[test]
    fn agrees_with_the_definition(
        world in worlds(),
        definition in definition(),
        after in proptest::option::of(proptest::sample::select(USERS)),
        limit in 0..8_usize,
    ) {
        let members = expected(&world, &definition);
        let query = CohortQuery { after: after.map(str::to_owned), limit, ..query(definition) };
        let mut users = members.clone();
        users.retain(|user| after.is_none_or(|after| user.as_str() > after));
        let has_more = users.len() > limit;
        users.truncate(limit);
        let answer = CohortAnswer { size: members.len() as u64, users, has_more };
        prop_assert_eq!(ask(&world, &query), Ok(answer));
    }

    #[test]
    fn filters_agree_with_naming_the_members(
        world in worlds(),
        definition in definition(),
        mut selection in selection(),
        filter in cohort_filter(),
    ) {
        let members = expected(&world, &definition);
        selection.filters.push(filter.clone());
        let cohorts: Arc<dyn Cohorts> = Arc::new(One(definition));
        let query = SummaryQuery { selection: selection.clone() };
        let answer = world.ask(async |service| {
            service.with_cohorts(Arc::clone(&cohorts)).summary(query.clone()).await
        });
        selection.filters.pop();
        selection.filters.push(with_members(&filter, &members));
        let events = world.selected(&selection);
        let users: BTreeSet<_> = events.iter().map(|event| event.user.as_str()).collect();
        let answer = answer.unwrap();
        prop_assert_eq!(answer.total_events, events.len() as u64);
        prop_assert_eq!(answer.unique_users, users.len() as u64);
    }
}

#[test]
fn steps_of_a_funnel_may_ask_for_cohorts() {
    let of = |user, kind: &str, id: &str, time| gristmill_model::Event {
        event_type: kind.to_owned().into(),
        ..event(user, id.to_owned(), time)
    };
    let world = World::of(vec![
        of("once", "a", "1", 1),
        of("once", "b", "2", 2),
        of("twice", "a", "1", 1),
        of("twice", "a", "2", 2),
        of("twice", "b", "3", 3),
    ]);
    let step = |kind: &str, filters| FunnelStep {
        name: kind.to_owned(),
        event_type: kind.to_owned(),
        filters,
    };
    let query = FunnelQuery {
        selection: all(),
        steps: vec![step("a", Vec::new()), step("b", vec![Filter::cohort("c")])],
        order: FunnelOrder::Ordered,
        window: Timestamp::DAY,
        step_timeout: None,
        exclusions: Vec::new(),
        breakdown: None,
    };
    let cohorts: Arc<dyn Cohorts> = Arc::new(One(did(of_type("a"), 2, None)));
    let asked = |service: Query| service.with_cohorts(Arc::clone(&cohorts));
    let answer = world.ask(async |service| asked(service).funnel(query.clone()).await).unwrap();
    assert_eq!(answer.steps.iter().map(|step| step.users).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn who_did_nothing_of_it_may_belong() {
    let world = World::of(vec![event("u", "1".to_owned(), 5)]);
    let never = did(of_type("b"), 0, Some(0));
    assert_eq!(ask(&world, &query(never.clone())).unwrap().users, ["u"]);
    let not = CohortDefinition::Not(Box::new(never));
    assert_eq!(ask(&world, &query(not)).unwrap().size, 0);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let error = |definition| check(&definition).unwrap_err().to_string();
    let asks = EventMatch { event_types: Vec::new(), filters: vec![Filter::cohort("other")] };
    assert_eq!(
        error(did(asks, 1, None)),
        "a cohort's definition may not ask for a cohort, and asks for \"other\""
    );
    let many = |count| CohortDefinition::Any(vec![did(EventMatch::default(), 1, None); count]);
    assert!(check(&many(limits::COHORT_BEHAVIOURS)).is_ok());
    let detail = error(many(limits::COHORT_BEHAVIOURS + 1));
    assert_eq!(detail, "a cohort's definition has more than 20 behaviours");
    let deep =
        (0..limits::FILTER_DEPTH).fold(many(1), |inner, _| CohortDefinition::Not(Box::new(inner)));
    assert!(error(deep).contains("more than 16 levels deep"));

    let world = World::of(vec![event("u", "1".to_owned(), 5)]);
    let unknown = Selection { filters: vec![Filter::cohort("none")], ..all() };
    let query = SummaryQuery { selection: unknown };
    let answer = world.ask(async |service| service.summary(query.clone()).await);
    assert_eq!(answer.unwrap_err().to_string(), "there is no cohort \"none\"");
}
