//! The columnar store against the port's contract, and what is its own: restarts, the look-up of
//! old events, damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use gristmill_model::{
    Clock, Entropy, Event, EventId, Field, Micros, Origin, Outcome, Partition, Position, Positions,
    ProjectId, Timestamp, UserId,
};
use tempfile::TempDir;

use super::{ColumnarConfig, ColumnarStore, Merger, Sealer, check};
use crate::conformance::{self, Subject};
use crate::{Commit, Row, Scan, Store, StoreError, property};

/// A clock that goes on by a step each time somebody looks at it.
pub(super) struct SteppingClock {
    now: AtomicI64,
    step: AtomicI64,
}

impl SteppingClock {
    /// One that stands still.
    pub(super) fn still() -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(1_000_000_000), step: AtomicI64::new(0) })
    }

    pub(super) fn step_by(&self, step: Micros) {
        self.step.store(step, SeqCst);
    }
}

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        let step = self.step.load(SeqCst);
        Timestamp(self.now.fetch_add(step, SeqCst) + step)
    }
}

struct Counter;

impl Entropy for Counter {
    fn next_u128(&self) -> u128 {
        42
    }
}

/// An open store with its loops.
pub(super) struct Running {
    pub(super) store: Arc<ColumnarStore>,
    loops: Vec<JoinHandle<Result<(), StoreError>>>,
}

impl Running {
    pub(super) fn open(config: ColumnarConfig) -> Result<Self, StoreError> {
        let (mut running, sealer, merger) = Self::still(config)?;
        running.run(|| sealer.run());
        running.run(|| merger.run());
        Ok(running)
    }

    /// One whose loops do not run.
    pub(super) fn still(config: ColumnarConfig) -> Result<(Self, Sealer, Merger), StoreError> {
        Self::still_at(config, SteppingClock::still())
    }

    pub(super) fn still_at(
        config: ColumnarConfig,
        clock: Arc<SteppingClock>,
    ) -> Result<(Self, Sealer, Merger), StoreError> {
        let (store, sealer, merger) = ColumnarStore::open(config, clock, &Counter)?;
        Ok((Self { store, loops: Vec::new() }, sealer, merger))
    }

    #[expect(clippy::disallowed_methods, reason = "the test is the supervisor of the loops")]
    pub(super) fn run(
        &mut self,
        the_loop: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) {
        self.loops.push(std::thread::spawn(the_loop));
    }

    pub(super) async fn wait_until_durable(&self, next: u64) {
        let sealed: Positions = [(Partition(0), next)].into_iter().collect();
        let mut progress = self.store.watch();
        progress.wait_for(|progress| progress.durable.covers(&sealed)).await.unwrap();
    }

