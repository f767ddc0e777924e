//! Connections: how they are made, and who may use them.
//!
//! A connection that fails in the middle of anything is dropped, never used again, so that whoever
//! takes one finds it as it was made. The server then ends the transaction that was under way.

use std::error::Error as _;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_postgres::types::FromSql;
use tokio_postgres::{AsyncMessage, Client, NoTls, Row};
use xxhash_rust::xxh3::xxh3_64;

use super::address::Address;
use crate::StoreError;

/// How long it may take until a connection stands, and until the server answers a small question.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and the task that drives it for as long as this is held.
pub(super) struct Session {
    pub(super) client: Client,
    /// Tells the database from others, and from itself after it was brought back to an older state.
    pub(super) lineage: u64,
    _driver: JoinSet<()>,
}

impl Session {
    /// Connects, and has the session begin with some statements.
    pub(super) async fn open(address: &Address, setup: &str) -> Result<Self, StoreError> {
        Self::open_listening(address, setup, Arc::default()).await
    }

    /// As [`open`](Self::open); `heard` is told of notifications, and of the end of the connection.
    pub(super) async fn open_listening(
        address: &Address,
        setup: &str,
        heard: Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let connecting = async {
            let (client, mut connection) =
                address.config().connect(NoTls).await.map_err(|error| unavailable(&error))?;
            let mut driver = JoinSet::new();
            driver.spawn(async move {
                while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                    if matches!(message, AsyncMessage::Notification(_)) {
                        heard.notify_one();
                    }
                }
                heard.notify_one();
            });
            client.batch_execute(setup).await.map_err(|error| unavailable(&error))?;
            let lineage = lineage(&client).await?;
            Ok(Self { client, lineage, _driver: driver })
        };
        in_time(address.patience() + PATIENCE, connecting).await
    }
}

/// The hash of what names a database: the cluster, its timeline, which changes when a backup or a
/// standby takes over, and the number in it. Some who offer databases refuse to tell the first two.
async fn lineage(client: &Client) -> Result<u64, StoreError> {
    let whole = "SELECT (SELECT system_identifier FROM pg_control_system()) \
                 || left(pg_walfile_name(pg_current_wal_lsn()), 8) || oid::text \
                 FROM pg_database WHERE datname = current_database()";
    let number = "SELECT oid::text FROM pg_database WHERE datname = current_database()";
    let row = match client.query_one(whole, &[]).await {
        Err(error) if error.as_db_error().is_some() => client.query_one(number, &[]).await,
        answer => answer,
    };
    let row = row.map_err(|error| unavailable(&error))?;
    Ok(xxh3_64(column::<&str>(&row, 0)?.as_bytes()))
}

/// Waits for the server no longer than that.
pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = || StoreError::Unavailable(format!("PostgreSQL did not answer within {limit:?}"));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// A column of a row that the server gave.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| StoreError::Damaged(text_of(&error)))
}

/// What the server said, or why it said nothing.
pub(super) fn unavailable(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable(text_of(error))
}

/// An error with its reasons, and with the code that the server's manual explains.
pub(super) fn text_of(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            format!("PostgreSQL says: {} (SQLSTATE {})", said.message(), said.code().code())
        }
        None => format!("PostgreSQL: {}", chain(error)),
    }
}

pub(super) fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let reason_text = reason.to_string();
        if !text.contains(&reason_text) {
            text = format!("{text}: {reason_text}");
        }
        source = reason.source();
    }
    text
}

/// One connection that one after the other uses; made when it is needed.
pub(super) struct SharedConnection {
    address: Address,
    setup: String,
    limit: Duration,
    session: tokio::sync::Mutex<Option<Session>>,
}

impl SharedConnection {
    /// Each use of it may take so long.
    pub(super) fn new(address: Address, setup: String, limit: Duration) -> Self {
        Self { address, setup, limit, session: tokio::sync::Mutex::new(None) }
    }

