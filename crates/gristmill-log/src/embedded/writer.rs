//! The writer: the one loop that writes records.
//!
//! A group is all that queued up while the one before was synced: one frame for each partition in
//! it, one write, one sync. After a failed write or sync nothing is ever written again, since
//! nobody knows what is on the disk; the log is opened anew and recovery finds out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::{Entropy, Partition};

use super::error::DiskError;
use super::frame::{ALIGN, BLOCK_HEADER_BYTES, FrameHeader, HEADER_BYTES, Kind};
use super::queue::{Pending, Taken};
use super::reader::Location;
use super::recent::RecentFrame;
use super::recover::Tail;
use super::segment::{self, Segment, SegmentHeader, Source};
use super::{Shared, locked};
use crate::{AppendError, Appended};

/// How long the log may be idle before a hint is written.
const IDLE: Duration = Duration::from_millis(50);
/// What a segment keeps free for a hint and its seal.
const RESERVED_BYTES: u64 = 2 * HEADER_BYTES as u64;

/// The only writer of a log; made by [`EmbeddedLog::open`](super::EmbeddedLog::open).
pub struct LogWriter {
    shared: Arc<Shared>,
    tail: Tail,
    entropy: Arc<dyn Entropy>,
    segment_bytes: u64,
}

/// Why a group was not written.
enum Unwritten {
    /// There was no room, and nothing of it is left on the disk.
    Full,
    /// Nobody knows what is on the disk.
    Failed(DiskError),
}

impl From<DiskError> for Unwritten {
    fn from(error: DiskError) -> Self {
        Unwritten::Failed(error)
    }
}

/// A group as it goes to the disk.
struct Group {
    bytes: Bytes,
    /// The header of each frame and where its body starts in `bytes`.
    frames: Vec<(FrameHeader, usize)>,
    /// The crc of the last header.
    crc: u32,
}

impl LogWriter {
    pub(super) fn new(
        shared: Arc<Shared>,
        tail: Tail,
        entropy: Arc<dyn Entropy>,
        segment_bytes: u64,
    ) -> Self {
        Self { shared, tail, entropy, segment_bytes }
    }

    /// Writes what is appended until the log is closed; everything that was queued is answered
    /// first. An error means that the log takes no more appends, and the process should end.
    ///
    /// Blocks: give it a thread of its own.
    pub fn run(mut self) -> Result<(), DiskError> {
        let outcome = self.serve();
        let reason = match &outcome {
            Ok(()) => AppendError::Closed,
            Err(error) => AppendError::Failed(error.to_string()),
        };
        self.shared.end(&reason);
        outcome
    }

    fn serve(&mut self) -> Result<(), DiskError> {
        loop {
            // On a busy machine this lets appends that are about to be made join the group.
            std::thread::yield_now();
            let patience = if self.tail.is_marked { None } else { Some(IDLE) };
            match self.shared.queue.take(patience) {
                Taken::Group(mut group) => {
                    // Stable, so that each partition keeps the order of arrival.
                    group.sort_by_key(|pending| pending.partition);
                    self.commit(group)?;
                }
                Taken::Idle => self.hint()?,
                Taken::Closed => return self.hint(),
            }
        }
    }

    /// Writes a group, makes it visible, and answers.
    fn commit(&mut self, group: Vec<Pending>) -> Result<(), DiskError> {
        let first_offsets = self.tail.next.clone();
        let (refusal, outcome) = match self.write(&group) {
            Ok(()) => {
                answer(group, first_offsets);
                return Ok(());
            }
            Err(Unwritten::Full) => (AppendError::Full, Ok(())),
            Err(Unwritten::Failed(error)) => (AppendError::Failed(error.to_string()), Err(error)),
        };
        for pending in group {
            // The caller may have gone away.
            let _ = pending.answer.send(Err(refusal.clone()));
        }
        outcome
    }

