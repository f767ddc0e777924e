//! What one user did.

use gristmill_model::{Attribution, Micros, limits};
use gristmill_store::ABSENT;

use super::Column;

/// The row of no event.
const NONE: u32 = u32::MAX;

/// How far one user came.
pub(super) struct Journey {
    /// How many steps the user reached. What follows means something below it only.
    pub(super) level: usize,
    /// For each step the time from the one before, on the way that counts for it.
    pub(super) waits: [Micros; limits::FUNNEL_STEPS],
    /// The time from the first event of the user's way to the last.
    pub(super) span: Micros,
    /// The user's way, where it is asked for.
    pub(super) way: Way,
}

/// The rows of a way's events.
pub(super) struct Way {
    first: u32,
    last: u32,
    of_step: [u32; limits::FUNNEL_STEPS],
}

impl Default for Journey {
    fn default() -> Self {
        let way = Way { first: NONE, last: NONE, of_step: [NONE; limits::FUNNEL_STEPS] };
        Self { level: 0, waits: [0; limits::FUNNEL_STEPS], span: 0, way }
    }
}

impl Journey {
    /// The next step is reached.
    pub(super) fn reach(&mut self, wait: Micros, span: Micros) {
        self.waits[self.level] = wait;
        self.span = span;
        self.level += 1;
    }
}

impl Way {
    /// A way through steps in order.
    pub(super) fn ascend(&mut self, rows: &[u32]) {
        self.of_step.fill(NONE);
        self.of_step[..rows.len()].copy_from_slice(rows);
        self.first = rows.first().copied().unwrap_or(NONE);
        self.last = rows.last().copied().unwrap_or(NONE);
    }

    /// A way through these steps and rows; times ascend with rows.
    pub(super) fn wander(&mut self, events: impl Iterator<Item = (usize, u32)>) {
        self.of_step.fill(NONE);
        (self.first, self.last) = (NONE, 0);
        for (step, row) in events {
            self.of_step[step] = row;
            self.first = self.first.min(row);
            self.last = self.last.max(row);
        }
    }

    /// The code of the value that the way has, given all columns of its user.
    pub(super) fn code(&self, column: Column, columns: &[&[u32]]) -> u32 {
        let row = match column.attribution {
            Attribution::First => self.first,
            Attribution::Last => self.last,
            Attribution::Step(step) => self.of_step[step - 1],
        };
        columns[column.column].get(row as usize).copied().unwrap_or(ABSENT)
    }
}
