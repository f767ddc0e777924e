//! The loop that keeps a store and its server together: it brings the tables up to date when the
//! server is first reached, and then hears of what other processes commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::commit::CHANNEL;
use super::migrate::migrate;
use super::session::{PATIENCE, Session, column, in_time, unavailable};
use super::types::Hash;
use super::windows::Windows;
use super::{Opened, Shared};
use crate::StoreError;
use crate::identity::IdentityHasher;

/// How often the positions are read although nobody told of a commit: not every way to a server
/// passes notifications on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after a first failure, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long bringing the tables up to date may take, or waiting for another process that does. Who gives
/// up on an index that the server builds has to begin again, so this is no limit in practice.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Runs until the store is closed.
pub struct Keeper {
    pub(super) shared: Arc<Shared>,
}

impl Keeper {
    /// Keeps to the server for as long as the store is open, however often it is away. The error is
    /// one that no retry can mend.
    pub async fn run(self) -> Result<(), StoreError> {
        let mut closed = self.shared.closed.subscribe();
        tokio::select! {
            // An error here means that nobody can close the store any more.
            _ = closed.wait_for(|closed| *closed) => Ok(()),
            failure = self.keep() => Err(failure),
        }
    }

    /// Comes back with what cannot be mended only.
    async fn keep(&self) -> StoreError {
        // If nobody can tell the name any more, the loop says so.
        let _ = self.shared.config.log.clone().wait_for(Option::is_some).await;
        let mut pause = PAUSE;
        loop {
            let Err(error) = self.follow(&mut pause).await;
            self.shared.reachable.send_replace(false);
            if !matches!(error, StoreError::Unavailable(_)) {
                return error;
            }
            tracing::warn!(%error, ?pause, "PostgreSQL cannot be used, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Connects and follows what is committed, until that fails.
    async fn follow(&self, pause: &mut Duration) -> Result<std::convert::Infallible, StoreError> {
        let heard = Arc::new(Notify::new());
        let setup = format!("LISTEN {CHANNEL}");
        let address = &self.shared.config.address;
        let mut session = Session::open_listening(address, &setup, Arc::clone(&heard)).await?;
        let opened = match self.shared.opened.get() {
            Some(opened) => *opened,
            None => in_time(MIGRATION_TIMEOUT, self.open(&mut session.client)).await?,
        };
        let mut look_at_window = Instant::now();
        loop {
            let ledger = &self.shared.ledger;
            in_time(PATIENCE, ledger.refresh(&session.client, opened.log)).await?;
            if !self.shared.reachable.send_replace(true) {
                tracing::info!("PostgreSQL is reached");
            }
            *pause = PAUSE;
            let mut look = Instant::now() + LOOK_EVERY;
            if let Some(Windows { interval, .. }) = self.shared.config.windows {
                if Instant::now() >= look_at_window {
                    look_at_window = Instant::now() + self.close_window(&opened, interval).await;
                }
                look = look.min(look_at_window);
            }
            // Late is as good as never told.
            let _ = tokio::time::timeout_at(look, heard.notified()).await;
        }
    }

    /// Closes the window of activity if it is due, and gives when to look at it again.
    async fn close_window(&self, opened: &Opened, interval: Duration) -> Duration {
        let closed = self.shared.committer.close_window_if_old(opened, interval).await;
        // If this fails, the window is longer.
        closed.unwrap_or_else(|error| {
            tracing::warn!(%error, "a window of activity is not closed in time");
            interval
        })
    }

    /// What names the log, once that is known.
    fn log_name(&self) -> Result<String, StoreError> {
        let not_yet = || StoreError::Unavailable("the log has not been reached yet".to_owned());
        self.shared.config.log.borrow().clone().ok_or_else(not_yet)
    }

    /// Makes the tables ready and learns what never changes.
    async fn open(&self, client: &mut Client) -> Result<Opened, StoreError> {
        migrate(client).await?;
        let failed = |error| unavailable(&error);
        let name = self.log_name()?;
        // A number is drawn even where a conflict leaves it unused, so only a new log may ask.
        let register = "INSERT INTO gristmill.logs (name) SELECT $1 \
                        WHERE NOT EXISTS (SELECT FROM gristmill.logs WHERE name = $1) \
                        ON CONFLICT DO NOTHING";
        client.execute(register, &[&name]).await.map_err(failed)?;
        let question = "SELECT number, key FROM gristmill.logs, gristmill.secret WHERE name = $1";
        let row = client.query_one(question, &[&name]).await.map_err(failed)?;
        let Hash(key) = column(&row, 1)?;
        let opened = Opened { log: column(&row, 0)?, hasher: IdentityHasher::new(key) };
        Ok(*self.shared.opened.get_or_init(|| opened))
    }
}
