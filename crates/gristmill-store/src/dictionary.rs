//! What the codes of a column mean.

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// The code of an absent value.
pub const ABSENT: u32 = u32::MAX;

/// The texts that the codes of a column stand for.
#[derive(Debug, Default)]
pub struct Dictionary {
    own: OwnTexts,
    /// The codes of texts that somebody has numbered; [`ABSENT`] where none is known.
    by_number: Vec<u32>,
    /// Texts that belong to somebody else and stand in for the own ones.
    lent: Option<Arc<dyn TextList>>,
}

/// Texts side by side, and where each is found by its hash.
#[derive(Debug, Default)]
struct OwnTexts {
    bytes: String,
    ends: Vec<usize>,
    codes: HashTable<u32>,
}

/// A table with room for more than this is not kept when it is cleared, because clearing takes
/// as long as there is room.
const KEPT_CAPACITY: usize = 1024;

/// Numbered texts.
pub(crate) trait TextList: std::fmt::Debug + Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// The text of a number below the count.
    fn text(&self, number: usize) -> &str;
}

impl Dictionary {
    /// How many texts there are; codes are below.
    pub fn len(&self) -> usize {
        self.lent.as_ref().map_or(self.own.ends.len(), |lent| lent.count())
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a code; `None` for [`ABSENT`].
    pub fn text(&self, code: u32) -> Option<&str> {
        let code = code as usize;
        (code < self.len()).then(|| match &self.lent {
            None => self.own.text(code),
            Some(lent) => lent.text(code),
        })
    }

    /// The code of a text, which is added if it is new.
    pub fn code(&mut self, text: &str) -> u32 {
        debug_assert!(self.lent.is_none(), "lent texts do not grow");
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

    /// Forgets every text.
    pub(crate) fn clear(&mut self) {
        self.lent = None;
        self.by_number.clear();
        self.own.clear();
    }

    /// Lets other texts stand in until it is cleared.
    pub(crate) fn lend(&mut self, texts: &Arc<impl TextList + 'static>) {
        let is_lent =
            |lent: &Arc<dyn TextList>| std::ptr::addr_eq(Arc::as_ptr(lent), Arc::as_ptr(texts));
        if !self.lent.as_ref().is_some_and(is_lent) {
            self.lent = Some(Arc::clone(texts) as Arc<dyn TextList>);
        }
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

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        if self.codes.capacity() > KEPT_CAPACITY {
            self.codes = HashTable::new();
        } else {
            self.codes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_code_until_it_is_forgotten() {
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
        dictionary.clear();
        assert!(dictionary.is_empty());
        assert_eq!(dictionary.code("text 7"), 0);
    }
}
