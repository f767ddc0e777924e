//! A segment: one file of frames, and the table of those there are.
//!
//! ```text
//!  0 magic "GRISTLOG"    8 version u32 = 1
//! 12 crc u32: of all other bytes of the header
//! 16 uuid u128           random; seeds the crcs of the frames
//! 32 previous u128       the uuid of the segment before; 0 for the first
//! 48 number u64          as in the file's name
//! 56 sequence u64        of the first frame
//! 64 partitions u32     68 zero
//! 72 start u64 each      the first offset of every partition
//!    zeros up to 4096, then the frames
//! ```
//!
//! A file gets its name only when its header and its space are on stable storage, so a segment
//! that can be seen is whole. Its header says where every partition stood: the end of the segment
//! before is the start of the next.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use crc32fast::Hasher;
use gristmill_model::limits;

use super::disk::{Disk, DiskFile};
use super::error::DiskError;
use super::frame::Seed;

pub(super) const HEADER_BYTES: usize = 4096;
/// The least bytes of a segment that `segment_bytes` may ask for.
pub(super) const SMALLEST: u64 = 8 << 10;
/// The most.
pub(super) const LARGEST: u64 = 4 << 30;

const MAGIC: [u8; 8] = *b"GRISTLOG";
const VERSION: u32 = 1;
/// Where the checked bytes go on after the crc.
const AFTER_CRC: usize = 16;
const SUFFIX: &str = ".segment";
/// The name of a segment that is being made.
pub(super) const UNFINISHED: &str = "unfinished.tmp";
/// The name of a trimmed segment that waits to be used again. Writing where something was written
/// before costs a sync about half of what it costs in fresh space, where the file system has to
/// note what has been written. What is left in the file is of another segment, so no checksum in
/// it can match.
pub(super) const SPARE: &str = "spare.tmp";

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) uuid: u128,
    pub(super) previous: u128,
    pub(super) number: u64,
    pub(super) sequence: u64,
    pub(super) start: Vec<u64>,
}

impl SegmentHeader {
    /// The bytes, and the crc that the first frame carries as `previous`.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_u32_le(0);
        bytes.put_u128_le(self.uuid);
        bytes.put_u128_le(self.previous);
        bytes.put_u64_le(self.number);
        bytes.put_u64_le(self.sequence);
        bytes.put_u64_le(self.start.len() as u64);
        self.start.iter().for_each(|start| bytes.put_u64_le(*start));
        bytes.resize(HEADER_BYTES, 0);
        let crc = header_crc(&bytes);
        bytes[12..AFTER_CRC].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header that `bytes` are, with its crc, or what is wrong with them.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, u32), &'static str> {
        if bytes.len() != HEADER_BYTES {
            return Err("the file ends within its header");
        }
        let mut rest = bytes.strip_prefix(&MAGIC).ok_or("this is not a segment of a log")?;
        let version = rest.get_u32_le();
        let crc = rest.get_u32_le();
        if crc != header_crc(bytes) {
            return Err("the checksum of the header does not match");
        }
        if version != VERSION {
            return Err("the segment was written by a version that is not known");
        }
        let uuid = rest.get_u128_le();
        let previous = rest.get_u128_le();
        let number = rest.get_u64_le();
        let sequence = rest.get_u64_le();
        let partitions = rest.get_u64_le();
        if !(1..=u64::from(limits::PARTITIONS)).contains(&partitions) {
            return Err("the number of partitions is out of range");
        }
        let start = (0..partitions).map(|_| rest.get_u64_le()).collect();
        Ok((Self { uuid, previous, number, sequence, start }, crc))
    }
}

fn header_crc(bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[AFTER_CRC..]);
    hasher.finalize()
}

/// Where a segment lies.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// The number in a segment's file name; `None` for other files, an error for a name that only
/// resembles one.
pub(super) fn number_in(name: &str) -> Option<Result<u64, &'static str>> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_canonical);
    Some(number.ok_or("the name of a segment is 20 digits and `.segment`"))
}

