//! Tells the sessions of one user apart, by codes that hold for this user only.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use crate::ABSENT;

/// Up to so many sessions are looked for one after another, more in a table.
const FEW: usize = 32;
/// A table with room for more is not kept for the next user.
const LARGE: usize = 4096;

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
    /// The lower half of each mark, which is quicker to look for.
    halves: Vec<u64>,
    /// Where each mark is, once there are more than a few.
    table: HashTable<u32>,
    /// For each code of the piece at hand, the session's code if it has been met.
    met: Vec<u32>,
    /// The codes of the piece that have been met.
    piece: Vec<u32>,
}

/// A code of a piece that has not been met.
const UNMET: u32 = ABSENT - 1;

impl Sessions {
    /// How many there are; codes are below.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// The code of a session.
    pub(super) fn code(&mut self, mark: Option<Mark>) -> u32 {
        let Some(mark) = mark else { return ABSENT };
        self.known(mark).unwrap_or_else(|| self.add(mark))
    }

    /// Brings the codes of a piece of the user's rows, which mean what `mark` says, into those of
    /// the user.
    pub(super) fn translate(&mut self, codes: &mut [u32], mark: impl Fn(usize) -> Option<Mark>) {
        self.piece.clear();
        // Events of a session mostly follow each other.
        let (mut last, mut translated) = (ABSENT, ABSENT);
        for code in codes {
            if *code == last {
                *code = translated;
                continue;
            }
            last = *code;
            translated = ABSENT;
            if last == ABSENT {
                continue;
            }
            let own = last as usize;
            if self.met.len() <= own {
                self.met.resize(own + 1, UNMET);
            }
            if self.met[own] == UNMET {
                self.met[own] = self.code(mark(own));
                self.piece.push(last);
            }
            translated = self.met[own];
            *code = translated;
        }
        // The codes of the next piece mean something else.
        for &code in &self.piece {
            self.met[code as usize] = UNMET;
        }
    }

    fn known(&self, mark: Mark) -> Option<u32> {
        if self.marks.len() > FEW {
            let is_same = |code: &u32| self.marks[*code as usize] == mark;
            return self.table.find(mark as u64, is_same).copied();
        }
        let half = mark as u64;
        let mut alike = (0..self.halves.len()).filter(|code| self.halves[*code] == half);
        alike.find(|code| self.marks[*code] == mark).map(|code| code as u32)
    }

    fn add(&mut self, mark: Mark) -> u32 {
        let code = self.marks.len() as u32;
        self.marks.push(mark);
        self.halves.push(mark as u64);
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
        if self.table.capacity() > LARGE {
            // Clearing a table takes as long as it has room, and few users have so many.
            self.table = HashTable::new();
        } else if self.marks.len() > FEW {
            self.table.clear();
        }
        self.marks.clear();
        self.halves.clear();
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
                let mut met: Vec<u32> = Vec::new();
                for (piece, ids) in ids.chunks(70).enumerate() {
                    // Each piece numbers ids in its own way, or is told one by one.
                    let own = |id: u32| (id + piece as u32) % 90;
                    let mark_of = |code: usize| {
                        Some(mark(&((code + 90 - piece % 90) % 90).to_string()))
                    };
                    let mut codes = Vec::new();
                    if piece % 2 == 0 {
                        codes.extend(ids.iter().map(|id| id.map_or(ABSENT, own)));
                        sessions.translate(&mut codes, mark_of);
                    } else {
                        let one = |id: &Option<u32>| id.map(|id| mark(&id.to_string()));
                        codes.extend(ids.iter().map(|id| sessions.code(one(id))));
                    }
                    for (id, code) in ids.iter().zip(codes) {
                        let expected = id.map_or(ABSENT, |id| {
                            let known = met.iter().position(|known| *known == id);
                            known.unwrap_or_else(|| {
                                met.push(id);
                                met.len() - 1
                            }) as u32
                        });
                        prop_assert_eq!(code, expected);
                    }
                }
                prop_assert_eq!(sessions.len(), met.len());
                sessions.clear();
            }
        }
    }
}