    pub(super) async fn wait_for_parts(&self, are_such: impl Fn(u64) -> bool) {
        let waiting = async {
            while !are_such(self.store.stats().parts) {
                // A merge that moves no position may tell nobody.
                let mut progress = self.store.watch();
                let _ = tokio::time::timeout(Duration::from_millis(5), progress.changed()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.store.close();
        for handle in self.loops.drain(..) {
            let outcome = handle.join();
            assert!(std::thread::panicking() || matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        }
    }
}

pub(super) fn config(dir: &Path) -> ColumnarConfig {
    ColumnarConfig {
        dir: dir.to_owned(),
        shards: 3,
        slice: 500,
        seal_bytes: 64 << 20,
        seal_age: Timestamp::DAY,
        tidy_after: Timestamp::DAY,
        window: Timestamp::DAY,
        window_bytes: 1 << 20,
        cache_bytes: 1 << 20,
    }
}

/// How a subject rearranges itself between the steps of a test.
#[derive(Clone, Copy)]
enum Settling {
    Never,
    Compact,
    CompactAndReopen,
}

struct Columnar {
    running: Option<Running>,
    folder: TempDir,
    config: ColumnarConfig,
    settling: Settling,
}

impl Columnar {
    fn new(settling: Settling, seal_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = ColumnarConfig { seal_bytes, ..config(folder.path()) };
        Self::with(folder, config, settling)
    }

    /// One that takes every moment for a quiet one.
    fn tidying() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = ColumnarConfig { seal_bytes: 1, tidy_after: 0, ..config(folder.path()) };
        Self::with(folder, config, Settling::Never)
    }

    fn with(folder: TempDir, config: ColumnarConfig, settling: Settling) -> Self {
        let running = Some(Running::open(config.clone()).unwrap());
        Self { running, folder, config, settling }
    }
}

impl Subject for Columnar {
    fn store(&self) -> &dyn Store {
        self.running.as_ref().unwrap().store.as_ref()
    }

    async fn settle(&mut self) {
        if !matches!(self.settling, Settling::Never) {
            self.store().compact().await.unwrap();
        }
        if matches!(self.settling, Settling::CompactAndReopen) {
            self.running = None;
            check(self.folder.path()).unwrap();
            self.running = Some(Running::open(self.config.clone()).unwrap());
        }
    }
}

#[tokio::test]
async fn keeps_the_contract_in_memory() {
    conformance::check(async || Columnar::new(Settling::Never, 64 << 20)).await;
}

#[tokio::test]
async fn keeps_the_contract_while_sealing_all_the_time() {
    conformance::check(async || Columnar::new(Settling::Never, 1)).await;
}

#[tokio::test]
async fn keeps_the_contract_while_being_tidied_all_the_time() {
    conformance::check(async || Columnar::tidying()).await;
}

#[tokio::test]
async fn keeps_the_contract_when_compacted() {
    conformance::check(async || Columnar::new(Settling::Compact, 1)).await;
}

#[tokio::test]
async fn keeps_the_contract_across_restarts() {
    conformance::check(async || Columnar::new(Settling::CompactAndReopen, 1)).await;
}

pub(super) fn row(offset: u64, user: &'static str, id: String, time: i64) -> Row<'static> {
    Row {
        position: Position { partition: Partition(0), offset },
        event: Event {
            project: ProjectId::new("p"),
            id: EventId::new(id),
            user: UserId::new(user),
            session: None,
            event_type: "view".into(),
            time: Timestamp(time),
            received: Timestamp(time),
            source: "".into(),
            page_url: "".into(),
            origin: Origin::Native,
            properties: "{}".into(),
        },
    }
}

pub(super) fn commit(rows: Vec<Row<'static>>) -> Commit<'static> {
    let next = rows.iter().map(|row| row.position.offset + 1).max().unwrap_or(0);
    Commit { rows, quarantine: Vec::new(), next: [(Partition(0), next)].into_iter().collect() }
}

pub(super) async fn count(store: &dyn Store) -> usize {
    let snapshot = store.snapshot().await.unwrap();
    let scan = Scan { fields: vec![Field::EventType], ..Scan::of(ProjectId::new("p")) };
    let mut rows = 0;
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, &scan).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            rows += batch.events.times.len();
        }
    }
    rows
}

#[tokio::test]
async fn what_was_not_sealed_is_committed_again_with_the_same_outcomes() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |range: std::ops::Range<u64>| -> Vec<Row<'static>> {
        range.map(|offset| row(offset, "u", format!("e{}", offset % 70), offset as i64)).collect()
    };
    let before = {
        let running = Running::open(config(folder.path())).unwrap();
        running.store.commit(commit(rows(0..50))).await.unwrap();
        running.store.compact().await.unwrap();
        running.store.commit(commit(rows(50..100))).await.unwrap()
    };
    let running = Running::open(config(folder.path())).unwrap();
    let durable: Positions = [(Partition(0), 50)].into_iter().collect();
    assert_eq!(running.store.progress().committed, durable);
    assert_eq!(count(running.store.as_ref()).await, 50);
    let again = running.store.commit(commit(rows(50..100))).await.unwrap();
    assert_eq!(again, before);
    assert_eq!(count(running.store.as_ref()).await, 70);
    assert_eq!(running.store.stats().duplicate, 30);
}

/// Copies that come after the window are found in the parts, through merges and restarts, as long
/// as they carry the time of the first.
#[tokio::test]
async fn late_copies_are_found_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let config = ColumnarConfig { window: -Timestamp::DAY, seal_bytes: 1, ..config(folder.path()) };
    let all = |first: u64| -> Vec<Row<'static>> {
        let users = ["anna", "ben", "", "zoë"];
        (0..400)
            .map(|n| row(first + n, users[n as usize % 4], format!("e{n}"), n as i64 * 10))
            .collect()
    };
    let running = Running::open(config.clone()).unwrap();
    for batch in all(0).chunks(100) {
        let outcomes = running.store.commit(commit(batch.to_vec())).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored));
    }
    running.store.compact().await.unwrap();
    drop(running);
    let running = Running::open(config).unwrap();
    // Freezing a tail lets every run go that is sealed.
    let another = row(400, "other", "another".to_owned(), 5);
    running.store.commit(commit(vec![another])).await.unwrap();
    assert_eq!(running.store.stats().window_identities, 1);
    let outcomes = running.store.commit(commit(all(401))).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Duplicate));
    assert_eq!(count(running.store.as_ref()).await, 401);
}