/// Makes a segment of `capacity` bytes. Its name is durable only after the directory is synced.
/// If there is no room, nothing is left behind.
pub(super) fn create(
    dir: &Path,
    disk: &dyn Disk,
    header: &[u8],
    number: u64,
    capacity: u64,
    source: Source,
) -> Result<Box<dyn DiskFile>, DiskError> {
    let unfinished = dir.join(UNFINISHED);
    let made = begin(dir, &unfinished, disk, source)
        .and_then(|file| fill(&unfinished, file, header, capacity))
        .and_then(|file| {
            let path = path(dir, number);
            disk.rename(&unfinished, &path).map_err(DiskError::on("name the segment", &path))?;
            Ok(file)
        });
    if made.is_err() {
        // What cannot be removed now is overwritten by the next try.
        let _ = disk.remove(&unfinished);
    }
    made
}

/// What a segment is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A new file.
    Fresh,
    /// The spare, if there is one.
    Spare,
}

fn begin(
    dir: &Path,
    unfinished: &Path,
    disk: &dyn Disk,
    source: Source,
) -> Result<Box<dyn DiskFile>, DiskError> {
    if source == Source::Spare && disk.rename(&dir.join(SPARE), unfinished).is_ok() {
        return disk.open(unfinished).map_err(DiskError::on("open", unfinished));
    }
    disk.create(unfinished).map_err(DiskError::on("create", unfinished))
}

fn fill(
    path: &Path,
    file: Box<dyn DiskFile>,
    header: &[u8],
    capacity: u64,
) -> Result<Box<dyn DiskFile>, DiskError> {
    file.preallocate(capacity).map_err(DiskError::on("allocate space for", path))?;
    file.write_at(header, 0).map_err(DiskError::on("write the header of", path))?;
    file.sync_all().map_err(DiskError::on("sync", path))?;
    Ok(file)
}

/// One segment, as the table knows it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) uuid: u128,
    pub(super) seed: Seed,
    /// The crc of its header.
    pub(super) crc: u32,
    pub(super) sequence: u64,
    pub(super) start: Vec<u64>,
    /// The size of its file.
    pub(super) bytes: u64,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, crc: u32, bytes: u64) -> Self {
        Self {
            number: header.number,
            uuid: header.uuid,
            seed: Seed::new(header.uuid),
            crc,
            sequence: header.sequence,
            start: header.start,
            bytes,
        }
    }
}

/// The segments in order; there is always a last one, which is written to.
#[derive(Debug)]
pub(super) struct Segments {
    sealed: VecDeque<Segment>,
    last: Segment,
}

impl Segments {
    pub(super) fn new(last: Segment) -> Self {
        Self { sealed: VecDeque::new(), last }
    }

    pub(super) fn push(&mut self, segment: Segment) {
        self.sealed.push_back(std::mem::replace(&mut self.last, segment));
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.sealed.iter().chain([&self.last])
    }

    pub(super) fn first(&self) -> &Segment {
        self.sealed.front().unwrap_or(&self.last)
    }

    /// The last segment and the one before it.
    pub(super) fn newest(&self) -> (&Segment, Option<&Segment>) {
        (&self.last, self.sealed.back())
    }

    /// The first offset of every partition.
    pub(super) fn start(&self) -> &[u64] {
        &self.first().start
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.iter().map(|segment| segment.bytes).sum()
    }

    /// The segment that has the frame of this number, and the number of the first frame behind
    /// it if there is a later segment. The first segment for a frame before it.
    pub(super) fn holding(&self, sequence: u64) -> (&Segment, Option<u64>) {
        if sequence >= self.last.sequence {
            return (&self.last, None);
        }
        let behind = self.sealed.partition_point(|segment| segment.sequence <= sequence).max(1);
        let segment = self.sealed.get(behind - 1).unwrap_or(&self.last);
        let next = self.sealed.get(behind).unwrap_or(&self.last);
        (segment, Some(next.sequence))
    }

    /// Takes the first segment out if every record in it is below. Never the last one.
    pub(super) fn take_below(&mut self, below: &[u64]) -> Option<Segment> {
        let end = &self.sealed.get(1).unwrap_or(&self.last).start;
        let is_below = end.iter().zip(below).all(|(end, below)| end <= below);
        if is_below { self.sealed.pop_front() } else { None }
    }

    /// Undoes [`take_below`](Self::take_below).
    pub(super) fn put_back(&mut self, segment: Segment) {
        self.sealed.push_front(segment);
    }
}
