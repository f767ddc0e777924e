//! Recovery: what a crash left becomes a log again, or the log refuses to open.
//!
//! Only the last segment can have an unfinished end. Where its frames stop being valid, either a
//! write was torn that nobody was told of, and is cut off, or an acknowledged frame is damaged,
//! which a later frame gives away by the number below which all frames were durable. Bytes without
//! a header of the segment cannot become a frame: they stay, and the next frame overwrites them.
//! Everything that is kept is synced before anybody sees it. Doing all this twice changes nothing.

use std::io;
use std::path::Path;

use gristmill_model::Entropy;

use super::EmbeddedConfig;
use super::disk::{Disk, DiskFile, DiskLock};
use super::error::{Damage, DiskError, OpenError};
use super::frame::{FrameHeader, Kind, Seed};
use super::reader::Location;
use super::segment::{self, Segment, SegmentHeader, Segments, Source};
use super::walk::{Step, Walk};

/// A log that can be gone on with.
pub(super) struct Recovered {
    pub(super) segments: Segments,
    pub(super) tail: Tail,
}

/// The end of the log, where the next frame goes.
pub(super) struct Tail {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) number: u64,
    pub(super) uuid: u128,
    pub(super) seed: Seed,
    /// Where the next frame goes, in bytes.
    pub(super) at: u64,
    /// How much of the file is allocated, in bytes.
    pub(super) capacity: u64,
    /// The number of the next frame.
    pub(super) sequence: u64,
    /// The crc of the frame before.
    pub(super) previous: u32,
    /// The next offset of every partition.
    pub(super) next: Vec<u64>,
    /// Whether a frame says that all records are durable.
    pub(super) is_marked: bool,
}

impl Tail {
    pub(super) fn new(file: Box<dyn DiskFile>, segment: &Segment) -> Self {
        Self {
            file,
            number: segment.number,
            uuid: segment.uuid,
            seed: segment.seed,
            at: segment::HEADER_BYTES as u64,
            capacity: segment.bytes,
            sequence: segment.sequence,
            previous: segment.crc,
            next: segment.start.clone(),
            is_marked: true,
        }
    }

    pub(super) fn location(&self) -> Location {
        Location { segment: self.number, at: self.at }
    }
}

/// The valid frames at the start of a segment.
pub(super) struct Scan {
    pub(super) frames: u64,
    pub(super) records: u64,
    /// The next offset of every partition.
    pub(super) next: Vec<u64>,
    /// Whether the last frame is a hint, or there is none.
    is_marked: bool,
    /// Where the frames start that no other frame says to be durable.
    unproven_at: u64,
    pub(super) end: End,
}

/// Why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the first frame of the next segment.
    Successor,
    /// At a seal.
    Seal,
    /// At something that is not the next frame.
    Invalid(&'static str),
}

/// Takes the directory for this process.
pub(super) fn lock(dir: &Path, disk: &dyn Disk) -> Result<Box<dyn DiskLock>, OpenError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { dir: dir.to_owned() },
        _ => DiskError::on("lock", &path)(error).into(),
    })
}

/// Opens or creates the log in a directory that is locked.
pub(super) fn recover(
    config: &EmbeddedConfig,
    disk: &dyn Disk,
    entropy: &dyn Entropy,
) -> Result<Recovered, OpenError> {
    let dir = &config.dir;
    let Some(segments) = read_segments(dir, disk)? else { return create(config, disk, entropy) };
    let held = segments.start().len() as u32;
    if held != config.partitions {
        let wanted = config.partitions;
        return Err(OpenError::Partitions { dir: dir.clone(), held, wanted });
    }
    for leftover in [segment::UNFINISHED, segment::SPARE].map(|name| dir.join(name)) {
        match disk.remove(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::on("remove", &leftover)(error).into());
            }
            _ => {}
        }
    }
    // The names that were read may not be durable: their sync may be what the last run ended at.
    disk.sync_dir(dir).map_err(DiskError::on("sync", dir))?;
    let (last, before) = segments.newest();
    let tail = settle(dir, disk, last)?;
    if let Some(before) = before.filter(|_| tail.sequence == last.sequence) {
        seal(dir, disk, before, last)?;
    }
    Ok(Recovered { tail, segments })
}

