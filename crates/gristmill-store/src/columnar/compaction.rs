//! Merging: parts of a shard become fewer and larger, and are split by slice of event time.
//!
//! Parts are merged with parts of the same slice and size tier, so a row is rewritten once per
//! tier. A part whose rows lie in several slices is *mixed*; merging mixed parts gives every
//! slice with enough rows a part of its own and leaves the rest mixed, so that events with
//! scattered times do not make a file each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::Shared;
use super::files::{NewFiles, is_full};
use super::manifest::{PartRecord, Record};
use super::merge_rows::{Chunk, Source, merge};
use super::part::{Part, unreadable};
use super::part_reader::{PartRuns, micros, strings};
use super::part_writer::{PartShape, PartWriter};
use super::schema::{Effort, Texts, column};
use super::shredded::Census;
use super::tidying::{Quiet, worth_tidying};
use super::view::{State, View};
use crate::StoreError;

/// How many parts of a tier make a merge worth while.
const FAN_IN: usize = 8;
/// How many parts are merged at a time at most. A merger that is behind merges more of them, so
/// that it writes a row less often and catches up.
pub(super) const MOST_INPUTS: usize = 2 * FAN_IN;
/// A part of the lowest tier has fewer than `FAN_IN` times this many rows; each tier is `FAN_IN`
/// times as large as the one before, so that what a merge writes mostly belongs to the next.
const TIER_ROWS: u64 = 1024;
/// Parts of this size and more are merged when nothing smaller is due and there are many of them:
/// such a merge takes long, and small parts add up meanwhile.
const SETTLED_ROWS: u64 = 2 << 20;
/// Parts of this size and more are left as they are, and no more rows are merged at a time unless
/// just two parts have more.
pub(super) const FULL_ROWS: u64 = 16 << 20;
/// A slice gets a part of its own from this many rows on, or from this share of all rows.
const SLICE_ROWS: u64 = 1024;
const SLICE_SHARE: u64 = 64;
/// While merges are pressing, parts of fewer rows are compressed quickly.
const LASTING_ROWS: u64 = 1 << 20;
/// How many batches of rows are asked for their properties, and every how many rows of a batch.
const SAMPLES: usize = 16;
const SAMPLE_STEP: usize = 8;
/// The merger's nice value, that of the threads that answer questions: what is merged makes questions
/// quicker, and ingestion comes before both.
const NICE: i32 = 10;
/// How long the merger waits after the disk was full.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it looks for what nobody tells it: that a rush is over, or that it is quiet.
const LOOK: Duration = Duration::from_secs(1);
/// Parts of one shard that wait to be merged from which on merges go on beside fast ingestion: below, what
/// comes in needs the processors more, and above, questions need the merges.
pub(super) const PRESSING_PARTS: usize = 4 * MOST_INPUTS;
/// After how many batches of rows tidying looks whether other merges are due.
const CHUNKS_BY_LOOK: usize = 16;

/// The loop that merges.
pub struct Merger {
    shared: Arc<Shared>,
}

