//! What the codes of a column mean.

use std::sync::Arc;

/// The code of an absent value.
pub const ABSENT: u32 = u32::MAX;

/// The texts that the codes of a column stand for.
#[derive(Debug, Default)]
pub struct Dictionary {
    texts: Vec<Box<str>>,
    codes: hashbrown::HashTable<u32>,
    /// Texts that belong to somebody else and stand in for the own ones.
    lent: Option<Arc<dyn TextList>>,
}

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
        self.lent.as_ref().map_or(self.texts.len(), |lent| lent.count())
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a code; `None` for [`ABSENT`].
    pub fn text(&self, code: u32) -> Option<&str> {
        match &self.lent {
            None => self.texts.get(code as usize).map(AsRef::as_ref),
            Some(lent) => ((code as usize) < lent.count()).then(|| lent.text(code as usize)),
        }
    }

    /// The code of a text, which is added if it is new.
    pub fn code(&mut self, text: &str) -> u32 {
        debug_assert!(self.lent.is_none(), "lent texts do not grow");
        let hash = |text: &str| xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let texts = &mut self.texts;
        let entry = self.codes.entry(
            hash(text),
            |&code| texts[code as usize].as_ref() == text,
            |&code| hash(&texts[code as usize]),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(place) => {
                let code = texts.len() as u32;
                place.insert(code);
                texts.push(text.into());
                code
            }
        }
    }

    /// The code of a text that may be absent.
    pub(crate) fn code_of(&mut self, text: Option<&str>) -> u32 {
        text.map_or(ABSENT, |text| self.code(text))
    }

    /// Forgets every text.
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.codes.clear();
        self.lent = None;
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
