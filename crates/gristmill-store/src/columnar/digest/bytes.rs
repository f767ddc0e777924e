//! The bytes of a digest in a file: arrays of numbers as they lie in memory, each after its length, so
//! that reading them is copying.

use super::Digest;
use super::block::{Block, SessionMarks};
use super::narrow::Narrow;
use crate::{BatchUsers, Dictionary};

/// Appends the bytes of a digest.
pub(super) fn append(digest: &Digest, into: &mut Vec<u8>) {
    put(digest.dictionaries.len(), into);
    for dictionary in &digest.dictionaries {
        put(dictionary.len(), into);
        let texts: Vec<&str> = (0..).map_while(|code| dictionary.text(code)).collect();
        put(texts.len(), into);
        texts.iter().for_each(|text| put_bytes(text.as_bytes(), into));
    }
    put_all(digest.session_columns.iter().map(|column| (*column as u64).to_le_bytes()), into);
    put(digest.blocks.len(), into);
    digest.blocks.iter().for_each(|block| append_block(block, into));
}

/// The digest whose bytes these are; `None` if they are no digest's.
pub(super) fn read(bytes: &[u8]) -> Option<Digest> {
    let mut reader = Reader { left: bytes };
    let mut dictionaries = Vec::new();
    for _ in 0..reader.number()? {
        let codes = reader.number()?;
        let mut dictionary = Dictionary::default();
        for _ in 0..reader.number()? {
            dictionary.code(reader.text()?);
        }
        if dictionary.len() != codes {
            dictionary.number(codes);
        }
        dictionaries.push(dictionary);
    }
    let session_columns = reader.all(u64::from_le_bytes)?.into_iter().map(|column| column as usize);
    let session_columns = session_columns.collect();
    let blocks = reader.several(read_block)?;
    reader.left.is_empty().then_some(Digest { blocks, dictionaries, session_columns })
}

fn append_block(block: &Block, into: &mut Vec<u8>) {
    put(block.rows, into);
    let (names, ends) = block.users.parts();
    put_bytes(names.as_bytes(), into);
    put_all(ends.iter().map(|(name, end)| pair(*name, *end)), into);
    put_all(block.hashes.iter().map(|hash| hash.to_le_bytes()), into);
    put_all(block.times.iter().map(|time| time.to_le_bytes()), into);
    put_all([block.first_hour.to_le_bytes()].into_iter(), into);
    put_narrow(&block.hours, into);
    put_narrow(&block.rows_of_hours, into);
    put_all(block.hour_ends.iter().map(|end| end.to_le_bytes()), into);
    put_narrow(&block.counts, into);
    put(block.columns.len(), into);
    block.columns.iter().for_each(|column| put_narrow(column, into));
    put(block.numbers.len(), into);
    for numbers in &block.numbers {
        put_all(numbers.iter().map(|number| number.to_le_bytes()), into);
    }
    put(block.sessions.len(), into);
    for SessionMarks { marks, ends } in &block.sessions {
        put_all(marks.iter().map(|mark| mark.to_le_bytes()), into);
        put_all(ends.iter().map(|end| end.to_le_bytes()), into);
    }
    let span = block.span.map_or(Vec::new(), |(first, last)| vec![first, last]);
    put_all(span.iter().map(|moment| moment.to_le_bytes()), into);
}

fn read_block(reader: &mut Reader<'_>) -> Option<Block> {
    Some(Block {
        rows: reader.number()?,
        users: BatchUsers::of_parts(reader.text()?.to_owned(), reader.all(unpair)?),
        hashes: reader.all(u64::from_le_bytes)?,
        times: reader.all(i64::from_le_bytes)?,
        first_hour: reader.all(i32::from_le_bytes)?.first().copied()?,
        hours: reader.narrow()?,
        rows_of_hours: reader.narrow()?,
        hour_ends: reader.all(u32::from_le_bytes)?,
        counts: reader.narrow()?,
        columns: reader.several(Reader::narrow)?,
        numbers: reader.several(|reader| reader.all(f64::from_le_bytes))?,
        sessions: reader.several(|reader| {
            let marks = reader.all(u128::from_le_bytes)?;
            Some(SessionMarks { marks, ends: reader.all(u32::from_le_bytes)? })
        })?,
        span: match *reader.all(i64::from_le_bytes)?.as_slice() {
            [first, last] => Some((first, last)),
            _ => None,
        },
    })
}

/// Numbers after the bytes that each has.
fn put_narrow(numbers: &Narrow, into: &mut Vec<u8>) {
    match numbers {
        Narrow::One(kept) => {
            put(1, into);
            put_bytes(kept, into);
        }
        Narrow::Two(kept) => {
            put(2, into);
            put_all(kept.iter().map(|number| number.to_le_bytes()), into);
        }
        Narrow::Four(kept) => {
            put(4, into);
            put_all(kept.iter().map(|number| number.to_le_bytes()), into);
        }
    }
}

pub(super) fn put(number: usize, into: &mut Vec<u8>) {
    into.extend_from_slice(&(number as u64).to_le_bytes());
}

pub(super) fn put_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    put(bytes.len(), into);
    into.extend_from_slice(bytes);
}

pub(super) fn put_all<const N: usize>(
    items: impl ExactSizeIterator<Item = [u8; N]>,
    into: &mut Vec<u8>,
) {
    put(items.len(), into);
    let first = into.len();
    into.resize(first + items.len() * N, 0);
    for (to, item) in into[first..].as_chunks_mut().0.iter_mut().zip(items) {
        *to = item;
    }
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    (u64::from(first) | u64::from(second) << 32).to_le_bytes()
}

fn unpair(bytes: [u8; 8]) -> (u32, u32) {
    let both = u64::from_le_bytes(bytes);
    (both as u32, (both >> 32) as u32)
}

/// Reads what was put, as long as it is there.
pub(super) struct Reader<'a> {
    pub(super) left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(bytes)?;
        self.left = left;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<usize> {
        let bytes = self.take(size_of::<u64>())?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn narrow(&mut self) -> Option<Narrow> {
        match self.number()? {
            1 => self.all(u8::from_le_bytes).map(Narrow::One),
            2 => self.all(u16::from_le_bytes).map(Narrow::Two),
            4 => self.all(u32::from_le_bytes).map(Narrow::Four),
            _ => None,
        }
    }

    /// Things after their number.
    fn several<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn all<T, const N: usize>(&mut self, item: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let length = self.number()?.checked_mul(N)?;
        Some(self.take(length)?.as_chunks().0.iter().map(|bytes| item(*bytes)).collect())
    }
}
