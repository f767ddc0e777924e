//! Windows of activity: a row of `user_activity_metrics` for every so many events, and after so long
//! for the events that there are, as an older system wrote them.
//!
//! Where the open window begins stands in the database, and closing it counts what lies between
//! there and the positions. So each event is in one row, however often processes and connections
//! end, and a window goes on where it was left. When the last one was closed stands there too, so
//! that all processors of a log together close one in each interval.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use super::session::{column, text_of, unavailable};
use crate::StoreError;

/// When windows are closed.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// After this long, if there is an event in it.
    pub interval: Duration,
    /// With this many events, counted when a commit ends, so there may be more.
    pub events: u64,
}

const DUE: &str = "
    SELECT coalesce(sum(p.stored - coalesce(w.stored, 0)), 0) >= $2::bigint
    FROM gristmill.positions p LEFT JOIN gristmill.windows w USING (log, partition)
    WHERE p.log = $1";

const LOCK: &str = "SELECT FROM gristmill.logs WHERE number = $1 FOR NO KEY UPDATE";

const CLOSE: &str = "
    WITH open AS (
        SELECT p.partition, p.next, p.stored, coalesce(w.next, 0) AS first,
            p.stored - coalesce(w.stored, 0) AS events
        FROM gristmill.positions p LEFT JOIN gristmill.windows w USING (log, partition)
        WHERE p.log = $1
    ),
    due AS (SELECT * FROM open WHERE (SELECT sum(events) FROM open) >= $2::bigint),
    counted AS (
        SELECT count(*) AS events, count(DISTINCT e.user_id) AS users,
            count(*) FILTER (WHERE e.event_type = 'page_view') AS views
        FROM due, LATERAL (
            SELECT * FROM gristmill.events
            WHERE log = $1 AND log_partition = due.partition
                AND log_offset >= due.first AND log_offset < due.next
            OFFSET 0
        ) AS e
        WHERE e.project = 'default'
    ),
    written AS (
        INSERT INTO user_activity_metrics (timestamp, unique_users, page_view_count)
        SELECT now() AT TIME ZONE 'UTC', users, views FROM counted WHERE events > 0
    ),
    closed AS (
        UPDATE gristmill.logs SET window_closed = clock_timestamp()
        WHERE number = $1 AND EXISTS (SELECT FROM due)
    )
    INSERT INTO gristmill.windows (log, partition, next, stored)
    SELECT $1, partition, next, stored FROM due
    ON CONFLICT (log, partition) DO UPDATE SET next = excluded.next, stored = excluded.stored";

/// Others use the table of windows too, and commits wait no longer for them. Events are looked up by
/// their positions, however the server would guess that there are many; the `OFFSET` above keeps it
/// from another order of things.
const SETTLE: &str = "SET LOCAL lock_timeout = '500ms'; SET LOCAL enable_seqscan = off";

/// How old the open window is, in milliseconds. Whoever asks has it to himself.
const AGE: &str = "
    SELECT (extract(epoch FROM clock_timestamp() - window_closed) * 1000)::bigint
    FROM gristmill.logs WHERE number = $1 FOR NO KEY UPDATE";

/// The next one begins, also where there was nothing in the last.
const RESTART: &str =
    "UPDATE gristmill.logs SET window_closed = clock_timestamp() WHERE number = $1";

/// Closes windows at the end of commits.
pub(super) struct Closing {
    /// With how many events a window is closed; never, if this process closes none.
    events: Option<u64>,
    is_failing: AtomicBool,
}

impl Closing {
    pub(super) fn new(events: Option<u64>) -> Self {
        Self { events, is_failing: AtomicBool::new(false) }
    }

    /// Closes the window if it has enough events. What others may have done to its table does not
    /// keep a commit from coming through: the window then goes on.
    pub(super) async fn close_if_due(
        &self,
        change: &mut Transaction<'_>,
        log: i32,
    ) -> Result<(), StoreError> {
        let Some(events) = self.events else { return Ok(()) };
        let failed = |error| unavailable(&error);
        let attempt = change.savepoint("closing").await.map_err(failed)?;
        match close(&attempt, log, events).await {
            Ok(()) => {
                attempt.commit().await.map_err(failed)?;
                self.is_failing.store(false, Relaxed);
            }
            Err(error) => {
                attempt.rollback().await.map_err(failed)?;
                if !self.is_failing.swap(true, Relaxed) {
                    let error = text_of(&error);
                    tracing::warn!(error, "no row of user_activity_metrics can be written");
                }
            }
        }
        Ok(())
    }
}

/// Closes the window if it has at least so many events.
async fn close(
    change: &Transaction<'_>,
    log: i32,
    events: u64,
) -> Result<(), tokio_postgres::Error> {
    let events = i64::try_from(events).unwrap_or(i64::MAX);
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&log, Type::INT4), (&events, Type::INT8)];
    let due = change.query_typed_one(DUE, &values).await?;
    if due.try_get(0)? {
        // Others may have come to the same conclusion; who comes second finds an empty window.
        change.execute_typed(LOCK, &values[..1]).await?;
        change.batch_execute(SETTLE).await?;
        change.execute_typed(CLOSE, &values).await?;
    }
    Ok(())
}

/// Closes the window if it has an event, in a transaction of its own.
pub(super) async fn close_now(client: &mut Client, log: i32) -> Result<(), StoreError> {
    let failed = |error| unavailable(&error);
    let change = client.transaction().await.map_err(failed)?;
    close(&change, log, 1).await.map_err(failed)?;
    change.commit().await.map_err(failed)
}

/// Closes the window if it is that old, and gives how long it is until the next one may be.
pub(super) async fn close_if_old(
    client: &mut Client,
    log: i32,
    interval: Duration,
) -> Result<Duration, StoreError> {
    let failed = |error| unavailable(&error);
    let change = client.transaction().await.map_err(failed)?;
    let age: i64 = column(&change.query_one(AGE, &[&log]).await.map_err(failed)?, 0)?;
    let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
    if age < interval {
        return Ok(interval - age);
    }
    close(&change, log, 1).await.map_err(failed)?;
    change.execute(RESTART, &[&log]).await.map_err(failed)?;
    change.commit().await.map_err(failed)?;
    Ok(interval)
}
