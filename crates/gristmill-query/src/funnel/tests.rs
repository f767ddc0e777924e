use gristmill_model::{
    Attribution, Event, Field, FunnelBreakdown, FunnelExclusion, FunnelOrder, FunnelOutcome,
    FunnelQuery, FunnelStep, FunnelUsersQuery, Grouping, Selection, limits,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Counts, FunnelFold, Totals, groups, oracle};
use crate::fold::Fold;
use crate::testing::{
    TICK, TYPES, World, all, enough_worlds, event, filter, grouping, selection, worlds,
};

fn filters() -> impl Strategy<Value = Vec<gristmill_model::Filter>> {
    prop_oneof![
        3 => Just(Vec::new()),
        1 => filter().prop_map(|filter| vec![filter]),
    ]
}

fn steps(most: usize) -> impl Strategy<Value = Vec<FunnelStep>> {
    let step = (select(TYPES), filters()).prop_map(|(event_type, filters)| FunnelStep {
        name: event_type.to_owned(),
        event_type: event_type.to_owned(),
        filters,
    });
    proptest::collection::vec(step, 2..=most)
}

/// Exclusions with any two numbers, to be taken for steps once it is known how many there are.
fn exclusions() -> impl Strategy<Value = Vec<FunnelExclusion>> {
    let exclusion = (select(TYPES), filters(), 0..60_usize, 0..60_usize).prop_map(
        |(event_type, filters, from_step, to_step)| FunnelExclusion {
            event_type: event_type.to_owned(),
            filters,
            from_step,
            to_step,
        },
    );
    prop_oneof![
        1 => Just(Vec::new()),
        2 => proptest::collection::vec(exclusion, 1..3),
    ]
}

fn breakdown() -> impl Strategy<Value = Option<FunnelBreakdown>> {
    let attribution = select(&[
        Attribution::First,
        Attribution::Last,
        Attribution::Step(1),
        Attribution::Step(2),
    ]);
    let breakdown = (grouping(), attribution, 1..4_usize)
        .prop_map(|(by, attribution, top)| FunnelBreakdown { by, attribution, top });
    proptest::option::of(breakdown)
}

/// A length of time up to a bound, often one that two events lie apart.
fn length(most: i64) -> impl Strategy<Value = i64> {
    prop_oneof![1..most, (1..most / TICK).prop_map(|ticks| ticks * TICK)]
}

/// Funnels of up to so many steps.
fn funnels(order: FunnelOrder, most: usize) -> impl Strategy<Value = FunnelQuery> {
    let what = (selection(), steps(most), exclusions(), breakdown());
    let times = (length(40_000_000), proptest::option::of(length(10_000_000)));
    (what, times).prop_map(
        move |((selection, steps, mut exclusions, breakdown), (window, step_timeout))| {
            let steps_but_one = steps.len() - 1;
            for FunnelExclusion { from_step, to_step, .. } in &mut exclusions {
                *from_step = 1 + *from_step % steps_but_one;
                *to_step = *from_step + 1 + *to_step % (steps.len() - *from_step);
                if order == FunnelOrder::Any {
                    (*from_step, *to_step) = (1, steps.len());
                }
            }
            let step_timeout = step_timeout.filter(|_| order != FunnelOrder::Any);
            FunnelQuery { selection, steps, order, window, step_timeout, exclusions, breakdown }
        },
    )
}

fn agrees(world: &World, query: &FunnelQuery) -> Result<(), TestCaseError> {
    let answer = world.ask(async |service| service.funnel(query.clone()).await);
    prop_assert_eq!(answer.unwrap(), oracle::answer(world, query));
    Ok(())
}

