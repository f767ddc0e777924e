//! The store's port: what every adapter promises.

use std::ops::Range;

use async_trait::async_trait;
use gristmill_model::{
    Coded, ErrorCode, Event, Outcome, Partition, Position, Positions, ProjectId, Timestamp,
};
use thiserror::Error;
use tokio::sync::watch;

use crate::walk::UserByUser;
use crate::{Document, DocumentKey, EventCursor, PieceCursor, Present, Scan, UserCursor, Version};

/// Everything that is remembered of the events.
///
/// # Commit
///
/// [`commit`](Store::commit) is the only way in, and one transaction: it decides for each row
/// whether it is *stored* or a *duplicate*, and rows, counters, identities, quarantine and
/// positions become visible together or not at all. There is one committer of a partition at a time;
/// where there can be several processes, positions are compared before they are set, so that one that
/// was taken for dead changes nothing. Of commits of different partitions at the same time, which
/// several processes can make, each decides by what the others have decided.
///
/// # Positions
///
/// `committed` is what can be seen: every record below it has its outcome. `durable` is what
/// survives a crash without the log; it is never above `committed`. After a restart `committed`
/// starts at `durable` and the records above are committed again from the log, with the same
/// outcomes. Records below `committed` are ignored if they are offered again.
///
/// # Identity
///
/// The identity of an event is (project, user, event id). Two rows with the same identity are
/// one event: the first in log order is stored, any other is a duplicate, for as long as the
/// store remembers the first (docs/guarantees.md).
///
/// # Documents
///
/// Beside the events the store keeps small texts, each named by project, kind and id. A document
/// changes only from the version that its writer has seen, so no change is lost unseen. A change
/// is durable, and seen by every later call, when the call returns; on a conflict or a refusal
/// nothing has changed. Documents have nothing to do with positions and snapshots.
///
/// # Versions
///
/// A store whose answers are worth keeping tells which state of the events they are about. What it
/// tells is as fresh as a snapshot: a [`present`](Store::present) includes every commit, of any
/// process, that had returned when it was asked for. One that has none leaves all of this out.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Takes in a batch of records, and gives the outcome of each row, in order. On an error nothing
    /// has changed, or nobody knows, because a server's answer was lost; either way the same batch
    /// may be offered again, and that finds out.
    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError>;

    /// The positions now.
    fn progress(&self) -> Progress;

    /// Tells every change of the positions. A slow receiver sees the newest only.
    fn watch(&self) -> watch::Receiver<Progress>;

    /// A view of everything committed now, which later commits, seals and merges do not change.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// The state of everything committed now, if the store tells versions. Many who ask at once are
    /// answered with one look, which begins after each of them has asked.
    async fn present(&self) -> Result<Option<Present>, StoreError> {
        Ok(None)
    }

    /// How many events a user made on a page, and which version says so, if the store tells
    /// versions and keeps such counts. `None` means that walking tells.
    async fn page_count(
        &self,
        _project: &ProjectId<'_>,
        _user: &str,
        _page_url: &str,
    ) -> Result<Option<PageCount>, StoreError> {
        Ok(None)
    }

    /// The outcomes of recent records, one for each offset, whichever process committed them; `None`
    /// for a record that is not committed or no longer remembered. At least the last 100,000 records
    /// that were committed are remembered while a process runs.
    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError>;

    /// Whether it can be written and asked now, as far as it knows. One that is a server's client
    /// is not while it cannot reach its server; until it has reached it once, its positions are
    /// those that it was made with.
    fn is_available(&self) -> bool {
        true
    }

    /// Totals and sizes, for the operator.
    fn stats(&self) -> StoreStats;

    /// The newest quarantined records, newest first, `limit` at most.
    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError>;

    /// Makes everything committed before the call durable and brings it into the form that is
    /// quickest to read, and returns when that is done. An adapter whose commits are durable and
    /// that has only one form does nothing.
    async fn compact(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Puts a document in the place of the version `expected`, or where there is none if that is
    /// `None`, and gives the new version, which is above all that were given before.
    /// [`StoreError::Conflict`] if something else is there; [`StoreError::Refused`] if the body
    /// is longer than [`DOCUMENT_BYTES`](gristmill_model::limits::DOCUMENT_BYTES), or there are
    /// too many documents.
    async fn put_document(
        &self,
        key: DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError>;

    /// Removes the version `expected` of a document; [`StoreError::Conflict`] if it is not there.
    async fn remove_document(&self, key: DocumentKey<'_>, expected: u64) -> Result<(), StoreError>;

    /// A document, if it is there.
    async fn document(&self, key: DocumentKey<'_>) -> Result<Option<Document>, StoreError>;

    /// All documents of a project and kind, by id.
    async fn documents(
        &self,
        project: &ProjectId<'_>,
        kind: &str,
    ) -> Result<Vec<Document>, StoreError>;
}

/// One batch of records, in log order within each partition.
#[derive(Clone, Debug, Default)]
pub struct Commit<'a> {
    /// The events.
    pub rows: Vec<Row<'a>>,
    /// What could not be processed.
    pub quarantine: Vec<Quarantined>,
    /// The next position of every partition that the batch took from.
    pub next: Positions,
}

/// One event with its place in the log.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Where it lies in the log.
    pub position: Position,
    /// The event.
    pub event: Event<'a>,
}

/// A record that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Where it lies in the log.
    pub position: Position,
    /// Why.
    pub reason: String,
    /// The record's original bytes.
    pub bytes: Vec<u8>,
}

