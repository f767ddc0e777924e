//! Groups of events by the values of up to two fields, and the slots that stand for them while
//! the users of a shard are walked through.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use gristmill_model::{Metric, SeriesGroup, limits};
use gristmill_store::Dictionaries;

use super::walk::Groups;
use crate::tally::Tally;

/// The values of the grouping fields; those of fields that there are not are absent.
pub(super) type Values = [Option<Box<str>>; limits::SERIES_GROUP_FIELDS];

/// A group. The others come last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Group {
    Values(Values),
    Other,
}

impl Group {
    /// The one group without grouping.
    pub(super) const ALL: Group = Group::Values([None, None]);

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let texts = match self {
            Group::Values(values) => values.iter().flatten().map(|value| value.len()).sum(),
            Group::Other => 0,
        };
        size_of::<Self>() + texts
    }

    /// The group as an answer says it.
    pub(super) fn answer(&self, fields: usize) -> SeriesGroup {
        match self {
            Group::Values(values) => {
                let values = values.iter().take(fields);
                let texts = values.map(|value| value.as_deref().map(str::to_owned));
                SeriesGroup::Values(texts.collect())
            }
            Group::Other => SeriesGroup::Other,
        }
    }
}

/// The groups that are told apart; the slot of a group is its rank.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    ranked: Vec<Values>,
    /// The ranks in order of the values.
    by_values: Vec<usize>,
}

impl Kept {
    /// The groups with the highest values, ties in order of their values.
    pub(super) fn top(groups: Groups, metric: &Metric, top: usize) -> Self {
        let value = |(group, cells): (Group, Vec<(usize, super::cell::Cell)>)| {
            let (_, mut cell) = cells.into_iter().next()?;
            let value = cell.value(metric).unwrap_or(f64::NEG_INFINITY);
            match group {
                Group::Values(values) => Some((value, values)),
                Group::Other => None,
            }
        };
        let mut ranked: Vec<(f64, Values)> = groups.into_iter().filter_map(value).collect();
        let order =
            |a: &(f64, Values), b: &(f64, Values)| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1));
        if ranked.len() > top {
            ranked.select_nth_unstable_by(top, order);
            ranked.truncate(top);
        }
        ranked.sort_unstable_by(order);
        let ranked: Vec<Values> = ranked.into_iter().map(|(_, values)| values).collect();
        let mut by_values: Vec<usize> = (0..ranked.len()).collect();
        by_values.sort_unstable_by_key(|rank| &ranked[*rank]);
        Self { ranked, by_values }
    }

    /// The rank of a group.
    pub(super) fn rank(&self, group: &Group) -> usize {
        match group {
            Group::Values([first, second]) => self.slot([first.as_deref(), second.as_deref()]),
            Group::Other => self.ranked.len(),
        }
    }

    /// The slot of the group with these values; that of the others comes last.
    fn slot(&self, values: [Option<&str>; limits::SERIES_GROUP_FIELDS]) -> usize {
        let order = |rank: &usize| -> Ordering {
            let [first, second] = &self.ranked[*rank];
            [first.as_deref(), second.as_deref()].cmp(&values)
        };
        let found = self.by_values.binary_search_by(order);
        found.map_or(self.ranked.len(), |place| self.by_values[place])
    }

    fn group(&self, slot: usize) -> Group {
        self.ranked.get(slot).map_or(Group::Other, |values| Group::Values(values.clone()))
    }
}

/// Finds the slot of each group, given what the columns of the grouping fields hold for an event:
/// the key of one column is its code, that of two columns has the first code above the second.
pub(super) struct Slots {
    columns: Vec<usize>,
    kept: Option<Arc<Kept>>,
    /// With one column: the slot of each code that is not an ordinary one.
    of_code: Vec<u32>,
    pairs: Pairs,
}

impl Slots {
    /// No slot yet, for the groups of these columns.
    pub(super) fn new(columns: Vec<usize>, kept: Option<Arc<Kept>>) -> Self {
        Self { columns, kept, of_code: Vec::new(), pairs: Pairs::default() }
    }

