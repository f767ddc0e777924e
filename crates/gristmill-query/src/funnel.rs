//! How far users came through steps in order: ClickHouse's `windowFunnel` in its default mode.
//!
//! A user reaches step k if there are events e1 … ek, in order of time and not necessarily
//! distinct, each matching its step, with ek at most the window after e1 and each at most the
//! step timeout after the one before. Of all such ways to a step only the newest matters: it
//! began last and moved last, so if it cannot go on, no older one can. One pass therefore keeps
//! one way per step. Events of one moment are taken together, lower steps first, so that equal
//! times count as order.

use gristmill_model::{
    Field, Filter, FunnelAnswer, FunnelQuery, FunnelStep, FunnelStepAnswer, Micros, limits,
};
use gristmill_store::{Dictionary, UserRun};

use crate::QueryError;
use crate::fold::{UserFold, View};
use crate::select::{Matcher, Plan, SELECTED};

pub(crate) async fn answer(view: &View, query: &FunnelQuery) -> Result<FunnelAnswer, QueryError> {
    check(query)?;
    let mut plan = Plan::new(&query.selection)?;
    for (bit, step) in query.steps.iter().enumerate() {
        let kind = Filter::equals(Field::EventType, step.event_type.clone());
        plan.keep(FIRST_STEP << bit, &kind)?;
        step.filters.iter().try_for_each(|filter| plan.keep(FIRST_STEP << bit, filter))?;
    }
    let start = || FunnelFold {
        matcher: plan.matcher.clone(),
        rules: Rules {
            steps: query.steps.len(),
            window: query.window,
            step_timeout: query.step_timeout.unwrap_or(Micros::MAX),
        },
        counts: Counts::default(),
    };
    let counts = view.fold(&plan, start).await?;
    let step = |(index, step): (usize, &FunnelStep)| {
        let Step { users, waited } = counts.steps[index];
        let mean = (index > 0 && users > 0).then(|| (waited / i128::from(users)) as Micros);
        FunnelStepAnswer { name: step.name.clone(), users, mean_time_to_convert: mean }
    };
    let steps = query.steps.iter().enumerate().map(step).collect();
    Ok(FunnelAnswer { steps, total_users: counts.total_users })
}

fn check(query: &FunnelQuery) -> Result<(), QueryError> {
    let most = limits::FUNNEL_STEPS;
    let wrong = if !(2..=most).contains(&query.steps.len()) {
        format!("`steps` must be from 2 to {most}")
    } else if query.window <= 0 {
        "`window` must be longer than 0".to_owned()
    } else if query.step_timeout.is_some_and(|timeout| timeout <= 0) {
        "`step_timeout` must be longer than 0".to_owned()
    } else {
        return Ok(());
    };
    Err(QueryError::Invalid(wrong))
}

/// The bit of the first step; the others follow.
const FIRST_STEP: u32 = 1;

struct FunnelFold {
    matcher: Matcher,
    rules: Rules,
    counts: Counts,
}

struct Rules {
    steps: usize,
    window: Micros,
    step_timeout: Micros,
}

#[derive(Default)]
struct Counts {
    total_users: u64,
    steps: [Step; limits::FUNNEL_STEPS],
}

/// Who reached a step.
#[derive(Clone, Copy, Default)]
struct Step {
    users: u64,
    /// The sum of the users' times from the step before, when each first reached this one.
    waited: i128,
}

/// The newest way to a step: the times of its first and its last event.
#[derive(Clone, Copy, Default)]
struct Way {
    first: i64,
    last: i64,
}

impl UserFold for FunnelFold {
    type Partial = Counts;

    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { matcher, rules, counts } = self;
        let sets = matcher.sets(run);
        let kept = sets.iter().fold(0, |all, set| all | set);
        counts.total_users += u64::from(kept & SELECTED != 0);
        if kept & FIRST_STEP == 0 {
            return Ok(());
        }
        let steps = (1 << rules.steps) - 1;
        let mut climb = Climb::default();
        let (mut moment, mut matched) = (i64::MIN, 0);
        for (time, set) in run.times.iter().zip(sets) {
            if set & steps == 0 {
                continue;
            }
            if *time != moment {
                climb.take(moment, matched, rules, counts);
                if climb.reached == rules.steps {
                    return Ok(());
                }
                (moment, matched) = (*time, 0);
            }
            matched |= set & steps;
        }
        climb.take(moment, matched, rules, counts);
        Ok(())
    }

    fn finish(self, _dictionaries: &[Dictionary]) -> Counts {
        self.counts
    }

    fn merge(into: &mut Counts, other: Counts) {
        into.total_users += other.total_users;
        for (into, other) in into.steps.iter_mut().zip(other.steps) {
            into.users += other.users;
            into.waited += other.waited;
        }
    }
}