/// How far the store has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything below is visible.
    pub committed: Positions,
    /// Everything below survives a crash without the log.
    pub durable: Positions,
}

/// How many events a user made on a page, at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCount {
    /// The number of events.
    pub events: u64,
    /// What it includes.
    pub version: Version,
}

/// Totals since the store was created, and sizes now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Rows that were counted.
    pub stored: u64,
    /// Rows that were not, having been stored before.
    pub duplicate: u64,
    /// Records set aside.
    pub quarantined: u64,
    /// Rows older than the retention set for them.
    pub expired: u64,
    /// Rows that are committed and not yet durable.
    pub hot_rows: u64,
    /// Memory of these rows, in bytes.
    pub hot_bytes: u64,
    /// Immutable files of rows.
    pub parts: u64,
    /// Their size, in bytes.
    pub part_bytes: u64,
    /// Rows in files that wait to be merged into larger ones.
    pub merge_debt_rows: u64,
    /// Identities in the window.
    pub window_identities: u64,
    /// When the oldest identity that is still in the window was accepted.
    pub window_start: Option<Timestamp>,
}

/// An unchanging view of the store.
pub trait Snapshot: Send + Sync {
    /// What the view includes.
    fn committed(&self) -> &Positions;

    /// What the view is of, if the store tells versions.
    fn version(&self) -> Option<&Version> {
        None
    }

    /// How many shards there are. Each user's events lie in exactly one.
    fn shards(&self) -> u32;

    /// Walks through the users of one shard.
    fn scan(&self, shard: u32, scan: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError>;

    /// Walks through a share of the events in no order, which may be quicker. The walks of all
    /// shards together give each event once; which of them gives an event need not be that of its
    /// user. Codes of [`Field::SessionWithinUser`](gristmill_model::Field) mean nothing here.
    fn scan_events(
        &self,
        shard: u32,
        scan: &Scan,
    ) -> Result<Box<dyn EventCursor + '_>, StoreError> {
        Ok(Box::new(UserByUser::of(self.scan(shard, scan)?)))
    }

    /// The shard that holds a user's events.
    fn shard_of(&self, project: &ProjectId<'_>, user: &str) -> u32;

    /// The same view piece by piece, if the store can tell which pieces have changed.
    fn pieces(&self) -> Option<&dyn Pieces> {
        None
    }

    /// What the walks through this view have cost so far.
    fn work(&self) -> Work {
        Work::default()
    }
}

/// A view of the users piece by piece, so that who asks again need look only at what has changed.
///
/// Each user belongs to one piece for as long as the number of pieces is the same.
pub trait Pieces: Send + Sync {
    /// How many pieces there are: as many in each shard.
    fn piece_count(&self) -> u32;

    /// The number of the newest commit in the view that stored an event of a user of the piece, 0 if
    /// there is none; it may be of a neighbouring piece instead. Commits are counted from 1 when the
    /// store is opened.
    fn last_change(&self, piece: u32) -> u64;

    /// Walks through the users of pieces, in order of the pieces. There must be at least one, and
    /// all of one shard, each of which has as many as the others. Errors are those of
    /// [`Snapshot::scan`].
    fn scan_pieces(
        &self,
        pieces: Range<u32>,
        scan: &Scan,
    ) -> Result<Box<dyn PieceCursor + '_>, StoreError>;
}

/// What walks cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows that were walked through, wanted or not.
    pub rows: u64,
    /// Files that were read from, or would have been without the cache; a file that several walks
    /// read counts for each.
    pub parts: u64,
    /// Pieces of columns that were in the cache.
    pub cache_hits: u64,
    /// Pieces of columns that had to be decoded.
    pub cache_misses: u64,
}

/// Why the store could not do something.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Stored bytes are damaged. They are not repaired by dropping them.
    #[error("{0}")]
    Damaged(String),
    /// The device failed.
    #[error("cannot use the store: {0}")]
    Io(#[from] std::io::Error),
    /// The server that holds it cannot be reached, or cannot do it now. Trying again may help, and
    /// is safe: a commit that was done all the same is not done twice.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Events that the store cannot hold, though the log could, at least one. Naming them lets the
    /// caller set them aside.
    #[error("{} events cannot be stored", .0.len())]
    Unacceptable(Vec<Unacceptable>),
    /// A document is not at the version that was expected.
    #[error("{0}")]
    Conflict(String),
    /// A document is beyond a limit.
    #[error("{0}")]
    Refused(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// An event that a store cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unacceptable {
    /// Where it lies in the log.
    pub position: Position,
    /// Why.
    pub reason: String,
}

impl Coded for StoreError {
    fn code(&self) -> ErrorCode {
        match self {
            StoreError::Closed | StoreError::Unavailable(_) => ErrorCode::NotReady,
            StoreError::Conflict(_) => ErrorCode::Conflict,
            StoreError::Refused(_) => ErrorCode::InvalidArgument,
            StoreError::Damaged(_) | StoreError::Io(_) | StoreError::Unacceptable(_) => {
                ErrorCode::Internal
            }
        }
    }
}
