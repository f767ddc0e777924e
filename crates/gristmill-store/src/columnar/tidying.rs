//! What is merged while nothing new comes in: users whose events lie in few parts are walked through
//! more quickly, and nobody else needs the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_model::{Micros, Positions, Timestamp};

use super::compaction::{FULL_ROWS, is_finished, slice_of};
use super::part::Part;
use super::view::View;

/// Since when nothing has been committed.
#[derive(Default)]
pub(super) struct Quiet {
    /// What was committed then; nothing is known at first.
    committed: Option<Positions>,
    since: Timestamp,
}

impl Quiet {
    /// Whether nothing has been committed for so long, as far as it was asked.
    pub(super) fn lasts(&mut self, committed: &Positions, now: Timestamp, long: Micros) -> bool {
        if self.committed.as_ref() != Some(committed) {
            *self = Self { committed: Some(committed.clone()), since: now };
        }
        now.since(self.since) >= long
    }
}

/// Parts of one shard and slice that are worth a merge while there is time, or one that is worth
/// another form. No row moves often: each time it gets into a part with at least twice as many
/// rows, or into its last form.
pub(super) fn worth_tidying(view: &View, slice: Micros) -> Option<Vec<Arc<Part>>> {
    let mut groups: BTreeMap<(u32, Option<i64>), Vec<Arc<Part>>> = BTreeMap::new();
    for part in view.parts.iter().filter(|part| part.record.rows < FULL_ROWS) {
        let key = (part.record.shard, slice_of(&part.record, slice));
        groups.entry(key).or_default().push(Arc::clone(part));
    }
    groups.into_values().find_map(|mut parts| {
        parts.sort_by_key(|part| part.record.rows);
        match worth_gathering(parts.iter().map(|part| part.record.rows)) {
            0 => parts
                .into_iter()
                .find(|part| !is_finished(&part.record, slice))
                .map(|part| vec![part]),
            count => Some(parts.into_iter().take(count).collect()),
        }
    })
}

/// Of parts with so many rows, in ascending order, how many of the first may be merged so that none
/// has more rows than the others together.
fn worth_gathering(rows: impl Iterator<Item = u64>) -> usize {
    let (mut smaller, mut count) = (0, 0);
    for (index, rows) in rows.enumerate() {
        if index > 0 && rows <= smaller {
            count = index + 1;
        }
        smaller += rows;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_gathered_until_one_has_more_rows_than_the_rest() {
        let worth = |rows: &[u64]| worth_gathering(rows.iter().copied());
        assert_eq!(worth(&[]), 0);
        assert_eq!(worth(&[5]), 0);
        assert_eq!(worth(&[5, 5]), 2);
        assert_eq!(worth(&[5, 6]), 0);
        assert_eq!(worth(&[1, 5, 6, 100]), 3);
        assert_eq!(worth(&[1, 5, 5, 11]), 4);
    }

    #[test]
    fn it_is_quiet_once_nothing_was_committed_for_long() {
        let mut quiet = Quiet::default();
        let at = |n: u64| [(gristmill_model::Partition(0), n)].into_iter().collect::<Positions>();
        assert!(!quiet.lasts(&at(1), Timestamp(1_000), 10));
        assert!(!quiet.lasts(&at(1), Timestamp(1_009), 10));
        assert!(quiet.lasts(&at(1), Timestamp(1_010), 10));
        assert!(!quiet.lasts(&at(2), Timestamp(1_011), 10));
        assert!(quiet.lasts(&at(2), Timestamp(1_021), 10));
    }
}
