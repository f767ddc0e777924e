//! The embedded log: segment files in one directory, written by one thread.
//!
//! Every partition shares one sequence of files and one sync. [`LogWriter::run`] is the only code
//! that writes records: it takes all appends that queued up while the last sync ran, writes them
//! as one group, syncs, and only then makes them visible and answers. Recovery, in
//! [`EmbeddedLog::open`], cuts off what was never acknowledged and refuses to open what was and is
//! damaged.

mod check;
mod disk;
mod error;
mod frame;
mod queue;
mod reader;
mod recent;
mod recover;
mod segment;
#[cfg(feature = "testing")]
mod sim_disk;
mod walk;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{Entropy, Event, Partition, Positions, limits};
use tokio::sync::watch;

pub use check::{CheckReport, check};
pub use disk::{Disk, DiskFile, DiskLock, RealDisk};
pub use error::{Damage, DiskError, OpenError};
#[cfg(feature = "testing")]
pub use sim_disk::{Fault, Fullness, SimDisk};
pub use writer::LogWriter;

use self::queue::Queue;
use self::reader::{EmbeddedReader, Location};
use self::recent::Recent;
use self::segment::{Segments, Source};
use crate::codec;
use crate::{AppendError, Appended, EventLog, LogReader, ReadError, TrimError};

/// How an embedded log is laid out.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The directory, which belongs to this log alone.
    pub dir: PathBuf,
    /// The size of a segment file, allocated ahead, in bytes.
    pub segment_bytes: u64,
    /// How many partitions; fixed when the log is created.
    pub partitions: u32,
    /// How much of the newest records is kept in memory for readers, in bytes.
    pub recent_bytes: usize,
}

impl EmbeddedConfig {
    /// One partition in `dir`, with segments of 64 MiB and 32 MiB of recent records.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes: 64 << 20, partitions: 1, recent_bytes: 32 << 20 }
    }

    fn verify(&self) -> Result<(), OpenError> {
        if !(1..=limits::PARTITIONS).contains(&self.partitions) {
            let most = limits::PARTITIONS;
            return Err(OpenError::Config(format!("`partitions` must be from 1 to {most}")));
        }
        if !(segment::SMALLEST..=segment::LARGEST).contains(&self.segment_bytes) {
            let (least, most) = (segment::SMALLEST, segment::LARGEST);
            return Err(OpenError::Config(format!(
                "`segment_bytes` must be from {least} to {most}"
            )));
        }
        Ok(())
    }
}

/// The embedded adapter of [`EventLog`].
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

/// What the log, its writer and its readers share.
struct Shared {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    partitions: u32,
    queue: Queue,
    durable: watch::Sender<Durable>,
    recent: Mutex<Recent>,
    segments: Mutex<Segments>,
    /// Held while files are trimmed, so that they go in order. Says what the next segment may be
    /// made from.
    trimming: Mutex<Source>,
    /// Held until the last user of the directory is gone.
    _lock: Box<dyn DiskLock>,
}

/// How far the log is durable, and whether it goes on.
#[derive(Clone, Debug)]
struct Durable {
    /// The next frame's sequence number.
    sequence: u64,
    /// Where the next frame will lie.
    end: Location,
    /// The next offset of each partition.
    next: Vec<u64>,
    /// Whether more records may come.
    is_open: bool,
}