    fn write(&mut self, pending: &[Pending]) -> Result<(), Unwritten> {
        self.make_room(group_bytes(pending) as u64)?;
        let group = self.tail.build(pending);
        self.put(&group.bytes)?;
        let mut at = self.tail.at;
        let mut frames = Vec::with_capacity(group.frames.len());
        for (header, body_at) in group.frames {
            let body = group.bytes.slice(body_at..body_at + header.body_bytes as usize);
            at += (HEADER_BYTES + header.padded_bytes()) as u64;
            if let Some(next) = self.tail.next.get_mut(header.partition as usize) {
                *next = header.next_offset();
            }
            let end = Location { segment: self.tail.number, at };
            frames.push(RecentFrame { header, body, end });
        }
        self.tail.at = at;
        self.tail.sequence += frames.len() as u64;
        self.tail.previous = group.crc;
        self.tail.is_marked = false;
        self.shared.publish(&self.tail, frames);
        Ok(())
    }

    /// Puts bytes behind the last frame, durably.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let path = segment::path(&self.shared.dir, self.tail.number);
        let written = self.tail.file.write_at(bytes, self.tail.at);
        match written.map_err(DiskError::on("write", &path)) {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                self.tail.retreat(&path)?;
                return Err(Unwritten::Full);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.tail.file.sync_data().map_err(DiskError::on("sync", &path))?)
    }

    /// Says on the disk that all frames are durable, so that damage to the last ones shows.
    fn hint(&mut self) -> Result<(), DiskError> {
        if self.tail.is_marked {
            return Ok(());
        }
        let tail = &self.tail;
        let hint = FrameHeader::mark(Kind::Hint, tail.sequence, tail.previous, tail.seed);
        let (bytes, crc) = hint.encode(tail.seed);
        match self.put(&bytes) {
            Ok(()) => {
                self.tail.at += bytes.len() as u64;
                self.tail.sequence += 1;
                self.tail.previous = crc;
            }
            // The records are safe without it.
            Err(Unwritten::Full) => {}
            Err(Unwritten::Failed(error)) => return Err(error),
        }
        self.tail.is_marked = true;
        Ok(())
    }

    /// Sees to it that a group fits behind the last frame.
    fn make_room(&mut self, bytes: u64) -> Result<(), Unwritten> {
        if self.tail.at + bytes + RESERVED_BYTES <= self.tail.capacity {
            return Ok(());
        }
        let capacity = segment::HEADER_BYTES as u64 + bytes + RESERVED_BYTES;
        self.rotate(capacity.max(self.segment_bytes))
    }

    /// Begins a new segment, and seals the old one once the new one is durable.
    fn rotate(&mut self, capacity: u64) -> Result<(), Unwritten> {
        let dir = &self.shared.dir;
        let header = SegmentHeader {
            uuid: self.entropy.next_u128(),
            previous: self.tail.uuid,
            number: self.tail.number + 1,
            sequence: self.tail.sequence,
            start: self.tail.next.clone(),
        };
        let (bytes, crc) = header.encode();
        // While segments are being trimmed, the spare may still have its old name on the disk.
        let trimming = self.shared.trimming.try_lock();
        let source = trimming.as_deref().copied().unwrap_or(Source::Fresh);
        let disk = &*self.shared.disk;
        let created = segment::create(dir, disk, &bytes, header.number, capacity, source);
        drop(trimming);
        let file = created.map_err(|error| match error.is_full() {
            true => Unwritten::Full,
            false => Unwritten::Failed(error),
        })?;
        self.shared.disk.sync_dir(dir).map_err(DiskError::on("sync", dir))?;
        self.seal()?;
        let segment = Segment::new(header, crc, capacity);
        self.tail = Tail::new(file, &segment);
        locked(&self.shared.segments).push(segment);
        Ok(())
    }

    /// Says in the old segment that there is a new one, so that its loss would show.
    fn seal(&self) -> Result<(), DiskError> {
        let tail = &self.tail;
        let path = segment::path(&self.shared.dir, tail.number);
        let seal = FrameHeader::mark(Kind::Seal, tail.sequence, tail.previous, tail.seed);
        let (bytes, _) = seal.encode(tail.seed);
        let written = tail.file.write_at(&bytes, tail.at);
        match written.map_err(DiskError::on("write", &path)) {
            // Only where space cannot be allocated ahead. The records are safe without it.
            Err(error) if error.is_full() => tracing::warn!(%error, "left a segment unsealed"),
            outcome => outcome?,
        }
        tail.file.sync_data().map_err(DiskError::on("sync", &path))
    }
}

