//! Commits: one transaction each, on one connection.
//!
//! Several may go on at a time, of this process and of others, each of other partitions. All of them
//! lock in one order, so that they mostly wait for each other in one direction only: positions by
//! partition, events by key, page counts by user and hash, and last the log, where a window of
//! activity is closed. Whoever the server chooses to break a deadlock all the same begins again.
//!
//! ```text
//!   lock the positions ── copy the rows in that are new ── add to the page counts
//!     ── keep what was set aside ── move the positions ── COMMIT
//! ```
//!
//! Most events are new, so all of a commit's are copied in at first, which costs the server half of
//! what inserting them one by one does. If one of them is there, the copy is refused, and the commit
//! begins again and looks first which are. If another commit has been quicker with one of them then,
//! it begins again with inserts, which wait for others instead.
//!
//! The positions are the fence: whoever has locked them knows what has been taken in, ignores what
//! lies below, and moves them from there. So a process that was taken for dead, or one that does
//! not know whether its last COMMIT came through, finds out before it changes anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use gristmill_model::{Outcome, Partition};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Transaction};

use super::Opened;
use super::address::Address;
use super::ledger::{Decided, Ledger, Standing, standing_in};
use super::refusal;
use super::rows;
use super::session::{BY_KEY, SharedConnection, setup, text_of, unavailable};
use super::windows::{self, Closing, Windows};
use crate::{Commit, Quarantined, Row as EventRow, StoreError};

/// How long a commit may take before its connection is given up.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long another process may hold the positions without a word to the server.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });

/// Ends the connections that have held the positions for longer than `SILENCE`, in milliseconds, and
/// that the server waits for in the middle of a statement, where no time limit of its own applies:
/// their processes are frozen, or cut off. A copy of the database, whose tables have the same
/// numbers, is none of our business.
const END_SILENT: &str = "
    SELECT count(pg_terminate_backend(a.pid))
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()
        AND a.wait_event = 'ClientRead'
        AND a.xact_start < now() - $1::bigint * interval '1 millisecond'
        AND EXISTS (
            SELECT FROM pg_locks l
            WHERE l.pid = a.pid AND l.relation = 'gristmill.positions'::regclass
                AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
        )";

/// The channel on which processes tell each other of their commits.
pub(super) const CHANNEL: &str = "gristmill_committed";

/// How often a commit may be in the way of others, one time after the other.
const ATTEMPTS: usize = 10;

/// With fewer rows than this, the trips to the server cost more than what it does with each row.
pub(super) const FEW_ROWS: usize = if cfg!(test) { 20 } else { 100 };

/// After a repeat, so many commits without one are made carefully: where there is one, there are more.
pub(super) const CAREFUL_COMMITS: u32 = 16;

/// How events are added to a table that may not hold one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// All are copied in, which fails if one of them is there.
    Quick,
    /// Those that are not there are copied in, which fails if others add one of them meanwhile.
    Careful,
    /// One by one, waiting for others.
    Patient,
}

impl Manner {
    /// What is tried when a key was there that this manner did not expect.
    fn next(self) -> Option<Self> {
        match self {
            Self::Quick => Some(Self::Careful),
            Self::Careful => Some(Self::Patient),
            Self::Patient => None,
        }
    }
}

/// The connections that commit.
pub(super) struct Committer {
    connections: Vec<SharedConnection>,
    windows: Closing,
    /// How many commits are still to be made carefully.
    careful: AtomicU32,
}

/// Why a transaction was not committed.
enum Setback {
    /// It was in the way of another one; nothing is wrong with it.
    InTheWay(String),
    /// A key is there that was not to be seen before.
    Taken(StoreError),
    Failed(StoreError),
}

