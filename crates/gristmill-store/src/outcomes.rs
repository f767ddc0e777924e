//! The outcomes of recent records.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use gristmill_model::{Outcome, Partition, Position};

/// How many records of each partition are remembered.
const REMEMBERED: usize = 1 << 19;

/// The newest outcomes of each partition.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    partitions: BTreeMap<Partition, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    first_offset: u64,
    outcomes: VecDeque<Option<Outcome>>,
}

impl Outcomes {
    /// Notes an outcome. Offsets come in ascending order; gaps have no outcome.
    pub(crate) fn set(&mut self, position: Position, outcome: Outcome) {
        let recent = self.partitions.entry(position.partition).or_default();
        let next = recent.first_offset + recent.outcomes.len() as u64;
        let gap = position.offset.saturating_sub(next);
        if recent.outcomes.is_empty() || gap > REMEMBERED as u64 {
            recent.outcomes.clear();
            recent.first_offset = position.offset;
        } else {
            (0..gap).for_each(|_| recent.push(None));
        }
        recent.push(Some(outcome));
    }

    pub(crate) fn get(&self, partition: Partition, offsets: Range<u64>) -> Vec<Option<Outcome>> {
        let recent = self.partitions.get(&partition);
        offsets.map(|offset| recent.and_then(|recent| recent.get(offset))).collect()
    }
}

impl Recent {
    fn push(&mut self, outcome: Option<Outcome>) {
        if self.outcomes.len() == REMEMBERED {
            self.outcomes.pop_front();
            self.first_offset += 1;
        }
        self.outcomes.push_back(outcome);
    }

    fn get(&self, offset: u64) -> Option<Outcome> {
        let index = offset.checked_sub(self.first_offset)?;
        self.outcomes.get(usize::try_from(index).ok()?).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_newest_and_leaves_gaps_open() {
        let mut outcomes = Outcomes::default();
        let partition = Partition(3);
        for offset in [5, 6, 8] {
            outcomes.set(Position { partition, offset }, Outcome::Stored);
        }
        let stored = Some(Outcome::Stored);
        assert_eq!(outcomes.get(partition, 4..10), [None, stored, stored, None, stored, None]);
        let last = 8 + REMEMBERED as u64;
        for offset in 9..=last {
            outcomes.set(Position { partition, offset }, Outcome::Duplicate);
        }
        assert_eq!(outcomes.get(partition, 8..10), [None, Some(Outcome::Duplicate)]);
        outcomes.set(Position { partition, offset: 10 * last }, Outcome::Stored);
        assert_eq!(outcomes.get(partition, last..last + 1), [None]);
    }
}
