//! Steps in any order within the window.
//!
//! The latest event of each step is all that matters: as many steps are done within the window
//! that ends at some moment as have their latest event in it. A way may not go past an excluded
//! event, so the window begins at the last one before the moment at the earliest.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use gristmill_model::limits;

use super::journey::Journey;
use super::moment::{bits, each_moment};
use super::{Climb, Rules};

/// Before all times.
const NEVER: i64 = i64::MIN;

/// The latest event of each step: its time and its row.
type Latest = [(i64, u32); limits::FUNNEL_STEPS];

pub(super) struct AnyOrder {
    rules: Rules,
}

impl AnyOrder {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules }
    }
}

impl Climb for AnyOrder {
    fn climb(&mut self, times: &[i64], sets: &[u32], journey: &mut Journey) {
        let rules = &self.rules;
        let (steps, exclusions) = (rules.step_bits(), rules.exclusion_bits());
        let mut latest: Latest = [(NEVER, 0); limits::FUNNEL_STEPS];
        let mut barrier = NEVER + 1;
        each_moment(times, sets, steps | exclusions, |moment| {
            for step in bits(moment.matched & steps) {
                latest[step] = (moment.time, moment.rows[step]);
            }
            let since = moment.time.saturating_sub(rules.window).max(barrier);
            let level = latest.iter().filter(|(time, _)| *time >= since).count();
            if level > journey.level {
                arrive(&latest, since, moment.time, journey);
            }
            if journey.level == rules.steps {
                return ControlFlow::Break(());
            }
            if moment.matched & exclusions != 0 {
                barrier = moment.time;
            }
            ControlFlow::Continue(())
        });
    }
}

/// Tells the journey that all steps whose latest event is not before `since` are done now.
fn arrive(latest: &Latest, since: i64, now: i64, journey: &mut Journey) {
    let done = || latest.iter().enumerate().filter(move |(_, (time, _))| *time >= since);
    let level = done().count();
    let mut newest = latest.map(|(time, _)| Reverse(time));
    newest.sort_unstable();
    let span = now - newest[level - 1].0;
    for reached in journey.level..level {
        // The newest event is that of this moment; the way came from the one before.
        let wait = if reached == 0 { 0 } else { now - newest[1].0 };
        journey.reach(wait, span);
    }
    journey.way.wander(done().map(|(step, (_, row))| (step, *row)));
}
