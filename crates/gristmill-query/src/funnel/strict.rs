//! Steps in order with nothing in between: each event is the user's next selected one.
//!
//! This is what product analytics calls strict order. ClickHouse's `strict_order` is less strict:
//! it sees events that match some step only, so that others may lie between.

use super::journey::Journey;
use super::trails::Trails;
use super::{Climb, Rules};
use crate::select::SELECTED;

pub(super) struct Strict {
    rules: Rules,
    trails: Trails,
}

impl Strict {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, trails: Trails::default() }
    }
}

impl Climb for Strict {
    fn climb(&mut self, times: &[i64], sets: &[u32], journey: &mut Journey) {
        let Self { rules, trails } = self;
        let (steps, exclusions) = (rules.step_bits(), rules.exclusion_bits());
        trails.clear();
        let (mut moment, mut excluded) = (i64::MIN, 0);
        for (row, (time, set)) in times.iter().zip(sets).enumerate() {
            if set & SELECTED == 0 {
                continue;
            }
            if *time != moment {
                trails.exclude(excluded, moment, times, rules);
                (moment, excluded) = (*time, 0);
            }
            excluded |= set & exclusions;
            // Higher steps first, while the ways to the lower ones still end at the event before.
            let mut next = ((trails.open() << 1) | 1) & set & steps;
            let mut reached = 0;
            while next != 0 {
                let step = next.ilog2() as usize;
                next &= !(1 << step);
                reached |= trails.go_on(step, row as u32, times, rules, journey);
            }
            if journey.level == rules.steps {
                return;
            }
            trails.keep(reached);
        }
    }
}
