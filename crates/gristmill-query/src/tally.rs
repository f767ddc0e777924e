//! Counts of events and of distinct users per slot, in an array.
//!
//! Users come one after another, so a slot has met the current user exactly if it was the last
//! one it met: distinct users are counted without a set.

use std::ops::Range;

/// Counts of events in a few slots, each in several lanes: events that follow each other are often of
/// one slot, and adding to a number again and again waits for the memory each time.
pub(crate) struct FewCounts([[u32; FewCounts::SLOTS]; FewCounts::LANES]);

impl FewCounts {
    /// As many slots as a number has bits.
    pub(crate) const SLOTS: usize = u64::BITS as usize;
    const LANES: usize = 4;

    pub(crate) fn new() -> Self {
        Self([[0; Self::SLOTS]; Self::LANES])
    }

    /// Adds to what a row's slot has counted.
    #[inline]
    pub(crate) fn add(&mut self, row: usize, slot: usize, count: u32) {
        self.0[row % Self::LANES][slot % Self::SLOTS] += count;
    }

    /// What was counted in each slot.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let sum = |slot: usize| self.0.iter().map(|lane| u64::from(lane[slot])).sum();
        (0..Self::SLOTS).map(move |slot| (slot, sum(slot))).filter(|(_, sum)| *sum > 0)
    }
}

/// Counts per slot.
#[derive(Default)]
pub(crate) struct Tally {
    cells: Vec<Cell>,
    user: u32,
    used: usize,
}

/// Makes room for values below `to`.
pub(crate) fn grow<T: Clone + Default>(values: &mut Vec<T>, to: usize) {
    if values.len() < to {
        values.resize(to, T::default());
    }
}

/// What one slot counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cell {
    /// Events.
    pub(crate) count: u64,
    /// Distinct users who made them.
    pub(crate) users: u32,
    latest_user: u32,
}

impl Tally {
    /// The slot of a dictionary code; slot 0 is that of the absent value.
    pub(crate) fn slot(code: u32) -> usize {
        code.wrapping_add(1) as usize
    }

    /// The code that a slot is of.
    pub(crate) fn code(slot: usize) -> u32 {
        (slot as u32).wrapping_sub(1)
    }

    /// Begins the next user.
    pub(crate) fn next_user(&mut self) {
        self.user += 1;
    }

    /// Makes room for slots below `slots`.
    pub(crate) fn grow(&mut self, slots: usize) {
        grow(&mut self.cells, slots);
    }

    /// Counts an event of the current user. There must be room for the slot.
    pub(crate) fn add(&mut self, slot: usize) {
        self.add_many(slot, 1);
    }

    /// Counts several events of the current user. There must be room for the slot.
    pub(crate) fn add_many(&mut self, slot: usize, count: usize) {
        // Whether the user is new to the slot can hardly be foretold, so nothing branches on that.
        let cell = &mut self.cells[slot];
        cell.count += count as u64;
        cell.users += u32::from(cell.latest_user != self.user);
        self.used += usize::from(cell.latest_user == 0);
        cell.latest_user = self.user;
    }

    /// Counts events of a slot whose users are counted by [`meet`](Self::meet).
    pub(crate) fn add_events(&mut self, slot: usize, count: u64) {
        self.cells[slot].count += count;
    }

    /// Counts the current user in slots, one bit each. There must be room for the slots.
    pub(crate) fn meet(&mut self, mut slots: u64) {
        while slots != 0 {
            let cell = &mut self.cells[slots.trailing_zeros() as usize];
            cell.users += 1;
            self.used += usize::from(cell.latest_user == 0);
            cell.latest_user = self.user;
            slots &= slots - 1;
        }
    }

    /// How many slots have counted anything.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// What the slots of a range have counted. There must be room for them.
    pub(crate) fn range(&self, slots: Range<usize>) -> &[Cell] {
        &self.cells[slots]
    }

    /// What a slot has counted, if there is room for it.
    pub(crate) fn cell(&self, slot: usize) -> Option<&Cell> {
        self.cells.get(slot)
    }

    /// The slots that have counted anything, in order.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, Cell)> + '_ {
        self.cells.iter().copied().enumerate().filter(|(_, cell)| cell.count > 0)
    }
}
