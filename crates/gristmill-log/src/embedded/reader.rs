//! Readers: each follows the frames in their sequence, in memory where they still are and in the
//! files where not.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use gristmill_model::{Partition, Positions};
use tokio::sync::watch;

use super::error::Damage;
use super::frame::{self, FrameHeader, Kind};
use super::segment::{self, Segment};
use super::walk::{Step, Walk};
use super::{Durable, Shared, locked};
use crate::{LogBatch, LogReader, ReadError};

/// A place in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u64,
    /// In bytes.
    pub(super) at: u64,
}

/// Where a reader stands.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    /// The number of the next frame.
    pub(super) sequence: u64,
    /// Where that frame lies, or the end of the segment before it.
    location: Location,
    /// The next offset of each partition; frames below it are passed over.
    next: Vec<u64>,
}

impl Cursor {
    fn start_of(segment: &Segment, next: Vec<u64>) -> Self {
        let location = Location { segment: segment.number, at: segment::HEADER_BYTES as u64 };
        Self { sequence: segment.sequence, location, next }
    }

    /// The next offset of a partition.
    pub(super) fn next(&self, partition: u32) -> u64 {
        self.next.get(partition as usize).copied().unwrap_or(u64::MAX)
    }

    /// Moves behind a frame.
    pub(super) fn pass(&mut self, header: &FrameHeader, end: Location) {
        self.sequence = header.sequence + 1;
        self.location = end;
        if let Some(next) = self.next.get_mut(header.partition as usize) {
            *next = header.next_offset().max(*next);
        }
    }
}

/// What was read, and where the reader stands then.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) cursor: Cursor,
    pub(super) batches: VecDeque<LogBatch>,
    /// The size of the batches.
    pub(super) bytes: usize,
}

impl Read {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self { cursor, batches: VecDeque::new(), bytes: 0 }
    }
}

/// A reader of the embedded log.
pub(super) struct EmbeddedReader {
    shared: Arc<Shared>,
    durable: watch::Receiver<Durable>,
    cursor: Cursor,
    /// Read and not yet given: at most one frame more than was asked for.
    ready: VecDeque<LogBatch>,
}

impl EmbeddedReader {
    pub(super) fn new(shared: &Arc<Shared>, from: &Positions) -> Result<Self, ReadError> {
        let receiver = shared.durable.subscribe();
        let durable = receiver.borrow().clone();
        let next: Vec<u64> = (0..shared.partitions).map(|p| from.next(Partition(p))).collect();
        let segments = locked(&shared.segments);
        for (partition, held) in held(segments.start(), &durable) {
            let wanted = from.next(partition);
            if wanted < held.start || wanted > held.end {
                return Err(ReadError::OutOfRange { partition, wanted, held });
            }
        }
        let at_or_below = |segment: &&Segment| {
            let missing = next.iter().zip(&durable.next).map(|(next, end)| next < end);
            segment
                .start
                .iter()
                .zip(&next)
                .zip(missing)
                .all(|((start, next), is_missing)| !is_missing || start <= next)
        };
        let start = segments.iter().rev().find(at_or_below);
        let cursor = match start {
            Some(segment) if next != durable.next => Cursor::start_of(segment, next),
            _ => Cursor { sequence: durable.sequence, location: durable.end, next },
        };
        drop(segments);
        Ok(Self { shared: Arc::clone(shared), durable: receiver, cursor, ready: VecDeque::new() })
    }

    /// Gives of what was read about `max_bytes`, and at least one batch if there is any.
    fn take(&mut self, max_bytes: usize) -> Vec<LogBatch> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(batch) = self.ready.pop_front() {
            bytes += batch.block.bytes();
            taken.push(batch);
            if self.ready.front().is_some_and(|next| bytes + next.block.bytes() > max_bytes) {
                break;
            }
        }
        taken
    }

    /// Reads more frames below `until`, from memory or from the files.
    async fn fill(&mut self, until: u64, max_bytes: usize) -> Result<(), ReadError> {
        let recent = locked(&self.shared.recent).read(&self.cursor, until, max_bytes);
        let read = match recent {
            Some(read) => read,
            None => {
                let (shared, cursor) = (Arc::clone(&self.shared), self.cursor.clone());
                let files = move || shared.read_files(cursor, until, max_bytes);
                tokio::task::spawn_blocking(files).await.map_err(io::Error::other)??
            }
        };
        self.cursor = read.cursor;
        self.ready.extend(read.batches);
        Ok(())
    }
}

