//! A frame: the records of one partition in one group, or a mark without records.
//!
//! ```text
//!  0 magic "GMFR"      4 header crc u32: of bytes 8..64, seeded by the segment
//!  8 body length u32  12 body crc u32: of the body and its padding, seeded by the segment and
//!                        the first offset
//! 16 sequence u64        counts the frames of the log, from 0
//! 24 durable u64         all frames below this number were durable when this one was made
//! 32 first offset u64    of the records, in the partition
//! 40 partition u32    44 count u32: of the records
//! 48 previous u32        the header crc of the frame before; for the first, of the segment
//! 52 kind u8             1 data, 2 hint, 3 seal
//! 53 zeros            64 body: for each append  length u32 | count u32 | block
//!                        then zeros up to a multiple of 8
//! ```
//!
//! Numbers are little-endian. The crcs are seeded with the segment's random uuid, so bytes of
//! another segment never pass. A header is checked before its length is believed. A *hint* only
//! carries `durable`: it is written when the log falls idle, so that damage to the last
//! acknowledged group can be told from a torn write. A *seal* ends a segment once its successor
//! exists: its number is the one that the successor starts with.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;
use gristmill_model::{Partition, limits};

use crate::LogBatch;
use crate::codec;

pub(super) const HEADER_BYTES: usize = 64;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;
/// What precedes each block in a body.
pub(super) const BLOCK_HEADER_BYTES: usize = 8;
pub(super) const MAGIC: [u8; 4] = *b"GMFR";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Data = 1,
    Hint = 2,
    Seal = 3,
}

/// A frame's header, without what is computed from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) durable: u64,
    pub(super) partition: u32,
    pub(super) first_offset: u64,
    pub(super) count: u32,
    pub(super) body_bytes: u32,
    pub(super) body_crc: u32,
    pub(super) previous: u32,
}

/// What every crc of a segment starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(uuid: u128) -> Self {
        Self(crc32fast::hash(&uuid.to_le_bytes()))
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }

    /// The crc of a body with its padding.
    pub(super) fn body_crc(self, first_offset: u64, body: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&first_offset.to_le_bytes());
        hasher.update(body);
        hasher.finalize()
    }
}

impl FrameHeader {
    /// A frame without records.
    pub(super) fn mark(kind: Kind, sequence: u64, previous: u32, seed: Seed) -> Self {
        Self {
            kind,
            sequence,
            durable: sequence,
            partition: 0,
            first_offset: 0,
            count: 0,
            body_bytes: 0,
            body_crc: seed.body_crc(0, &[]),
            previous,
        }
    }

    /// The bytes, and the crc that the next frame carries as `previous`.
    pub(super) fn encode(&self, seed: Seed) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        let (head, checked) = bytes.split_at_mut(8);
        let mut rest = &mut *checked;
        rest.put_u32_le(self.body_bytes);
        rest.put_u32_le(self.body_crc);
        rest.put_u64_le(self.sequence);
        rest.put_u64_le(self.durable);
        rest.put_u64_le(self.first_offset);
        rest.put_u32_le(self.partition);
        rest.put_u32_le(self.count);
        rest.put_u32_le(self.previous);
        rest.put_u8(self.kind as u8);
        let crc = seed.crc(checked);
        let mut head = &mut *head;
        head.put_slice(&MAGIC);
        head.put_u32_le(crc);
        (bytes, crc)
    }

    /// The header that `bytes` are, with its crc, if they are one of this segment.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], seed: Seed) -> Option<(Self, u32)> {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let crc = rest.get_u32_le();
        if seed.crc(rest) != crc {
            return None;
        }
        let body_bytes = rest.get_u32_le();
        let body_crc = rest.get_u32_le();
        let sequence = rest.get_u64_le();
        let durable = rest.get_u64_le();
        let first_offset = rest.get_u64_le();
        let partition = rest.get_u32_le();
        let count = rest.get_u32_le();
        let previous = rest.get_u32_le();
        let kind = match rest.get_u8() {
            1 => Kind::Data,
            2 => Kind::Hint,
            3 => Kind::Seal,
            _ => return None,
        };
        let is_sane = body_bytes as usize <= limits::FRAME_BYTES
            && count <= body_bytes
            && durable <= sequence
            && first_offset.checked_add(u64::from(count)).is_some();
        let header = Self {
            kind,
            sequence,
            durable,
            partition,
            first_offset,
            count,
            body_bytes,
            body_crc,
            previous,
        };
        is_sane.then_some((header, crc))
    }

    /// The body with its padding.
    pub(super) fn padded_bytes(&self) -> usize {
        (self.body_bytes as usize).next_multiple_of(ALIGN)
    }

    /// The offset after the last record.
    pub(super) fn next_offset(&self) -> u64 {
        self.first_offset.saturating_add(u64::from(self.count))
    }
}