    /// The slot of a key.
    pub(super) fn slot(&mut self, key: u64, dictionaries: Dictionaries<'_>) -> usize {
        match (self.columns.as_slice(), &self.kept) {
            ([], _) => 0,
            ([_], None) => Tally::slot(key as u32),
            (&[column], Some(kept)) => {
                let dictionary = &dictionaries[column];
                let slot = Tally::slot(key as u32);
                for slot in self.of_code.len()..=dictionary.len() {
                    let text = dictionary.text(Tally::code(slot));
                    self.of_code.push(kept.slot([text, None]) as u32);
                }
                self.of_code[slot] as usize
            }
            (_, None) => self.pairs.slot(key, |new| new),
            (columns, Some(kept)) => {
                self.pairs.forget_many();
                self.pairs.slot(key, |_| kept.slot(texts(key, columns, dictionaries)) as u32)
            }
        }
    }

    /// The group of a slot.
    pub(super) fn group(&self, slot: usize, dictionaries: Dictionaries<'_>) -> Group {
        if let Some(kept) = &self.kept {
            return kept.group(slot);
        }
        let key = match self.columns.len() {
            0 => return Group::ALL,
            1 => u64::from(Tally::code(slot)),
            _ => self.pairs.keys[slot],
        };
        Group::Values(texts(key, &self.columns, dictionaries).map(|text| text.map(Box::from)))
    }

    /// Whether all groups have slots of their own.
    pub(super) fn tell_all(&self) -> bool {
        self.kept.is_none()
    }
}

/// The key of two columns.
pub(super) fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) << 32 | u64::from(second)
}

fn texts<'a>(
    key: u64,
    columns: &[usize],
    dictionaries: Dictionaries<'a>,
) -> [Option<&'a str>; limits::SERIES_GROUP_FIELDS] {
    match *columns {
        [] => [None, None],
        [column] => [dictionaries.column(column).text(key as u32), None],
        [first, second, ..] => {
            let (first, second) = (dictionaries.column(first), dictionaries.column(second));
            [first.text((key >> 32) as u32), second.text(key as u32)]
        }
    }
}

/// How many pairs can be found without a hash table, as a power of 2.
const RECENT_BITS: u32 = 12;
const NONE: u32 = u32::MAX;

/// The slots of pairs of codes. Any pair may occur, so they are in a hash table; the recent ones
/// are also in an array, each in the only place where it may be.
#[derive(Default)]
struct Pairs {
    recent: Vec<(u64, u32)>,
    slots: HashMap<u64, u32>,
    /// The keys in the order in which they were first met.
    keys: Vec<u64>,
}

impl Pairs {
    /// Forgets all pairs if they are many, which changes no slot that does not depend on how many
    /// were met.
    fn forget_many(&mut self) {
        if self.keys.len() > limits::SERIES_RANKED_GROUPS {
            self.slots.clear();
            self.keys.clear();
        }
    }

    /// The slot of a pair; `new` says that of one that was not met before, given how many were.
    fn slot(&mut self, key: u64, new: impl FnOnce(u32) -> u32) -> usize {
        if self.recent.is_empty() {
            self.recent.resize(1 << RECENT_BITS, (0, NONE));
        }
        // Multiplying by 2^64 over the golden ratio spreads keys that lie close together.
        let place = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - RECENT_BITS);
        let recent = &mut self.recent[place as usize];
        if recent.0 != key || recent.1 == NONE {
            let Self { slots, keys, .. } = self;
            let slot = *slots.entry(key).or_insert_with(|| {
                keys.push(key);
                new(keys.len() as u32 - 1)
            });
            *recent = (key, slot);
        }
        recent.1 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_slots_of_their_own_also_where_they_share_a_place() {
        let mut pairs = Pairs::default();
        let keys = |n: u32| [pair(n % 100, n / 100), pair(u32::MAX, n), pair(n, u32::MAX)];
        for _ in 0..2 {
            for (slot, key) in (0..10_000).flat_map(keys).enumerate() {
                assert_eq!(pairs.slot(key, |met| met), slot);
            }
        }
        assert_eq!(pairs.keys.len(), 30_000);
    }

    #[test]
    fn slots_that_do_not_depend_on_what_was_met_stay_when_pairs_are_forgotten() {
        let mut pairs = Pairs::default();
        for key in 0..=limits::SERIES_RANKED_GROUPS as u64 {
            pairs.forget_many();
            assert_eq!(pairs.slot(key, |_| (key % 7) as u32), (key % 7) as usize);
        }
        pairs.forget_many();
        assert!(pairs.keys.is_empty());
        assert_eq!(pairs.slot(3, |_| 3), 3);
    }
}
