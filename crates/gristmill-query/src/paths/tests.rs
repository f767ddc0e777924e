use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::{
    Direction, Event, EventMatch, Field, Micros, Occurrences, PathEdge, PathLevel, PathNode,
    Repeats, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::testing::{
    TYPES, World, all, enough_worlds, event, field, filter, matches, selection, text, worlds,
};

/// A step by the definition: its value and the places of its events in the stretch.
type Step = (String, Vec<usize>);

fn steps_of(stretch: &[&Event<'_>], query: &PathsQuery) -> Vec<Step> {
    let value = |event: &Event<'_>| text(event, &query.step).filter(|value| !value.is_empty());
    let mut steps: Vec<Step> = Vec::new();
    for (place, event) in stretch.iter().enumerate() {
        let Some(value) = value(event) else { continue };
        match steps.last_mut() {
            Some(last) if query.repeats == Repeats::Collapsed && last.0 == value => {
                last.1.push(place);
            }
            _ => steps.push((value, vec![place])),
        }
    }
    steps
}

/// The paths of one stretch by the definition, in the order of their anchors.
fn paths_of(stretch: &[&Event<'_>], query: &PathsQuery) -> Vec<Vec<String>> {
    let steps = steps_of(stretch, query);
    let mut begun = BTreeSet::new();
    let mut paths = Vec::new();
    for (place, event) in stretch.iter().enumerate() {
        if !matches(event, &query.anchor) {
            continue;
        }
        let own = steps.iter().position(|(_, places)| places.contains(&place));
        if own.is_some_and(|own| !begun.insert(own)) {
            continue;
        }
        let others = steps.iter().enumerate().filter(|(index, _)| Some(*index) != own);
        let others: Vec<_> = others.map(|(_, step)| step).collect();
        let values: Vec<&String> = match query.direction {
            Direction::After => {
                let after = others.iter().filter(|step| step.1.iter().any(|p| *p > place));
                after.map(|step| &step.0).collect()
            }
            Direction::Before => {
                let before = others.iter().filter(|step| step.1.iter().any(|p| *p < place));
                before.rev().map(|step| &step.0).collect()
            }
        };
        let anchor = own.map_or(String::new(), |own| steps[own].0.clone());
        let values = values.into_iter().take(query.depth).cloned();
        paths.push(std::iter::once(anchor).chain(values).collect());
    }
    paths
}

/// All paths with their users.
fn all_paths(world: &World, query: &PathsQuery) -> Vec<(String, Vec<String>)> {
    let mut users: BTreeMap<&str, Vec<&Event<'_>>> = BTreeMap::new();
    for event in world.selected(&query.selection) {
        users.entry(event.user.as_str()).or_default().push(event);
    }
    let mut all = Vec::new();
    for (user, mut events) in users {
        // The events are in log order, and the sort is stable.
        events.sort_by_key(|event| event.time);
        let gap = query.gap.unwrap_or(Micros::MAX);
        let stretches = events.chunk_by(|a, b| b.time.since(a.time) <= gap);
        let paths: Vec<_> = stretches.flat_map(|stretch| paths_of(stretch, query)).collect();
        let most = if query.occurrences == Occurrences::First { 1 } else { paths.len() };
        all.extend(paths.into_iter().take(most).map(|path| (user.to_owned(), path)));
    }
    all
}

fn expected(world: &World, query: &PathsQuery) -> PathsAnswer {
    let paths = all_paths(world, query);
    // Of each level the values that are kept, in order.
    let mut kept: Vec<Vec<String>> = Vec::new();
    for level in 0..=query.depth {
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for value in paths.iter().filter_map(|(_, path)| path.get(level)) {
            *counts.entry(value).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        kept.push(counts.into_iter().take(query.limit).map(|(value, _)| value.clone()).collect());
    }
    let node_of = |path: &[String], level: usize| {
        let rank = kept[level].iter().position(|value| *value == path[level]);
        (level, rank.unwrap_or(query.limit))
    };
    let mut nodes: BTreeMap<(usize, usize), Vec<(&str, bool)>> = BTreeMap::new();
    let mut edges: BTreeMap<_, u64> = BTreeMap::new();
    for (user, path) in &paths {
        for level in 0..path.len() {
            let node = node_of(path, level);
            nodes.entry(node).or_default().push((user, level + 1 == path.len()));
            if level > 0 {
                *edges.entry((node_of(path, level - 1), node)).or_default() += 1;
            }
        }
    }
    let place = |node| nodes.keys().position(|known| *known == node).unwrap();
    let edge = |((from, to), count): (_, &u64)| (place(from), place(to), *count);
    let edges = edges.iter().map(|((from, to), count)| edge(((*from, *to), count)));
    let edges = edges.map(|(from, to, count)| PathEdge { from, to, count }).collect();
    let node = |((level, rank), paths): (&(usize, usize), &Vec<(&str, bool)>)| PathNode {
        level: *level,
        value: kept[*level].get(*rank).cloned(),
        count: paths.len() as u64,
        users: paths.iter().map(|(user, _)| user).collect::<BTreeSet<_>>().len() as u64,
        ended: (*level < query.depth)
            .then(|| paths.iter().filter(|(_, ends)| *ends).count() as u64),
    };
    let level = |level| PathLevel {
        paths: paths.iter().filter(|(_, path)| path.len() > level).count() as u64,
        ended: (level < query.depth)
            .then(|| paths.iter().filter(|(_, path)| path.len() == level + 1).count() as u64),
    };
    PathsAnswer {
        users: paths.iter().map(|(user, _)| user).collect::<BTreeSet<_>>().len() as u64,
        levels: (0..=query.depth).map(level).collect(),
        nodes: nodes.iter().map(node).collect(),
        edges,
    }
}

/// What flows into a node flows out of it or ends there, and nothing is lost at a level.
fn assert_conserved(answer: &PathsAnswer) {
    let sum =
        |edges: &mut dyn Iterator<Item = &PathEdge>| edges.map(|edge| edge.count).sum::<u64>();
    for (place, node) in answer.nodes.iter().enumerate() {
        let into = sum(&mut answer.edges.iter().filter(|edge| edge.to == place));
        let out = sum(&mut answer.edges.iter().filter(|edge| edge.from == place));
        assert!(node.level == 0 || into == node.count, "{node:?} {into}");
        assert_eq!(out, node.count - node.ended.unwrap_or(node.count), "{node:?}");
        assert!(node.users <= node.count && node.users <= answer.users, "{node:?}");
    }
    assert!(
        answer.edges.iter().all(|e| answer.nodes[e.from].level + 1 == answer.nodes[e.to].level)
    );
    for (level, pair) in answer.levels.windows(2).enumerate() {
        assert_eq!(pair[0].paths - pair[0].ended.unwrap(), pair[1].paths, "{level}");
    }
}

fn anchor() -> impl Strategy<Value = EventMatch> {
    let types = proptest::sample::subsequence(TYPES, 0..=2);
    let filters = prop_oneof![
        3 => Just(Vec::new()),
        1 => filter().prop_map(|filter| vec![filter]),
    ];
    (types, filters).prop_map(|(types, filters)| EventMatch {
        event_types: types.into_iter().map(str::to_owned).collect(),
        filters,
    })
}

prop_compose! {
    fn questions()(
        selection in selection(),
        anchor in anchor(),
        direction in select(&[Direction::After, Direction::Before]),
        depth in 1..=limits::PATH_DEPTH,
        // Fields with few values, so that there are repeats, and any.
        step in prop_oneof![
            2 => select(&["event_type", "page_url", "plan"]).prop_map(Field::from_name),
            1 => field(),
        ],
        limit in prop_oneof![3 => 1_usize..4, 1 => Just(limits::PATH_NODES)],
        gap in proptest::option::of((1_i64..12, -1_i64..=1).prop_map(|(n, off)| n * 750_000 + off)),
        repeats in select(&[Repeats::Collapsed, Repeats::Kept]),
        occurrences in select(&[Occurrences::All, Occurrences::First]),
    ) -> PathsQuery {
        PathsQuery { selection, anchor, direction, depth, step, limit, gap, repeats, occurrences }
    }
}

proptest! {
    #![proptest_config(enough_worlds(1))]
    #[test]
    fn agrees_with_the_definition(world in worlds(), query in questions()) {
        let answer = world.ask(async |service| service.paths(query.clone()).await).unwrap();
        assert_conserved(&answer);
        prop_assert_eq!(answer, expected(&world, &query));
    }
}

/// The paths from or to `x` over the types of one user's events a second apart.
fn asked() -> PathsQuery {
    PathsQuery {
        selection: all(),
        anchor: EventMatch { event_types: vec!["x".to_owned()], filters: Vec::new() },
        direction: Direction::After,
        depth: 3,
        step: Field::EventType,
        limit: 10,
        gap: None,
        repeats: Repeats::Collapsed,
        occurrences: Occurrences::All,
    }
}

/// The nodes, as level, value and count, where one user makes events of these types, a letter
/// each, a second apart; a space is a second more.
fn nodes(types: &str, query: &PathsQuery) -> Vec<String> {
    let letters = types.char_indices().filter(|(_, letter)| *letter != ' ');
    let events = letters.map(|(second, letter)| Event {
        event_type: letter.to_string().into(),
        // Capital letters have no page.
        page_url: if letter.is_uppercase() { "".into() } else { letter.to_string().into() },
        ..event("u", second.to_string(), second as i64 * Timestamp::SECOND)
    });
    let world = World::of(events.collect());
    let answer = world.ask(async |service| service.paths(query.clone()).await).unwrap();
    let value = |node: &PathNode| node.value.clone().unwrap_or_else(|| "other".to_owned());
    answer.nodes.iter().map(|n| format!("{}{}{}", n.level, value(n), n.count)).collect()
}

#[test]
fn paths_overlap_and_repeats_are_one_step() {
    assert_eq!(nodes("axbcde", &asked()), ["0x1", "1b1", "2c1", "3d1"]);
    // Each anchor begins a path, and is a step of the one before.
    assert_eq!(nodes("xaxb", &asked()), ["0x2", "1a1", "1b1", "2x1", "3b1"]);
    assert_eq!(nodes("xxaab", &asked()), ["0x1", "1a1", "2b1"]);
    let kept = PathsQuery { repeats: Repeats::Kept, ..asked() };
    assert_eq!(nodes("xxaab", &kept), ["0x2", "1a1", "1x1", "2a2", "3a1", "3b1"]);
    let first = PathsQuery { occurrences: Occurrences::First, ..asked() };
    assert_eq!(nodes("xaxb", &first), ["0x1", "1a1", "2x1", "3b1"]);
}

#[test]
fn paths_may_lead_back_and_end_at_a_pause() {
    let before = PathsQuery { direction: Direction::Before, ..asked() };
    assert_eq!(nodes("abccxd", &before), ["0x1", "1c1", "2b1", "3a1"]);
    let gap = Some(2 * Timestamp::SECOND);
    assert_eq!(nodes("x a  b", &PathsQuery { gap, ..asked() }), ["0x1", "1a1"]);
    assert_eq!(nodes("a b  c x", &PathsQuery { gap, ..before }), ["0x1", "1c1"]);
    // A pause parts what would be one step.
    assert_eq!(nodes("xa  xa", &PathsQuery { gap, ..asked() }), ["0x2", "1a2"]);
}

#[test]
fn an_anchor_needs_no_value_and_the_step_it_lies_in_goes_on() {
    let anchor = EventMatch { event_types: vec!["X".to_owned()], filters: Vec::new() };
    let pages = PathsQuery { anchor, step: Field::PageUrl, ..asked() };
    assert_eq!(nodes("aXab", &pages), ["01", "1a1", "2b1"]);
    assert_eq!(nodes("aXXb", &pages), ["02", "1b2"]);
    // An event without a value is no step of another path.
    let from_a = EventMatch { event_types: vec!["a".to_owned()], filters: Vec::new() };
    assert_eq!(nodes("aXab", &PathsQuery { anchor: from_a, ..pages }), ["0a1", "1b1"]);
}

#[test]
fn what_is_beyond_the_limit_is_other() {
    let query = PathsQuery { limit: 1, depth: 1, ..asked() };
    assert_eq!(nodes("xaxbxaxc", &query), ["0x4", "1a2", "1other2"]);
}

#[test]
fn senseless_and_too_large_questions_are_refused() {
    let refused = |query: PathsQuery| {
        let answer = World::default().ask(async |service| service.paths(query.clone()).await);
        answer.unwrap_err().to_string()
    };
    for depth in [0, 6] {
        assert_eq!(refused(PathsQuery { depth, ..asked() }), "`depth` must be from 1 to 5");
    }
    for limit in [0, 101] {
        assert_eq!(refused(PathsQuery { limit, ..asked() }), "`limit` must be from 1 to 100");
    }
    let gap = Some(0);
    assert_eq!(refused(PathsQuery { gap, ..asked() }), "`gap` must be longer than 0");
    assert!(check_size(limits::PATH_VALUES).is_ok());
    let error = check_size(limits::PATH_VALUES + 1).unwrap_err().to_string();
    assert!(error.starts_with("`step` has more than 1000000 different values"));
    let counts = |values: usize| -> Counts {
        (0..values).map(|value| (value.to_string(), [1; LEVELS])).collect()
    };
    assert!(CountFold::check(&counts(limits::PATH_VALUES / LEVELS)).is_ok());
    assert!(CountFold::check(&counts(limits::PATH_VALUES / LEVELS + 1)).is_err());
}
