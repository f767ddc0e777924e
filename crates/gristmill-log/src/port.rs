//! The log's port: what every adapter promises.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{Coded, ErrorCode, Event, Partition, Positions};
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::codec;
use crate::kafka::Messages;

/// A durable, ordered, partitioned log of events.
///
/// # Offsets
///
/// ```text
///   0 ... start ............... durable ............ written
///   |trimmed|  can be read      |  not yet visible   |
/// ```
///
/// Every partition numbers its records upwards from 0. `start` is the lowest offset that can still
/// be read, `durable` the next offset after the last record on stable storage. Offsets are never
/// reused: not after a crash, not after trimming.
///
/// A log that this process alone writes has no gaps. A *shared* log, which others write to and tidy
/// up as well, may have some: a reader passes over them, and says so in
/// [`LogBatch::next_offset`]. Of a shared log `start` and `durable` are what this process has last
/// seen; what it has appended or read itself is always included.
///
/// # Durable
///
/// A record is durable when it survives the death of the process, of the kernel and of the power
/// supply. [`append`](EventLog::append) answers only then, and readers see only durable records,
/// so nothing that was read can disappear.
///
/// # Order
///
/// The records of one append are in order. Two appends to a partition, the second started after
/// the first was answered, keep that order. If this process alone writes, the records of an append
/// are contiguous too, and are all durable or none. In a shared log those of others may lie
/// between, and of an append that failed any part may be durable.
///
/// # Failure
///
/// An append that is answered with an error, or not at all, may have happened or not. After
/// [`AppendError::Failed`] the log takes no further append until it is opened again; after
/// [`AppendError::Full`] it goes on as soon as there is room, after [`AppendError::Unavailable`] as
/// soon as its server can be reached.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// How many partitions there are, numbered from 0. At least 1. Fixed for the log's life, unless
    /// it is shared: then others may add some.
    fn partitions(&self) -> u32;

    /// Whether it can take events now, as far as it knows. One that is a server's client cannot
    /// while it does not reach its server; until it has reached it once, its positions are 0.
    fn is_available(&self) -> bool {
        true
    }

    /// What it is called and where it is, for reports.
    fn place(&self) -> LogPlace<'_> {
        LogPlace { name: "events", address: "embedded" }
    }

    /// Appends events to one partition, in order, and answers when they are durable.
    ///
    /// Dropping the future does not undo the append. `events` must not be empty, and its encoded
    /// size must be below [`gristmill_model::limits::FRAME_BYTES`].
    async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError>;

    /// The lowest offset of every partition that can be read.
    fn start(&self) -> Positions;

    /// The next offset after the last durable record of every partition.
    fn durable(&self) -> Positions;

    /// A reader that stands at `from`. Partitions that `from` does not name start at 0.
    async fn read_from(&self, from: &Positions) -> Result<Box<dyn LogReader>, ReadError>;

    /// A reader that has its share of the log: of all processes that ask for one, each partition is
    /// given to one, and may go to another at any time. What is given begins at the position that
    /// `committed` tells then.
    ///
    /// A process that was taken for dead, or does not know yet that a partition went away, reads on
    /// for a while. So a record may be read by several, and whoever takes records in must compare
    /// positions. `committed` may tell less than is true, never more.
    ///
    /// A log that one process has for itself gives all of it.
    async fn share(&self, committed: Committed) -> Result<Box<dyn LogReader>, ReadError> {
        self.read_from(&committed()).await
    }

    /// Shows copies of records that have been set aside to whoever looks after the log, if it has a place
    /// for them, and takes little time for it. What is to be kept of them is the store's: a copy may come
    /// twice, or be missing where the process died first or the place takes none, which is reported.
    async fn show_set_aside(&self, _: &[SetAside<'_>]) {}

    /// Allows the log to forget every record below `below`. It may keep any of them for as long
    /// as it likes, and never forgets a record at or above.
    async fn trim(&self, below: &Positions) -> Result<(), TrimError>;
}

/// What a log is called and where it is, in the words of systems with a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace<'a> {
    /// The topic.
    pub name: &'a str,
    /// The brokers.
    pub address: &'a str,
}

/// A record that makes no sense, or that a store refuses.
#[derive(Clone, Copy, Debug)]
pub struct SetAside<'a> {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: u64,
    /// Its key, where records have one.
    pub key: &'a [u8],
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Why it was set aside.
    pub reason: &'a str,
}

/// Tells how far the records of each partition have been taken in.
pub type Committed = Arc<dyn Fn() -> Positions + Send + Sync>;

/// Reads a log in order, and leaves out no record of a partition that it has.
#[async_trait]
pub trait LogReader: Send {
    /// The next records of any partitions, waiting until there is one: at least one, or a batch that
    /// only passes over a gap.
    ///
    /// Gives about `max_bytes` of encoded records at most, as much of that as is at hand, and always
    /// at least one batch, however large. Cancel-safe: dropping the future loses no record.
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError>;
}

/// Where an append's records lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub partition: Partition,
    /// The offsets, one per event in the order they were given.
    pub offsets: Offsets,
}

/// Increasing offsets of one partition, mostly one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets(SmallVec<[Range<u64>; 1]>);

impl Offsets {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| run.end - run.start).sum()
    }

    /// The first one; 0 if there is none.
    pub fn first(&self) -> u64 {
        self.0.first().map_or(0, |run| run.start)
    }

    /// The offset after the last one; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |run| run.end)
    }

    /// Every one, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().cloned().flatten()
    }
}

