//! The PostgreSQL store: the same contract on tables that others can read.
//!
//! ```text
//!   commit ──▶ committer's connection ──▶ one transaction ──▶ NOTIFY ──▶ keeper of every process
//!   question ─▶ a reader's connection ──▶ one read-only transaction, a cursor for each walk
//! ```
//!
//! What is committed is durable, so there is nothing to seal and nothing to compact. A store is
//! made without its server; the [`Keeper`] reaches it, then and whenever it was away.

mod address;
mod columns;
mod commit;
mod documents;
mod keeper;
mod ledger;
mod lookups;
mod migrate;
mod outcomes;
mod page_counts;
mod refusal;
mod rows;
mod scan;
mod session;
#[cfg(test)]
mod tests;
mod types;
mod windows;

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use gristmill_model::{Outcome, Partition, Position, Positions, ProjectId};
use tokio::sync::watch;
use tokio_postgres::Client;

pub use address::Address;
pub use keeper::Keeper;
pub use windows::Windows;

use crate::identity::IdentityHasher;
use crate::{
    Commit, Document, DocumentKey, PageCount, Present, Progress, Quarantined, Row, Snapshot, Store,
    StoreError, StoreStats,
};
use commit::Committer;
use ledger::Ledger;
use lookups::Lookups;
use scan::PostgresSnapshot;
use session::{PATIENCE, Readers, SharedConnection, column, setup, unavailable};
use types::Hash;

/// What an operator may set, and what the store must know of its log.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Where the server is.
    pub address: Address,
    /// How many questions are answered at a time. Three more connections are held beside
    /// these, and one for each committer.
    pub connections: usize,
    /// How long the server may work on one step of a question.
    pub statement_timeout: Duration,
    /// Names the log that events come from, among all that ever were. Positions are kept for each
    /// log, so that a new one, or two at once, are not taken for an old one. A log on a server may
    /// not be known yet; until it is, the store counts as not reached.
    pub log: watch::Receiver<Option<String>>,
    /// How many commits may be made at the same time, each over a connection of its own.
    pub committers: usize,
    /// When rows of `user_activity_metrics` are written; `None` leaves them to others.
    pub windows: Option<Windows>,
    /// Where the log begins. The database must have been given everything below.
    pub log_start: Positions,
}

/// The store of a database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    /// For all that is small.
    connection: SharedConnection,
    lookups: Lookups,
}

/// What the store and its keeper share.
struct Shared {
    config: PostgresConfig,
    /// Known since the server was first reached.
    opened: OnceLock<Opened>,
    reachable: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    ledger: Ledger,
    committer: Committer,
}

/// What a database says that never changes.
#[derive(Clone, Copy)]
struct Opened {
    /// The number of the log that this process reads.
    log: i32,
    hasher: IdentityHasher,
}

impl PostgresStore {
    /// A store that has not reached its server; its keeper must run.
    pub fn new(config: PostgresConfig) -> (Arc<Self>, Keeper) {
        let address = &config.address;
        let readers = Readers::new(address.clone(), config.connections, config.statement_timeout);
        let committer = Committer::new(address, config.committers, config.windows);
        // A change of a document takes two steps, each of which waits in patience.
        let (limit, lock) = (PATIENCE * 3, PATIENCE / 2);
        let connection = SharedConnection::new(address.clone(), setup(PATIENCE, lock), limit);
        let lookups = Lookups::new(address.clone());
        let shared = Arc::new(Shared {
            opened: OnceLock::new(),
            reachable: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            ledger: Ledger::new(config.log_start.clone()),
            committer,
            config,
        });
        let keeper = Keeper { shared: Arc::clone(&shared) };
        (Arc::new(Self { shared, readers: Arc::new(readers), connection, lookups }), keeper)
    }

    /// Waits until the server has been reached and the positions are known.
    pub async fn reached(&self) -> Result<(), StoreError> {
        let mut reachable = self.shared.reachable.subscribe();
        let mut closed = self.shared.closed.subscribe();
        tokio::select! {
            reached = reachable.wait_for(|reachable| *reachable) => {
                reached.map(drop).map_err(|_| StoreError::Closed)
            }
            _ = closed.wait_for(|closed| *closed) => Err(StoreError::Closed),
        }
    }

    /// Waits until the server cannot be reached, or has not been reached yet.
    pub async fn out_of_reach(&self) {
        // An error would mean that there is no store any more.
        let _ = self.shared.reachable.subscribe().wait_for(|reachable| !*reachable).await;
    }