proptest! {
    #![proptest_config(enough_worlds(5))]

    #[test]
    fn plain_funnels_agree_with_the_definition(
        world in worlds(),
        query in funnels(FunnelOrder::Ordered, 4),
    ) {
        agrees(&world, &FunnelQuery { exclusions: Vec::new(), breakdown: None, ..query })?;
    }

    #[test]
    fn ordered_funnels_agree_with_the_definition(
        world in worlds(),
        query in funnels(FunnelOrder::Ordered, 4),
    ) {
        agrees(&world, &query)?;
    }

    #[test]
    fn strict_funnels_agree_with_the_definition(
        world in worlds(),
        query in funnels(FunnelOrder::Strict, 4),
    ) {
        agrees(&world, &query)?;
    }

    #[test]
    fn funnels_in_any_order_agree_with_the_definition(
        world in worlds(),
        query in funnels(FunnelOrder::Any, 3),
    ) {
        agrees(&world, &query)?;
    }

    #[test]
    fn users_agree_with_the_definition_page_by_page(
        world in worlds(),
        funnel in prop_oneof![
            funnels(FunnelOrder::Ordered, 3),
            funnels(FunnelOrder::Strict, 3),
            funnels(FunnelOrder::Any, 3),
        ],
        (step, is_dropped, limit) in (0..6_usize, any::<bool>(), 1..5_usize),
    ) {
        let outcome = if is_dropped { FunnelOutcome::Dropped } else { FunnelOutcome::Reached };
        let last_step = funnel.steps.len() - usize::from(is_dropped);
        let step = 1 + step % last_step;
        let expected = oracle::users(&world, &funnel, step, outcome);
        let mut query = FunnelUsersQuery { funnel, step, outcome, limit, after: None };
        let mut found = Vec::new();
        loop {
            let answer = world.ask(async |service| service.funnel_users(query.clone()).await);
            let page = answer.unwrap();
            prop_assert!(page.users.len() == limit || page.next.is_none());
            found.extend(page.users);
            prop_assert!(found.len() <= expected.len());
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }
}

/// A funnel of one letter per step.
pub(super) fn funnel(order: FunnelOrder, steps: &str, window: i64) -> FunnelQuery {
    let step = |name: char| FunnelStep {
        name: name.to_string(),
        event_type: name.to_string(),
        filters: Vec::new(),
    };
    FunnelQuery {
        selection: all(),
        steps: steps.chars().map(step).collect(),
        order,
        window,
        step_timeout: None,
        exclusions: Vec::new(),
        breakdown: None,
    }
}

fn exclude(event_type: &str, from_step: usize, to_step: usize) -> Vec<FunnelExclusion> {
    let (event_type, filters) = (event_type.to_owned(), Vec::new());
    vec![FunnelExclusion { event_type, filters, from_step, to_step }]
}

/// How far one user comes who makes these events, each a letter and a time, as in `a0 b5`.
fn level(query: &FunnelQuery, events: &str) -> usize {
    let world = World::of(events_of(events));
    let answer = world.ask(async |service| service.funnel(query.clone()).await).unwrap();
    answer.steps.iter().filter(|step| step.users == 1).count()
}

fn events_of(events: &str) -> Vec<Event<'static>> {
    let event = |(id, text): (usize, &str)| Event {
        event_type: text[..1].to_owned().into(),
        source: id.to_string().into(),
        ..event("u", id.to_string(), text[1..].parse().unwrap())
    };
    events.split(' ').enumerate().map(event).collect()
}

#[test]
fn ties_repeats_and_restarts_follow_window_funnel() {
    let abc = |window| funnel(FunnelOrder::Ordered, "abc", window);
    // Equal times count as order, whatever the order of arrival.
    assert_eq!(level(&abc(1), "c5 b5 a5"), 3);
    // The window is inclusive and measured from the first step.
    assert_eq!(level(&abc(10), "a0 b5 c10"), 3);
    assert_eq!(level(&abc(10), "a0 b5 c11"), 2);
    // A later first step starts over, and the older way is not lost meanwhile.
    assert_eq!(level(&abc(5), "a0 a8 b9 c12"), 3);
    assert_eq!(level(&abc(10), "a0 b1 a8 c9"), 3);
    // One event may satisfy several steps; order matters.
    assert_eq!(level(&funnel(FunnelOrder::Ordered, "aaa", 10), "a0"), 3);
    assert_eq!(level(&abc(10), "b0 a1"), 1);
}

