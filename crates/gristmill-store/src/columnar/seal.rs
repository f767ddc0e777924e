//! Sealing: frozen tails become parts, in order, and with them `durable` moves on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Partition, Position};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::compaction::most_waiting_parts;
use super::files::{Directory, Kind, NewFiles, append_crc, is_full};
use super::hot::Frozen;
use super::manifest::{PartRecord, Record, WindowRecord};
use super::merge_rows::{merge, single};
use super::part::Part;
use super::part_writer::{PartShape, PartWriter};
use super::schema::Effort;
use super::view::{State, View};
use super::window;
use crate::{Quarantined, StoreError};

/// How often the sealer looks at the age of the hot tail, and tries again on a full disk.
const PAUSE: Duration = Duration::from_secs(1);
/// Parts of one shard that wait to be merged at which sealing waits for the merger: reading gets
/// slower with each part.
const WAITING_PARTS: usize = 256;

/// The loop that seals.
pub struct Sealer {
    shared: Arc<Shared>,
}

impl Sealer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Seals until the store is closed. An error means that the store cannot go on; a full disk
    /// is waited for.
    pub fn run(self) -> Result<(), StoreError> {
        while let Some(frozen) = self.shared.next_frozen() {
            match self.shared.seal(&frozen) {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "cannot seal: free space in the data directory");
                    let mut state = self.shared.state();
                    state.is_disk_full = true;
                    self.shared.work.notify_all();
                    drop(self.shared.work.wait_timeout(state, PAUSE));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Waits for the oldest frozen tail; `None` when the store is closed.
    fn next_frozen(&self) -> Option<Arc<Frozen>> {
        loop {
            self.freeze_if_due();
            let state = self.state();
            if self.is_closed() {
                return None;
            }
            if let Some(frozen) = state.view.frozen.first()
                && most_waiting_parts(&state.view, self.slice) < WAITING_PARTS
            {
                return Some(Arc::clone(frozen));
            }
            if !self.is_freeze_due(&state) {
                drop(self.work.wait_timeout(state, PAUSE));
            }
        }
    }

    /// Freezes the hot tail if it is old, or if compaction is wanted.
    fn freeze_if_due(&self) {
        let mut committer = self.committer();
        let state = self.state();
        if !self.is_freeze_due(&state) {
            return;
        }
        let last_received = state.view.hot.last_received;
        drop(state);
        let expired = self.expire_window(&mut committer, last_received);
        let mut state = self.state();
        state.hot_since = None;
        let mut view = View::clone(&state.view);
        self.freeze(&mut view, expired, committer.window.start());
        self.publish(&mut state, view);
    }

    fn is_freeze_due(&self, state: &State) -> bool {
        let now = self.clock.now();
        let is_old = state.hot_since.is_some_and(|since| now.since(since) >= self.config.seal_age);
        let has_news = state.view.unfrozen_records() > 0;
        (is_old || state.compaction_needs_seal()) && has_news && state.view.frozen.is_empty()
    }

    fn seal(&self, frozen: &Arc<Frozen>) -> Result<(), StoreError> {
        let mut files = NewFiles::of(&self.directory);
        let parts = self.write_parts(frozen, &mut files)?;
        let window = self.write_window(frozen, &mut files)?;
        let quarantine = self.write_quarantine(frozen, &mut files)?;
        self.directory.sync()?;
        self.manifest().append(Record {
            add_parts: parts.clone(),
            add_windows: window.clone().into_iter().collect(),
            remove_windows: frozen.expired.iter().map(|run| run.file).collect(),
            add_quarantines: quarantine.into_iter().collect(),
            window_start: Some(frozen.window_start.0),
            durable: Some(frozen.positions.to_string()),
            totals: Some(frozen.totals),
            next_file: self.new_file(),
            ..Record::default()
        })?;
        files.keep();
        frozen.expired.iter().for_each(|run| self.directory.remove(run.file, Kind::Window));
        self.show_sealed(frozen, parts, quarantine);
        // Only now may the run leave the window: a commit that no longer finds an identity there
        // must find it in the parts.
        if let Some(window) = window {
            self.committer().window.sealed(window);
        }
        Ok(())
    }

    fn write_parts(
        &self,
        frozen: &Frozen,
        files: &mut NewFiles<'_>,
    ) -> Result<Vec<PartRecord>, StoreError> {
        let mut written = Vec::new();
        for (shard, runs) in frozen.hot.shards.iter().enumerate() {
            if runs.is_empty() {
                continue;
            }
            let rows = runs.iter().map(|run| run.row_count() as u64).sum();
            let group_rows = Effort::Brief.group_rows();
            let shape = PartShape { rows, group_rows, shredded: Vec::new() };
            let file = self.new_part(files);
            let mut writer =
                PartWriter::create(&self.directory, file, shard as u32, Effort::Brief, shape)?;
            let sources = runs.iter().map(|run| single(Arc::clone(run))).collect();
            merge(sources, |chunk| writer.write(chunk))?;
            written.push(writer.finish()?);
        }
        Ok(written)
    }

    /// The number of a new part, whose files go again unless they are kept.
    pub(super) fn new_part(&self, files: &mut NewFiles<'_>) -> u64 {
        let number = self.new_file();
        files.add(number, Kind::Part);
        files.add(number, Kind::Filter);
        number
    }

    fn write_window(
        &self,
        frozen: &Frozen,
        files: &mut NewFiles<'_>,
    ) -> Result<Option<WindowRecord>, StoreError> {
        if frozen.hot.rows == 0 {
            return Ok(None);
        }
        let file = self.new_file();
        files.add(file, Kind::Window);
        window::write_run(&self.directory, file, frozen.hot.identities())?;
        Ok(Some(WindowRecord {
            file,
            identities: frozen.hot.rows as u64,
            last_received: frozen.hot.last_received,
        }))
    }

    fn write_quarantine(
        &self,
        frozen: &Frozen,
        files: &mut NewFiles<'_>,
    ) -> Result<Option<u64>, StoreError> {
        if frozen.hot.quarantine.is_empty() {
            return Ok(None);
        }
        let file = self.new_file();
        files.add(file, Kind::Quarantine);
        let lines: Vec<_> = frozen.hot.quarantine.iter().map(|q| QuarantineLine::of(q)).collect();
        let mut bytes = serde_json::to_vec(&lines).map_err(io::Error::other)?;
        append_crc(&mut bytes);
        self.directory.write(file, Kind::Quarantine, &bytes)?;
        Ok(Some(file))
    }

    fn show_sealed(&self, frozen: &Arc<Frozen>, parts: Vec<PartRecord>, quarantine: Option<u64>) {
        let mut state = self.state();
        let mut view = View::clone(&state.view);
        view.frozen.retain(|waiting| !Arc::ptr_eq(waiting, frozen));
        let parts = parts.into_iter().map(|record| Part::written(&self.directory, record));
        view.parts = Arc::new(view.parts.iter().cloned().chain(parts).collect());
        let quarantines = view.quarantines.iter().copied().chain(quarantine);
        view.quarantines = Arc::new(quarantines.collect());
        view.durable = frozen.positions.clone();
        state.is_disk_full = false;
        self.publish(&mut state, view);
        self.work.notify_all();
    }
}

/// The quarantined records of a seal, oldest first.
pub(super) fn read_quarantine(
    directory: &Directory,
    file: u64,
) -> Result<Vec<Quarantined>, StoreError> {
    let bytes = directory.read_checked(file, Kind::Quarantine)?;
    let lines: Vec<QuarantineLine> = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
    Ok(lines.into_iter().map(QuarantineLine::into_quarantined).collect())
}

#[derive(Serialize, Deserialize)]
struct QuarantineLine {
    partition: u32,
    offset: u64,
    reason: String,
    bytes: Vec<u8>,
}

impl QuarantineLine {
    fn of(record: &Quarantined) -> Self {
        Self {
            partition: record.position.partition.0,
            offset: record.position.offset,
            reason: record.reason.clone(),
            bytes: record.bytes.clone(),
        }
    }

    fn into_quarantined(self) -> Quarantined {
        let position = Position { partition: Partition(self.partition), offset: self.offset };
        Quarantined { position, reason: self.reason, bytes: self.bytes }
    }
}