    /// Closes the window of activity, if that is not left to others, as long as the server can be
    /// reached. For the end, when nothing more is committed.
    pub async fn finish(&self) {
        if !self.is_available() || self.shared.config.windows.is_none() {
            return;
        }
        let closed = match self.opened() {
            Ok(opened) => self.shared.committer.close_window(opened).await,
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the window of activity goes on after the next start");
        }
    }

    /// Ends the keeper and refuses further commits.
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
    }

    fn opened(&self) -> Result<&Opened, StoreError> {
        if *self.shared.closed.borrow() {
            return Err(StoreError::Closed);
        }
        let not_yet = || StoreError::Unavailable("PostgreSQL has not been reached yet".to_owned());
        self.shared.opened.get().ok_or_else(not_yet)
    }

    /// The outcome of each row of a commit that has come about, maybe long ago or by another process.
    async fn outcomes_of(&self, commit: &Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(commit.rows.len());
        for rows in
            commit.rows.chunk_by(|one, next| one.position.partition == next.position.partition)
        {
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
            let (partition, first) = (first.position.partition, first.position.offset);
            let told = self.outcomes(partition, first..last.position.offset + 1).await?;
            let outcome = |row: &Row<'_>| told.get((row.position.offset - first) as usize);
            let told = rows.iter().map(|row| outcome(row).copied().flatten());
            outcomes.extend(told.map(|outcome| outcome.unwrap_or(Outcome::Duplicate)));
        }
        Ok(outcomes)
    }

    /// Asks something small.
    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.opened()?;
        self.connection.with(work).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        self.shared.committer.commit(self.opened()?, &self.shared.ledger, &commit).await?;
        self.outcomes_of(&commit).await
    }

    fn progress(&self) -> Progress {
        self.shared.ledger.progress()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.shared.ledger.watch()
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let log = self.opened()?.log;
        let reader = self.readers.begin().await?;
        Ok(Box::new(PostgresSnapshot::new(reader, log).await?))
    }

    async fn present(&self) -> Result<Option<Present>, StoreError> {
        self.opened()?;
        self.lookups.present().await.map(Some)
    }

    async fn page_count(
        &self,
        project: &ProjectId<'_>,
        user: &str,
        page_url: &str,
    ) -> Result<Option<PageCount>, StoreError> {
        let hasher = &self.opened()?.hasher;
        // Events without a page are not counted.
        if page_url.is_empty() {
            return Ok(None);
        }
        let hash = Hash(hasher.identity(project.as_str(), user, page_url));
        // No text there has a NUL, so nobody is called that, and no other name has this hash.
        let user = if user.contains('\0') { "" } else { user };
        self.lookups.page_count(user, hash).await.map(Some)
    }

    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let told = self.shared.ledger.outcomes(partition, offsets.clone());
        if told.iter().all(Option::is_some) {
            return Ok(told);
        }
        let log = self.opened()?.log;
        self.ask(async |client| outcomes::read(client, log, partition, offsets).await).await
    }

    fn is_available(&self) -> bool {
        *self.shared.reachable.borrow()
    }

    fn stats(&self) -> StoreStats {
        self.shared.ledger.stats()
    }

    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError> {
        let question = "SELECT log_partition, log_offset, reason, bytes FROM gristmill.quarantine \
                        ORDER BY number DESC LIMIT $1";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .ask(async |client| {
                client.query(question, &[&limit]).await.map_err(|error| unavailable(&error))
            })
            .await?;
        let record = |row: &tokio_postgres::Row| {
            let partition = Partition(column::<i32>(row, 0)? as u32);
            let position = Position { partition, offset: column::<i64>(row, 1)? as u64 };
            Ok(Quarantined { position, reason: column(row, 2)?, bytes: column(row, 3)? })
        };
        rows.iter().map(record).collect()
    }

    async fn put_document(
        &self,
        key: DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError> {
        self.ask(async |client| documents::put(client, &key, expected, &body).await).await
    }

    async fn remove_document(&self, key: DocumentKey<'_>, expected: u64) -> Result<(), StoreError> {
        self.ask(async |client| documents::remove(client, &key, expected).await).await
    }

    async fn document(&self, key: DocumentKey<'_>) -> Result<Option<Document>, StoreError> {
        self.ask(async |client| documents::get(client, &key).await).await
    }

    async fn documents(
        &self,
        project: &ProjectId<'_>,
        kind: &str,
    ) -> Result<Vec<Document>, StoreError> {
        self.ask(async |client| documents::of_kind(client, project, kind).await).await
    }
}