impl Merger {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Merges until the store is closed. An error means that the store cannot go on; a full disk
    /// is waited for.
    pub fn run(self) -> Result<(), StoreError> {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the merger runs at normal priority");
        }
        let mut quiet = Quiet::default();
        while let Some(merge) = self.shared.next_merge(&mut quiet) {
            match self.shared.merge_parts(&merge) {
                Ok(()) => {}
                Err(StoreError::Closed) if self.shared.is_closed() => return Ok(()),
                // It gave way to what is due, and nothing has changed.
                Err(StoreError::Closed) => {}
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "cannot merge: free space in the data directory");
                    quiet.disturb();
                    let state = self.shared.state();
                    drop(self.shared.work.wait_timeout(state, PAUSE));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How many parts wait to be merged in the shard where most do.
pub(super) fn most_waiting_parts(view: &View, slice: i64) -> usize {
    most_in_a_shard(&due(view, slice))
}

fn most_in_a_shard(due: &BTreeMap<Group, Vec<Arc<Part>>>) -> usize {
    let mut waiting = BTreeMap::new();
    for ((shard, _, _), parts) in due {
        *waiting.entry(shard).or_insert(0) += parts.len();
    }
    waiting.into_values().max().unwrap_or(0)
}

/// The rows of all parts that wait to be merged.
pub(super) fn debt_rows(view: &View, slice: i64) -> u64 {
    due(view, slice).values().flatten().map(|part| part.record.rows).sum()
}

/// The groups that are worth a merge.
fn due(view: &View, slice: i64) -> BTreeMap<Group, Vec<Arc<Part>>> {
    let mut groups = groups(view, slice);
    groups.retain(|_, parts| parts.len() >= FAN_IN);
    groups
}

/// As many of the parts as may be merged together.
fn bounded(parts: Vec<Arc<Part>>) -> Vec<Arc<Part>> {
    let mut rows = 0;
    let fits = |part: &&Arc<Part>| {
        rows += part.record.rows;
        rows <= FULL_ROWS
    };
    let count = parts.iter().take_while(fits).count().clamp(2.min(parts.len()), MOST_INPUTS);
    parts.into_iter().take(count).collect()
}

/// What is to be merged.
pub(super) struct Merge {
    inputs: Vec<Arc<Part>>,
    pub(super) effort: Effort,
    need: Need,
}

/// Who needs a merge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Ingestion, or somebody who waits.
    Due,
    /// Nobody: it is given up when others are due.
    Tidying,
}

impl Merge {
    fn lasting(inputs: Vec<Arc<Part>>, need: Need) -> Self {
        Self { inputs, effort: Effort::Lasting, need }
    }
}

/// How many rows go to the part of each slice; `None` stands for those that stay mixed.
type Targets = BTreeMap<Option<i64>, u64>;

/// What parts are grouped by: shard, slice (`None` if mixed) and tier.
type Group = (u32, Option<i64>, u32);

fn groups(view: &View, slice: i64) -> BTreeMap<Group, Vec<Arc<Part>>> {
    let mut groups: BTreeMap<Group, Vec<Arc<Part>>> = BTreeMap::new();
    for part in view.parts.iter().filter(|part| part.record.rows < SETTLED_ROWS) {
        let record = &part.record;
        let tier = (record.rows / TIER_ROWS).max(1).ilog(FAN_IN as u64);
        groups
            .entry((record.shard, slice_of(record, slice), tier))
            .or_default()
            .push(Arc::clone(part));
    }
    groups
}

/// Settled parts of one shard and slice, if there are many. What they are merged into is not
/// merged again.
fn many_settled(view: &View, slice: i64) -> Option<Vec<Arc<Part>>> {
    let mut groups: BTreeMap<(u32, Option<i64>), Vec<Arc<Part>>> = BTreeMap::new();
    let settled = SETTLED_ROWS..FULL_ROWS / 2;
    for part in view.parts.iter().filter(|part| settled.contains(&part.record.rows)) {
        let key = (part.record.shard, slice_of(&part.record, slice));
        groups.entry(key).or_default().push(Arc::clone(part));
    }
    groups.into_values().find(|parts| parts.len() >= MOST_INPUTS)
}

/// The slice of event time that a part lies in; `None` if in several.
pub(super) fn slice_of(record: &PartRecord, slice: i64) -> Option<i64> {
    let first = record.first_time.div_euclid(slice);
    (first == record.last_time.div_euclid(slice)).then_some(first)
}

/// Whether a lone part is in the form in which it stays.
pub(super) fn is_finished(record: &PartRecord, slice: i64) -> bool {
    record.is_lasting && (record.is_rest || slice_of(record, slice).is_some())
}

/// The properties that occur often in the parts, judged by batches of rows from all over the order,
/// so that every project and many users are asked.
fn frequent_properties(inputs: &[Arc<Part>]) -> Result<Vec<String>, StoreError> {
    let mut census = Census::default();
    for sample in 0..SAMPLES {
        let open = inputs[sample % inputs.len()].open_verified()?;
        let rows = open.group(sample * open.groups.len() / SAMPLES);
        if let Some(batch) = open.read(Texts::Plain, [column::PROPERTIES], rows)?.next() {
            let batch = batch.map_err(unreadable)?;
            let properties = strings(&batch, 0)?;
            (0..batch.num_rows()).step_by(SAMPLE_STEP).for_each(|row| {
                census.add(properties.value(row));
            });
        }
    }
    Ok(census.finish())
}

impl Shared {
    /// Waits for `compactions_done` to reach a number.
    pub(super) async fn wait_for_compaction(&self, wanted: u64) -> Result<(), StoreError> {
        loop {
            let settled = self.settled.notified();
            if self.state().compactions_done >= wanted {
                return Ok(());
            }
            if self.is_closed() {
                return Err(StoreError::Closed);
            }
            settled.await;
        }
    }

    /// Waits for parts that are worth merging; `None` when the store is closed.
    fn next_merge(&self, quiet: &mut Quiet) -> Option<Merge> {
        let mut state = self.state();
        while !self.is_closed() {
            if let Some(merge) = self.choose_merge(&mut state, quiet) {
                return Some(merge);
            }
            state = self.wait_for_work(state);
        }
        None
    }