impl From<tokio_postgres::Error> for Setback {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE) => {
                Self::InTheWay(text_of(&error))
            }
            Some(&SqlState::UNIQUE_VIOLATION) => Self::Taken(unavailable(&error)),
            _ => Self::Failed(unavailable(&error)),
        }
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Committer {
    /// So many commits at a time, and windows that are closed as is said, if at all.
    pub(super) fn new(address: &Address, connections: usize, windows: Option<Windows>) -> Self {
        let setup = format!("{}; {BY_KEY}", setup(COMMIT_TIMEOUT, SILENCE));
        let connection = |_| SharedConnection::new(address.clone(), setup.clone(), COMMIT_TIMEOUT);
        let connections = (0..connections.max(1)).map(connection).collect();
        let windows = Closing::new(windows.map(|windows| windows.events));
        Self { connections, windows, careful: AtomicU32::new(0) }
    }

    /// Takes in a batch.
    pub(super) async fn commit(
        &self,
        opened: &Opened,
        ledger: &Ledger,
        commit: &Commit<'_>,
    ) -> Result<(), StoreError> {
        refusal::check_texts(&commit.rows)?;
        self.with(async |client| {
            let (mut manner, mut last) = (self.manner(commit.rows.len()), String::new());
            for _ in 0..ATTEMPTS {
                match self.transact(client, opened, ledger, commit, manner).await {
                    Ok(has_repeats) => {
                        self.note(manner, has_repeats);
                        return Ok(());
                    }
                    Err(Setback::Failed(error)) => return Err(error),
                    Err(Setback::Taken(error)) => {
                        last = error.to_string();
                        manner = manner.next().ok_or(error)?;
                    }
                    Err(Setback::InTheWay(reason)) => {
                        manner = Manner::Patient;
                        last = reason;
                    }
                }
                tracing::debug!(reason = last, "begins again");
            }
            let text = format!("the transaction was refused again and again: {last}");
            Err(StoreError::Unavailable(text))
        })
        .await
    }

    /// Closes the window of activity, if anything is in it.
    pub(super) async fn close_window(&self, opened: &Opened) -> Result<(), StoreError> {
        self.with(async |client| windows::close_now(client, opened.log).await).await
    }

    /// Closes the window of activity if it is that old, and gives how long it is until the next.
    pub(super) async fn close_window_if_old(
        &self,
        opened: &Opened,
        interval: Duration,
    ) -> Result<Duration, StoreError> {
        self.with(async |client| windows::close_if_old(client, opened.log, interval).await).await
    }

    /// Does something with a connection that nobody uses, or else with the first.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let free = self.connections.iter().find(|connection| connection.is_free());
        let connection = free.or(self.connections.first()).ok_or(StoreError::Closed)?;
        connection.with(work).await
    }

    /// What suits a commit of so many rows.
    fn manner(&self, rows: usize) -> Manner {
        match self.careful.load(Relaxed) {
            _ if rows < FEW_ROWS => Manner::Patient,
            0 => Manner::Quick,
            _ => Manner::Careful,
        }
    }

    /// A commit was made in a manner, and some of its events were there, or none.
    fn note(&self, manner: Manner, has_repeats: bool) {
        if has_repeats {
            self.careful.store(CAREFUL_COMMITS, Relaxed);
        } else if manner == Manner::Careful {
            let _ = self.careful.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        }
    }

    /// Makes a commit, and says whether some of its events were there.
    async fn transact(
        &self,
        client: &mut Client,
        opened: &Opened,
        ledger: &Ledger,
        commit: &Commit<'_>,
        manner: Manner,
    ) -> Result<bool, Setback> {
        let mut change = client.transaction().await?;
        let held = match lock_positions(&change, opened, ledger, commit).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                change.rollback().await?;
                return Err(end_silent(client, &error).await.into());
            }
            held => held?,
        };
        check_not_behind(&held, ledger, commit)?;
        let is_new = |position: gristmill_model::Position| {
            held.get(&position.partition).is_none_or(|held| position.offset >= held.next)
        };
        let fresh: Vec<&EventRow<'_>> =
            commit.rows.iter().filter(|row| is_new(row.position)).collect();
        let aside: Vec<&Quarantined> =
            commit.quarantine.iter().filter(|record| is_new(record.position)).collect();

        let stored = match write(&change, opened, &fresh, &aside, manner).await {
            Ok(stored) => stored,
            Err(error) => {
                if change.rollback().await.is_err() || !refusal::blames_data(&error) {
                    return Err(error.into());
                }
                return Err(refusal::explain(client, opened, &fresh, &error).await.into());
            }
        };
        let decided = decide(commit, &held, &fresh, &stored, &aside);
        move_positions(&change, opened.log, &held, &decided).await?;
        self.windows.close_if_due(&mut change, opened.log).await?;

        change.commit().await?;
        ledger.confirm(decided);
        Ok(stored.contains(&false))
    }
}

