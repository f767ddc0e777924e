//! Edits of files that were valid.

use std::collections::BTreeMap;

/// One change of one byte, eight that are all the same, or the end of a file.
#[derive(Clone, Copy)]
pub struct Edit {
    file: u8,
    at: u16,
    byte: u8,
}

/// How many bytes an edit is read from.
const EDIT_BYTES: usize = 4;
/// Of an edit's file: it is about a number rather than a byte.
const WIDE: u8 = 0x80;
/// The file and the byte of an edit that cuts a file off.
const CUT: u8 = 0xfe;

/// The edits that an input asks for.
pub fn edits(input: &[u8]) -> impl Iterator<Item = Edit> {
    let (edits, _) = input.as_chunks::<EDIT_BYTES>();
    edits.iter().map(|&[file, low, high, byte]| Edit {
        file,
        at: u16::from_le_bytes([low, high]),
        byte,
    })
}

impl Edit {
    /// Makes the change in one of the files.
    pub fn apply(self, files: &mut BTreeMap<String, Vec<u8>>) {
        let number = usize::from(self.file & !WIDE) % files.len().max(1);
        let Some(bytes) = files.values_mut().nth(number) else { return };
        let at = usize::from(self.at);
        if (self.file, self.byte) == (CUT, CUT) {
            bytes.truncate(at);
        } else if self.file & WIDE == 0 {
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= self.byte);
        } else {
            bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = self.byte);
        }
    }
}

/// Bytes whose last four are made the CRC-32 of those before.
pub fn with_crc(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(body).to_le_bytes();
    }
}
