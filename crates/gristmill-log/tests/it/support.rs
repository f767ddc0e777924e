//! A running embedded log, a workload with a ledger, and the check of one against the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use gristmill_log::conformance::{read_all, samples};
use gristmill_log::embedded::{
    Disk, DiskError, EmbeddedConfig, EmbeddedLog, LogWriter, OpenError, SimDisk,
};
use gristmill_log::{AppendError, Appended, EventLog};
use gristmill_model::{Entropy, Partition, Positions};

/// Distinct numbers that look random.
#[derive(Default)]
pub(crate) struct Numbers(AtomicU64);

impl Entropy for Numbers {
    fn next_u128(&self) -> u128 {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        u128::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

pub(crate) fn config(partitions: u32, segment_bytes: u64) -> EmbeddedConfig {
    EmbeddedConfig {
        dir: PathBuf::from("log"),
        segment_bytes,
        partitions,
        // Little, so that readers come to the files as well.
        recent_bytes: 2_000,
    }
}

/// A log whose writer runs.
pub(crate) struct Running {
    pub(crate) log: Arc<EmbeddedLog>,
    writer: JoinHandle<Result<(), DiskError>>,
}

pub(crate) fn start(config: EmbeddedConfig, disk: Arc<dyn Disk>) -> Result<Running, OpenError> {
    let (log, writer) = open(config, disk)?;
    let run = || writer.run();
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(run).unwrap();
    Ok(Running { log, writer })
}

pub(crate) fn open(
    config: EmbeddedConfig,
    disk: Arc<dyn Disk>,
) -> Result<(Arc<EmbeddedLog>, LogWriter), OpenError> {
    // Uuids differ between openings, as they do in life.
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let entropy = Numbers(AtomicU64::new(OPENED.fetch_add(1_000, Ordering::Relaxed)));
    EmbeddedLog::open(config, disk, Arc::new(entropy))
}

impl Running {
    /// Closes the log and waits for its writer.
    pub(crate) fn stop(self) -> Result<(), DiskError> {
        self.log.close();
        self.writer.join().unwrap()
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged(u64),
    /// Surely not appended.
    Refused,
    Unknown,
}

/// Everything that was sent to a log, in order for each partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    appends: BTreeMap<u32, Vec<(Range<u64>, Fate)>>,
    next: u64,
}

impl Ledger {
    fn numbers(&mut self, count: u64) -> Range<u64> {
        let numbers = self.next..self.next + count;
        self.next += count;
        numbers
    }

    fn note(
        &mut self,
        partition: u32,
        numbers: Range<u64>,
        outcome: &Result<Appended, AppendError>,
    ) -> bool {
        let fate = match outcome {
            Ok(appended) => Fate::Acknowledged(appended.offsets.first()),
            Err(AppendError::Failed(_) | AppendError::Unavailable(_)) => Fate::Unknown,
            Err(AppendError::Full | AppendError::Closed | AppendError::TooLarge { .. }) => {
                Fate::Refused
            }
        };
        self.appends.entry(partition).or_default().push((numbers, fate));
        outcome.is_ok()
    }

    pub(crate) async fn append(&mut self, log: &EmbeddedLog, partition: u32, count: u64) -> bool {
        let numbers = self.numbers(count);
        let outcome = log.append(Partition(partition), &samples(numbers.clone())).await;
        self.note(partition, numbers, &outcome)
    }

    /// Appends to two partitions at once.
    async fn append_both(&mut self, log: &EmbeddedLog, count: u64) {
        let (first, second) = (self.numbers(count), self.numbers(count));
        let (events, more) = (samples(first.clone()), samples(second.clone()));
        let both = tokio::join!(log.append(Partition(0), &events), log.append(Partition(1), &more));
        self.note(0, first, &both.0);
        self.note(1, second, &both.1);
    }

    /// Appends to both partitions in many sizes, over several segments, and trims in between.
    /// Goes on whatever happens.
    pub(crate) async fn work(&mut self, log: &EmbeddedLog) {
        for round in 0..12_u64 {
            self.append(log, (round % 2) as u32, 1 + round * 2).await;
            self.append_both(log, 2 + round).await;
            if round == 7 {
                let below: Positions =
                    (0..2).map(|p| (Partition(p), log.durable().next(Partition(p)) / 2)).collect();
                // A failing disk may fail this as well.
                let _ = log.trim(&below).await;
            }
        }
    }

    /// Appends a little.
    pub(crate) async fn work_on(&mut self, log: &EmbeddedLog) {
        self.append(log, 0, 3).await;
        self.append_both(log, 4).await;
    }

    /// Opens the log and holds what it has against the ledger: every acknowledged append is there
    /// at its offsets, every other one as a whole or not at all, and nothing else.
    pub(crate) fn verify(&self, disk: &SimDisk, config: &EmbeddedConfig, context: &str) {
        let opened = open(config.clone(), Arc::new(disk.clone()));
        let (log, _writer) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        let start = log.start();
        let found = block_on(read_all(&*log, &start));
        let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
        let none = Vec::new();
        for (partition, appends) in &self.appends {
            let events = found.get(&Partition(*partition)).unwrap_or(&none);
            let start = start.next(Partition(*partition));
            self.verify_partition(appends, events, start, context);
        }
    }

    fn verify_partition(
        &self,
        appends: &[(Range<u64>, Fate)],
        events: &[gristmill_model::Event<'static>],
        start: u64,
        context: &str,
    ) {
        let mut rest = events;
        let mut offset = start;
        for (numbers, fate) in appends {
            let expected = samples(numbers.clone());
            match fate {
                Fate::Acknowledged(at) if *at < start => {
                    assert!(at + expected.len() as u64 <= start, "{context}: trimmed in part");
                }
                Fate::Acknowledged(at) => {
                    assert_eq!(*at, offset, "{context}: an acknowledged append moved");
                    assert!(rest.starts_with(&expected), "{context}: lost {numbers:?}");
                }
                Fate::Refused => {
                    assert!(!rest.starts_with(&expected), "{context}: refused, yet there");
                }
                Fate::Unknown => {}
            }
            if let Some(after) = rest.strip_prefix(&expected[..]) {
                rest = after;
                offset += expected.len() as u64;
            }
        }
        assert_eq!(rest, [], "{context}: records that nobody sent, or only part of an append");
    }
}