/// Locks the positions of all partitions of the commit, until the transaction ends.
async fn lock_positions(
    change: &Transaction<'_>,
    opened: &Opened,
    ledger: &Ledger,
    commit: &Commit<'_>,
) -> Result<BTreeMap<Partition, Standing>, tokio_postgres::Error> {
    let partitions: Vec<i32> = commit.next.iter().map(|(p, _)| p.0 as i32).collect();
    let is_unknown = |(partition, _): (Partition, u64)| ledger.standing(partition).is_none();
    if commit.next.iter().any(is_unknown) {
        let create = "INSERT INTO gristmill.positions (log, partition) \
                      SELECT $1, unnest($2::int[]) ON CONFLICT DO NOTHING";
        change
            .execute_typed(create, &[(&opened.log, Type::INT4), (&partitions, Type::INT4_ARRAY)])
            .await?;
    }
    let lock = "SELECT partition, next, stored, duplicate, quarantined FROM gristmill.positions \
                WHERE log = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE";
    let rows = change
        .query_typed(lock, &[(&opened.log, Type::INT4), (&partitions, Type::INT4_ARRAY)])
        .await?;
    let standing =
        |row| Ok((Partition(Row::try_get::<_, i32>(row, 0)? as u32), standing_in(row, 1)?));
    rows.iter().map(standing).collect()
}

/// Whoever is in the way and says nothing is ended, so that the next attempt comes through.
async fn end_silent(client: &Client, error: &tokio_postgres::Error) -> StoreError {
    match client.query_one(END_SILENT, &[&(SILENCE.as_millis() as i64)]).await {
        Ok(row) => {
            let ended: i64 = row.try_get(0).unwrap_or_default();
            tracing::warn!(ended, "another process held the positions for too long");
            unavailable(error)
        }
        Err(error) => unavailable(&error),
    }
}

fn check_not_behind(
    held: &BTreeMap<Partition, Standing>,
    ledger: &Ledger,
    commit: &Commit<'_>,
) -> Result<(), StoreError> {
    let seen = ledger.progress().committed;
    for (partition, _) in commit.next.iter() {
        let next = held.get(&partition).map_or(0, |standing: &Standing| standing.next);
        let seen = seen.next(partition);
        if next < seen {
            return Err(StoreError::Damaged(format!(
                "the position of partition {} in PostgreSQL went back from {seen} to {next}: if an \
                 older state of the database was restored, start again",
                partition.0
            )));
        }
    }
    Ok(())
}

