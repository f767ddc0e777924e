//! Numbers the kinds of rows: rows of one kind are alike in all their columns.

use hashbrown::HashMap;

/// With more kinds than this, rows are hardly alike.
const MOST: usize = 1 << 18;

/// The kinds that have been met.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// For each column the kind of a row by the kind that it is in the columns before and its value.
    by_column: Vec<HashMap<(u32, u64), u32>>,
}

impl Kinds {
    /// Finds the kinds of rows, each a number below [`len`](Self::len), given the bits of their
    /// values in each column.
    pub(super) fn find<C>(&mut self, columns: impl Iterator<Item = C>, kinds: &mut [u32])
    where
        C: Iterator<Item = u64>,
    {
        kinds.fill(0);
        for (index, column) in columns.enumerate() {
            if self.by_column.len() <= index {
                self.by_column.push(HashMap::new());
            }
            refine(&mut self.by_column[index], kinds, column);
        }
    }

    /// How many kinds there are.
    pub(super) fn len(&self) -> usize {
        self.by_column.last().map_or(1, HashMap::len)
    }

    /// Whether there are so many that it is not worth to tell them apart.
    pub(super) fn are_many(&self) -> bool {
        self.by_column.iter().any(|kinds| kinds.len() > MOST)
    }
}

/// Tells rows apart by another column too.
fn refine(
    known: &mut HashMap<(u32, u64), u32>,
    kinds: &mut [u32],
    values: impl Iterator<Item = u64>,
) {
    // Rows that follow each other are often alike.
    let (mut last, mut kind_of_last) = (None, 0);
    for (kind, value) in kinds.iter_mut().zip(values) {
        let key = (*kind, value);
        if last != Some(key) {
            let next = known.len() as u32;
            kind_of_last = *known.entry(key).or_insert(next);
            last = Some(key);
        }
        *kind = kind_of_last;
    }
}
