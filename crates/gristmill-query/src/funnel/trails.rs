//! The newest way to each step with all its events, for steps in order.

use gristmill_model::limits;

use super::Rules;
use super::journey::Journey;

/// One way per step at most.
#[derive(Default)]
pub(super) struct Trails {
    /// The rows of each way's events.
    rows: [[u32; limits::FUNNEL_STEPS]; limits::FUNNEL_STEPS],
    /// The steps to which there is a way that may go on, one bit each.
    open: u32,
}

impl Trails {
    /// Begins the next user.
    pub(super) fn clear(&mut self) {
        self.open = 0;
    }

    /// The steps to which there is a way, one bit each.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Gives up the ways to all steps but these.
    pub(super) fn keep(&mut self, steps: u32) {
        self.open &= steps;
    }

    /// Goes on from the step before to `step` with the event of a row, or begins there. Tells
    /// the journey if it is the first to come there. Gives the bit of the step, or 0 if no way
    /// can go on.
    pub(super) fn go_on(
        &mut self,
        step: usize,
        row: u32,
        times: &[i64],
        rules: &Rules,
        journey: &mut Journey,
    ) -> u32 {
        let time = times[row as usize];
        let (mut first, mut last) = (time, time);
        if step > 0 {
            if self.open & (1 << (step - 1)) == 0 {
                return 0;
            }
            let before = self.rows[step - 1];
            (first, last) = (times[before[0] as usize], times[before[step - 1] as usize]);
            if time - first > rules.window || time - last > rules.step_timeout {
                return 0;
            }
            self.rows[step] = before;
        }
        self.rows[step][step] = row;
        self.open |= 1 << step;
        if step == journey.level {
            journey.reach(time - last, time - first);
            journey.way.ascend(&self.rows[step][..=step]);
        }
        1 << step
    }

    /// Gives up the ways that the exclusions among the bits of a moment break. Nothing of the
    /// moment itself is broken, so it must be over.
    pub(super) fn exclude(&mut self, bits: u32, moment: i64, times: &[i64], rules: &Rules) {
        for exclusion in rules.exclusions.iter().filter(|exclusion| bits & exclusion.bit != 0) {
            for step in exclusion.steps.clone() {
                let is_open = self.open & (1 << step) != 0;
                let since = self.rows[step][exclusion.steps.start];
                if is_open && times[since as usize] < moment {
                    self.open &= !(1 << step);
                }
            }
        }
    }
}
