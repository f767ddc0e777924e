//! What is known of events after their conditions were worked out.

use std::ops::Range;

use crate::select::SELECTED;

/// Which events keep a bit.
#[derive(Clone, Copy)]
pub(crate) struct Marked<'a> {
    /// The bits of each event; none if all keep all.
    sets: &'a [u32],
    bit: u32,
}

impl<'a> Marked<'a> {
    /// Those of these events that keep a bit. No bits mean that all events keep all.
    pub(crate) fn new(sets: &'a [u32], bit: u32) -> Self {
        Self { sets, bit }
    }

    /// Which keep another one.
    pub(crate) fn of_bit(self, bit: u32) -> Self {
        Self { bit, ..self }
    }

    /// Whether it is known that all do.
    pub(crate) fn are_all(&self) -> bool {
        self.sets.is_empty()
    }

    /// How many of some events do.
    pub(crate) fn count(&self, rows: Range<usize>) -> usize {
        match self.sets.get(rows.clone()) {
            Some(sets) => sets.iter().filter(|set| **set & self.bit != 0).count(),
            None => rows.len(),
        }
    }

    /// Counts up: how many do of the events before each, and in the end of all; nothing if all do.
    pub(crate) fn count_up(&self, counts: &mut Vec<u32>) {
        counts.clear();
        if self.are_all() {
            return;
        }
        let mut count = 0;
        counts.push(count);
        counts.extend(self.sets.iter().map(|set| {
            count += u32::from(set & self.bit != 0);
            count
        }));
    }

    /// Whether an event does.
    pub(crate) fn has(&self, row: usize) -> bool {
        self.sets.get(row).is_none_or(|set| set & self.bit != 0)
    }
}

/// Times, and the bits that each keeps.
pub(crate) struct Moments<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) sets: &'a [u32],
}

impl Moments<'_> {
    /// Calls `each` with the times of some moments that the selection keeps, in order.
    pub(crate) fn for_each(&self, moments: Range<usize>, mut each: impl FnMut(i64)) {
        for (time, set) in self.times[moments.clone()].iter().zip(&self.sets[moments]) {
            if set & SELECTED != 0 {
                each(*time);
            }
        }
    }
}