#[test]
fn strict_order_lets_nothing_lie_between() {
    let abc = funnel(FunnelOrder::Strict, "abc", 10);
    assert_eq!(level(&abc, "a0 b1 c2"), 3);
    assert_eq!(level(&abc, "a0 b1 x2 c3"), 2);
    assert_eq!(level(&abc, "a0 b1 b2 c3"), 2);
    assert_eq!(level(&abc, "a0 b1 x2 a3 b4 c5"), 3);
    assert_eq!(level(&abc, "a0 b5 c11"), 2);
    // What is not selected does not lie between.
    let types = ["a", "b", "c"].map(str::to_owned).to_vec();
    let selected = FunnelQuery { selection: Selection { event_types: types, ..all() }, ..abc };
    assert_eq!(level(&selected, "a0 b1 x2 c3"), 3);
    // Equal times are taken as stored, and each step needs an event of its own.
    let ab = funnel(FunnelOrder::Strict, "ab", 10);
    assert_eq!(level(&ab, "a5 b5"), 2);
    assert_eq!(level(&ab, "b5 a5"), 1);
    assert_eq!(level(&funnel(FunnelOrder::Strict, "aa", 10), "a0"), 1);
    assert_eq!(level(&funnel(FunnelOrder::Strict, "aa", 10), "a0 a1"), 2);
}

#[test]
fn any_order_needs_a_window_with_all_steps() {
    let abc = funnel(FunnelOrder::Any, "abc", 10);
    assert_eq!(level(&abc, "c0 a5 b10"), 3);
    assert_eq!(level(&abc, "c0 a5 b11"), 2);
    assert_eq!(level(&abc, "c0 a5 b11 c12"), 3);
    assert_eq!(level(&abc, "b0 b1 b2"), 1);
    assert_eq!(level(&funnel(FunnelOrder::Any, "aa", 10), "a0"), 2);
    let without_x = FunnelQuery { exclusions: exclude("x", 1, 3), ..abc };
    assert_eq!(level(&without_x, "c0 x1 a5 b9"), 2);
    assert_eq!(level(&without_x, "c0 x0 a5 x9 b9"), 3);
}

#[test]
fn exclusions_break_a_way_between_their_steps() {
    let abc = funnel(FunnelOrder::Ordered, "abc", 100);
    let without = |from, to| FunnelQuery { exclusions: exclude("x", from, to), ..abc.clone() };
    assert_eq!(level(&without(1, 3), "a0 x1 b2 c3"), 1);
    assert_eq!(level(&without(1, 3), "a0 b2 x3 c4"), 2);
    assert_eq!(level(&without(2, 3), "a0 x1 b2 c3"), 3);
    assert_eq!(level(&without(1, 2), "a0 b2 x3 c4"), 3);
    // Before the first step and after the last nothing is excluded, nor in the same moments.
    assert_eq!(level(&without(1, 3), "x0 a1 b2 c3 x4"), 3);
    assert_eq!(level(&without(1, 3), "a1 x1 b2 x3 c3"), 3);
    // In the moment of a step in the middle it lies between.
    assert_eq!(level(&without(1, 3), "a0 b1 x1 c2"), 2);
    // Another way may get through.
    assert_eq!(level(&without(1, 3), "a0 x1 a2 b3 c4"), 3);
    assert_eq!(level(&without(2, 3), "a0 b1 x2 b3 c4"), 3);
    // A step's own event is no exception.
    let own = FunnelQuery { exclusions: exclude("b", 1, 3), ..abc.clone() };
    assert_eq!(level(&own, "a0 b1 c2"), 2);
}

#[test]
fn groups_follow_the_way_that_counts() {
    // The events' sources are their numbers.
    let value = |order, attribution, events: &str| {
        let field = Field::Source;
        let breakdown = Some(FunnelBreakdown { by: Grouping::Field(field), attribution, top: 1 });
        let query = FunnelQuery { breakdown, ..funnel(order, "abc", 10) };
        let world = World::of(events_of(events));
        let answer = world.ask(async |service| service.funnel(query.clone()).await).unwrap();
        answer.groups.unwrap().groups.remove(0).value
    };
    let (ordered, any) = (FunnelOrder::Ordered, FunnelOrder::Any);
    // The first to get deepest counts, and of the first steps before it the newest.
    let events = "a0 a1 b2 a3 b4 x5";
    assert_eq!(value(ordered, Attribution::First, events).as_deref(), Some("1"));
    assert_eq!(value(ordered, Attribution::Last, events).as_deref(), Some("2"));
    assert_eq!(value(ordered, Attribution::Step(2), events).as_deref(), Some("2"));
    assert_eq!(value(ordered, Attribution::Step(3), events), None);
    // Of events of one moment the first counts.
    assert_eq!(value(ordered, Attribution::First, "a1 a1 b1").as_deref(), Some("0"));
    // In any order a step may come at any place.
    let events = "c0 a1 c2 b3";
    assert_eq!(value(any, Attribution::First, events).as_deref(), Some("1"));
    assert_eq!(value(any, Attribution::Step(3), events).as_deref(), Some("2"));
    assert_eq!(value(any, Attribution::Last, events).as_deref(), Some("3"));
}

