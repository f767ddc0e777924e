//! What a funnel should answer, by going through all ways of each user, straight from the
//! definition at [`FunnelQuery`].

use std::cmp::Reverse;
use std::collections::BTreeMap;

use gristmill_model::{
    Attribution, Event, FUNNEL_BOUNDS, Filter, FunnelAnswer, FunnelGroup, FunnelGroups,
    FunnelOrder, FunnelOther, FunnelOutcome, FunnelQuery, FunnelStepAnswer, FunnelTimes,
    FunnelUser, Micros,
};

use crate::testing::{World, holds, value_of};

/// The events of a way as their places among the user's selected events, each with its step; in
/// order of time.
type Way = Vec<(usize, usize)>;

/// What the definition says of a user.
pub(super) struct Story {
    level: usize,
    /// For each step reached but the first the time from the step before.
    waits: Vec<Micros>,
    span: Option<Micros>,
    value: Option<String>,
}

/// What the definition says of each user who has a selected event.
pub(super) fn stories<'a>(world: &'a World, query: &FunnelQuery) -> BTreeMap<&'a str, Story> {
    let mut users: BTreeMap<&str, Vec<&Event<'_>>> = BTreeMap::new();
    for event in world.selected(&query.selection) {
        users.entry(event.user.as_str()).or_default().push(event);
    }
    // The world keeps events in log order, and the sort is stable.
    users.values_mut().for_each(|events| events.sort_by_key(|event| event.time));
    let story = |events| User { world, events, query }.story();
    users.iter().map(|(user, events)| (*user, story(events))).collect()
}

struct User<'a> {
    world: &'a World,
    events: &'a [&'a Event<'a>],
    query: &'a FunnelQuery,
}

impl User<'_> {
    fn story(&self) -> Story {
        let steps = self.query.steps.len();
        let counted = (1..=steps).map_while(|length| self.counted(length)).collect::<Vec<_>>();
        let time = |(event, _): &(usize, usize)| self.time(*event);
        let wait = |way: &Way| time(&way[way.len() - 1]) - time(&way[way.len() - 2]);
        let deepest = counted.last();
        let complete = deepest.filter(|way| way.len() == steps);
        Story {
            level: counted.len(),
            waits: counted.iter().skip(1).map(wait).collect(),
            span: complete.map(|way| time(&way[steps - 1]) - time(&way[0])),
            value: deepest.and_then(|way| self.value(way)),
        }
    }

    /// The way to a step that counts for it, or to so many steps.
    fn counted(&self, length: usize) -> Option<Way> {
        let mut ways = Vec::new();
        self.extend(&mut Vec::new(), length, &mut ways);
        ways.retain(|way| self.is_open(way));
        ways.into_iter().min_by_key(|way| {
            let newest_first = way.iter().rev();
            let latest: Vec<_> = newest_first
                .map(|(event, step)| (Reverse(self.time(*event)), *event, *step))
                .collect();
            (self.time(way[way.len() - 1].0), latest)
        })
    }

    /// All ways of a length that begin like this one, whatever lies between their events.
    fn extend(&self, way: &mut Way, length: usize, found: &mut Vec<Way>) {
        if way.len() == length {
            return found.push(way.clone());
        }
        let steps = match self.query.order {
            FunnelOrder::Any => 0..self.query.steps.len(),
            FunnelOrder::Ordered | FunnelOrder::Strict => way.len()..way.len() + 1,
        };
        for step in
            steps.filter(|step| way.iter().all(|(_, done)| done != step)).collect::<Vec<_>>()
        {
            for event in 0..self.events.len() {
                if self.matches(event, step) && self.may_follow(way, (event, step)) {
                    way.push((event, step));
                    self.extend(way, length, found);
                    way.pop();
                }
            }
        }
    }

    fn may_follow(&self, way: &Way, (event, step): (usize, usize)) -> bool {
        let (Some(first), Some(last)) = (way.first(), way.last()) else { return true };
        let gap = self.time(event) - self.time(last.0);
        let timeout = self.query.step_timeout.unwrap_or(Micros::MAX);
        gap >= 0
            && gap <= timeout
            && self.time(event) - self.time(first.0) <= self.query.window
            && match self.query.order {
                FunnelOrder::Ordered => true,
                FunnelOrder::Strict => event == last.0 + 1,
                // Of the orders in which equal times can be written one is enough.
                FunnelOrder::Any => gap > 0 || (event, step) < *last,
            }
    }

    fn is_open(&self, way: &Way) -> bool {
        self.query.exclusions.iter().all(|exclusion| {
            if way.len() <= exclusion.from_step {
                return true;
            }
            let after = self.time(way[exclusion.from_step - 1].0);
            let before = self.time(way[exclusion.to_step.min(way.len()) - 1].0);
            !self.events.iter().any(|event| {
                matches(event, &exclusion.event_type, &exclusion.filters)
                    && event.time.0 > after
                    && event.time.0 < before
            })
        })
    }

    fn value(&self, way: &Way) -> Option<String> {
        let breakdown = self.query.breakdown.as_ref()?;
        let of_step = |step| way.iter().find(|(_, done)| *done + 1 == step);
        // In any order, events of one moment come as they were stored.
        let places = way.iter().map(|(event, _)| *event);
        let event = match (breakdown.attribution, self.query.order) {
            (Attribution::First, FunnelOrder::Any) => places.min(),
            (Attribution::Last, FunnelOrder::Any) => places.max(),
            (Attribution::First, _) => way.first().map(|(event, _)| *event),
            (Attribution::Last, _) => way.last().map(|(event, _)| *event),
            (Attribution::Step(step), _) => of_step(step).map(|(event, _)| *event),
        };
        value_of(self.world, self.events[event?], &breakdown.by)
    }

    fn matches(&self, event: usize, step: usize) -> bool {
        let step = &self.query.steps[step];
        matches(self.events[event], &step.event_type, &step.filters)
    }

    fn time(&self, event: usize) -> Micros {
        self.events[event].time.0
    }
}

