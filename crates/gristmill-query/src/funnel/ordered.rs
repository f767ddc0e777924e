//! Steps in order, when only the times of a way's first and last event are asked for: the plain
//! funnel, and the quickest.
//!
//! A user reaches step k if there are events e1 … ek, in order of time and not necessarily
//! distinct, each matching its step, with ek at most the window after e1 and each at most the
//! step timeout after the one before. Of all such ways to a step only the newest matters: it
//! began last and moved last, so if it cannot go on, no older one can. One pass therefore keeps
//! one way per step. Events of one moment are taken together, lower steps first, so that equal
//! times count as order.

use gristmill_model::limits;

use super::journey::Journey;
use super::{Climb, Rules};

pub(super) struct Ordered {
    rules: Rules,
}

impl Ordered {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules }
    }
}

impl Climb for Ordered {
    fn climb(&mut self, times: &[i64], sets: &[u32], journey: &mut Journey) {
        let rules = &self.rules;
        let steps = rules.step_bits();
        let mut ways = Ways::default();
        let (mut moment, mut matched) = (i64::MIN, 0);
        for (time, set) in times.iter().zip(sets) {
            if set & steps == 0 {
                continue;
            }
            if *time != moment {
                ways.take(moment, matched, rules, journey);
                if journey.level == rules.steps {
                    return;
                }
                (moment, matched) = (*time, 0);
            }
            matched |= set & steps;
        }
        ways.take(moment, matched, rules, journey);
    }
}

/// The newest way to each step.
#[derive(Default)]
struct Ways([Way; limits::FUNNEL_STEPS]);

/// The times of a way's first and last event.
#[derive(Clone, Copy, Default)]
struct Way {
    first: i64,
    last: i64,
}

impl Ways {
    /// Takes the steps that are matched at `time`, one bit each.
    fn take(&mut self, time: i64, mut matched: u32, rules: &Rules, journey: &mut Journey) {
        while matched != 0 {
            let step = matched.trailing_zeros() as usize;
            matched &= matched - 1;
            if step > journey.level {
                return;
            }
            let before = match step {
                0 => Way { first: time, last: time },
                _ => self.0[step - 1],
            };
            if time - before.first > rules.window || time - before.last > rules.step_timeout {
                continue;
            }
            self.0[step] = Way { first: before.first, last: time };
            if step == journey.level {
                journey.reach(time - before.last, time - before.first);
            }
        }
    }
}
