//! The way to a Redis, which is shunned for a while after anything went wrong on it.
//!
//! Redis is never waited for: whoever asks gives up after a few milliseconds, and then nobody asks
//! for a while. One who asks after that tries with a new connection, and until that stands the
//! others do without.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::time::{Instant, timeout};

/// How many questions may be on their way at once; who comes on top waits, within its time.
const IN_FLIGHT: usize = 1024;

pub(super) struct Link {
    client: Client,
    /// How long to wait for anything.
    patience: Duration,
    /// How long it is shunned.
    pause: Duration,
    state: Mutex<State>,
    errors: AtomicU64,
}

enum State {
    /// It works, as far as is known. Connections are counted, so that what went wrong on an older
    /// one is not taken for trouble with this one.
    Good(MultiplexedConnection, u64),
    /// Nobody tries before then.
    Shunned(Instant),
    /// Somebody tries to connect.
    Trying,
}

/// Somebody who tries to connect. Who stops in the middle leaves that to the next.
struct Trial<'a> {
    link: &'a Link,
    is_over: bool,
}

impl Link {
    pub(super) fn new(client: Client, patience: Duration, pause: Duration) -> Self {
        let state = Mutex::new(State::Shunned(Instant::now()));
        Self { client, patience, pause, state, errors: AtomicU64::new(0) }
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    pub(super) fn is_shunned(&self) -> bool {
        match &*self.state() {
            State::Good(..) => false,
            State::Trying => true,
            // Nobody has asked yet, or again.
            State::Shunned(until) => Instant::now() < *until,
        }
    }

    /// Asks something, unless Redis is shunned. `None` after any trouble.
    pub(super) async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Option<T> {
        let until = Instant::now() + self.patience;
        let (connection, number) = self.connection(until).await?;
        match tokio::time::timeout_at(until, work(connection)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                self.shun(number, &error.to_string());
                None
            }
            Err(_) => {
                self.shun(number, "no answer in time");
                None
            }
        }
    }

    async fn connection(&self, until: Instant) -> Option<(MultiplexedConnection, u64)> {
        let mut trial = {
            let mut state = self.state();
            match &*state {
                State::Good(connection, number) => return Some((connection.clone(), *number)),
                State::Shunned(since) if *since <= Instant::now() => *state = State::Trying,
                State::Shunned(_) | State::Trying => return None,
            }
            Trial { link: self, is_over: false }
        };
        let left = until.saturating_duration_since(Instant::now());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(left))
            .set_response_timeout(Some(self.patience))
            .set_concurrency_limit(IN_FLIGHT)
            .set_pipeline_buffer_size(IN_FLIGHT);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connected = timeout(left, connecting).await;
        trial.is_over = true;
        match connected {
            Ok(Ok(connection)) => Some(self.found_good(connection)),
            Ok(Err(error)) => {
                self.found_bad(&error.to_string());
                None
            }
            Err(_) => {
                self.found_bad("no connection in time");
                None
            }
        }
    }

    fn found_good(&self, connection: MultiplexedConnection) -> (MultiplexedConnection, u64) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        *self.state() = State::Good(connection.clone(), number);
        tracing::info!("Redis is used");
        (connection, number)
    }

    fn found_bad(&self, reason: &str) {
        self.errors.fetch_add(1, Relaxed);
        *self.state() = State::Shunned(Instant::now() + self.pause);
        tracing::warn!(reason, pause = ?self.pause, "Redis cannot be used, going without");
    }

    /// Leaves Redis alone after trouble on the connection of this number.
    fn shun(&self, number: u64, reason: &str) {
        let is_newest = matches!(&*self.state(), State::Good(_, newest) if *newest == number);
        if is_newest {
            self.found_bad(reason);
        } else {
            self.errors.fetch_add(1, Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            *self.link.state() = State::Shunned(Instant::now());
        }
    }
}