/// Writes what is new, and says of each row whether it is.
async fn write(
    change: &Transaction<'_>,
    opened: &Opened,
    fresh: &[&EventRow<'_>],
    aside: &[&Quarantined],
    manner: Manner,
) -> Result<Vec<bool>, tokio_postgres::Error> {
    let stored = rows::store(change, opened, fresh, manner).await?;
    insert_quarantine(change, opened.log, aside).await?;
    Ok(stored)
}

async fn insert_quarantine(
    change: &Transaction<'_>,
    log: i32,
    aside: &[&Quarantined],
) -> Result<(), tokio_postgres::Error> {
    if aside.is_empty() {
        return Ok(());
    }
    let positions = || aside.iter().map(|record| record.position);
    let partitions: Vec<i32> = positions().map(|position| position.partition.0 as i32).collect();
    let offsets: Vec<i64> = positions().map(|position| position.offset as i64).collect();
    let reasons: Vec<String> =
        aside.iter().map(|record| record.reason.replace('\0', "\u{fffd}")).collect();
    let bytes: Vec<&[u8]> = aside.iter().map(|record| &*record.bytes).collect();
    let insert = "INSERT INTO gristmill.quarantine (log, log_partition, log_offset, reason, bytes) \
                  SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::text[], $5::bytea[])";
    change.execute(insert, &[&log, &partitions, &offsets, &reasons, &bytes]).await.map(drop)
}

/// What the commit brings about.
fn decide(
    commit: &Commit<'_>,
    held: &BTreeMap<Partition, Standing>,
    fresh: &[&EventRow<'_>],
    stored: &[bool],
    aside: &[&Quarantined],
) -> Decided {
    let of_row = |(row, stored): (&&EventRow<'_>, &bool)| {
        (row.position, if *stored { Outcome::Stored } else { Outcome::Duplicate })
    };
    let set_aside = aside.iter().map(|record| (record.position, Outcome::Quarantined));
    let mut outcomes: Vec<_> = fresh.iter().zip(stored).map(of_row).chain(set_aside).collect();
    outcomes.sort_unstable_by_key(|(position, _)| *position);
    let mut standings = BTreeMap::new();
    for (partition, next) in commit.next.iter() {
        let standing = held.get(&partition).copied().unwrap_or_default();
        if next > standing.next {
            standings.insert(partition, Standing { next, ..standing });
        }
    }
    let mut counts: HashMap<(Partition, Outcome), u64> = HashMap::new();
    for (position, outcome) in &outcomes {
        *counts.entry((position.partition, *outcome)).or_default() += 1;
    }
    for (partition, standing) in &mut standings {
        let count = |outcome| counts.get(&(*partition, outcome)).copied().unwrap_or(0);
        standing.stored += count(Outcome::Stored);
        standing.duplicate += count(Outcome::Duplicate);
        standing.quarantined += count(Outcome::Quarantined);
    }
    Decided { standings, outcomes }
}

/// Moves the positions from where they were found, and has other processes know.
async fn move_positions(
    change: &Transaction<'_>,
    log: i32,
    held: &BTreeMap<Partition, Standing>,
    decided: &Decided,
) -> Result<(), Setback> {
    if decided.standings.is_empty() {
        return Ok(());
    }
    let (mut partitions, mut before) = (Vec::new(), Vec::new());
    let mut numbers: [Vec<i64>; 4] = Default::default();
    for (partition, standing) in &decided.standings {
        partitions.push(partition.0 as i32);
        before.push(held.get(partition).map_or(0, |held| held.next) as i64);
        let Standing { next, stored, duplicate, quarantined } = *standing;
        for (column, number) in numbers.iter_mut().zip([next, stored, duplicate, quarantined]) {
            column.push(number as i64);
        }
    }
    let [next, stored, duplicate, quarantined] = &numbers;
    let update = "UPDATE gristmill.positions AS held \
        SET next = new.next, stored = new.stored, duplicate = new.duplicate, \
            quarantined = new.quarantined \
        FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) \
            AS new (partition, before, next, stored, duplicate, quarantined) \
        WHERE held.log = $1 AND held.partition = new.partition AND held.next = new.before \
        RETURNING pg_notify($8, '')";
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> =
        vec![(&log, Type::INT4), (&partitions, Type::INT4_ARRAY), (&before, Type::INT8_ARRAY)];
    values.extend(
        [next, stored, duplicate, quarantined]
            .map(|column| (column as &(dyn ToSql + Sync), Type::INT8_ARRAY)),
    );
    values.push((&CHANNEL, Type::TEXT));
    let moved = change.execute_typed(update, &values).await?;
    if moved != partitions.len() as u64 {
        let text =
            "the positions moved while they were locked: another process changes them by hand";
        return Err(StoreError::Unavailable(text.to_owned()).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_repeat_commits_are_careful_for_a_while() {
        let address = Address::parse("postgres://nobody@127.0.0.1/none").unwrap();
        let committer = Committer::new(&address, 1, None);
        let manner = |committer: &Committer| committer.manner(FEW_ROWS);
        assert_eq!(committer.manner(FEW_ROWS - 1), Manner::Patient);
        assert_eq!(manner(&committer), Manner::Quick);
        committer.note(Manner::Quick, false);
        assert_eq!(manner(&committer), Manner::Quick);
        committer.note(Manner::Careful, true);
        for _ in 0..CAREFUL_COMMITS {
            assert_eq!(manner(&committer), Manner::Careful);
            committer.note(Manner::Patient, false);
            committer.note(Manner::Careful, false);
        }
        assert_eq!(manner(&committer), Manner::Quick);
    }
}