    /// The parts that are worth merging now, if any are.
    pub(super) fn choose_merge(&self, state: &mut State, quiet: &mut Quiet) -> Option<Merge> {
        let due = due(&state.view, self.slice);
        let waiting = most_in_a_shard(&due);
        if state.ingestion_comes_first(self.clock.now()) && waiting < PRESSING_PARTS {
            return None;
        }
        let smallest = due.into_iter().min_by_key(|((shard, _, tier), _)| (*tier, *shard));
        if let Some((_, parts)) = smallest {
            let inputs = bounded(parts);
            let rows: u64 = inputs.iter().map(|part| part.record.rows).sum();
            let is_brief = waiting >= PRESSING_PARTS && rows < LASTING_ROWS;
            let effort = if is_brief { Effort::Brief } else { Effort::Lasting };
            return Some(Merge { inputs, effort, need: Need::Due });
        }
        if let Some(parts) = many_settled(&state.view, self.slice) {
            return Some(Merge::lasting(bounded(parts), Need::Due));
        }
        let is_wanted = state.compactions_wanted > state.compactions_done;
        if is_wanted && !state.compaction_needs_seal() {
            let view = Arc::clone(&state.view);
            let files = || view.parts.iter().map(|part| part.record.file).collect();
            let concerned = state.compacting.get_or_insert_with(files);
            if let Some(inputs) = self.next_compaction(&view, concerned) {
                return Some(Merge::lasting(inputs, Need::Due));
            }
            state.compacting = None;
            state.compactions_done = state.compactions_wanted;
            self.settled.notify_waiters();
        }
        let is_quiet = quiet.lasts(&state.view.committed, self.clock.now(), self.config.tidy_after);
        let tidied = is_quiet.then(|| worth_tidying(&state.view, self.slice)).flatten();
        tidied.map(|parts| Merge::lasting(parts, Need::Tidying))
    }

    fn wait_for_work<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match self.work.wait_timeout(state, LOOK) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Parts that full compaction still has to merge.
    fn next_compaction(&self, view: &View, concerned: &BTreeSet<u64>) -> Option<Vec<Arc<Part>>> {
        let mut slices: BTreeMap<(u32, Option<i64>), Vec<Arc<Part>>> = BTreeMap::new();
        let is_concerned = |part: &&Arc<Part>| {
            concerned.contains(&part.record.file) && part.record.rows < FULL_ROWS
        };
        for part in view.parts.iter().filter(is_concerned) {
            let key = (part.record.shard, slice_of(&part.record, self.slice));
            slices.entry(key).or_default().push(Arc::clone(part));
        }
        let is_unfinished =
            |parts: &Vec<Arc<Part>>| parts.len() > 1 || !is_finished(&parts[0].record, self.slice);
        let mut parts = slices.into_values().find(is_unfinished)?;
        parts.sort_by_key(|part| part.record.rows);
        Some(bounded(parts))
    }

    fn merge_parts(&self, merge: &Merge) -> Result<(), StoreError> {
        let inputs = merge.inputs.as_slice();
        let slices: BTreeSet<_> =
            inputs.iter().map(|part| slice_of(&part.record, self.slice)).collect();
        let targets = match slices.first() {
            Some(slice @ Some(_)) if slices.len() == 1 => {
                BTreeMap::from([(*slice, inputs.iter().map(|part| part.record.rows).sum())])
            }
            _ => self.slices_worth_a_part(inputs)?,
        };
        let mut files = NewFiles::of(&self.directory);
        let outputs = self.write_merged(merge, &targets, &mut files)?;
        self.directory.sync()?;
        self.manifest().append(Record {
            add_parts: outputs.clone(),
            remove_parts: inputs.iter().map(|part| part.record.file).collect(),
            next_file: self.new_file(),
            ..Record::default()
        })?;
        files.keep();
        let mut state = self.state();
        if let Some(concerned) = &mut state.compacting
            && inputs.iter().any(|part| concerned.contains(&part.record.file))
        {
            concerned.extend(outputs.iter().map(|record| record.file));
        }
        let mut view = View::clone(&state.view);
        let kept = view.parts.iter().filter(|part| !inputs.iter().any(|i| Arc::ptr_eq(i, part)));
        let fresh = outputs.into_iter().map(|record| Part::written(&self.directory, record));
        view.parts = Arc::new(kept.cloned().chain(fresh).collect());
        inputs.iter().for_each(|part| part.retire());
        self.publish(&mut state, view);
        drop(state);
        let files: Vec<u64> = inputs.iter().map(|part| part.record.file).collect();
        // From here on no digest of theirs is kept any more.
        self.digests.forget(&files);
        self.cache.forget(&files);
        self.work.notify_all();
        Ok(())
    }

