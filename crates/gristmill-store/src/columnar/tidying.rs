//! What is merged while little comes in: users whose events lie in few parts are walked through more
//! quickly, and ingestion does not need the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_model::{Micros, Positions, Timestamp};

use super::compaction::{FULL_ROWS, MOST_INPUTS, is_finished, slice_of};
use super::part::Part;
use super::view::View;

/// It is quiet while fewer records than this are committed.
const FEW_RECORDS: u64 = if cfg!(test) { 10 } else { 10_000 };

/// Since when few records have been committed.
#[derive(Default)]
pub(super) struct Quiet {
    /// What was committed then; nothing is known at first.
    committed: Option<Positions>,
    since: Timestamp,
    is_disturbed: bool,
}

impl Quiet {
    /// Whether only few records have been committed for so long, as far as it was asked.
    pub(super) fn lasts(&mut self, committed: &Positions, now: Timestamp, long: Micros) -> bool {
        let is_few = |before: &Positions| committed.records_since(before) < FEW_RECORDS;
        if !self.committed.as_ref().is_some_and(is_few) {
            *self = Self { committed: Some(committed.clone()), since: now, is_disturbed: false };
        }
        !self.is_disturbed && now.since(self.since) >= long
    }

    /// Makes no use of the quiet until more has been committed.
    pub(super) fn disturb(&mut self) {
        self.is_disturbed = true;
    }
}

/// Parts of one shard and slice that are worth a merge while there is time, or one that is worth
/// another form. A row is not moved often: what it is merged with has at least as many rows as the
/// part that it is in.
pub(super) fn worth_tidying(view: &View, slice: Micros) -> Option<Vec<Arc<Part>>> {
    let mut groups: BTreeMap<(u32, Option<i64>), Vec<Arc<Part>>> = BTreeMap::new();
    for part in view.parts.iter().filter(|part| part.record.rows < FULL_ROWS) {
        let key = (part.record.shard, slice_of(&part.record, slice));
        groups.entry(key).or_default().push(Arc::clone(part));
    }
    groups.into_values().find_map(|mut parts| {
        parts.sort_by_key(|part| part.record.rows);
        let is_unfinished = |part: &Arc<Part>| !is_finished(&part.record, slice);
        match worth_gathering(parts.iter().map(|part| part.record.rows)) {
            0 => parts.into_iter().find(is_unfinished).map(|part| vec![part]),
            count => Some(parts.into_iter().take(count).collect()),
        }
    })
}

/// Of parts with so many rows, in ascending order, how many of the first may be merged at a time so
/// that none has more rows than the others together.
fn worth_gathering(rows: impl Iterator<Item = u64>) -> usize {
    let (mut smaller, mut count) = (0, 0);
    for (index, rows) in rows.take(MOST_INPUTS).enumerate() {
        if index > 0 && rows <= smaller && smaller + rows <= FULL_ROWS {
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
        let many: Vec<u64> = std::iter::repeat_n(1, 15).chain([1_000, 1_000]).collect();
        assert_eq!(worth(&many), 15, "16 at a time");
        assert_eq!(worth(&[1, FULL_ROWS / 2, FULL_ROWS / 2]), 0, "not too many rows at a time");
    }

    #[test]
    fn it_is_quiet_once_little_was_committed_for_long() {
        let mut quiet = Quiet::default();
        let at = |n: u64| [(gristmill_model::Partition(0), n)].into_iter().collect::<Positions>();
        assert!(!quiet.lasts(&at(100), Timestamp(1_000), 10));
        assert!(!quiet.lasts(&at(105), Timestamp(1_009), 10));
        assert!(quiet.lasts(&at(109), Timestamp(1_010), 10));
        assert!(!quiet.lasts(&at(110), Timestamp(1_011), 10), "too many since");
        assert!(quiet.lasts(&at(111), Timestamp(1_021), 10));
        quiet.disturb();
        assert!(!quiet.lasts(&at(111), Timestamp(1_100), 10));
        assert!(!quiet.lasts(&at(130), Timestamp(1_101), 10));
        assert!(quiet.lasts(&at(130), Timestamp(1_111), 10));
    }
}
