//! Walks through what a snapshot shows.
//!
//! A snapshot is a transaction, and a walk a cursor in it, so that a walk holds some thousand rows
//! at a time however large the table is. The walks of one question share its connection: the server
//! works on one of them while others are folded here.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gristmill_model::{Field, Positions, ProjectId};
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::columns::{Columns, selected};
use super::lookups;
use super::rows::user_hash;
use super::session::{Reader, column, in_time, unavailable};
use crate::{
    BatchUsers, Dictionary, EventCursor, Events, Scan, Snapshot, StoreError, UserBatch, UserCursor,
    Version, Work,
};

/// How many walks a question makes, so that as many cores can fold.
const SHARDS: u32 = if cfg!(test) { 2 } else { 4 };

/// How many rows are fetched at a time; fewer of those with properties, which are longer.
const ROWS: usize = if cfg!(test) { 40 } else { 4096 };
const LONG_ROWS: usize = if cfg!(test) { 15 } else { 512 };

/// A transaction that sees one moment.
pub(super) struct PostgresSnapshot {
    reader: Reader,
    committed: Positions,
    version: Version,
    runtime: Handle,
    walks: AtomicU64,
    rows: AtomicU64,
}

/// The order in which a walk gives events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    ByUser,
    Any,
}

/// A cursor in the server.
struct Walk<'a> {
    snapshot: &'a PostgresSnapshot,
    fetch: Statement,
    wanted: usize,
    is_over: bool,
}

/// Users in the order of their hashes.
struct Users<'a> {
    walk: Walk<'a>,
    columns: Columns,
    batch: BatchUsers,
    /// How many rows at the front were given with the last batch.
    given: usize,
    /// Whose rows came last; more of them may come.
    last_user: Option<String>,
}

/// Events as the server comes across them.
struct Unordered<'a> {
    walk: Walk<'a>,
    columns: Columns,
}

impl PostgresSnapshot {
    /// Sees what is there now. Must be made within a tokio runtime.
    pub(super) async fn new(reader: Reader, log: i32) -> Result<Self, StoreError> {
        let rows = reader.client()?.query(lookups::POSITIONS, &[]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let reached = rows.iter().map(lookups::reached).collect::<Result<Vec<_>, _>>()?;
        let own = reached.iter().filter(|(feed, _)| feed.log == log as u32);
        let committed = own.map(|(feed, next)| (feed.partition, *next)).collect();
        let version = Version::new(reader.lineage(), reached);
        let (walks, rows) = Default::default();
        Ok(Self { reader, committed, version, runtime: Handle::current(), walks, rows })
    }

    /// Waits for the server, on a thread that may wait.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| self.runtime.block_on(work))
    }

    fn walk(&self, shard: u32, scan: &Scan, order: Order) -> Result<Walk<'_>, StoreError> {
        let name = format!("walk_{}", self.walks.fetch_add(1, Relaxed));
        let is_long = |field: &Field| matches!(field, Field::Properties | Field::Property(_));
        let has_long = scan.fields.iter().chain(&scan.numbers).any(is_long);
        let wanted = if has_long { LONG_ROWS } else { ROWS };
        let (select, values) = question(shard, scan, order);
        let declare = format!("DECLARE {name} NO SCROLL CURSOR FOR {select}");
        let values: Vec<_> = values.iter().map(AsRef::as_ref).collect();
        let client = self.reader.client()?;
        let fetch = self.wait(async {
            client.execute(&declare, &values).await?;
            client.prepare(&format!("FETCH FORWARD {wanted} FROM {name}")).await
        });
        let fetch = fetch.map_err(|error| unavailable(&error))?;
        Ok(Walk { snapshot: self, fetch, wanted, is_over: false })
    }
}

/// What the server is asked, and the values in it.
fn question(shard: u32, scan: &Scan, order: Order) -> (String, Vec<Box<dyn ToSql + Sync>>) {
    let (first, last) = hashes_of(shard);
    let project = scan.project.as_str().to_owned();
    let mut values: Vec<Box<dyn ToSql + Sync>> =
        vec![Box::new(project), Box::new(first), Box::new(last)];
    let mut text = format!(
        "SELECT {} FROM gristmill.events WHERE project = $1 AND user_hash BETWEEN $2 AND $3",
        selected(scan)
    );
    let mut keep = |condition: &str, value: Box<dyn ToSql + Sync>| {
        values.push(value);
        // Writing to a string cannot fail.
        let _ = write!(text, " AND {condition} ${}", values.len());
    };
    if let Some(start) = scan.range.start {
        keep("time_us >=", Box::new(start.0));
    }
    if let Some(end) = scan.range.end {
        keep("time_us <", Box::new(end.0));
    }
    if let Some(user) = &scan.user {
        keep("user_hash =", Box::new(user_hash(user)));
        keep("user_id =", Box::new(user.clone()));
    }
    match order {
        Order::ByUser => {
            text += " ORDER BY project, user_hash, user_id, time_us";
            // Events of one moment that show nothing else are all alike, and an index has the rest.
            if !(scan.fields.is_empty() && scan.numbers.is_empty()) {
                text += ", log, log_partition, log_offset";
            }
        }
        Order::Any => {}
    }
    (text, values)
}