    fn write_merged(
        &self,
        Merge { inputs, effort, need }: &Merge,
        targets: &Targets,
        files: &mut NewFiles<'_>,
    ) -> Result<Vec<PartRecord>, StoreError> {
        let shard = inputs[0].record.shard;
        // Each part that is written holds a row group in memory.
        let most = effort.group_rows();
        let group_rows = (most / targets.len().max(1)).max(most / 16);
        let shredded = match effort {
            Effort::Brief => Vec::new(),
            Effort::Lasting => frequent_properties(inputs)?,
        };
        let mut sources: Vec<Source> = Vec::new();
        for part in inputs {
            let runs = PartRuns::of(&*part.open_verified()?, self.hasher)?;
            sources.push(Box::new(runs.map(|run| run.map(Arc::new))));
        }
        let mut writers: BTreeMap<Option<i64>, PartWriter> = BTreeMap::new();
        let mut chunks = 0;
        merge(sources, |chunk| {
            chunks += 1;
            self.let_ingestion_pass();
            let looks = *need == Need::Tidying && chunks % CHUNKS_BY_LOOK == 0;
            if self.is_closed() || (looks && !due(&self.view(), self.slice).is_empty()) {
                return Err(StoreError::Closed);
            }
            for (slice, rows) in self.split(chunk, targets) {
                let writer = match writers.get_mut(&slice) {
                    Some(writer) => writer,
                    None => {
                        let rows = targets.get(&slice).copied().unwrap_or(0);
                        let shape = PartShape { rows, group_rows, shredded: shredded.clone() };
                        let (directory, file) = (&self.directory, self.new_part(files));
                        let writer = PartWriter::create(directory, file, shard, *effort, shape)?;
                        writers.entry(slice).or_insert(writer)
                    }
                };
                writer.write(&rows)?;
            }
            Ok(())
        })?;
        let finish = |(slice, writer): (Option<i64>, PartWriter)| {
            writer.finish().map(|record| PartRecord { is_rest: slice.is_none(), ..record })
        };
        writers.into_iter().map(finish).collect()
    }

    /// Waits while tails are sealed or fill up fast, unless merges are pressing. Whoever commits waits for
    /// the sealer in the end, and for the merger only if it is far behind.
    pub(super) fn let_ingestion_pass(&self) {
        while let Some(view) = self.view_of_ingestion() {
            if most_waiting_parts(&view, self.slice) >= PRESSING_PARTS {
                return;
            }
            let state = self.state();
            if Arc::ptr_eq(&state.view, &view) && !self.is_closed() {
                drop(self.wait_for_work(state));
            }
        }
    }

    /// What is visible, if ingestion comes first. Others need the lock, and this thread may lose the
    /// processor to them, so that parts are counted without it.
    fn view_of_ingestion(&self) -> Option<Arc<View>> {
        let state = self.state();
        let comes_first = state.ingestion_comes_first(self.clock.now());
        (comes_first && !self.is_closed()).then(|| Arc::clone(&state.view))
    }

    /// The rows of a chunk by the slice whose part they go to; `None` for those that stay mixed.
    fn split(&self, chunk: &Chunk, targets: &Targets) -> BTreeMap<Option<i64>, Chunk> {
        let mut by_slice: BTreeMap<Option<i64>, Chunk> = BTreeMap::new();
        for row in &chunk.rows {
            let time = chunk.runs[row.run as usize].rows.times[row.row as usize];
            let slice = Some(time.div_euclid(self.slice));
            let target = slice.filter(|_| targets.contains_key(&slice));
            let fresh = || Chunk { runs: chunk.runs.clone(), rows: Vec::new() };
            by_slice.entry(target).or_insert_with(fresh).rows.push(*row);
        }
        by_slice
    }

    /// The slices that have enough rows in the inputs, and the rest.
    fn slices_worth_a_part(&self, inputs: &[Arc<Part>]) -> Result<Targets, StoreError> {
        let mut rows_of: BTreeMap<i64, u64> = BTreeMap::new();
        for part in inputs {
            let open = part.open()?;
            for batch in open.read(Texts::Plain, [column::TIME], open.all())? {
                for time in micros(&batch.map_err(unreadable)?, 0).values() {
                    *rows_of.entry(time.div_euclid(self.slice)).or_default() += 1;
                }
            }
        }
        let enough = (rows_of.values().sum::<u64>() / SLICE_SHARE).max(SLICE_ROWS);
        let mut targets = Targets::new();
        for (slice, rows) in rows_of {
            *targets.entry((rows >= enough).then_some(slice)).or_default() += rows;
        }
        Ok(targets)
    }
}
