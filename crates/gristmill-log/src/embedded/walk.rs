//! Walks over the frames of a segment file, believing nothing that a checksum does not cover.

use std::io;

use bytes::Bytes;

use super::disk::DiskFile;
use super::frame::{ALIGN, FrameHeader, HEADER_BYTES, MAGIC, Seed};

/// How much is read at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// A place in a segment file, and the frame that must stand there.
pub(super) struct Walk<'a> {
    file: &'a dyn DiskFile,
    seed: Seed,
    at: u64,
    sequence: u64,
    /// The crc of the frame before; unknown where a walk starts in the middle.
    previous: Option<u32>,
    buffer: Bytes,
    buffer_at: u64,
}

/// What stands at the place.
pub(super) enum Step {
    /// The frame that belongs there.
    Frame(Frame),
    /// Something else, said in words.
    Invalid(&'static str),
}

/// A frame whose checksums match.
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    /// Where it starts.
    pub(super) at: u64,
    /// Its body without the padding.
    pub(super) body: Bytes,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        file: &'a dyn DiskFile,
        seed: Seed,
        at: u64,
        sequence: u64,
        previous: Option<u32>,
    ) -> Self {
        Self { file, seed, at, sequence, previous, buffer: Bytes::new(), buffer_at: at }
    }

    /// Where the next frame must stand.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The number of the next frame.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The crc of the frame before.
    pub(super) fn previous(&self) -> Option<u32> {
        self.previous
    }

    /// The next frame. Stays where it is if that is invalid.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let Some(bytes) = self.read(self.at, HEADER_BYTES)? else {
            return Ok(Step::Invalid("the file ends"));
        };
        let found = bytes.first_chunk().and_then(|bytes| FrameHeader::decode(bytes, self.seed));
        let Some((header, crc)) = found else {
            return Ok(Step::Invalid("there is no valid frame header"));
        };
        if header.sequence != self.sequence {
            return Ok(Step::Invalid("there is a frame of another number"));
        }
        if self.previous.is_some_and(|previous| previous != header.previous) {
            return Ok(Step::Invalid("there is a frame that does not follow the one before"));
        }
        let body_at = self.at + HEADER_BYTES as u64;
        let Some(mut body) = self.read(body_at, header.padded_bytes())? else {
            return Ok(Step::Invalid("the file ends within the frame"));
        };
        if self.seed.body_crc(header.first_offset, &body) != header.body_crc {
            return Ok(Step::Invalid("the checksum of the frame's body does not match"));
        }
        let at = self.at;
        self.at = body_at + body.len() as u64;
        self.sequence += 1;
        self.previous = Some(crc);
        body.truncate(header.body_bytes as usize);
        Ok(Step::Frame(Frame { header, at, body }))
    }

    /// Looks for headers of this segment from here to the file's end: the number below which all
    /// frames were durable, as they say, or `None` if there is no such header.
    ///
    /// Whatever else stands there can never be taken for a frame: the torn part of a write, or
    /// what the file held before it was used again.
    pub(super) fn rest(&mut self) -> io::Result<Option<u64>> {
        let mut durable = None;
        let mut at = self.at;
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = self.file.read_at(&mut chunk, at)?;
            let bytes = chunk.get(..count).unwrap_or_default();
            durable = durable.max(self.durable_claim(bytes));
            if count < CHUNK {
                return Ok(durable);
            }
            // A header may lie across two chunks.
            at += (CHUNK - HEADER_BYTES) as u64;
        }
    }

    /// The most that any valid header in `bytes` says to be durable.
    fn durable_claim(&self, bytes: &[u8]) -> Option<u64> {
        bytes
            .windows(HEADER_BYTES)
            .step_by(ALIGN)
            .filter(|window| window.starts_with(&MAGIC))
            .filter_map(|window| FrameHeader::decode(window.first_chunk()?, self.seed))
            .map(|(header, _)| header.durable)
            .max()
    }

    /// Some bytes of the file; `None` if it ends before.
    fn read(&mut self, at: u64, count: usize) -> io::Result<Option<Bytes>> {
        let held = |walk: &Self| {
            let from = usize::try_from(at.checked_sub(walk.buffer_at)?).ok()?;
            let to = from.checked_add(count)?;
            (to <= walk.buffer.len()).then(|| walk.buffer.slice(from..to))
        };
        if let Some(bytes) = held(self) {
            return Ok(Some(bytes));
        }
        let mut chunk = vec![0; count.max(CHUNK)];
        let filled = self.file.read_at(&mut chunk, at)?;
        chunk.truncate(filled);
        self.buffer = chunk.into();
        self.buffer_at = at;
        Ok(held(self))
    }
}