    /// Whether nobody uses it now.
    pub(super) fn is_free(&self) -> bool {
        self.session.try_lock().is_ok()
    }

    /// Waits until it is free, and does something with it in time.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut held = self.session.lock().await;
        // Who stops waiting in the middle leaves nothing here.
        let usable = held.take().filter(|session| !session.client.is_closed());
        let mut session = match usable {
            Some(session) => session,
            None => Session::open(&self.address, &self.setup).await?,
        };
        let result = in_time(self.limit, work(&mut session.client)).await;
        if !matches!(result, Err(StoreError::Unavailable(_) | StoreError::Io(_))) {
            *held = Some(session);
        }
        result
    }
}

/// What a connection that changes something begins with: `limit` is how long this process waits for
/// what it does, `lock` how long it may wait for others.
///
/// Changes must be durable whatever the server's default is. What nobody waits for any more must not
/// go on in the server, nor must a process that is frozen between two statements hold up others.
pub(super) fn setup(limit: Duration, lock: Duration) -> String {
    let (statement, lock) = ((limit * 9 / 10).as_millis(), lock.as_millis());
    format!(
        "SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') = 'off'; \
         SELECT set_config(name, '5s', false) FROM pg_settings \
         WHERE name = 'client_connection_check_interval' AND version() LIKE '%linux%'; \
         SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = '30s'"
    )
}

/// Looks up keys, however few of them the server expects to find, or many.
pub(super) const BY_KEY: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; \
                                 SET enable_mergejoin = off; SET jit = off";

/// The connections that questions are answered with, a fixed number at most.
pub(super) struct Readers {
    address: Address,
    statement_timeout: Duration,
    setup: String,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// A connection in a transaction, which ends with this.
pub(super) struct Reader {
    session: Option<Session>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    pub(super) fn new(address: Address, connections: usize, statement_timeout: Duration) -> Self {
        let limit = statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        // Walks go to their end, so a plan for the first rows would be the wrong one.
        let setup = format!(
            "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
             SET cursor_tuple_fraction = 1.0"
        );
        let permits = Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)));
        Self { address, statement_timeout, setup, permits, idle: Mutex::default() }
    }

    /// Waits for a free connection and begins a transaction that sees the present only.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<Reader, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        // A connection may have died while it lay idle; a new one has no such excuse.
        while let Some(session) = self.take_idle() {
            if let Ok(reader) = self.begin_on(session).await {
                return Ok(self.lease(reader, permit));
            }
        }
        let session = Session::open(&self.address, &self.setup).await?;
        Ok(self.lease(self.begin_on(session).await?, permit))
    }

    async fn begin_on(&self, session: Session) -> Result<Session, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let begun = async {
            session.client.batch_execute(begin).await.map_err(|error| unavailable(&error))
        };
        in_time(PATIENCE, begun).await?;
        Ok(session)
    }

    fn lease(self: &Arc<Self>, session: Session, permit: OwnedSemaphorePermit) -> Reader {
        Reader { session: Some(session), readers: Arc::clone(self), _permit: permit }
    }

    fn take_idle(&self) -> Option<Session> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Reader {
    /// The connection, as long as it has not been given back.
    pub(super) fn client(&self) -> Result<&Client, StoreError> {
        self.session.as_ref().map(|session| &session.client).ok_or(StoreError::Closed)
    }

    /// The lineage of versions that are read here.
    pub(super) fn lineage(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.lineage)
    }

    /// How long to wait for a step of a question: longer than the server works on one.
    pub(super) fn patience(&self) -> Duration {
        self.readers.statement_timeout.saturating_add(PATIENCE)
    }
}

impl Drop for Reader {
    /// Ends the transaction at once, for an open one keeps the server from tidying up. Nobody waits
    /// for the answer: polling once sends it, and whatever the connection does next comes after.
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let is_refused =
            matches!(session.client.batch_execute("ROLLBACK").now_or_never(), Some(Err(_)));
        if !is_refused && !session.client.is_closed() {
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}
