//! Places in the log.

use std::fmt;
use std::str::FromStr;

use smallvec::SmallVec;
use thiserror::Error;

/// A partition of the log. Order is kept within one, not across.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// The place of one record: its partition and its offset there. Offsets count records from 0
/// without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The number of records before it in the partition.
    pub offset: u64,
}

/// The next offset of every partition: all records below are meant. A partition that is not
/// named stands at 0.
///
/// Every request asks for positions several times, so those of a few partitions take no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(SmallVec<[(Partition, u64); 2]>);

impl Positions {
    /// Every partition at its start.
    pub fn start() -> Self {
        Self::default()
    }

    /// The next offset of a partition.
    pub fn next(&self, partition: Partition) -> u64 {
        self.find(partition).ok().and_then(|at| self.0.get(at)).map_or(0, |(_, next)| *next)
    }

    /// Sets the next offset of a partition.
    pub fn set(&mut self, partition: Partition, next: u64) {
        *self.entry(partition) = next;
    }

    /// Raises the next offset of a partition to at least `next`.
    pub fn advance(&mut self, partition: Partition, next: u64) {
        let entry = self.entry(partition);
        *entry = (*entry).max(next);
    }

    /// Raises every partition to at least what `other` says.
    pub fn advance_all(&mut self, other: &Positions) {
        for (partition, next) in other.iter() {
            self.advance(partition, next);
        }
    }

    /// Whether everything below `other` is below these positions too.
    pub fn covers(&self, other: &Positions) -> bool {
        other.iter().all(|(partition, next)| self.next(partition) >= next)
    }

    /// Whether the record at `position` is below these positions.
    pub fn includes(&self, position: Position) -> bool {
        position.offset < self.next(position.partition)
    }

    /// The partitions named here with their next offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many records lie between `behind` and these positions.
    pub fn records_since(&self, behind: &Positions) -> u64 {
        self.iter().map(|(p, next)| next.saturating_sub(behind.next(p))).sum()
    }

    /// The place of a partition's next offset, which is named from now on.
    fn entry(&mut self, partition: Partition) -> &mut u64 {
        let at = self.find(partition).unwrap_or_else(|at| {
            self.0.insert(at, (partition, 0));
            at
        });
        &mut self.0[at].1
    }

    /// Where a partition stands among the named ones, or would stand.
    fn find(&self, partition: Partition) -> Result<usize, usize> {
        self.0.binary_search_by_key(&partition, |(named, _)| *named)
    }
}

impl FromIterator<(Partition, u64)> for Positions {
    fn from_iter<T: IntoIterator<Item = (Partition, u64)>>(iter: T) -> Self {
        let mut positions = Self::start();
        for (partition, next) in iter {
            positions.set(partition, next);
        }
        positions
    }
}

/// The text is the opaque position token of the API: `p0-17.p1-4`.
impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (partition, next)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "." };
            write!(f, "{separator}p{}-{next}", partition.0)?;
        }
        Ok(())
    }
}

/// A text that is not a position token.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a position token: use the `position` of an ingest answer unchanged")]
pub struct PositionsParseError;

impl FromStr for Positions {
    type Err = PositionsParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::start());
        }
        text.split('.').map(parse_entry).collect::<Option<Self>>().ok_or(PositionsParseError)
    }
}

fn parse_entry(text: &str) -> Option<(Partition, u64)> {
    let (partition, next) = text.strip_prefix('p')?.split_once('-')?;
    Some((Partition(partition.parse().ok()?), next.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_reads_back_as_the_same_positions() {
        let positions: Positions = [(Partition(0), 17), (Partition(3), 4)].into_iter().collect();
        assert_eq!(positions.to_string(), "p0-17.p3-4");
        assert_eq!(positions.to_string().parse(), Ok(positions));
        assert_eq!("".parse(), Ok(Positions::start()));
        for bad in ["x", "p1", "p-1", "p1-", "p1-2.", "p1--2", "p99999999999-1"] {
            assert_eq!(bad.parse::<Positions>(), Err(PositionsParseError), "{bad}");
        }
    }

    #[test]
    fn covering_compares_every_partition() {
        let low: Positions = [(Partition(0), 5)].into_iter().collect();
        let high: Positions = [(Partition(0), 5), (Partition(1), 1)].into_iter().collect();
        assert!(high.covers(&low));
        assert!(!low.covers(&high));
        assert_eq!(high.records_since(&low), 1);
    }
}
