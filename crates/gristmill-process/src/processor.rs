//! The loop from the log to the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_log::{Committed, EventLog, LogBatch, LogReader, Payload, ReadError, SetAside};
use gristmill_model::{Event, Position, Positions, Timestamp};
use gristmill_store::{Commit, Quarantined, Row, Store, StoreError, Unacceptable};
use thiserror::Error;
use tokio::time::Instant;

/// How much of the log is committed at a time at most, in bytes. Larger commits cost less per
/// event and are seen later.
const COMMIT_BYTES: usize = 2 << 20;
/// How much text the rows of a commit may have. The log writes repeated texts once, so a small
/// part of it can say much; the commit holds all of it in memory.
const COMMIT_TEXT_BYTES: usize = 16 << 20;
/// After a commit of fewer records than this, the next one waits a little for more: a commit has
/// a cost of its own, and under many small requests it would be most of the work.
const GATHER_RECORDS: u64 = 4096;
const GATHER_TIME: Duration = Duration::from_millis(4);
/// After a commit of this many records or more it waits longer: so many come in that a commit of a
/// few thousand, which the store need not merge with its neighbours, is soon together.
const BUSY_RECORDS: u64 = 256;
const BUSY_GATHER_TIME: Duration = Duration::from_millis(16);
/// The first pause after the store could not be used, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why processing cannot go on.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The store is damaged or closed.
    #[error(transparent)]
    Store(StoreError),
}

/// A commit that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// How many rows it was given.
    pub rows: usize,
    /// How long the store took.
    pub took: Duration,
}

/// Is told of every commit. It must not block.
pub type OnSettled = Arc<dyn Fn(Settled) + Send + Sync>;

/// Settles the records of a log in a store; of a shared log its share of them.
pub struct Processor {
    log: Arc<dyn EventLog>,
    store: Arc<dyn Store>,
    on_settled: Option<OnSettled>,
}

impl Processor {
    /// A processor that has not started.
    pub fn new(log: Arc<dyn EventLog>, store: Arc<dyn Store>) -> Self {
        Self { log, store, on_settled: None }
    }

    /// The same, and somebody is told of every commit.
    #[must_use]
    pub fn telling(mut self, on_settled: Option<OnSettled>) -> Self {
        self.on_settled = on_settled;
        self
    }

    /// Settles until the log is closed and all of it is settled, or until something fails that
    /// no retry can mend. Dropping the future between two commits loses nothing.
    pub async fn run(self) -> Result<(), ProcessError> {
        let mut trimmed = Positions::start();
        let mut progress = self.store.watch();
        let store = Arc::clone(&self.store);
        let committed: Committed = Arc::new(move || store.progress().committed);
        let mut reader = match self.log.share(committed).await {
            Err(ReadError::Closed) => return Ok(()),
            shared => shared?,
        };
        loop {
            tokio::select! {
                batches = next_batches(reader.as_mut()) => {
                    let Some(batches) = batches? else { return Ok(()) };
                    self.settle(&batches).await?;
                    gather(&batches).await;
                }
                changed = progress.changed() => {
                    if changed.is_err() {
                        return Err(ProcessError::Store(StoreError::Closed));
                    }
                }
            }
            self.trim(&mut trimmed).await;
        }
    }

    /// Commits the batches, in as many commits as their size asks for.
    async fn settle(&self, batches: &[LogBatch]) -> Result<(), ProcessError> {
        let mut place = Place::default();
        while place.batch < batches.len() {
            place = self.settle_from(batches, place).await?;
        }
        Ok(())
    }