impl EmbeddedLog {
    /// Opens the log in `config.dir`, or creates it, and recovers it from whatever happened.
    ///
    /// The writer must be run, on a thread of its own, for appends to be answered.
    pub fn open(
        config: EmbeddedConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Arc<EmbeddedLog>, LogWriter), OpenError> {
        config.verify()?;
        disk.create_dir(&config.dir).map_err(DiskError::on("create the directory", &config.dir))?;
        let lock = recover::lock(&config.dir, &*disk)?;
        let recovered = recover::recover(&config, &*disk, &*entropy)?;
        let durable = Durable {
            sequence: recovered.tail.sequence,
            end: recovered.tail.location(),
            next: recovered.tail.next.clone(),
            is_open: true,
        };
        let shared = Arc::new(Shared {
            dir: config.dir,
            disk,
            partitions: config.partitions,
            queue: Queue::new(),
            recent: Mutex::new(Recent::new(config.recent_bytes, durable.sequence)),
            durable: watch::Sender::new(durable),
            segments: Mutex::new(recovered.segments),
            trimming: Mutex::new(Source::Fresh),
            _lock: lock,
        });
        let writer =
            LogWriter::new(Arc::clone(&shared), recovered.tail, entropy, config.segment_bytes);
        Ok((Arc::new(EmbeddedLog { shared }), writer))
    }

    /// Takes no more appends. The writer answers those it has and ends; readers get what is left
    /// and then [`ReadError::Closed`].
    pub fn close(&self) {
        self.shared.queue.close();
    }

    /// How many bytes the segment files take on disk, allocated space included.
    pub fn disk_bytes(&self) -> u64 {
        locked(&self.shared.segments).disk_bytes()
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.shared.partitions
    }

    async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        let count = self.shared.admissible(partition, events)?;
        let mut block = Vec::with_capacity(codec::size_bound(events));
        codec::encode(events, &mut block);
        self.shared.queue.append(partition, count, Bytes::from(block)).await
    }

    fn start(&self) -> Positions {
        positions(locked(&self.shared.segments).start())
    }

    fn durable(&self) -> Positions {
        positions(&self.shared.durable.borrow().next)
    }

    async fn read_from(&self, from: &Positions) -> Result<Box<dyn LogReader>, ReadError> {
        Ok(Box::new(EmbeddedReader::new(&self.shared, from)?))
    }

    async fn trim(&self, below: &Positions) -> Result<(), TrimError> {
        let shared = Arc::clone(&self.shared);
        let below: Vec<u64> = (0..shared.partitions).map(|p| below.next(Partition(p))).collect();
        tokio::task::spawn_blocking(move || shared.trim(&below))
            .await
            .unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)))
            .map_err(TrimError)
    }
}

impl Shared {
    fn admissible(&self, partition: Partition, events: &[Event<'_>]) -> Result<u32, AppendError> {
        if partition.0 >= self.partitions {
            let text = format!("there is no partition {} of {}", partition.0, self.partitions);
            return Err(AppendError::Failed(text));
        }
        match u32::try_from(events.len()) {
            Ok(count) if count > 0 => Ok(count),
            Ok(_) => Err(AppendError::Failed("an append needs at least one event".to_owned())),
            Err(_) => Err(AppendError::TooLarge {
                bytes: codec::size_bound(events),
                limit: queue::BLOCK_BYTES,
            }),
        }
    }

    /// Takes segments away from the front while every record in them is below; the last one is
    /// kept as the spare. The directory is synced after each, so that no crash leaves a gap. Until
    /// that has succeeded the file may have its old name on the disk, and is not used again.
    fn trim(&self, below: &[u64]) -> std::io::Result<()> {
        let mut source = locked(&self.trimming);
        loop {
            let Some(segment) = locked(&self.segments).take_below(below) else { return Ok(()) };
            let path = segment::path(&self.dir, segment.number);
            *source = Source::Fresh;
            let removed = match self.disk.rename(&path, &self.dir.join(segment::SPARE)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => self.disk.sync_dir(&self.dir),
            };
            if let Err(error) = removed {
                locked(&self.segments).put_back(segment);
                return Err(error);
            }
            *source = Source::Spare;
            tracing::debug!(segment = segment.number, "trimmed a segment of the log");
        }
    }
}

fn positions(next: &[u64]) -> Positions {
    (0..).map(Partition).zip(next.iter().copied()).collect()
}

/// Locks, whatever a panic elsewhere left: every critical section here leaves its data whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
