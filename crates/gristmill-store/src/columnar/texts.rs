//! A column of optional texts in one allocation, laid out as Arrow lays out its strings, so that
//! it becomes an Arrow array without copying a text.

use arrow_array::{Array, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use crate::StoreError;

/// A growing column of optional texts.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    bytes: String,
    /// One more than there are texts; text `i` is `bytes[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<i32>,
    /// Rows that have no text, ascending.
    absent: Vec<u32>,
}

impl Default for Texts {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl Texts {
    pub(super) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { bytes: String::with_capacity(bytes), offsets, absent: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(super) fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.offsets.push(self.bytes.len() as i32);
    }

    pub(super) fn push_option(&mut self, text: Option<&str>) {
        if text.is_none() {
            self.absent.push(self.len() as u32);
        }
        self.push(text.unwrap_or_default());
    }

    /// The text of a row; empty if it is absent.
    pub(super) fn text(&self, row: usize) -> &str {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    pub(super) fn option(&self, row: usize) -> Option<&str> {
        if !self.absent.is_empty() && self.absent.binary_search(&(row as u32)).is_ok() {
            return None;
        }
        Some(self.text(row))
    }

    /// Gives back the memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.offsets.shrink_to_fit();
    }

    /// The memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + 4 * (self.offsets.capacity() + self.absent.capacity())
    }

    /// How many bytes of text there are.
    pub(super) fn text_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes_of(&self, row: usize) -> usize {
        (self.offsets[row + 1] - self.offsets[row]) as usize
    }

    /// The first byte of a row's text; of an empty one, whatever follows.
    pub(super) fn first_byte(&self, row: usize) -> u8 {
        self.bytes.as_bytes().get(self.offsets[row] as usize).copied().unwrap_or(0)
    }

    pub(super) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.offsets.reserve(rows);
        self.bytes.reserve(bytes);
    }

    pub(super) fn into_arrow(self) -> Result<StringArray, StoreError> {
        let rows = self.len();
        let nulls = (!self.absent.is_empty()).then(|| {
            let mut present = vec![true; rows];
            for row in self.absent {
                present[row as usize] = false;
            }
            NullBuffer::from(present)
        });
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        StringArray::try_new(offsets, Buffer::from_vec(self.bytes.into_bytes()), nulls)
            .map_err(|error| StoreError::Damaged(format!("cannot lay out a column: {error}")))
    }

    pub(super) fn from_arrow(array: &StringArray) -> Self {
        let mut texts = Self::with_capacity(array.len(), array.value_data().len());
        for row in 0..array.len() {
            texts.push_option(array.is_valid(row).then(|| array.value(row)));
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_to_arrow_and_back() {
        let mut texts = Texts::with_capacity(0, 0);
        for text in [Some("a"), None, Some(""), Some("žluť")] {
            texts.push_option(text);
        }
        let back = Texts::from_arrow(&texts.clone().into_arrow().unwrap());
        let rows: Vec<_> = (0..4).map(|row| back.option(row)).collect();
        assert_eq!(rows, [Some("a"), None, Some(""), Some("žluť")]);
        assert_eq!(back.text(1), "");
    }
}