#[test]
fn senseless_funnels_are_refused() {
    let error = |query: &FunnelQuery| {
        let answer = World::default().ask(async |service| service.funnel(query.clone()).await);
        answer.unwrap_err().to_string()
    };
    let ab = funnel(FunnelOrder::Ordered, "ab", 1);
    let any = FunnelQuery { order: FunnelOrder::Any, ..ab.clone() };
    let steps = |count| funnel(FunnelOrder::Ordered, &"a".repeat(count), 1);
    assert_eq!(error(&steps(1)), "`steps` must be from 2 to 20");
    assert_eq!(error(&steps(21)), "`steps` must be from 2 to 20");
    assert_eq!(error(&FunnelQuery { window: 0, ..ab.clone() }), "`window` must be longer than 0");
    let timeout = |step_timeout, query: &FunnelQuery| {
        error(&FunnelQuery { step_timeout: Some(step_timeout), ..query.clone() })
    };
    assert_eq!(timeout(0, &ab), "`step_timeout` must be longer than 0");
    assert!(timeout(1, &any).starts_with("`step_timeout` needs an order"));
    for (from, to) in [(0, 1), (1, 1), (2, 1), (1, 3)] {
        let error = error(&FunnelQuery { exclusions: exclude("x", from, to), ..ab.clone() });
        assert!(error.starts_with("`exclusions[0].from_step` must be below"), "{error}");
    }
    let abc = funnel(FunnelOrder::Any, "abc", 1);
    let partial = error(&FunnelQuery { exclusions: exclude("x", 1, 2), ..abc });
    assert!(partial.contains("need an order"), "{partial}");
    let many = vec![exclude("x", 1, 2).remove(0); limits::FUNNEL_EXCLUSIONS + 1];
    let many = error(&FunnelQuery { exclusions: many, ..ab.clone() });
    assert_eq!(many, "`exclusions` has 11 entries, more than 10");
    let grouped = |attribution, top| {
        let breakdown =
            Some(FunnelBreakdown { by: Grouping::Field(Field::Source), attribution, top });
        error(&FunnelQuery { breakdown, ..ab.clone() })
    };
    assert_eq!(grouped(Attribution::First, 0), "`breakdown.top` must be from 1 to 1000");
    assert_eq!(grouped(Attribution::First, 1_001), "`breakdown.top` must be from 1 to 1000");
    assert_eq!(grouped(Attribution::Step(0), 1), "`breakdown.step` must be from 1 to 2");
    assert_eq!(grouped(Attribution::Step(3), 1), "`breakdown.step` must be from 1 to 2");
    let most = FunnelQuery {
        exclusions: vec![exclude("x", 1, 20).remove(0); limits::FUNNEL_EXCLUSIONS],
        ..steps(20)
    };
    assert!(World::default().ask(async |service| service.funnel(most.clone()).await).is_ok());
}

#[test]
fn values_of_a_breakdown_are_bounded() {
    let counts = |values: usize| {
        let groups = (0..values).map(|n| (Some(n.to_string()), vec![1, 0])).collect();
        Counts { totals: Totals::default(), groups }
    };
    let most = limits::FUNNEL_VALUES;
    assert!(FunnelFold::check(&counts(most)).is_ok());
    let ranked = groups::ranked(counts(most).groups, 2, 1);
    assert_eq!(ranked.other.unwrap().groups, most - 1);
    let error = FunnelFold::check(&counts(most + 1)).unwrap_err().to_string();
    assert!(error.starts_with("`breakdown.property` has more than 500000 values"), "{error}");
}
