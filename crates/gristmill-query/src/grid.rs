//! Places for the cells (group, bucket) of a series in one array.
//!
//! Most groups fill few buckets, so a group gets its cells in pages of adjoining buckets when it
//! first needs them.

use std::ops::Range;

/// How many adjoining buckets a group gets cells for at once.
pub(crate) const PAGE: usize = 32;
const NONE: u32 = u32::MAX;

/// Where the cells of each group lie.
pub(crate) struct Grid {
    pages_per_row: usize,
    /// The row of each group's slot.
    row_of: Vec<u32>,
    /// The slot of each row.
    rows: Vec<usize>,
    /// The page for each row's buckets.
    page_of: Vec<u32>,
    pages: usize,
}

impl Grid {
    /// An empty grid of so many buckets.
    pub(crate) fn new(buckets: usize) -> Self {
        Self {
            pages_per_row: buckets.div_ceil(PAGE),
            row_of: Vec::new(),
            rows: Vec::new(),
            page_of: Vec::new(),
            pages: 0,
        }
    }

    /// The same for the one group of slot 0, in which each bucket has the cell of its number.
    pub(crate) fn of_one_group(buckets: usize) -> Self {
        let mut grid = Self::new(buckets);
        for bucket in (0..buckets).step_by(PAGE) {
            grid.add_page(0, bucket);
        }
        grid
    }

    /// The cell of a bucket in the group of a slot.
    #[inline]
    pub(crate) fn cell(&mut self, slot: usize, bucket: usize) -> usize {
        let known = self.row_of.get(slot).and_then(|row| {
            let page = self.page_of.get(*row as usize * self.pages_per_row + bucket / PAGE)?;
            (*page != NONE).then_some(*page)
        });
        let page = known.unwrap_or_else(|| self.add_page(slot, bucket));
        page as usize * PAGE + bucket % PAGE
    }

    /// Adds a page for a bucket of a group.
    #[cold]
    fn add_page(&mut self, slot: usize, bucket: usize) -> u32 {
        if self.row_of.len() <= slot {
            self.row_of.resize(slot + 1, NONE);
        }
        if self.row_of[slot] == NONE {
            self.row_of[slot] = self.rows.len() as u32;
            self.rows.push(slot);
            self.page_of.resize(self.rows.len() * self.pages_per_row, NONE);
        }
        let row = self.row_of[slot] as usize;
        self.page_of[row * self.pages_per_row + bucket / PAGE] = self.pages as u32;
        self.pages += 1;
        self.pages as u32 - 1
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> usize {
        self.pages * PAGE
    }

    /// How many groups there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// All pages: the slot of the group, the first bucket, and the cells from that bucket on.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (usize, usize, Range<usize>)> + '_ {
        self.page_of.iter().enumerate().filter(|(_, page)| **page != NONE).map(|(index, page)| {
            let slot = self.rows[index / self.pages_per_row];
            let first_cell = *page as usize * PAGE;
            (slot, index % self.pages_per_row * PAGE, first_cell..first_cell + PAGE)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_group_and_bucket_has_a_cell_of_its_own(
            buckets in 1..200_usize,
            asked in proptest::collection::vec((0..9_usize, 0..200_usize), 0..200),
        ) {
            let mut grid = Grid::new(buckets);
            let mut cells = HashMap::new();
            for (slot, bucket) in asked {
                let bucket = bucket % buckets;
                let cell = grid.cell(slot, bucket);
                prop_assert!(cell < grid.cells());
                prop_assert_eq!(*cells.entry((slot, bucket)).or_insert(cell), cell);
            }
            let mut one_group = Grid::of_one_group(buckets);
            prop_assert!((0..buckets).all(|bucket| one_group.cell(0, bucket) == bucket));
            let mut listed = HashMap::new();
            for (slot, first_bucket, page) in grid.pages() {
                listed.extend((first_bucket..).zip(page).map(|(bucket, cell)| ((slot, bucket), cell)));
            }
            prop_assert!(cells.iter().all(|(place, cell)| listed.get(place) == Some(cell)));
            prop_assert_eq!(listed.len(), grid.cells());
        }
    }
}
