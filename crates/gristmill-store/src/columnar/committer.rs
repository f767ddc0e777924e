//! Commits: the one place that decides what is stored and what is a duplicate.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gristmill_model::{Event, Outcome, Positions, Timestamp};
use smallvec::SmallVec;

use super::Shared;
use super::changes::Changes;
use super::hot::{Frozen, Hot, runs_of};
use super::identity::Identity;
use super::identity_set::FETCHED;
use super::lookup::{Lookup, Wanted, is_old_and_covers};
use super::manifest::WindowRecord;
use super::run::{Run, user_hash};
use super::view::View;
use super::window::Window;
use crate::{Commit, Row, StoreError};

/// How many frozen tails there may be before commits wait: one that is being sealed, and one that
/// waits for the sealer.
const FROZEN_TAILS: usize = 2;

/// The tail is sealed after this many records even if it stays small, as it does when all of them
/// are duplicates: the log keeps them until then.
const SEAL_RECORDS: u64 = 4 << 20;

/// What only the committer changes.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) window: Window,
    pub(super) lookup: Lookup,
}

/// What was decided about the rows of a commit.
struct Decisions<'a> {
    outcomes: Vec<Outcome>,
    stored: Vec<(&'a Row<'a>, Identity)>,
}

impl Shared {
    /// Waits while there is no memory for another commit.
    pub(super) async fn wait_for_room(&self) -> Result<(), StoreError> {
        loop {
            let settled = self.settled.notified();
            if self.is_closed() {
                return Err(StoreError::Closed);
            }
            if self.view().frozen.len() < FROZEN_TAILS {
                return Ok(());
            }
            settled.await;
        }
    }

    /// Takes in a batch, in memory.
    pub(super) fn commit(&self, commit: &Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        let mut committer = self.committer();
        let view = self.view();
        let decisions = self.decide(&mut committer, &view, commit)?;
        let tail = match self.tail_with(&view, commit, &decisions.stored) {
            Ok(tail) => tail,
            Err(error) => {
                let undone = decisions.stored.iter().map(|(_, identity)| *identity);
                undone.for_each(|identity| committer.window.remove(identity));
                return Err(error);
            }
        };
        self.show(&mut committer, commit, &decisions.outcomes, tail);
        Ok(decisions.outcomes)
    }