fn matches(event: &Event<'_>, event_type: &str, filters: &[Filter]) -> bool {
    event.event_type == event_type && filters.iter().all(|filter| holds(event, filter))
}

/// The answer to a funnel.
pub(super) fn answer(world: &World, query: &FunnelQuery) -> FunnelAnswer {
    let stories = stories(world, query);
    let steps = query.steps.len();
    let step = |index: usize| FunnelStepAnswer {
        name: match query.order {
            FunnelOrder::Any => format!("{} of {steps}", index + 1),
            _ => query.steps[index].name.clone(),
        },
        users: stories.values().filter(|story| story.level > index).count() as u64,
        times: (index > 0).then(|| {
            let waits = stories.values().filter_map(|story| story.waits.get(index - 1));
            times(waits.copied().collect())
        }),
    };
    FunnelAnswer {
        steps: (0..steps).map(step).collect(),
        total_users: stories.len() as u64,
        median_time_to_convert: median(stories.values().filter_map(|story| story.span).collect()),
        groups: query.breakdown.as_ref().map(|breakdown| groups(&stories, steps, breakdown.top)),
    }
}

fn times(waits: Vec<Micros>) -> FunnelTimes {
    let mut histogram = [0; FUNNEL_BOUNDS.len() + 1];
    for wait in &waits {
        histogram[FUNNEL_BOUNDS.iter().filter(|bound| *bound <= wait).count()] += 1;
    }
    let mean = (!waits.is_empty()).then(|| waits.iter().sum::<Micros>() / waits.len() as Micros);
    FunnelTimes { mean, median: median(waits), histogram }
}

fn median(mut times: Vec<Micros>) -> Option<Micros> {
    times.sort_unstable();
    let (lower, upper) = (times.get(times.len().wrapping_sub(1) / 2)?, times[times.len() / 2]);
    Some((lower + upper) / 2)
}

fn groups(stories: &BTreeMap<&str, Story>, steps: usize, top: usize) -> FunnelGroups {
    let mut users: BTreeMap<&Option<String>, Vec<u64>> = BTreeMap::new();
    for story in stories.values().filter(|story| story.level > 0) {
        let users = users.entry(&story.value).or_insert_with(|| vec![0; steps]);
        users[..story.level].iter_mut().for_each(|users| *users += 1);
    }
    let mut groups: Vec<FunnelGroup> = users
        .into_iter()
        .map(|(value, users)| FunnelGroup { value: value.clone(), users })
        .collect();
    // The map gave them by value, and the sort is stable.
    groups.sort_by_key(|group| Reverse(group.users[0]));
    let rest = groups.split_off(top.min(groups.len()));
    let other = (!rest.is_empty()).then(|| FunnelOther {
        groups: rest.len(),
        users: (0..steps).map(|step| rest.iter().map(|group| group.users[step]).sum()).collect(),
    });
    FunnelGroups { groups, other }
}

/// All users at a step, in order.
pub(super) fn users(
    world: &World,
    query: &FunnelQuery,
    step: usize,
    outcome: FunnelOutcome,
) -> Vec<FunnelUser> {
    let is_asked_for = |story: &Story| match outcome {
        FunnelOutcome::Reached => story.level >= step,
        FunnelOutcome::Dropped => story.level == step,
    };
    let stories = stories(world, query).into_iter().filter(|(_, story)| is_asked_for(story));
    stories
        .map(|(user, Story { level, value, .. })| FunnelUser {
            user: user.to_owned(),
            level,
            value,
        })
        .collect()
}
