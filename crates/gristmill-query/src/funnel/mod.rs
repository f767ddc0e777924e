//! How far users came through steps: in order, strictly in order, or in any order.
//!
//! What a way is, and which way of a user counts, is defined at [`FunnelQuery`]. Each file that
//! implements [`Climb`] finds the ways of one kind in one pass over a user's events. They share
//! one thought: of all ways to a step only the newest matters, the one that has every event as
//! late as possible, because if it cannot go on no other can.

mod any_order;
mod groups;
mod journey;
mod moment;
mod ordered;
mod strict;
mod totals;
mod traced;
mod trails;
mod users;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use gristmill_model::{
    Attribution, Field, Filter, FunnelAnswer, FunnelExclusion, FunnelOrder, FunnelQuery, Micros,
    limits,
};
use gristmill_store::{Dictionaries, Ties, UserBatch, Wanted};

use self::groups::{GroupCounts, Groups};
use self::journey::Journey;
use self::totals::{Room, Totals};
use crate::QueryError;
use crate::fold::{BatchFold, Fold, PieceFold, View};
use crate::headcount::headcount;
use crate::select::{Matcher, Plan, SELECTED};

pub(crate) use self::users::answer as users;

/// The bit of the first step; the others follow.
const FIRST_STEP: u32 = 1;
/// The bit of the first exclusion; the others follow.
const FIRST_EXCLUSION: u32 = FIRST_STEP << limits::FUNNEL_STEPS;
const _: () = assert!(FIRST_EXCLUSION << limits::FUNNEL_EXCLUSIONS <= SELECTED);

pub(crate) async fn answer(view: &View, query: &FunnelQuery) -> Result<FunnelAnswer, QueryError> {
    let (plan, column) = plan(query)?;
    let room = Room::default();
    let start = || FunnelFold {
        matcher: plan.matcher.clone(),
        climber: Climber::of(query),
        totals: Totals::new(query.steps.len(), room.share()),
        groups: column.map(|column| Groups::new(column, query.steps.len())),
    };
    let counts = view.refold(&plan, (), start).await?;
    // A walk that leaves out events does not meet everybody.
    let everybody = match &plan.scan.wanted {
        Wanted::All => None,
        _ => Some(headcount(view, &query.selection).await?),
    };
    let query = query.clone();
    let mut answer = view.compute(move || counts.answer(&query)).await?;
    answer.total_users = everybody.unwrap_or(answer.total_users);
    Ok(answer)
}

/// A walk through the funnel's events, and the column of its breakdown.
fn plan(query: &FunnelQuery) -> Result<(Plan, Option<Column>), QueryError> {
    check(query)?;
    let mut plan = Plan::new(&query.selection)?;
    let mut keep = |bit: u32, event_type: &str, filters: &[Filter]| {
        plan.keep(bit, &Filter::equals(Field::EventType, event_type))?;
        filters.iter().try_for_each(|filter| plan.keep(bit, filter))
    };
    for (index, step) in query.steps.iter().enumerate() {
        keep(FIRST_STEP << index, &step.event_type, &step.filters)?;
    }
    for (index, exclusion) in query.exclusions.iter().enumerate() {
        keep(FIRST_EXCLUSION << index, &exclusion.event_type, &exclusion.filters)?;
    }
    if query.order != FunnelOrder::Strict && query.breakdown.is_none() {
        // Other events change nothing, nor does which of two at the same time comes first.
        let steps = query.steps.iter().map(|step| &step.event_type);
        let exclusions = query.exclusions.iter().map(|exclusion| &exclusion.event_type);
        let types: BTreeSet<String> = steps.chain(exclusions).cloned().collect();
        let column = plan.column(&Field::EventType);
        plan.scan.wanted = Wanted::WithText(column, types.into_iter().collect());
        plan.scan.ties = Ties::InAnyOrder;
    }
    let column = query.breakdown.as_ref().map(|breakdown| Column {
        column: plan.grouping(&breakdown.by),
        attribution: breakdown.attribution,
    });
    Ok((plan, column))
}