/// The first and the last hash of a shard: the hashes are cut into equal ranges.
fn hashes_of(shard: u32) -> (i64, i64) {
    let first_of = |shard: u32| (u64::from(shard) << 32).div_ceil(u64::from(SHARDS));
    let (first, next) = (first_of(shard) << 32, u128::from(first_of(shard + 1)) << 32);
    (in_order(first), in_order((next - 1) as u64))
}

fn shard_of(hash: i64) -> u32 {
    let hash = hash.cast_unsigned() ^ SIGN;
    (((hash >> 32) * u64::from(SHARDS)) >> 32) as u32
}

/// The signed numbers, which are what the server has, in the order of the unsigned ones.
fn in_order(hash: u64) -> i64 {
    (hash ^ SIGN).cast_signed()
}

const SIGN: u64 = 1 << 63;

impl Snapshot for PostgresSnapshot {
    fn committed(&self) -> &Positions {
        &self.committed
    }

    fn version(&self) -> Option<&Version> {
        Some(&self.version)
    }

    fn shards(&self) -> u32 {
        SHARDS
    }

    fn scan(&self, shard: u32, scan: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError> {
        Ok(Box::new(Users {
            walk: self.walk(shard, scan, Order::ByUser)?,
            columns: Columns::of(scan),
            batch: BatchUsers::default(),
            given: 0,
            last_user: None,
        }))
    }

    fn scan_events(
        &self,
        shard: u32,
        scan: &Scan,
    ) -> Result<Box<dyn EventCursor + '_>, StoreError> {
        let walk = self.walk(shard, scan, Order::Any)?;
        Ok(Box::new(Unordered { walk, columns: Columns::of(scan) }))
    }

    fn shard_of(&self, _project: &ProjectId<'_>, user: &str) -> u32 {
        shard_of(user_hash(user))
    }

    fn work(&self) -> Work {
        Work { rows: self.rows.load(Relaxed), ..Work::default() }
    }
}

impl Walk<'_> {
    /// The next rows; none at the end only.
    fn fetch(&mut self) -> Result<Vec<Row>, StoreError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let client = self.snapshot.reader.client()?;
        let rows = async {
            let rows = client.query(&self.fetch, &[]).await;
            rows.map_err(|error| unavailable(&error))
        };
        let rows = self.snapshot.wait(in_time(self.snapshot.reader.patience(), rows))?;
        self.snapshot.rows.fetch_add(rows.len() as u64, Relaxed);
        self.is_over = rows.len() < self.wanted;
        Ok(rows)
    }
}

impl Users<'_> {
    fn take(&mut self, row: &Row) -> Result<(), StoreError> {
        let user: &str = column(row, 0)?;
        if self.last_user.as_deref() != Some(user) {
            self.end_user();
            self.last_user = Some(user.to_owned());
        }
        self.columns.push(row)
    }

    /// The rows so far are all of the user whose rows came last.
    fn end_user(&mut self) {
        if let Some(user) = self.last_user.take() {
            self.batch.push(&user, self.columns.len());
        }
    }
}

impl UserCursor for Users<'_> {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        self.columns.forget(self.given);
        self.given = 0;
        self.batch.clear();
        if self.walk.is_over && self.last_user.is_none() {
            return Ok(None);
        }
        for row in self.walk.fetch()? {
            self.take(&row)?;
        }
        if self.walk.is_over {
            self.end_user();
        }
        self.given = self.batch.len().checked_sub(1).map_or(0, |last| self.batch.rows(last).end);
        let users = (0..self.batch.len()).map(|user| self.batch.rows(user));
        let events = self.columns.events(self.given, users);
        Ok(Some(UserBatch::new(&self.batch, events)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        self.columns.dictionaries()
    }
}

impl EventCursor for Unordered<'_> {
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError> {
        self.columns.forget(self.columns.len());
        if self.walk.is_over {
            return Ok(None);
        }
        for row in self.walk.fetch()? {
            self.columns.push(&row)?;
        }
        let rows = self.columns.len();
        Ok(Some(self.columns.events(rows, std::iter::once(0..rows))))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        self.columns.dictionaries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_ranges_that_cover_all_hashes_once() {
        let mut next = Some(i64::MIN);
        for shard in 0..SHARDS {
            let (first, last) = hashes_of(shard);
            assert_eq!(Some(first), next);
            assert_eq!((shard_of(first), shard_of(last)), (shard, shard));
            next = last.checked_add(1);
        }
        assert_eq!(next, None);
    }
}
