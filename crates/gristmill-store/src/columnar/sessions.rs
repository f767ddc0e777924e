//! Tells the sessions of one user apart, by codes that hold for this user only.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use crate::ABSENT;

/// Up to so many sessions are looked for one after another, more in a table.
const FEW: usize = 32;

/// What a session's id is told by: 128 bits of hash, which no two ids of one user share.
pub(super) type Mark = u128;

/// The mark of an id.
pub(super) fn mark(id: &str) -> Mark {
    xxh3_128(id.as_bytes())
}

/// The sessions of the user at hand.
#[derive(Default)]
pub(super) struct Sessions {
    marks: Vec<Mark>,
    /// Where each mark is, once there are more than a few.
    table: HashTable<u32>,
    /// The newest session, which the next event is often of.
    last: Option<(Mark, u32)>,
}

impl Sessions {
    /// How many there are; codes are below.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// The code of a session.
    pub(super) fn code(&mut self, mark: Option<Mark>) -> u32 {
        let Some(mark) = mark else { return ABSENT };
        if let Some((last, code)) = self.last
            && last == mark
        {
            return code;
        }
        let code = self.known(mark).unwrap_or_else(|| self.add(mark));
        self.last = Some((mark, code));
        code
    }

    fn known(&self, mark: Mark) -> Option<u32> {
        if self.marks.len() > FEW {
            let is_same = |code: &u32| self.marks[*code as usize] == mark;
            return self.table.find(mark as u64, is_same).copied();
        }
        self.marks.iter().position(|known| *known == mark).map(|code| code as u32)
    }

    fn add(&mut self, mark: Mark) -> u32 {
        let code = self.marks.len() as u32;
        self.marks.push(mark);
        let marks = &self.marks;
        let hash = |code: &u32| marks[*code as usize] as u64;
        match marks.len() - 1 {
            0..FEW => {}
            FEW => {
                for code in 0..=code {
                    self.table.insert_unique(hash(&code), code, hash);
                }
            }
            _ => drop(self.table.insert_unique(mark as u64, code, hash)),
        }
        code
    }

    /// Goes on to the next user.
    pub(super) fn clear(&mut self) {
        if self.marks.len() > FEW {
            // Clearing a table takes as long as it has room, and few users have so many.
            self.table = HashTable::new();
        }
        self.marks.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_are_numbered_as_ids_are_first_met(
            users in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of(0..90_u32), 0..300), 1..4),
        ) {
            let mut sessions = Sessions::default();
            for ids in users {
                let mut met = Vec::new();
                for id in ids {
                    let code = sessions.code(id.map(|id| mark(&id.to_string())));
                    let expected = id.map(|id| met.iter().position(|known| *known == id).unwrap_or_else(|| {
                        met.push(id);
                        met.len() - 1
                    }));
                    prop_assert_eq!(code, expected.map_or(ABSENT, |code| code as u32));
                }
                prop_assert_eq!(sessions.len(), met.len());
                sessions.clear();
            }
        }
    }
}
