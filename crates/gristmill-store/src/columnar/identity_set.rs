//! A set of identities that takes 16 bytes a slot and finds one with a single look at memory.
//!
//! Identities are random bits already, so they are their own hashes: an identity stands in its
//! home slot or close behind it. Removing one moves those behind it back, so that a set from
//! which as much is removed as is added does not grow. The slots are kept in many small tables,
//! because a table that grows is copied whole.

use std::hint::black_box;

use super::identity::Identity;

/// How many identities are worth a [`fetch`](IdentitySet::fetch) together.
pub(super) const FETCHED: usize = 64;

const TABLES: usize = 64;
const FIRST_SLOTS: usize = 64;
/// How many slots a line of the processor's cache has.
const LINE_SLOTS: usize = 64 / size_of::<Identity>();
/// Marks an empty slot. The one identity in 2^128 that equals it is kept as its neighbour.
const EMPTY: Identity = 0;

/// Distinct identities.
#[derive(Debug)]
pub(super) struct IdentitySet {
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    slots: Vec<Identity>,
    len: usize,
}

impl IdentitySet {
    pub(super) fn new() -> Self {
        let table = || Table { slots: vec![EMPTY; FIRST_SLOTS], len: 0 };
        Self { tables: (0..TABLES).map(|_| table()).collect() }
    }

    /// How many identities there are.
    pub(super) fn len(&self) -> u64 {
        self.tables.iter().map(|table| table.len as u64).sum()
    }

    /// Looks at the places of identities that are about to be added or removed. The processor does
    /// many such looks at memory at a time, where each of them alone would be waited for.
    pub(super) fn fetch(&self, identities: &[Identity]) {
        let look = |identity: &Identity| self.tables[table_of(*identity)].look_at(*identity);
        black_box(identities.iter().map(look).fold(0, |all, found| all ^ found));
    }

    /// Adds an identity; `false` if it was there.
    pub(super) fn insert(&mut self, identity: Identity) -> bool {
        let identity = identity.max(1);
        self.tables[table_of(identity)].insert(identity)
    }

    pub(super) fn remove(&mut self, identity: Identity) {
        let identity = identity.max(1);
        self.tables[table_of(identity)].remove(identity);
    }

    /// How many identities fit into this much memory, growth included.
    pub(super) fn fitting(bytes: usize) -> u64 {
        let slots = (bytes / TABLES / size_of::<Identity>()).max(FIRST_SLOTS);
        let whole_table = 1 << slots.ilog2();
        // The tables fill evenly, but not exactly so.
        (TABLES * (room_of(whole_table) / 16 * 15)) as u64
    }
}

/// How many of so many slots may be taken: any more, and finding one takes many looks.
fn room_of(slots: usize) -> usize {
    slots / 4 * 3
}

fn table_of(identity: Identity) -> usize {
    (identity >> 64) as usize % TABLES
}

impl Table {
    fn home(&self, identity: Identity) -> usize {
        identity as usize & (self.slots.len() - 1)
    }

    /// What lies in the home slot and in the line of the cache behind it.
    fn look_at(&self, identity: Identity) -> Identity {
        let home = self.home(identity);
        let behind = (home + LINE_SLOTS) & (self.slots.len() - 1);
        self.slots[home] ^ self.slots[behind]
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    /// The slot of an identity, or the empty one where it would be.
    fn find(&self, identity: Identity) -> usize {
        let mut slot = self.home(identity);
        while self.slots[slot] != identity && self.slots[slot] != EMPTY {
            slot = self.next(slot);
        }
        slot
    }

    fn insert(&mut self, identity: Identity) -> bool {
        let mut slot = self.find(identity);
        if self.slots[slot] == identity {
            return false;
        }
        if self.len == room_of(self.slots.len()) {
            self.grow();
            slot = self.find(identity);
        }
        self.slots[slot] = identity;
        self.len += 1;
        true
    }

    fn grow(&mut self) {
        let doubled = vec![EMPTY; 2 * self.slots.len()];
        for identity in std::mem::replace(&mut self.slots, doubled) {
            if identity != EMPTY {
                let slot = self.find(identity);
                self.slots[slot] = identity;
            }
        }
    }

    fn remove(&mut self, identity: Identity) {
        let mut hole = self.find(identity);
        if self.slots[hole] == EMPTY {
            return;
        }
        self.len -= 1;
        let mut slot = hole;
        loop {
            self.slots[hole] = EMPTY;
            loop {
                slot = self.next(slot);
                if self.slots[slot] == EMPTY {
                    return;
                }
                // It may move into the hole unless its home lies behind the hole.
                let mask = self.slots.len() - 1;
                let from_home = slot.wrapping_sub(self.home(self.slots[slot])) & mask;
                let from_hole = slot.wrapping_sub(hole) & mask;
                if from_home >= from_hole {
                    break;
                }
            }
            self.slots[hole] = self.slots[slot];
            hole = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Few distinct values with homes close together, so that they collide and wrap around.
    fn identity() -> impl Strategy<Value = Identity> {
        (0..3_u128, 0..40_u128).prop_map(|(table, low)| table << 64 | low.wrapping_sub(20) << 1)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(steps in prop::collection::vec((any::<bool>(), identity()), 0..600)) {
            let (mut set, mut plain) = (IdentitySet::new(), HashSet::new());
            for (adds, identity) in steps {
                let identity = identity.max(1);
                if adds {
                    prop_assert_eq!(set.insert(identity), plain.insert(identity));
                } else {
                    set.remove(identity);
                    plain.remove(&identity);
                }
                prop_assert_eq!(set.len(), plain.len() as u64);
            }
            for identity in plain {
                prop_assert!(!set.insert(identity));
            }
        }
    }

    #[test]
    fn takes_no_more_memory_than_was_given() {
        let mut set = IdentitySet::new();
        let bytes = 4 << 20;
        for number in 0..IdentitySet::fitting(bytes) {
            let hash = |seed| xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_le_bytes(), seed);
            set.insert(Identity::from(hash(1)) << 64 | Identity::from(hash(2)));
        }
        let taken: usize = set.tables.iter().map(|table| table.slots.len() * 16).sum();
        assert!(taken <= bytes, "{taken} bytes");
    }
}