fn check(query: &FunnelQuery) -> Result<(), QueryError> {
    let (steps, most) = (query.steps.len(), limits::FUNNEL_STEPS);
    let wrong = if !(2..=most).contains(&steps) {
        format!("`steps` must be from 2 to {most}")
    } else if query.window <= 0 {
        "`window` must be longer than 0".to_owned()
    } else if query.step_timeout.is_some_and(|timeout| timeout <= 0) {
        "`step_timeout` must be longer than 0".to_owned()
    } else if query.order == FunnelOrder::Any && query.step_timeout.is_some() {
        "`step_timeout` needs an order: leave it out, or let `order` be ordered or strict"
            .to_owned()
    } else if let Some(wrong) = wrong_exclusion(query).or_else(|| wrong_breakdown(query)) {
        wrong
    } else {
        return Ok(());
    };
    Err(QueryError::Invalid(wrong))
}

fn wrong_exclusion(query: &FunnelQuery) -> Option<String> {
    let (exclusions, steps) = (&query.exclusions, query.steps.len());
    let most = limits::FUNNEL_EXCLUSIONS;
    if exclusions.len() > most {
        return Some(format!("`exclusions` has {} entries, more than {most}", exclusions.len()));
    }
    let whole =
        |exclusion: &FunnelExclusion| (exclusion.from_step, exclusion.to_step) == (1, steps);
    exclusions.iter().enumerate().find_map(|(index, exclusion)| {
        let FunnelExclusion { from_step, to_step, .. } = *exclusion;
        if from_step < 1 || from_step >= to_step || to_step > steps {
            Some(format!(
                "`exclusions[{index}].from_step` must be below `to_step`, and both from 1 to {steps}"
            ))
        } else if query.order == FunnelOrder::Any && !whole(exclusion) {
            Some(format!(
                "`exclusions[{index}].from_step` and `to_step` need an order: leave them out, or \
                 let `order` be ordered or strict"
            ))
        } else {
            None
        }
    })
}

fn wrong_breakdown(query: &FunnelQuery) -> Option<String> {
    let breakdown = query.breakdown.as_ref()?;
    let (steps, most) = (query.steps.len(), limits::FUNNEL_GROUPS);
    if !(1..=most).contains(&breakdown.top) {
        return Some(format!("`breakdown.top` must be from 1 to {most}"));
    }
    match breakdown.attribution {
        Attribution::Step(step) if !(1..=steps).contains(&step) => {
            Some(format!("`breakdown.step` must be from 1 to {steps}"))
        }
        _ => None,
    }
}

/// Where the value of a user's group is found.
#[derive(Clone, Copy)]
struct Column {
    column: usize,
    attribution: Attribution,
}

/// What every way must keep to.
#[derive(Clone)]
struct Rules {
    steps: usize,
    window: Micros,
    step_timeout: Micros,
    exclusions: Vec<Exclusion>,
}

/// Breaks the ways that have come to one of these steps, counted from 0.
#[derive(Clone)]
struct Exclusion {
    bit: u32,
    steps: Range<usize>,
}

impl Rules {
    fn of(query: &FunnelQuery) -> Self {
        let exclusion = |(index, exclusion): (usize, &FunnelExclusion)| Exclusion {
            bit: FIRST_EXCLUSION << index,
            steps: exclusion.from_step - 1..exclusion.to_step - 1,
        };
        Self {
            steps: query.steps.len(),
            window: query.window,
            step_timeout: query.step_timeout.unwrap_or(Micros::MAX),
            exclusions: query.exclusions.iter().enumerate().map(exclusion).collect(),
        }
    }

    /// The bits of all steps.
    fn step_bits(&self) -> u32 {
        (FIRST_STEP << self.steps) - 1
    }