    /// Commits what fits into one commit and says where the next one begins.
    async fn settle_from(&self, batches: &[LogBatch], place: Place) -> Result<Place, ProcessError> {
        let mut refused = BTreeMap::new();
        let mut pause = PAUSE;
        loop {
            let (commit, next) = commit_from(batches, place, &refused);
            let sets_aside = !commit.quarantine.is_empty();
            let (rows, since) = (commit.rows.len(), Instant::now());
            match self.store.commit(commit).await {
                Ok(_) => {
                    if let Some(tell) = &self.on_settled {
                        tell(Settled { rows, took: since.elapsed() });
                    }
                    if sets_aside {
                        let (settled, _) = commit_from(batches, place, &refused);
                        self.show_set_aside(batches, &settled.quarantine).await;
                    }
                    return Ok(next);
                }
                Err(StoreError::Unacceptable(events)) => {
                    for Unacceptable { position, reason } in events {
                        let (partition, offset) = (position.partition.0, position.offset);
                        tracing::warn!(partition, offset, reason, "the store refuses an event");
                        refused.insert(position, reason);
                    }
                }
                Err(error @ (StoreError::Io(_) | StoreError::Unavailable(_))) => {
                    tracing::warn!(%error, ?pause, "the store cannot commit, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(ProcessError::Store(error)),
            }
        }
    }

    async fn show_set_aside(&self, batches: &[LogBatch], aside: &[Quarantined]) {
        let shown = aside.iter().filter_map(|Quarantined { position, reason, bytes }| {
            let Position { partition, offset } = *position;
            let holds = |batch: &&LogBatch| {
                batch.partition == partition
                    && (batch.first_offset..batch.next_offset).contains(&offset)
            };
            let key = batches.iter().find(holds)?.key(offset);
            Some(SetAside { partition, offset, key, bytes, reason })
        });
        self.log.show_set_aside(&shown.collect::<Vec<_>>()).await;
    }

    /// Lets the log forget what the store holds durably. A log that cannot be trimmed only grows,
    /// so that is no reason to stop.
    async fn trim(&self, trimmed: &mut Positions) {
        let durable = self.store.progress().durable;
        if durable == *trimmed {
            return;
        }
        match self.log.trim(&durable).await {
            Ok(()) => *trimmed = durable,
            Err(error) => tracing::warn!(%error, "the log keeps records that it could forget"),
        }
    }
}

/// Waits a little if that was a small commit.
async fn gather(batches: &[LogBatch]) {
    let records = batches.iter().map(|batch| u64::from(batch.count)).sum();
    let bytes = batches.iter().map(|batch| batch.block.bytes()).sum();
    if let Some(time) = gathering(records, bytes) {
        tokio::time::sleep(time).await;
    }
}

/// How long the commit after one of so many records and bytes waits for more, if it does: even the
/// shortest sleep takes a millisecond.
fn gathering(records: u64, bytes: usize) -> Option<Duration> {
    match records {
        // More might not fit into one commit.
        _ if bytes >= COMMIT_BYTES / 2 => None,
        0..BUSY_RECORDS => Some(GATHER_TIME),
        BUSY_RECORDS..GATHER_RECORDS => Some(BUSY_GATHER_TIME),
        _ => None,
    }
}

/// The next records of the log; `None` when it is closed.
async fn next_batches(reader: &mut dyn LogReader) -> Result<Option<Vec<LogBatch>>, ReadError> {
    match reader.next(COMMIT_BYTES).await {
        Ok(batches) => Ok(Some(batches)),
        Err(ReadError::Closed) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A record among batches.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    batch: usize,
    record: usize,
}

/// What the records from a place on say, as many as one commit takes, and where the next one
/// begins. Records that make no sense, and those that the store refused, are set aside.
fn commit_from<'a>(
    batches: &'a [LogBatch],
    place: Place,
    refused: &BTreeMap<Position, String>,
) -> (Commit<'a>, Place) {
    let mut commit = Commit::default();
    commit.rows.reserve(batches.iter().map(|batch| batch.count as usize).sum());
    let mut text_bytes = 0;
    for (index, batch) in batches.iter().enumerate().skip(place.batch) {
        let first = if index == place.batch { place.record } else { 0 };
        for (number, record) in batch.records().enumerate().skip(first) {
            if text_bytes > COMMIT_TEXT_BYTES {
                return (commit, Place { batch: index, record: number });
            }
            let position = Position { partition: batch.partition, offset: record.offset };
            commit.next.advance(batch.partition, record.offset + 1);
            match record.payload {
                Ok(Payload::Event(event)) => {
                    let refused = refused.get(&position).map(String::as_str);
                    match refused.or_else(|| impossible(&event)) {
                        None => {
                            text_bytes += text_bytes_of(&event);
                            commit.rows.push(Row { position, event });
                        }
                        Some(reason) => {
                            let bytes = batch.original(position.offset, &event);
                            let reason = reason.to_owned();
                            commit.quarantine.push(Quarantined { position, reason, bytes });
                        }
                    }
                }
                Err(bad) => {
                    let (reason, bytes) = (bad.reason.into_owned(), bad.bytes.to_vec());
                    commit.quarantine.push(Quarantined { position, reason, bytes });
                }
            }
        }
        // Also past what the log has no more.
        commit.next.advance(batch.partition, batch.next_offset);
    }
    (commit, Place { batch: batches.len(), record: 0 })
}

/// What is wrong with an event that ingestion does not let in, and another producer may have written.
fn impossible(event: &Event<'_>) -> Option<&'static str> {
    let is_time = (Timestamp::MIN..Timestamp::MAX).contains(&event.time);
    (!is_time).then_some("the event's time is not from year 1 to 9999")
}

fn text_bytes_of(event: &Event<'_>) -> usize {
    event.page_url.len() + event.properties.len() + event.event_type.len() + event.source.len()
}

#[cfg(test)]
mod tests;
