//! The log's port: what every adapter promises.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{Coded, ErrorCode, Event, Partition, Positions};
use thiserror::Error;

use crate::codec;

/// A durable, ordered, partitioned log of events.
///
/// # Offsets
///
/// ```text
///   0 ... start ............... durable ............ written
///   |trimmed|  can be read      |  not yet visible   |
/// ```
///
/// Every partition numbers its records 0, 1, 2 … without gaps. `start` is the lowest offset that
/// can still be read, `durable` the next offset after the last record on stable storage. Offsets
/// are never reused: not after a crash, not after trimming.
///
/// # Durable
///
/// A record is durable when it survives the death of the process, of the kernel and of the power
/// supply. [`append`](EventLog::append) answers only then, and readers see only durable records,
/// so nothing that was read can disappear.
///
/// # Order
///
/// The records of one append are contiguous and in order, and are all durable or none. Two
/// appends to a partition, the second started after the first was answered, keep that order.
///
/// # Failure
///
/// An append that is answered with an error, or not at all, may have happened or not. After
/// [`AppendError::Failed`] the log takes no further append until it is opened again; after
/// [`AppendError::Full`] it goes on as soon as there is room.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// How many partitions there are, numbered from 0. At least 1; fixed for the log's life.
    fn partitions(&self) -> u32;

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

    /// Allows the log to forget every record below `below`. It may keep any of them for as long
    /// as it likes, and never forgets a record at or above.
    async fn trim(&self, below: &Positions) -> Result<(), TrimError>;
}

/// Reads a log in order, each partition without gaps.
#[async_trait]
pub trait LogReader: Send {
    /// The next records of any partitions, at least one, waiting until there is one.
    ///
    /// Gives about `max_bytes` of encoded records at most, and always at least one batch, however
    /// large. Cancel-safe: dropping the future loses no record.
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError>;
}

/// Where an append's records lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub partition: Partition,
    /// The offsets, one per event in the order they were given.
    pub offsets: Range<u64>,
}

/// Consecutive records of one partition, as they were appended together.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The partition.
    pub partition: Partition,
    /// The first record's offset.
    pub first_offset: u64,
    /// How many records there are.
    pub count: u32,
    /// The records, encoded by [`codec`].
    pub block: Bytes,
}

impl LogBatch {
    /// The offset after the last record.
    pub fn next_offset(&self) -> u64 {
        self.first_offset + u64::from(self.count)
    }

    /// The records, decoded one by one and borrowing from the batch. Always exactly `count` items.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        codec::decode(&self.block, self.count)
            .zip(self.first_offset..)
            .map(|(payload, offset)| Record { offset, payload })
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
    pub reason: &'static str,
    /// The record's bytes.
    pub bytes: &'a [u8],
}

/// Why an append was not answered with success.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The device has no room; nothing was appended, later appends may succeed.
    #[error("the log's disk is full: free space in the data directory, then send again")]
    Full,
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
            AppendError::Full | AppendError::Failed(_) => ErrorCode::LogUnavailable,
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
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// Why the log could not be trimmed.
#[derive(Debug, Error)]
#[error("cannot trim the log: {0}")]
pub struct TrimError(#[from] pub std::io::Error);