    /// The bits of all exclusions.
    fn exclusion_bits(&self) -> u32 {
        self.exclusions.iter().fold(0, |bits, exclusion| bits | exclusion.bit)
    }
}

/// Finds the ways of one kind.
trait Climb: Send {
    /// Goes through one user's events, given their times and the bits that each keeps.
    fn climb(&mut self, times: &[i64], sets: &[u32], journey: &mut Journey);
}

/// Finds how far users came, one after another.
struct Climber {
    /// The bits of the steps that a way can begin with.
    entrance: u32,
    kind: Box<dyn Climb>,
    journey: Journey,
}

impl Climber {
    fn of(query: &FunnelQuery) -> Self {
        let rules = Rules::of(query);
        let entrance = match query.order {
            FunnelOrder::Any => rules.step_bits(),
            FunnelOrder::Ordered | FunnelOrder::Strict => FIRST_STEP,
        };
        let is_plain = query.exclusions.is_empty() && query.breakdown.is_none();
        let kind: Box<dyn Climb> = match query.order {
            FunnelOrder::Ordered if is_plain => Box::new(ordered::Ordered::new(rules)),
            FunnelOrder::Ordered => Box::new(traced::Traced::new(rules)),
            FunnelOrder::Strict => Box::new(strict::Strict::new(rules)),
            FunnelOrder::Any => Box::new(any_order::AnyOrder::new(rules)),
        };
        Self { entrance, kind, journey: Journey::default() }
    }

    /// How far a user came, given the times of the events and the bits that each keeps; `None` if
    /// none of them is selected.
    fn journey(&mut self, times: &[i64], sets: &[u32]) -> Option<&Journey> {
        let kept = sets.iter().fold(0, |all, set| all | set);
        if kept & SELECTED == 0 {
            return None;
        }
        self.journey.level = 0;
        if kept & self.entrance != 0 {
            self.kind.climb(times, sets, &mut self.journey);
        }
        Some(&self.journey)
    }
}

struct FunnelFold {
    matcher: Matcher,
    climber: Climber,
    totals: Totals,
    groups: Option<Groups>,
}

/// What a shard's users did.
#[derive(Clone, Default)]
struct Counts {
    totals: Totals,
    groups: GroupCounts,
}

impl Fold for FunnelFold {
    type Partial = Counts;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Counts {
        let groups = self.groups.map(|groups| groups.finish(dictionaries)).unwrap_or_default();
        Counts { totals: self.totals, groups }
    }

    fn merge(into: &mut Counts, other: Counts) {
        into.totals.merge(other.totals);
        groups::merge(&mut into.groups, other.groups);
    }

    fn check(counts: &Counts) -> Result<(), QueryError> {
        counts.totals.check()?;
        groups::check_size(counts.groups.len())
    }
}

impl BatchFold for FunnelFold {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let Self { matcher, climber, totals, groups } = self;
        let events = &batch.events;
        let sets = matcher.sets(events);
        for rows in batch.rows() {
            let times = &events.times[rows.clone()];
            let Some(journey) = climber.journey(times, &sets[rows.clone()]) else { continue };
            totals.add(journey)?;
            if let Some(groups) = groups {
                groups.add(&events.slice(rows), journey)?;
            }
        }
        Ok(())
    }
}

impl PieceFold for FunnelFold {
    type Setting = ();

    fn matcher(&mut self) -> &mut Matcher {
        &mut self.matcher
    }

    fn bytes(counts: &Counts) -> usize {
        size_of::<Counts>() + counts.totals.bytes() + groups::bytes(&counts.groups)
    }
}

impl Counts {
    fn answer(self, query: &FunnelQuery) -> FunnelAnswer {
        let breakdown = query.breakdown.as_ref();
        let groups = breakdown
            .map(|breakdown| groups::ranked(self.groups, query.steps.len(), breakdown.top));
        FunnelAnswer { groups, ..self.totals.answer(query) }
    }
}