impl Drop for LogWriter {
    /// Nobody shall wait for a writer that was never run or that panicked.
    fn drop(&mut self) {
        self.shared.end(&AppendError::Failed("its writer stopped".to_owned()));
    }
}

impl Tail {
    /// The frames of a group whose appends are in order of their partitions.
    fn build(&self, pending: &[Pending]) -> Group {
        let mut bytes = Vec::with_capacity(group_bytes(pending));
        let mut frames = Vec::new();
        let mut previous = self.previous;
        for appends in pending.chunk_by(|a, b| a.partition == b.partition) {
            let header_at = bytes.len();
            let body_at = header_at + HEADER_BYTES;
            bytes.resize(body_at, 0);
            for append in appends {
                bytes.extend_from_slice(&(append.block.len() as u32).to_le_bytes());
                bytes.extend_from_slice(&append.count.to_le_bytes());
                bytes.extend_from_slice(&append.block);
            }
            let body_bytes = bytes.len() - body_at;
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
            let partition = appends.first().map_or(0, |append| append.partition.0);
            let first_offset = self.next.get(partition as usize).copied().unwrap_or(0);
            let header = FrameHeader {
                kind: Kind::Data,
                sequence: self.sequence + frames.len() as u64,
                durable: self.sequence,
                partition,
                first_offset,
                count: appends.iter().map(|append| append.count).sum(),
                body_bytes: body_bytes as u32,
                body_crc: self.seed.body_crc(first_offset, &bytes[body_at..]),
                previous,
            };
            let (encoded, crc) = header.encode(self.seed);
            bytes[header_at..body_at].copy_from_slice(&encoded);
            previous = crc;
            frames.push((header, body_at));
        }
        Group { bytes: bytes.into(), frames, crc: previous }
    }
}

/// The size of a group's frames.
fn group_bytes(pending: &[Pending]) -> usize {
    pending
        .chunk_by(|a, b| a.partition == b.partition)
        .map(|appends| {
            let body: usize =
                appends.iter().map(|append| BLOCK_HEADER_BYTES + append.block.len()).sum();
            HEADER_BYTES + body.next_multiple_of(ALIGN)
        })
        .sum()
}

/// Tells every caller of a durable group where its records lie.
fn answer(group: Vec<Pending>, mut next: Vec<u64>) {
    for pending in group {
        let Partition(partition) = pending.partition;
        let Some(next) = next.get_mut(partition as usize) else { continue };
        let first = *next;
        *next += u64::from(pending.count);
        let appended = Appended { partition: pending.partition, offsets: (first..*next).into() };
        // The caller may have gone away; the records are there all the same.
        let _ = pending.answer.send(Ok(appended));
    }
}

impl Shared {
    /// Shows durable frames to readers.
    fn publish(&self, tail: &Tail, frames: Vec<RecentFrame>) {
        {
            let mut recent = locked(&self.recent);
            frames.into_iter().for_each(|frame| recent.push(frame));
        }
        self.durable.send_modify(|durable| {
            durable.sequence = tail.sequence;
            durable.end = tail.location();
            durable.next.clone_from(&tail.next);
        });
    }

    /// Ends the log: no append is taken any more, and readers get what is left. Only the first
    /// reason counts.
    fn end(&self, reason: &AppendError) {
        self.durable.send_if_modified(|durable| {
            let was_open = std::mem::replace(&mut durable.is_open, false);
            if was_open {
                self.queue.end(reason);
            }
            was_open
        });
    }
}
