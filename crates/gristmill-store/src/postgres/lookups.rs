//! Questions that an index answers at once, over one connection that all of them share: what they
//! ask is sent without waiting for the answers of others.
//!
//! ```text
//!   how far is everything? ── once for all who ask meanwhile ──▶ positions ──▶ whose records came since
//!   how often on this page? ───────────────────────────────────▶ one row of the page counts
//! ```

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_model::Partition;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::address::Address;
use super::session::{BY_KEY, PATIENCE, Session, column, in_time, unavailable};
use super::types::Hash;
use crate::version::{Changes, Missed, Visits};
use crate::{Feed, PageCount, Present, StoreError, Version};

/// How far everything has been taken in.
pub(super) const POSITIONS: &str =
    "SELECT log, partition, next FROM gristmill.positions WHERE next > 0";

/// A page's count and how far everything has been taken in, as of one moment.
const PAGE_COUNT: &str = "
    SELECT p.log, p.partition, p.next, c.events
    FROM gristmill.positions p LEFT JOIN gristmill.page_counts c
        ON c.user_id = $1 AND c.hash = $2
    WHERE p.next > 0";

/// Whose events on which pages lie between two offsets of each of some feeds, and the newest of each.
const WHOSE: &str = "
    SELECT e.user_hash, e.page_url, e.log, e.log_partition, max(e.log_offset)
    FROM unnest($1::int[], $2::int[], $3::bigint[], $4::bigint[])
        AS came (log, partition, first, next)
    JOIN gristmill.events e ON e.log = came.log AND e.log_partition = came.partition
        AND e.log_offset >= came.first AND e.log_offset < came.next
    GROUP BY 1, 2, 3, 4";

/// Plans are made once, for a question takes less time than its plan. Tables may be empty then, and
/// will not stay so.
const SETUP: &str = "SET statement_timeout = 4500; SET default_transaction_read_only = on; \
                     SET plan_cache_mode = force_generic_plan";

/// Looks up what an index finds.
pub(super) struct Lookups {
    address: Address,
    session: tokio::sync::Mutex<Option<Arc<Prepared>>>,
    looks: Gathered<Version>,
    changes: Arc<Mutex<Changes>>,
}

struct Prepared {
    session: Session,
    positions: Statement,
    page_count: Statement,
    whose: Statement,
}

impl Lookups {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            session: Default::default(),
            looks: Gathered::new(),
            changes: Arc::default(),
        }
    }

    /// The state of everything committed now.
    pub(super) async fn present(&self) -> Result<Present, StoreError> {
        let version = self.looks.get(async || self.look().await).await?;
        Ok(Present::new(version, Arc::clone(&self.changes)))
    }

    /// The count of a user's page, given the hash of both.
    pub(super) async fn page_count(&self, user: &str, page: Hash) -> Result<PageCount, StoreError> {
        self.with(async |prepared| {
            let rows = prepared.query(&prepared.page_count, &[&user, &page]).await?;
            let version = prepared.version(&rows)?;
            let events = rows.first().map(|row| column::<Option<i64>>(row, 3)).transpose()?;
            Ok(PageCount { events: events.flatten().unwrap_or(0) as u64, version })
        })
        .await
    }

    /// Finds out how far everything is, and brings the changes up to date with it. One look at a
    /// time.
    async fn look(&self) -> Result<Version, StoreError> {
        self.with(async |prepared| {
            let version = prepared.version(&prepared.query(&prepared.positions, &[]).await?)?;
            let missed = self.changes().missed(&version);
            match missed {
                Missed::TooMuch => self.changes().begin(version.clone()),
                Missed::Records(spans) => {
                    // What lies below committed positions does not change any more.
                    let came = prepared.whose(&spans).await?;
                    self.changes().note(came, version.clone());
                }
            }
            Ok(version)
        })
        .await
    }

    /// Whether the server has to use indexes here, however small the tables were at first.
    #[cfg(test)]
    pub(super) async fn looks_up_by_key(&self) -> bool {
        let prepared = self.prepared().await.unwrap();
        let question = "SELECT current_setting('enable_seqscan') = 'off'";
        prepared.session.client.query_one(question, &[]).await.unwrap().get(0)
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something. A connection that failed is not used again.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Prepared) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let prepared = self.prepared().await?;
        let result = in_time(PATIENCE, work(&prepared)).await;
        if matches!(result, Err(StoreError::Unavailable(_) | StoreError::Io(_))) {
            let mut held = self.session.lock().await;
            if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &prepared)) {
                *held = None;
            }
        }
        result
    }

    async fn prepared(&self) -> Result<Arc<Prepared>, StoreError> {
        let mut held = self.session.lock().await;
        match held.as_ref().filter(|held| !held.session.client.is_closed()) {
            Some(prepared) => Ok(Arc::clone(prepared)),
            None => {
                let setup = format!("{SETUP}; {BY_KEY}");
                let session = Session::open(&self.address, &setup).await?;
                let prepared = Arc::new(in_time(PATIENCE, Prepared::on(session)).await?);
                Ok(Arc::clone(held.insert(prepared)))
            }
        }
    }
}