    fn tail_with(
        &self,
        view: &View,
        commit: &Commit<'_>,
        stored: &[(&Row<'_>, Identity)],
    ) -> Result<(Hot, Changes), StoreError> {
        let mut hot = view.hot.clone();
        let runs = runs_of(stored, self.shards);
        let changes = view.changes.with_commit(runs.iter().flatten().flat_map(Run::hashes));
        for (shard, run) in runs.into_iter().enumerate() {
            if let Some(run) = run {
                hot.add(shard, run)?;
            }
        }
        for quarantined in &commit.quarantine {
            if !view.committed.includes(quarantined.position) {
                hot.bytes += quarantined.bytes.len() + quarantined.reason.len();
                hot.quarantine.push(Arc::new(quarantined.clone()));
            }
        }
        Ok((hot, changes))
    }

    fn decide<'a>(
        &self,
        committer: &mut Committer,
        view: &View,
        commit: &'a Commit<'a>,
    ) -> Result<Decisions<'a>, StoreError> {
        let mut candidates = Vec::with_capacity(commit.rows.len());
        let mut outcomes = Vec::with_capacity(commit.rows.len());
        for rows in commit.rows.chunks(FETCHED) {
            let identities: SmallVec<[Identity; FETCHED]> =
                rows.iter().map(|row| self.identity_of(&row.event)).collect();
            committer.window.fetch(&identities);
            for (row, identity) in rows.iter().zip(identities) {
                let is_new =
                    !view.committed.includes(row.position) && committer.window.insert(identity);
                outcomes.push(if is_new { Outcome::Stored } else { Outcome::Duplicate });
                if is_new {
                    candidates.push((row, identity));
                }
            }
        }
        let old = match self.find_old(committer, view, &candidates) {
            Ok(old) => old,
            Err(error) => {
                for (_, identity) in candidates {
                    committer.window.remove(identity);
                }
                return Err(error);
            }
        };
        if !old.is_empty() {
            let mut is_old = candidates.iter().map(|(_, identity)| old.contains(identity));
            for outcome in outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Stored) {
                if is_old.next() == Some(true) {
                    *outcome = Outcome::Duplicate;
                }
            }
            candidates.retain(|(_, identity)| !old.contains(identity));
            // What is in a part is in no window run, so nothing would ever remove it again.
            old.into_iter().for_each(|identity| committer.window.remove(identity));
        }
        Ok(Decisions { outcomes, stored: candidates })
    }

    fn identity_of(&self, event: &Event<'_>) -> Identity {
        let (project, user) = (event.project.as_str(), event.user.as_str());
        self.hasher.identity(project, user, event.id.as_str())
    }

    /// Which candidates are in parts that hold more than the window remembers.
    fn find_old(
        &self,
        committer: &mut Committer,
        view: &View,
        candidates: &[(&Row<'_>, Identity)],
    ) -> Result<HashSet<Identity>, StoreError> {
        let start = committer.window.start();
        let parts: Vec<_> = (view.parts.iter())
            .filter(|part| part.record.first_received < start.0)
            .cloned()
            .collect();
        if parts.is_empty() {
            return Ok(HashSet::new());
        }
        let wanted: Vec<_> = candidates
            .iter()
            .filter(|(row, _)| {
                parts.iter().any(|part| is_old_and_covers(part, row.event.time.0, start))
            })
            .map(|(row, identity)| Wanted {
                identity: *identity,
                project: row.event.project.as_str(),
                user_hash: user_hash(row.event.user.as_str()),
                time: row.event.time.0,
            })
            .collect();
        committer.lookup.find(&wanted, &parts, start, &self.hasher, self.shards)
    }

    /// Makes the decisions visible in one step, and freezes the tail if it is full.
    fn show(
        &self,
        committer: &mut Committer,
        commit: &Commit<'_>,
        outcomes: &[Outcome],
        (hot, changes): (Hot, Changes),
    ) {
        let is_full = {
            let unsealed = self.view().unfrozen_records() + commit.rows.len() as u64;
            hot.bytes >= self.config.seal_bytes || unsealed >= SEAL_RECORDS
        };
        let expired =
            if is_full { self.expire_window(committer, hot.last_received) } else { vec![] };
        let start = committer.window.start();
        self.window_identities.store(committer.window.len(), Relaxed);
        self.window_start.store(start.0, Relaxed);
        let mut state = self.state();
        let mut view = View::clone(&state.view);
        self.count(&mut view, commit, outcomes);
        (view.hot, view.changes) = (hot, Arc::new(changes));
        view.committed.advance_all(&commit.next);
        if is_full {
            let now = self.clock.now();
            let since = state.hot_since.take().unwrap_or(now);
            state.rush.note_full(view.hot.rows, since, now);
            self.freeze(&mut view, expired, start);
            self.work.notify_all();
        } else if state.hot_since.is_none() {
            state.hot_since = Some(self.clock.now());
        }
        self.publish(&mut state, view);
    }

    fn count(&self, view: &mut View, commit: &Commit<'_>, outcomes: &[Outcome]) {
        let committed: Positions = view.committed.clone();
        let rows = commit.rows.iter().zip(outcomes).map(|(row, outcome)| (row.position, *outcome));
        let quarantined = commit.quarantine.iter().map(|q| (q.position, Outcome::Quarantined));
        let mut all: Vec<_> = rows
            .chain(quarantined)
            .filter(|(position, _)| !committed.includes(*position))
            .collect();
        if !commit.quarantine.is_empty() {
            all.sort_by_key(|(position, _)| *position);
        }
        let mut recent = self.outcomes();
        for (position, outcome) in all {
            recent.set(position, outcome);
            let totals = &mut view.totals;
            match outcome {
                Outcome::Stored => totals.stored += 1,
                Outcome::Duplicate => totals.duplicate += 1,
                Outcome::Quarantined => totals.quarantined += 1,
                Outcome::Expired => totals.expired += 1,
            }
        }
    }

    /// Turns the hot tail into a frozen one.
    pub(super) fn freeze(
        &self,
        view: &mut View,
        expired: Vec<WindowRecord>,
        window_start: Timestamp,
    ) {
        let hot = std::mem::replace(&mut view.hot, Hot::empty(self.shards));
        let (positions, totals) = (view.committed.clone(), view.totals);
        let frozen = Frozen { hot, positions, totals, expired, window_start };
        view.frozen.push(Arc::new(frozen));
    }

    /// Lets runs leave the window, as a tail is frozen whose newest record was received at
    /// `last_received`. That time and not the clock's decides, and the tail's own seal makes it
    /// durable, so that a replay of the log finds the window as it was.
    pub(super) fn expire_window(
        &self,
        committer: &mut Committer,
        last_received: i64,
    ) -> Vec<WindowRecord> {
        let now = Timestamp(last_received);
        committer.window.expire(&self.directory, &self.window_limits(), now)
    }
}