/// One user's way up.
#[derive(Default)]
struct Climb {
    ways: [Way; limits::FUNNEL_STEPS],
    reached: usize,
}

impl Climb {
    /// Takes the steps that are matched at `time`, one bit each.
    fn take(&mut self, time: i64, mut matched: u32, rules: &Rules, counts: &mut Counts) {
        while matched != 0 {
            let step = matched.trailing_zeros() as usize;
            matched &= matched - 1;
            if step > self.reached {
                return;
            }
            let before = match step {
                0 => Way { first: time, last: time },
                _ => self.ways[step - 1],
            };
            if time - before.first > rules.window || time - before.last > rules.step_timeout {
                continue;
            }
            self.ways[step] = Way { first: before.first, last: time };
            if step == self.reached {
                self.reached += 1;
                counts.steps[step].users += 1;
                counts.steps[step].waited += i128::from(time - before.last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use gristmill_model::Event;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{TYPES, World, all, event, filter, holds, selection, worlds};

    fn matches(event: &Event<'_>, step: &FunnelStep) -> bool {
        let filters = &step.filters;
        event.event_type == step.event_type && filters.iter().all(|filter| holds(event, filter))
    }

    /// All ways to each step by the definition, as (first, last), one set per step.
    fn ways(events: &[&Event<'_>], query: &FunnelQuery) -> Vec<BTreeSet<(i64, i64)>> {
        let times = |step: &FunnelStep| {
            let matching = events.iter().filter(|event| matches(event, step));
            matching.map(|event| event.time.0).collect::<Vec<_>>()
        };
        let timeout = query.step_timeout.unwrap_or(Micros::MAX);
        let mut steps = query.steps.iter();
        let first = times(steps.next().unwrap()).into_iter().map(|time| (time, time)).collect();
        let mut ways: Vec<BTreeSet<(i64, i64)>> = vec![first];
        for step in steps {
            let mut longer = BTreeSet::new();
            for (first, last) in ways.last().unwrap() {
                for time in times(step) {
                    if time >= *last && time - last <= timeout && time - first <= query.window {
                        longer.insert((*first, time));
                    }
                }
            }
            ways.push(longer);
        }
        ways
    }

    /// How long a user waited for each step reached, when it was first reached.
    fn waits(events: &[&Event<'_>], query: &FunnelQuery) -> Vec<i64> {
        let ways = ways(events, query);
        let arrival = |ways: &BTreeSet<(i64, i64)>| ways.iter().map(|way| way.1).min();
        let mut waits: Vec<i64> = arrival(&ways[0]).map(|_| 0).into_iter().collect();
        for pair in ways.windows(2) {
            if let Some(arrival) = arrival(&pair[1]) {
                let before = pair[0].iter().map(|way| way.1).filter(|last| *last <= arrival).max();
                waits.push(arrival - before.unwrap());
            }
        }
        waits
    }

    fn expected(world: &World, query: &FunnelQuery) -> FunnelAnswer {
        let mut users: BTreeMap<&str, Vec<&Event<'_>>> = BTreeMap::new();
        for event in world.selected(&query.selection) {
            users.entry(event.user.as_str()).or_default().push(event);
        }
        let waits: Vec<Vec<i64>> = users.values().map(|events| waits(events, query)).collect();
        let step = |(index, step): (usize, &FunnelStep)| {
            let waits: Vec<i64> =
                waits.iter().filter_map(|waits| waits.get(index).copied()).collect();
            let users = waits.len() as i64;
            FunnelStepAnswer {
                name: step.name.clone(),
                users: users as u64,
                mean_time_to_convert: (index > 0 && users > 0)
                    .then(|| waits.iter().sum::<i64>() / users),
            }
        };
        let steps = query.steps.iter().enumerate().map(step).collect();
        FunnelAnswer { steps, total_users: users.len() as u64 }
    }

    fn step() -> impl Strategy<Value = FunnelStep> {
        let filters = prop_oneof![
            3 => Just(Vec::new()),
            1 => filter().prop_map(|filter| vec![filter]),
        ];
        (proptest::sample::select(TYPES), filters).prop_map(|(event_type, filters)| FunnelStep {
            name: event_type.to_owned(),
            event_type: event_type.to_owned(),
            filters,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn agrees_with_the_definition(
            world in worlds(),
            selection in selection(),
            steps in proptest::collection::vec(step(), 2..5),
            window in 1_i64..40_000_000,
            step_timeout in proptest::option::of(1_i64..10_000_000),
        ) {
            let query = FunnelQuery { selection, steps, window, step_timeout };
            let answer = world.ask(async |service| service.funnel(query.clone()).await);
            prop_assert_eq!(answer.unwrap(), expected(&world, &query));
        }
    }

    /// How many users reach each step with these (type, time) of one user.
    fn levels(events: &[(&'static str, i64)], window: Micros, steps: &[&str]) -> Vec<u64> {
        let ids: Vec<String> = (0..events.len()).map(|id| id.to_string()).collect();
        let events = events.iter().zip(ids).map(|((kind, time), id)| Event {
            event_type: (*kind).into(),
            ..event("u", id, *time)
        });
        let world = World::of(events.collect());
        let step = |name: &&str| FunnelStep {
            name: (*name).to_owned(),
            event_type: (*name).to_owned(),
            filters: Vec::new(),
        };
        let steps = steps.iter().map(step).collect();
        let query = FunnelQuery { selection: all(), steps, window, step_timeout: None };
        let answer = world.ask(async |service| service.funnel(query.clone()).await).unwrap();
        answer.steps.iter().map(|step| step.users).collect()
    }

    #[test]
    fn ties_repeats_and_restarts_follow_window_funnel() {
        let abc = ["a", "b", "c"];
        // Equal times count as order, whatever the order of arrival.
        assert_eq!(levels(&[("c", 5), ("b", 5), ("a", 5)], 1, &abc), [1, 1, 1]);
        // The window is inclusive and measured from the first step.
        assert_eq!(levels(&[("a", 0), ("b", 5), ("c", 10)], 10, &abc), [1, 1, 1]);
        assert_eq!(levels(&[("a", 0), ("b", 5), ("c", 11)], 10, &abc), [1, 1, 0]);
        // A later first step starts over, and the older way is not lost meanwhile.
        assert_eq!(levels(&[("a", 0), ("a", 8), ("b", 9), ("c", 12)], 5, &abc), [1, 1, 1]);
        assert_eq!(levels(&[("a", 0), ("b", 1), ("a", 8), ("c", 9)], 10, &abc), [1, 1, 1]);
        // One event may satisfy several steps; order matters.
        assert_eq!(levels(&[("a", 0)], 10, &["a", "a", "a"]), [1, 1, 1]);
        assert_eq!(levels(&[("b", 0), ("a", 1)], 10, &abc), [1, 0, 0]);
    }

    #[test]
    fn senseless_funnels_are_refused() {
        let step = FunnelStep { name: "a".into(), event_type: "a".into(), filters: Vec::new() };
        let ask = |steps, window, step_timeout| {
            let steps = vec![step.clone(); steps];
            let query = FunnelQuery { selection: all(), steps, window, step_timeout };
            let answer = World::default().ask(async |service| service.funnel(query.clone()).await);
            answer.map_err(|error| error.to_string())
        };
        assert_eq!(ask(1, 1, None).unwrap_err(), "`steps` must be from 2 to 20");
        assert_eq!(ask(21, 1, None).unwrap_err(), "`steps` must be from 2 to 20");
        assert_eq!(ask(2, 0, None).unwrap_err(), "`window` must be longer than 0");
        assert_eq!(ask(2, 1, Some(0)).unwrap_err(), "`step_timeout` must be longer than 0");
        assert!(ask(20, 1, Some(1)).is_ok());
    }
}