impl Prepared {
    async fn on(session: Session) -> Result<Self, StoreError> {
        let client = &session.client;
        let statements = async {
            Ok((
                client.prepare(POSITIONS).await?,
                client.prepare_typed(PAGE_COUNT, &[Type::TEXT, Type::UUID]).await?,
                client.prepare(WHOSE).await?,
            ))
        };
        let (positions, page_count, whose) =
            statements.await.map_err(|error: tokio_postgres::Error| unavailable(&error))?;
        Ok(Self { session, positions, page_count, whose })
    }

    async fn query(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.session.client.query(statement, values).await;
        rows.map_err(|error| unavailable(&error))
    }

    fn version(&self, rows: &[Row]) -> Result<Version, StoreError> {
        let reached = rows.iter().map(reached).collect::<Result<Vec<_>, _>>()?;
        Ok(Version::new(self.session.lineage, reached))
    }

    async fn whose(
        &self,
        spans: &[(Feed, u64, u64)],
    ) -> Result<Vec<(Visits, Feed, u64)>, StoreError> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        let logs: Vec<i32> = spans.iter().map(|(feed, ..)| feed.log as i32).collect();
        let partitions: Vec<i32> = spans.iter().map(|(feed, ..)| feed.partition.0 as i32).collect();
        let firsts: Vec<i64> = spans.iter().map(|(_, first, _)| *first as i64).collect();
        let nexts: Vec<i64> = spans.iter().map(|(.., next)| *next as i64).collect();
        let rows = self.query(&self.whose, &[&logs, &partitions, &firsts, &nexts]).await?;
        let came = |row: &Row| {
            let user = column::<i64>(row, 0)?.cast_unsigned();
            let partition = Partition(column::<i32>(row, 3)? as u32);
            let feed = Feed { log: column::<i32>(row, 2)? as u32, partition };
            Ok((Visits::of_hashed(user, column(row, 1)?), feed, column::<i64>(row, 4)? as u64))
        };
        rows.iter().map(came).collect()
    }
}

/// How far a feed has been taken in, in a row of [`POSITIONS`].
pub(super) fn reached(row: &Row) -> Result<(Feed, u64), StoreError> {
    let partition = Partition(column::<i32>(row, 1)? as u32);
    let feed = Feed { log: column::<i32>(row, 0)? as u32, partition };
    Ok((feed, column::<i64>(row, 2)? as u64))
}

/// Something that is found out once for all who ask while it is being found out: whoever asks is
/// told what was found by work that began afterwards, so it is never older than the question.
struct Gathered<T> {
    /// How many times the work was begun.
    begun: AtomicU64,
    /// What the newest work that came to its end has found, and which one it was.
    found: tokio::sync::Mutex<Option<(u64, Result<T, String>)>>,
}

impl<T: Clone> Gathered<T> {
    fn new() -> Self {
        Self { begun: AtomicU64::new(0), found: tokio::sync::Mutex::new(None) }
    }

    async fn get(
        &self,
        work: impl AsyncFnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let before = self.begun.load(SeqCst);
        let mut found = self.found.lock().await;
        if let Some((_, result)) = found.as_ref().filter(|(number, _)| *number > before) {
            return result.clone().map_err(StoreError::Unavailable);
        }
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        let result = work().await;
        *found = Some((number, result.as_ref().map_err(ToString::to_string).cloned()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_asks_is_told_what_was_found_afterwards() {
        let (gathered, world) = (Gathered::new(), AtomicUsize::new(0));
        let (gate, looks) = (Semaphore::new(0), AtomicUsize::new(0));
        let ask = || {
            gathered.get(async || {
                looks.fetch_add(1, SeqCst);
                let seen = world.load(SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(seen)
            })
        };
        let mut first = Box::pin(ask());
        assert!((&mut first).now_or_never().is_none());
        world.store(1, SeqCst);
        let mut late: Vec<_> = (0..9).map(|_| Box::pin(ask())).collect();
        for asking in &mut late {
            assert!((asking).now_or_never().is_none());
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 0);
        for asking in late {
            assert_eq!(asking.await.unwrap(), 1, "it had changed when this was asked");
        }
        assert_eq!(looks.load(SeqCst), 2, "one for the first, one for all who came meanwhile");
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_work_to_the_next() {
        let gathered = Gathered::new();
        let mut gone = Box::pin(gathered.get(async || std::future::pending().await));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(gathered.get(async || Ok(7)));
        assert!((&mut next).now_or_never().is_none());
        drop(gone);
        assert_eq!(next.await.unwrap(), 7);
    }
}