fn create(
    config: &EmbeddedConfig,
    disk: &dyn Disk,
    entropy: &dyn Entropy,
) -> Result<Recovered, OpenError> {
    let header = SegmentHeader {
        uuid: entropy.next_u128(),
        previous: 0,
        number: 0,
        sequence: 0,
        start: vec![0; config.partitions as usize],
    };
    let (bytes, crc) = header.encode();
    let (dir, capacity) = (&config.dir, config.segment_bytes);
    let file = segment::create(dir, disk, &bytes, header.number, capacity, Source::Fresh)?;
    disk.sync_dir(&config.dir).map_err(DiskError::on("sync", &config.dir))?;
    let segment = Segment::new(header, crc, config.segment_bytes);
    let tail = Tail::new(file, &segment);
    Ok(Recovered { segments: Segments::new(segment), tail })
}

/// The segments of a directory, if there are any; refuses a chain with a break.
pub(super) fn read_segments(dir: &Path, disk: &dyn Disk) -> Result<Option<Segments>, OpenError> {
    let names = disk.list(dir).map_err(DiskError::on("list", dir))?;
    let mut numbers = Vec::new();
    for name in names {
        match segment::number_in(&name) {
            Some(Ok(number)) => numbers.push(number),
            Some(Err(what)) => return Err(damage(&dir.join(name), 0, what)),
            None => {}
        }
    }
    numbers.sort_unstable();
    let mut segments: Option<Segments> = None;
    for number in numbers {
        let (segment, previous) = read_header(dir, disk, number)?;
        match &mut segments {
            None => segments = Some(Segments::new(segment)),
            Some(segments) => {
                follows(dir, segments.newest().0, &segment, previous)?;
                segments.push(segment);
            }
        }
    }
    Ok(segments)
}

/// A segment's header, and the uuid of the segment that it follows.
fn read_header(dir: &Path, disk: &dyn Disk, number: u64) -> Result<(Segment, u128), OpenError> {
    let path = segment::path(dir, number);
    let file = disk.open(&path).map_err(DiskError::on("open", &path))?;
    let size = file.size().map_err(DiskError::on("read the size of", &path))?;
    let mut bytes = vec![0; segment::HEADER_BYTES];
    let filled = file.read_at(&mut bytes, 0).map_err(DiskError::on("read", &path))?;
    bytes.truncate(filled);
    let (header, crc) = SegmentHeader::decode(&bytes).map_err(|what| damage(&path, 0, what))?;
    if header.number != number {
        let what = format!("the header says that this is segment {}", header.number);
        return Err(damage(&path, 0, what));
    }
    let previous = header.previous;
    Ok((Segment::new(header, crc, size), previous))
}

fn follows(
    dir: &Path,
    before: &Segment,
    segment: &Segment,
    previous: u128,
) -> Result<(), OpenError> {
    if segment.number != before.number + 1 {
        let missing = segment::path(dir, before.number + 1);
        let what = format!("the file is missing, though segment {} exists", segment.number);
        return Err(damage(&missing, 0, what));
    }
    let goes_on = segment.sequence >= before.sequence
        && segment.start.len() == before.start.len()
        && segment.start.iter().zip(&before.start).all(|(start, before)| start >= before);
    if previous != before.uuid || !goes_on {
        let what = format!("this segment does not follow segment {}", before.number);
        return Err(damage(&segment::path(dir, segment.number), 0, what));
    }
    Ok(())
}

/// Reads the frames of a segment up to the number `until`, or to where they end.
pub(super) fn scan(
    path: &Path,
    walk: &mut Walk<'_>,
    start: &[u64],
    until: Option<u64>,
) -> Result<Scan, OpenError> {
    let mut next = start.to_vec();
    let (mut frames, mut records, mut is_marked, mut unproven_at) = (0, 0, true, walk.at());
    let end = loop {
        if until == Some(walk.sequence()) {
            break End::Successor;
        }
        let frame = match walk.step().map_err(DiskError::on("read", path))? {
            Step::Invalid(what) => break End::Invalid(what),
            Step::Frame(frame) => frame,
        };
        frames += 1;
        let header = frame.header;
        is_marked = header.kind == Kind::Hint;
        if header.durable == header.sequence {
            unproven_at = frame.at;
        }
        match header.kind {
            Kind::Seal => break End::Seal,
            Kind::Hint => {}
            Kind::Data => match next.get_mut(header.partition as usize) {
                Some(next) if *next == header.first_offset => {
                    *next = header.next_offset();
                    records += u64::from(header.count);
                }
                _ => {
                    let what = "the frame's records do not follow those before";
                    return Err(damage(path, frame.at, what));
                }
            },
        }
    };
    Ok(Scan { frames, records, next, is_marked, unproven_at, end })
}

