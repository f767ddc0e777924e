//! Which codes of a column stand for nothing: that of the absent value and that of the empty text.

use gristmill_store::{ABSENT, Dictionary};

/// The code of a dictionary's empty text, if it has come up.
pub(crate) struct Blank {
    learned: usize,
    code: u32,
}

impl Default for Blank {
    fn default() -> Self {
        Self { learned: 0, code: ABSENT }
    }
}

impl Blank {
    /// Looks at what is new in the dictionary.
    pub(crate) fn learn(&mut self, dictionary: &Dictionary) {
        for code in self.learned as u32..dictionary.len() as u32 {
            if dictionary.text(code) == Some("") {
                self.code = code;
            }
        }
        self.learned = dictionary.len();
    }

    /// Whether a code stands for nothing.
    pub(crate) fn is(&self, code: u32) -> bool {
        code == ABSENT || code == self.code
    }
}