impl From<Range<u64>> for Offsets {
    fn from(run: Range<u64>) -> Self {
        Self(smallvec![run])
    }
}

impl FromIterator<u64> for Offsets {
    fn from_iter<T: IntoIterator<Item = u64>>(offsets: T) -> Self {
        let mut runs = SmallVec::<[Range<u64>; 1]>::new();
        for offset in offsets {
            match runs.last_mut() {
                Some(run) if run.end == offset => run.end += 1,
                _ => runs.push(offset..offset + 1),
            }
        }
        Self(runs)
    }
}

/// Records of one partition, in order, and nothing left out between them.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The partition.
    pub partition: Partition,
    /// The first record's offset; where there is none, where the gap begins.
    pub first_offset: u64,
    /// The offset after the last record and the gap that may follow it.
    pub next_offset: u64,
    /// How many records there are.
    pub count: u32,
    /// The records.
    pub block: Block,
}

/// Records as they lie in the log.
#[derive(Clone, Debug)]
pub enum Block {
    /// Consecutive records, encoded by [`codec`].
    Codec(Bytes),
    /// Messages of a Kafka partition.
    Messages(Messages),
}

impl Block {
    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        match self {
            Block::Codec(block) => block.len(),
            Block::Messages(messages) => messages.bytes(),
        }
    }
}

impl LogBatch {
    /// Consecutive records, encoded by [`codec`].
    pub fn of_codec(partition: Partition, first_offset: u64, count: u32, block: Bytes) -> Self {
        let next_offset = first_offset + u64::from(count);
        Self { partition, first_offset, next_offset, count, block: Block::Codec(block) }
    }

    /// The records, decoded one by one and borrowing from the batch. Always exactly `count` items.
    pub fn records(&self) -> Box<dyn Iterator<Item = Record<'_>> + '_> {
        match &self.block {
            Block::Codec(block) => Box::new(
                codec::decode(block, self.count)
                    .zip(self.first_offset..)
                    .map(|(payload, offset)| Record { offset, payload }),
            ),
            Block::Messages(messages) => Box::new(messages.records(self.partition)),
        }
    }

    /// The key of a record of this batch; empty where records have none.
    pub fn key(&self, offset: u64) -> &[u8] {
        match &self.block {
            Block::Codec(_) => &[],
            Block::Messages(messages) => messages.key(offset).unwrap_or_default(),
        }
    }

    /// The bytes of a record of this batch as others would find it in the log, given what was read
    /// of it.
    pub fn original(&self, offset: u64, event: &Event<'_>) -> Vec<u8> {
        match &self.block {
            // A record refers to others of its block, so it is written for itself.
            Block::Codec(_) => {
                let mut bytes = Vec::new();
                codec::encode(std::slice::from_ref(event), &mut bytes);
                bytes
            }
            Block::Messages(messages) => messages.value(offset).unwrap_or_default().to_vec(),
        }
    }
}

/// One record of the log.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: u64,
    /// What it says, or why it cannot be read.
    pub payload: Result<Payload<'a>, BadRecord<'a>>,
}

/// What a record says.
#[derive(Debug)]
pub enum Payload<'a> {
    /// An event.
    Event(Event<'a>),
}

/// A record whose bytes arrived whole but make no sense.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct BadRecord<'a> {
    /// Why not.
    pub reason: Cow<'static, str>,
    /// The record's bytes.
    pub bytes: &'a [u8],
}

/// Why an append was not answered with success.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The device has no room; nothing was appended, later appends may succeed.
    #[error("the log's disk is full: free space in the data directory, then send again")]
    Full,
    /// The log's server cannot be reached. Whether this append happened is unknown.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The log failed and must be opened again. Whether this append happened is unknown.
    #[error("the log failed: {0}")]
    Failed(String),
    /// The log is closed; nothing was appended.
    #[error("the log is closed")]
    Closed,
    /// The records are larger than a frame may be; nothing was appended.
    #[error("the events of one request take {bytes} bytes in the log, more than {limit}")]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// What they may take.
        limit: usize,
    },
}

impl Coded for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            AppendError::Full | AppendError::Unavailable(_) | AppendError::Failed(_) => {
                ErrorCode::LogUnavailable
            }
            AppendError::Closed => ErrorCode::NotReady,
            AppendError::TooLarge { .. } => ErrorCode::TooLarge,
        }
    }
}

/// Why the log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The position was trimmed away, or lies beyond the end.
    #[error("partition {} cannot be read from offset {wanted}: the log holds {} to {}", partition.0, held.start, held.end)]
    OutOfRange {
        /// The partition.
        partition: Partition,
        /// The offset asked for.
        wanted: u64,
        /// What there is.
        held: Range<u64>,
    },
    /// Acknowledged bytes are damaged. The log is not repaired by dropping them.
    #[error("{0}")]
    Damaged(String),
    /// The device failed.
    #[error("cannot read the log: {0}")]
    Io(#[from] std::io::Error),
    /// The log's server refuses, and trying again does not help.
    #[error("cannot read the log: {0}")]
    Refused(String),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// Why the log could not be trimmed.
#[derive(Debug, Error)]
#[error("cannot trim the log: {0}")]
pub struct TrimError(#[from] pub std::io::Error);