#[async_trait]
impl LogReader for EmbeddedReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError> {
        loop {
            let (until, is_open) = {
                let durable = self.durable.borrow_and_update();
                (durable.sequence, durable.is_open)
            };
            // What the last read left over may be little: given alone, it would pass for the end
            // of the log.
            let ready: usize = self.ready.iter().map(|batch| batch.block.bytes()).sum();
            if self.cursor.sequence < until && ready < max_bytes.max(1) {
                match self.fill(until, max_bytes.saturating_sub(ready)).await {
                    // The records before it are good; it comes again.
                    Err(_) if !self.ready.is_empty() => return Ok(self.take(max_bytes)),
                    filled => filled?,
                }
            } else if !self.ready.is_empty() {
                return Ok(self.take(max_bytes));
            } else if !is_open || self.durable.changed().await.is_err() {
                return Err(ReadError::Closed);
            }
        }
    }
}

impl Shared {
    /// Reads on from `cursor` in its segment, at least one frame if the segment is still there.
    fn read_files(
        &self,
        mut cursor: Cursor,
        until: u64,
        max_bytes: usize,
    ) -> Result<Read, ReadError> {
        let (segment, end) = self.locate(&mut cursor)?;
        let until = end.map_or(until, |end| end.min(until));
        let mut read = Read::new(cursor);
        match self.read_segment(&segment, until, max_bytes, &mut read) {
            // What comes before it is good, and reading on comes upon it again.
            Err(_) if !read.batches.is_empty() => Ok(read),
            // It was trimmed since it was looked up: its file is gone or holds another segment.
            Err(_) if locked(&self.segments).first().number > segment.number => Ok(read),
            outcome => outcome.map(|()| read),
        }
    }

    /// Reads frames of a segment behind those in `read`; after an error `read` is still whole.
    fn read_segment(
        &self,
        segment: &Segment,
        until: u64,
        max_bytes: usize,
        read: &mut Read,
    ) -> Result<(), ReadError> {
        let path = segment::path(&self.dir, segment.number);
        let file = self.disk.open(&path)?;
        let damaged = |at: u64, what: &str| {
            let damage = Damage { file: path.clone(), at, what: what.to_owned() };
            ReadError::Damaged(damage.to_string())
        };
        let location = read.cursor.location;
        let mut walk = Walk::new(&*file, segment.seed, location.at, read.cursor.sequence, None);
        while read.bytes < max_bytes.max(1) && walk.sequence() < until {
            let frame = match walk.step()? {
                Step::Invalid(what) => return Err(damaged(walk.at(), what)),
                Step::Frame(frame) => frame,
            };
            let next = read.cursor.next(frame.header.partition);
            if frame.header.kind == Kind::Data {
                if frame.header.first_offset > next {
                    let what = "the frame's records do not follow those before";
                    return Err(damaged(frame.at, what));
                }
                let whole = read.batches.len();
                let split = frame::split_body(&frame.header, frame.body, next, &mut read.batches);
                let Some(bytes) = split else {
                    read.batches.truncate(whole);
                    return Err(damaged(frame.at, "the frame's body is not as its header says"));
                };
                read.bytes += bytes;
            }
            let end = Location { segment: segment.number, at: walk.at() };
            read.cursor.pass(&frame.header, end);
        }
        Ok(())
    }

    /// The segment of the cursor's frame and where it ends. Moves the cursor to the segment's
    /// start if it stands at the end of the one before.
    fn locate(&self, cursor: &mut Cursor) -> Result<(Segment, Option<u64>), ReadError> {
        let segments = locked(&self.segments);
        let start = segments.start();
        let durable = self.durable.borrow();
        let trimmed = held(start, &durable).find(|(p, held)| cursor.next(p.0) < held.start);
        if let Some((partition, held)) = trimmed {
            let wanted = cursor.next(partition.0);
            return Err(ReadError::OutOfRange { partition, wanted, held });
        }
        let (segment, end) = segments.holding(cursor.sequence);
        if segment.number != cursor.location.segment {
            *cursor = Cursor::start_of(segment, std::mem::take(&mut cursor.next));
        }
        Ok((segment.clone(), end))
    }
}

/// What the log holds of each partition.
fn held(start: &[u64], durable: &Durable) -> impl Iterator<Item = (Partition, Range<u64>)> {
    let ranges = start.iter().zip(&durable.next).map(|(start, end)| *start..*end);
    (0..).map(Partition).zip(ranges)
}
