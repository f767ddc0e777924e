//! What the codes of a column mean.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// The code of an absent value.
pub const ABSENT: u32 = u32::MAX;

/// The texts that the codes of a column stand for.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    own: OwnTexts,
    /// The codes of texts that somebody has numbered; [`ABSENT`] where none is known.
    by_number: Vec<u32>,
    /// How many codes there are that have no text.
    unnamed: usize,
}

/// Texts side by side, and where each is found by its hash.
#[derive(Clone, Debug, Default)]
struct OwnTexts {
    bytes: String,
    ends: Vec<usize>,
    codes: HashTable<u32>,
}

impl Dictionary {
    /// How many codes there are; codes are below.
    pub fn len(&self) -> usize {
        self.own.ends.len().max(self.unnamed)
    }

    /// Whether there is no code.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a code; `None` for [`ABSENT`], and where codes have no texts.
    pub fn text(&self, code: u32) -> Option<&str> {
        let code = code as usize;
        (code < self.own.ends.len()).then(|| self.own.text(code))
    }

    /// The code of a text, which is added if it is new.
    pub fn code(&mut self, text: &str) -> u32 {
        self.own.code(text)
    }

    /// The code of a text that somebody has given a number to; all such numbers must be of the same
    /// texts. The text is looked at when the number is new.
    pub(crate) fn code_by_number<'a>(&mut self, number: u32, text: impl Fn() -> &'a str) -> u32 {
        let number = number as usize;
        if self.by_number.len() <= number {
            self.by_number.resize(number + 1, ABSENT);
        }
        if self.by_number[number] == ABSENT {
            self.by_number[number] = self.code(text());
        }
        self.by_number[number]
    }

    /// The code of a text that may be absent.
    pub(crate) fn code_of(&mut self, text: Option<&str>) -> u32 {
        text.map_or(ABSENT, |text| self.code(text))
    }

    /// The memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let OwnTexts { bytes, ends, codes } = &self.own;
        bytes.capacity() + 8 * ends.capacity() + 4 * (codes.capacity() + self.by_number.capacity())
    }

    /// Has so many codes without texts.
    pub(crate) fn number(&mut self, codes: usize) {
        self.unnamed = codes;
    }
}

impl OwnTexts {
    fn text(&self, code: usize) -> &str {
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.bytes[start..self.ends[code]]
    }

    fn code(&mut self, text: &str) -> u32 {
        let hash = xxh3_64(text.as_bytes());
        if let Some(code) = self.codes.find(hash, |&code| self.text(code as usize) == text) {
            return *code;
        }
        let code = self.ends.len() as u32;
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        let Self { bytes, ends, codes } = self;
        let hash_of = |code: &u32| {
            let code = *code as usize;
            let start = if code == 0 { 0 } else { ends[code - 1] };
            xxh3_64(&bytes.as_bytes()[start..ends[code]])
        };
        codes.insert_unique(hash, code, hash_of);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_code() {
        let mut dictionary = Dictionary::default();
        let texts: Vec<String> =
            (0..3_000).map(|number| format!("text {}", number % 1_500)).collect();
        let codes: Vec<u32> = texts.iter().map(|text| dictionary.code(text)).collect();
        assert_eq!(dictionary.len(), 1_500);
        for (code, text) in codes.iter().zip(&texts) {
            assert_eq!(dictionary.text(*code), Some(text.as_str()));
        }
        assert_eq!(dictionary.text(1_500), None);
        assert_eq!(dictionary.text(ABSENT), None);
    }
}
