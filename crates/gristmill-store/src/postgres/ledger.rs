//! Where the store stands: positions, what became of records, and totals, as this process last saw
//! them. The truth is in the server; this follows it and never goes back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gristmill_model::{Outcome, Partition, Position, Positions};
use tokio::sync::watch;
use tokio_postgres::{GenericClient, Row};

use super::session::{column, unavailable};
use crate::outcomes::Outcomes;
use crate::{Progress, StoreError, StoreStats};

/// How far a partition has been taken in, and what became of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) next: u64,
    pub(super) stored: u64,
    pub(super) duplicate: u64,
    pub(super) quarantined: u64,
}

/// What a commit has decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// Every partition that the commit moves, as it then stands.
    pub(super) standings: BTreeMap<Partition, Standing>,
    /// In order of their positions.
    pub(super) outcomes: Vec<(Position, Outcome)>,
}

/// What this process knows.
pub(super) struct Ledger {
    /// Where the log begins. What lies below it is nowhere but in the store.
    log_start: Positions,
    progress: watch::Sender<Progress>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    standings: BTreeMap<Partition, Standing>,
    /// What this process has committed last. What others did is asked of the server.
    outcomes: Outcomes,
}

impl Ledger {
    /// Nothing is known yet. What the log has no more counts as taken in, so that it is no backlog,
    /// until [`refresh`](Self::refresh) finds out whether that is so.
    pub(super) fn new(log_start: Positions) -> Self {
        let progress = Progress { committed: log_start.clone(), durable: log_start.clone() };
        Self { log_start, progress: watch::Sender::new(progress), known: Mutex::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn standing(&self, partition: Partition) -> Option<Standing> {
        self.known().standings.get(&partition).copied()
    }

    pub(super) fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Vec<Option<Outcome>> {
        self.known().outcomes.get(partition, offsets)
    }

    pub(super) fn stats(&self) -> StoreStats {
        let known = self.known();
        let mut stats = StoreStats::default();
        for standing in known.standings.values() {
            stats.stored += standing.stored;
            stats.duplicate += standing.duplicate;
            stats.quarantined += standing.quarantined;
        }
        // Every event is there with its identity.
        stats.window_identities = stats.stored;
        stats
    }

    /// A commit of this process has come about.
    pub(super) fn confirm(&self, decided: Decided) {
        let mut known = self.known();
        for (position, outcome) in decided.outcomes {
            known.outcomes.set(position, outcome);
        }
        self.advance(&mut known, &decided.standings);
    }

    /// Reads from the server what other processes have brought about. Fails for good if the log no
    /// longer has what comes next: going on would leave events out.
    pub(super) async fn refresh(
        &self,
        client: &impl GenericClient,
        log: i32,
    ) -> Result<(), StoreError> {
        let question = "SELECT partition, next, stored, duplicate, quarantined \
                        FROM gristmill.positions WHERE log = $1";
        let rows = client.query(question, &[&log]).await.map_err(|error| unavailable(&error))?;
        let mut standings = BTreeMap::new();
        for row in &rows {
            let standing = standing_in(row, 1).map_err(|error| unavailable(&error))?;
            standings.insert(Partition(column::<i32>(row, 0)? as u32), standing);
        }
        self.reach_into_log(&standings)?;
        self.advance(&mut self.known(), &standings);
        Ok(())
    }

    fn reach_into_log(&self, read: &BTreeMap<Partition, Standing>) -> Result<(), StoreError> {
        for (partition, start) in self.log_start.iter() {
            let next = read.get(&partition).map_or(0, |standing| standing.next);
            if next < start {
                return Err(StoreError::Damaged(format!(
                    "the database holds this log's partition {} up to {next}, but the log begins \
                     at {start}, so the events between are missing: restore a newer state of the \
                     database, or use a new data directory with another database",
                    partition.0
                )));
            }
        }
        Ok(())
    }

    /// What was read may be older than what is known.
    fn advance(&self, known: &mut Known, standings: &BTreeMap<Partition, Standing>) {
        for (partition, standing) in standings {
            let held = known.standings.entry(*partition).or_default();
            if standing.next >= held.next {
                *held = *standing;
            }
        }
        self.progress.send_if_modified(|progress| {
            let mut committed = progress.committed.clone();
            let reached = known.standings.iter().map(|(partition, held)| (*partition, held.next));
            committed.advance_all(&reached.collect());
            let has_moved = committed != progress.committed;
            *progress = Progress { durable: committed.clone(), committed };
            has_moved
        });
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A standing in the columns from `first` on.
pub(super) fn standing_in(row: &Row, first: usize) -> Result<Standing, tokio_postgres::Error> {
    let number = |index: usize| row.try_get::<_, i64>(first + index).map(|number| number as u64);
    Ok(Standing {
        next: number(0)?,
        stored: number(1)?,
        duplicate: number(2)?,
        quarantined: number(3)?,
    })
}
