//! The memory adapter: the simplest log that keeps the contract, and the oracle for the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{Event, Partition, Positions, limits};
use tokio::sync::watch;

use crate::codec;
use crate::{AppendError, Appended, Block, EventLog, LogBatch, LogReader, ReadError, TrimError};

/// A log that lives as long as the process. It keeps everything that is not trimmed.
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    partitions: Mutex<Vec<PartitionLog>>,
    /// Changes with every append.
    changed: watch::Sender<()>,
}

#[derive(Clone, Debug, Default)]
struct PartitionLog {
    start: u64,
    next: u64,
    batches: Vec<LogBatch>,
}

impl MemoryLog {
    /// An empty log of `partitions` partitions.
    pub fn new(partitions: u32) -> Self {
        let partitions = vec![PartitionLog::default(); partitions.max(1) as usize];
        let shared = Shared { partitions: Mutex::new(partitions), changed: watch::Sender::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Appends `count` records whose bytes need not make sense. The partition must exist.
    pub fn append_raw(
        &self,
        partition: Partition,
        block: Bytes,
        count: u32,
    ) -> Result<Appended, AppendError> {
        let mut partitions = self.shared.lock();
        let Some(log) = partitions.get_mut(partition.0 as usize) else {
            return Err(AppendError::Failed(format!("there is no partition {}", partition.0)));
        };
        let first_offset = log.next;
        log.next += u64::from(count);
        let offsets = first_offset..log.next;
        log.batches.push(LogBatch::of_codec(partition, first_offset, count, block));
        drop(partitions);
        self.shared.changed.send_replace(());
        Ok(Appended { partition, offsets: offsets.into() })
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn partitions(&self) -> u32 {
        self.shared.lock().len() as u32
    }

    async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        if events.is_empty() {
            return Err(AppendError::Failed("an append needs at least one event".to_owned()));
        }
        let mut block = Vec::new();
        codec::encode(events, &mut block);
        if block.len() >= limits::FRAME_BYTES {
            return Err(AppendError::TooLarge { bytes: block.len(), limit: limits::FRAME_BYTES });
        }
        self.append_raw(partition, block.into(), events.len() as u32)
    }

    fn start(&self) -> Positions {
        self.shared.positions(|log| log.start)
    }

    fn durable(&self) -> Positions {
        self.shared.positions(|log| log.next)
    }

    async fn read_from(&self, from: &Positions) -> Result<Box<dyn LogReader>, ReadError> {
        let mut next = Vec::new();
        for (partition, log) in (0..).map(Partition).zip(self.shared.lock().iter()) {
            let wanted = from.next(partition);
            log.holds(partition, wanted)?;
            next.push(wanted);
        }
        let changed = self.shared.changed.subscribe();
        Ok(Box::new(MemoryReader { shared: Arc::clone(&self.shared), changed, next }))
    }

    async fn trim(&self, below: &Positions) -> Result<(), TrimError> {
        let mut partitions = self.shared.lock();
        for (partition, log) in (0..).map(Partition).zip(partitions.iter_mut()) {
            let below = below.next(partition);
            log.batches.retain(|batch| batch.next_offset > below);
            log.start = log.batches.first().map_or(log.next, |batch| batch.first_offset);
        }
        Ok(())
    }
}

impl Shared {
    /// Locks, whatever a panic elsewhere left: every critical section leaves its data whole.
    fn lock(&self) -> MutexGuard<'_, Vec<PartitionLog>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn positions(&self, of: fn(&PartitionLog) -> u64) -> Positions {
        (0..).map(Partition).zip(self.lock().iter().map(of)).collect()
    }
}

impl PartitionLog {
    fn holds(&self, partition: Partition, wanted: u64) -> Result<(), ReadError> {
        let held = self.start..self.next;
        if wanted < held.start || wanted > held.end {
            return Err(ReadError::OutOfRange { partition, wanted, held });
        }
        Ok(())
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    next: Vec<u64>,
}

impl MemoryReader {
    fn read(&mut self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError> {
        let mut bytes = 0;
        let mut found = Vec::new();
        let partitions = self.shared.lock();
        for ((partition, log), next) in (0..).map(Partition).zip(&*partitions).zip(&self.next) {
            log.holds(partition, *next)?;
        }
        for (log, next) in partitions.iter().zip(&mut self.next) {
            let first = log.batches.partition_point(|batch| batch.next_offset <= *next);
            for batch in log.batches.iter().skip(first) {
                if !found.is_empty() && bytes + batch.block.bytes() > max_bytes {
                    return Ok(found);
                }
                bytes += batch.block.bytes();
                found.push(from_offset(batch, *next));
                *next = batch.next_offset;
            }
        }
        Ok(found)
    }
}

/// The batch without its records below `offset`.
fn from_offset(batch: &LogBatch, offset: u64) -> LogBatch {
    let hidden = offset.saturating_sub(batch.first_offset) as u32;
    match &batch.block {
        Block::Codec(block) if hidden > 0 => {
            let (count, block) = (batch.count - hidden, codec::suffix(block, hidden));
            LogBatch::of_codec(batch.partition, offset, count, block)
        }
        _ => batch.clone(),
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError> {
        loop {
            self.changed.mark_unchanged();
            let found = self.read(max_bytes)?;
            if !found.is_empty() {
                return Ok(found);
            }
            if self.changed.changed().await.is_err() {
                return Err(ReadError::Closed);
            }
        }
    }
}