/// Appends the blocks of a frame's body, without those below `next`, to `out`. Gives their size in
/// bytes, or `None` if the body is not as its header says.
pub(super) fn split_body(
    header: &FrameHeader,
    mut body: Bytes,
    next: u64,
    out: &mut VecDeque<LogBatch>,
) -> Option<usize> {
    let partition = Partition(header.partition);
    let mut first_offset = header.first_offset;
    let mut bytes = 0;
    while !body.is_empty() {
        let (length, count) = (body.try_get_u32_le().ok()?, body.try_get_u32_le().ok()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= body.len())?;
        let whole = body.split_to(length);
        let end = first_offset.checked_add(u64::from(count))?;
        if end > next {
            let hidden = u32::try_from(next.saturating_sub(first_offset)).ok()?;
            let block = if hidden == 0 { whole } else { codec::suffix(&whole, hidden) };
            bytes += block.len();
            let first_offset = first_offset + u64::from(hidden);
            out.push_back(LogBatch::of_codec(partition, first_offset, count - hidden, block));
        }
        first_offset = end;
    }
    (first_offset == header.next_offset()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: Kind::Data,
            sequence: 7,
            durable: 5,
            partition: 3,
            first_offset: 1_000,
            count: 2,
            body_bytes: 44,
            body_crc: 0x1234_5678,
            previous: 0x9abc_def0,
        }
    }

    #[test]
    fn a_header_reads_back_and_no_single_bit_may_differ() {
        let seed = Seed::new(42);
        let (bytes, crc) = header().encode(seed);
        assert_eq!(FrameHeader::decode(&bytes, seed), Some((header(), crc)));
        assert_eq!(FrameHeader::decode(&bytes, Seed::new(43)), None, "another segment's frame");
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&flipped, seed), None, "bit {bit}");
        }
    }

    #[test]
    fn the_bytes_on_disk_never_change() {
        let (bytes, _) = header().encode(Seed::new(42));
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            "474d46529db4ce822c0000007856341207000000000000000500000000000000e803000000000000\
             0300000002000000f0debc9a010000000000000000000000"
        );
    }

    #[test]
    fn a_body_is_split_into_its_appends_from_any_offset() {
        let mut body = Vec::new();
        for count in [1_u32, 3] {
            body.extend_from_slice(&5_u32.to_le_bytes());
            body.extend_from_slice(&count.to_le_bytes());
            body.extend_from_slice(b"block");
        }
        let header = FrameHeader { count: 4, body_bytes: 26, ..header() };
        let body = Bytes::from(body);
        for (next, firsts) in
            [(0, vec![1_000, 1_001]), (1_001, vec![1_001]), (1_003, vec![1_003]), (1_004, vec![])]
        {
            let mut out = VecDeque::new();
            assert!(split_body(&header, body.clone(), next, &mut out).is_some());
            let found: Vec<u64> = out.iter().map(|batch| batch.first_offset).collect();
            assert_eq!(found, firsts);
            assert!(out.iter().all(|batch| batch.next_offset <= 1_004));
        }
        let short = FrameHeader { count: 5, ..header };
        assert_eq!(split_body(&short, body, 0, &mut VecDeque::new()), None);
    }
}
