//! Steps in order, when exclusions or the events of a way matter.
//!
//! As in the plain funnel, the newest way to each step is kept, here with all its events. Two ways
//! to a step can be joined into one that has the later of both events at every step; if either may
//! go on past an exclusion, so may the joined one, because it is the last to enter what the
//! exclusion covers. So there is always one newest way.

use std::ops::ControlFlow;

use super::journey::Journey;
use super::moment::{bits, each_moment};
use super::trails::Trails;
use super::{Climb, Rules};

pub(super) struct Traced {
    rules: Rules,
    trails: Trails,
}

impl Traced {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, trails: Trails::default() }
    }
}

impl Climb for Traced {
    fn climb(&mut self, times: &[i64], sets: &[u32], journey: &mut Journey) {
        let Self { rules, trails } = self;
        let (steps, exclusions) = (rules.step_bits(), rules.exclusion_bits());
        trails.clear();
        each_moment(times, sets, steps | exclusions, |moment| {
            for step in bits(moment.matched & steps) {
                trails.go_on(step, moment.rows[step], times, rules, journey);
            }
            if journey.level == rules.steps {
                return ControlFlow::Break(());
            }
            trails.exclude(moment.matched & exclusions, moment.time, times, rules);
            ControlFlow::Continue(())
        });
    }
}
