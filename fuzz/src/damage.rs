//! Edits of files that were valid.

use std::collections::BTreeMap;

/// One change of one byte, or the end of a file.
#[derive(Clone, Copy)]
pub struct Edit {
    file: u8,
    at: u16,
    byte: u8,
}

/// How many bytes an edit is read from.
const EDIT_BYTES: usize = 4;
/// The file of an edit that cuts the file before it off.
const CUT: u8 = 0xff;

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
        let number = usize::from(self.file & 0x7f) % files.len().max(1);
        let Some(bytes) = files.values_mut().nth(number) else { return };
        if self.byte == CUT && self.file == CUT {
            bytes.truncate(usize::from(self.at));
        } else if let Some(byte) = bytes.get_mut(usize::from(self.at)) {
            *byte ^= self.byte;
        }
    }
}

/// Bytes whose last four are made the CRC-32 of those before.
pub fn with_crc(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(body).to_le_bytes();
    }
}
