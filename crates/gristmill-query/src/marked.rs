//! What is known of events after their conditions were worked out.

use std::ops::Range;

use crate::select::SELECTED;

/// Which events keep a bit.
#[derive(Clone, Copy)]
pub(crate) struct Marked<'a> {
    /// The bits of each event; none if all keep all.
    sets: &'a [u32],
    bit: u32,
    /// How many events each row is; none if each is one.
    counts: &'a [u32],
}

impl<'a> Marked<'a> {
    /// Those of these events that keep a bit, given how many each row is. No bits mean that all keep
    /// all, no counts that each row is one event.
    pub(crate) fn new(sets: &'a [u32], bit: u32, counts: &'a [u32]) -> Self {
        Self { sets, bit, counts }
    }

    /// Which keep another one.
    pub(crate) fn of_bit(self, bit: u32) -> Self {
        Self { bit, ..self }
    }

    /// Whether it is known that all do, and that each row is one.
    pub(crate) fn are_rows(&self) -> bool {
        self.sets.is_empty() && self.counts.is_empty()
    }

    /// How many of the events of some rows do.
    pub(crate) fn count(&self, rows: Range<usize>) -> usize {
        if self.are_rows() { rows.len() } else { rows.map(|row| self.events(row) as usize).sum() }
    }

    /// Counts up: how many do of the events before each of some rows, and in the end of all; nothing
    /// if that is the number of rows.
    pub(crate) fn count_up(&self, rows: usize, counts: &mut Vec<u32>) {
        counts.clear();
        if self.are_rows() {
            return;
        }
        let mut count = 0;
        counts.push(count);
        counts.extend((0..rows).map(|row| {
            count += self.events(row);
            count
        }));
    }

    /// Whether the events of a row do.
    pub(crate) fn has(&self, row: usize) -> bool {
        self.sets.get(row).is_none_or(|set| set & self.bit != 0)
    }

    /// How many events of a row do.
    pub(crate) fn events(&self, row: usize) -> u32 {
        let count = self.counts.get(row).copied().unwrap_or(1);
        if self.has(row) { count } else { 0 }
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