#[tokio::test]
async fn parts_are_merged_while_nothing_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let config = ColumnarConfig { seal_bytes: 1, tidy_after: 0, ..config(folder.path()) };
    let running = Running::open(config).unwrap();
    // Two parts of one size, so each commit must be sealed alone: too few for a merge at any other
    // time, and of sizes that are worth one.
    for first in [0, 100] {
        let rows = (first..first + 100).map(|n| row(n, "u", format!("e{n}"), 7));
        running.store.commit(commit(rows.collect())).await.unwrap();
        running.wait_until_durable(first + 100).await;
    }
    running.wait_for_parts(|parts| parts == 1).await;
    let stats = running.store.stats();
    assert_eq!((stats.stored, stats.hot_rows), (200, 0));
}

/// A part with columns of properties, one without, and the hot tail, in one walk.
#[tokio::test]
async fn frequent_properties_have_columns_in_merged_parts_only() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(config(folder.path())).unwrap();
    let plans = [r#"{"plan":"pro"}"#, r#"{"plan":"free","n":1}"#, r#"{"plan":null}"#, "{}"];
    let rows = |first: u64| -> Vec<_> {
        let rows = (first..first + 200).map(|n| {
            let mut row = row(n, "u", format!("e{n}"), n as i64 % 400);
            row.event.properties = plans[n as usize % plans.len()].into();
            row
        });
        rows.collect()
    };
    running.store.commit(commit(rows(0))).await.unwrap();
    running.store.compact().await.unwrap();
    let has_column = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(15).any(|window| window == b"properties.plan")
    };
    let parts = || {
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let parts = files.filter(|path| path.extension().is_some_and(|e| e == "parquet"));
        parts.collect::<Vec<_>>()
    };
    assert!(parts().iter().all(has_column), "a compacted part is written to stay");
    drop(running);
    let running = Running::open(ColumnarConfig { seal_bytes: 1, ..config(folder.path()) }).unwrap();
    running.store.commit(commit(rows(200))).await.unwrap();
    running.store.commit(commit(rows(400))).await.unwrap();
    let durable: Positions = [(Partition(0), 400)].into_iter().collect();
    running.store.watch().wait_for(|progress| progress.durable.covers(&durable)).await.unwrap();
    assert_eq!(parts().iter().filter(|path| has_column(path)).count(), 1);
    assert!(parts().len() > 1);

    let snapshot = running.store.snapshot().await.unwrap();
    let fields = vec![Field::from_name("plan"), Field::from_name("n"), Field::EventId];
    let scan = Scan { fields, ..Scan::of(ProjectId::new("p")) };
    let shard = snapshot.shard_of(&scan.project, "u");
    let mut cursor = snapshot.scan(shard, &scan).unwrap();
    let events = cursor.next_users().unwrap().unwrap().events;
    assert_eq!(events.times.len(), 600);
    for index in 0..events.times.len() {
        let text = |field: usize| events.dictionaries[field].text(events.columns[field][index]);
        let number: usize = text(2).unwrap()[1..].parse().unwrap();
        let properties = plans[number % plans.len()];
        assert_eq!(text(0), property(properties, "plan").as_deref());
        assert_eq!(text(1), property(properties, "n").as_deref());
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _running = Running::open(config(folder.path())).unwrap();
    let second = Running::open(config(folder.path()));
    assert!(second.is_err_and(|error| error.to_string().contains("in use by another process")));
}

#[tokio::test]
async fn files_without_a_manifest_are_never_taken_for_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    {
        let running = Running::open(config(folder.path())).unwrap();
        running.store.commit(commit(vec![row(0, "u", "e".into(), 1)])).await.unwrap();
        running.store.compact().await.unwrap();
    }
    let files = || fs::read_dir(folder.path()).unwrap().count();
    let before = files();
    fs::write(folder.path().join("manifest"), "").unwrap();
    let opened = Running::open(config(folder.path()));
    assert!(opened.is_err_and(|error| error.to_string().contains("missing or empty")));
    assert_eq!(files(), before, "nothing was removed");
}

#[tokio::test]
async fn damage_is_reported_and_never_repaired_by_dropping() {
    let folder = tempfile::tempdir().unwrap();
    {
        let running = Running::open(config(folder.path())).unwrap();
        let rows = (0..20).map(|n| row(n, "u", format!("e{n}"), n as i64)).collect();
        running.store.commit(commit(rows)).await.unwrap();
        running.store.compact().await.unwrap();
    }
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    for path in files.iter().filter(|path| path.is_file() && !path.ends_with("lock")) {
        let intact = fs::read(path).unwrap();
        for byte in (0..intact.len()).step_by(7) {
            let mut damaged = intact.clone();
            damaged[byte] ^= 1;
            fs::write(path, &damaged).unwrap();
            assert!(check(folder.path()).is_err(), "{} byte {byte}", path.display());
        }
        fs::write(path, intact).unwrap();
    }
    assert_eq!(check(folder.path()).unwrap().rows, 20);
}