/// Finds the end of the last segment, and cuts off what was not finished behind it.
fn settle(dir: &Path, disk: &dyn Disk, last: &Segment) -> Result<Tail, OpenError> {
    let path = segment::path(dir, last.number);
    let file = disk.open(&path).map_err(DiskError::on("open", &path))?;
    let mut tail = Tail::new(file, last);
    let mut walk = start_of(last, &*tail.file);
    let scan = scan(&path, &mut walk, &last.start, None)?;
    let is_dirty = judge(dir, last.number, &scan, &mut walk)?;
    tail.at = walk.at();
    tail.sequence = walk.sequence();
    tail.previous = walk.previous().unwrap_or(last.crc);
    tail.next = scan.next;
    tail.is_marked = scan.is_marked;
    if is_dirty {
        tracing::warn!(
            segment = last.number,
            at = tail.at,
            "the log ended in an unfinished write, which nobody was told of; cutting it off"
        );
        tail.retreat(&path)?;
    }
    tail.rewrite(&path, scan.unproven_at)?;
    Ok(tail)
}

pub(super) fn start_of<'a>(segment: &Segment, file: &'a dyn DiskFile) -> Walk<'a> {
    let at = segment::HEADER_BYTES as u64;
    Walk::new(file, segment.seed, at, segment.sequence, Some(segment.crc))
}

/// Whether an unfinished write stands behind the last valid frame of the last segment, with a
/// header at least; refuses if it was acknowledged.
pub(super) fn judge(
    dir: &Path,
    number: u64,
    scan: &Scan,
    walk: &mut Walk<'_>,
) -> Result<bool, OpenError> {
    let path = segment::path(dir, number);
    let what = match scan.end {
        End::Invalid(what) => what,
        End::Seal | End::Successor => {
            let missing = segment::path(dir, number + 1);
            let what = format!("the file is missing, though segment {number} leads to it");
            return Err(damage(&missing, 0, what));
        }
    };
    let claim = walk.rest().map_err(DiskError::on("read", &path))?;
    let sequence = walk.sequence();
    if let Some(durable) = claim.filter(|durable| *durable > sequence) {
        let what = format!(
            "frame {sequence} was acknowledged, as a later frame says, but {what}; the last \
             frame known to be acknowledged is {}",
            durable - 1
        );
        return Err(damage(&path, walk.at(), what));
    }
    Ok(claim.is_some())
}

impl Tail {
    /// Makes the frames from `from` on durable. They may be in the page cache only, and after a
    /// failed sync the kernel takes them for written: so they are written again.
    fn rewrite(&self, path: &Path, from: u64) -> Result<(), DiskError> {
        let mut bytes = vec![0; usize::try_from(self.at - from).unwrap_or(0)];
        let filled = self.file.read_at(&mut bytes, from).map_err(DiskError::on("read", path))?;
        bytes.truncate(filled);
        self.file.write_at(&bytes, from).map_err(DiskError::on("write", path))?;
        self.file.sync_all().map_err(DiskError::on("sync", path))
    }

    /// Makes sure that only zeros stand behind the last frame.
    pub(super) fn retreat(&mut self, path: &Path) -> Result<(), DiskError> {
        self.file.truncate(self.at).map_err(DiskError::on("cut off the end of", path))?;
        match self.file.preallocate(self.capacity).map_err(DiskError::on("allocate", path)) {
            // Without room the next group goes to another segment, once there is room for that.
            Err(error) if error.is_full() => self.capacity = self.at,
            outcome => outcome?,
        }
        self.file.sync_all().map_err(DiskError::on("sync", path))
    }
}

/// Seals the segment before a last one that has no frames: a crash may have come in between.
fn seal(dir: &Path, disk: &dyn Disk, before: &Segment, last: &Segment) -> Result<(), OpenError> {
    let path = segment::path(dir, before.number);
    let file = disk.open(&path).map_err(DiskError::on("open", &path))?;
    let mut walk = start_of(before, &*file);
    let scan = scan(&path, &mut walk, &before.start, Some(last.sequence))?;
    if let End::Invalid(what) = scan.end {
        return Err(damage(&path, walk.at(), what));
    }
    // A seal that can be read may still never have reached the disk: it is written in any case.
    let previous = walk.previous().unwrap_or(before.crc);
    let (bytes, _) =
        FrameHeader::mark(Kind::Seal, last.sequence, previous, before.seed).encode(before.seed);
    file.write_at(&bytes, walk.at()).map_err(DiskError::on("write", &path))?;
    file.sync_data().map_err(DiskError::on("sync", &path))?;
    Ok(())
}

pub(super) fn damage(file: &Path, at: u64, what: impl Into<String>) -> OpenError {
    Damage { file: file.to_owned(), at, what: what.into() }.into()
}
