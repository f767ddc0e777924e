//! Numbers for the texts of a field, the same in all row groups, so that a walk need not compare
//! the texts of one row group with those of the next.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::texts::Texts;

/// A field with more different texts, or longer ones, gains little by numbers.
const MOST_TEXTS: usize = 1 << 17;
const MOST_BYTES: usize = 8 << 20;

/// Numbered texts, from 0 on; a text keeps its number. When it is full it takes no new texts.
#[derive(Default)]
pub(super) struct Lexicon {
    texts: Texts,
    numbers: HashTable<u32>,
}

impl Lexicon {
    /// The number of a text, which is added if there is room.
    pub(super) fn number(&mut self, text: &str) -> Option<u32> {
        let hash = xxh3_64(text.as_bytes());
        let texts = &self.texts;
        let known = self.numbers.find(hash, |&number| texts.text(number as usize) == text);
        if let Some(number) = known {
            return Some(*number);
        }
        if texts.len() == MOST_TEXTS || texts.text_bytes() + text.len() > MOST_BYTES {
            return None;
        }
        let number = texts.len() as u32;
        self.texts.push(text);
        let texts = &self.texts;
        let hash_of = |number: &u32| xxh3_64(texts.text(*number as usize).as_bytes());
        self.numbers.insert_unique(hash, number, hash_of);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_number_and_a_full_lexicon_takes_no_more() {
        let mut lexicon = Lexicon::default();
        for number in 0..MOST_TEXTS {
            assert_eq!(lexicon.number(&number.to_string()), Some(number as u32));
        }
        assert_eq!(lexicon.number("new"), None);
        assert_eq!(lexicon.number("7"), Some(7));
        assert_eq!(Lexicon::default().number(&"x".repeat(MOST_BYTES + 1)), None);
    }
}
