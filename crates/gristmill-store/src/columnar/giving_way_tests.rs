//! When merges wait for sealing and ingestion.

use std::path::Path;
use std::sync::Arc;

use gristmill_model::{Clock as _, Micros, Timestamp};

use super::compaction::PRESSING_PARTS;
use super::schema::Effort;
use super::tests::{Running, SteppingClock, commit, config, count, row};
use super::tidying::Quiet;
use super::{ColumnarConfig, Merger, Sealer, check};
use crate::Store as _;

const PARTS: u64 = 10;

/// A store with so many parts of one shard, which seals every commit. Its loops do not run.
async fn with_parts(
    folder: &Path,
    parts: u64,
    clock: &Arc<SteppingClock>,
) -> (Running, Sealer, Merger) {
    let config = ColumnarConfig { seal_bytes: 1, ..config(folder) };
    let (mut running, sealer, merger) = Running::still(config.clone()).unwrap();
    running.run(|| sealer.run());
    for n in 0..parts {
        running.store.commit(commit(vec![row(n, "u", format!("e{n}"), 7)])).await.unwrap();
        running.wait_until_durable(n + 1).await;
    }
    drop((running, merger));
    Running::still_at(config, Arc::clone(clock)).unwrap()
}

/// The same with a tail to seal.
async fn with_parts_and_a_tail(folder: &Path) -> (Running, Sealer, Merger) {
    let still = with_parts(folder, PARTS, &SteppingClock::still()).await;
    still.0.store.commit(commit(vec![row(PARTS, "u", "last".into(), 7)])).await.unwrap();
    still
}

#[tokio::test]
async fn no_merge_is_chosen_before_a_seal_unless_it_may_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let (running, _sealer, _merger) = with_parts_and_a_tail(folder.path()).await;
    let shared = &running.store.shared;
    let mut state = shared.state();
    assert!(shared.choose_merge(&mut state, &mut Quiet::default()).is_none());
    state.is_disk_full = true;
    assert!(shared.choose_merge(&mut state, &mut Quiet::default()).is_some());
    state.is_disk_full = false;
    state.compactions_wanted += 1;
    assert!(shared.choose_merge(&mut state, &mut Quiet::default()).is_some());
}

#[tokio::test]
async fn no_merge_is_chosen_in_a_rush_unless_many_parts_wait() {
    let pressing = PRESSING_PARTS as u64;
    for (parts, effort, in_a_rush) in [
        (PARTS, Effort::Lasting, None),
        (pressing - 1, Effort::Lasting, None),
        (pressing, Effort::Brief, Some(Effort::Brief)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let clock = SteppingClock::still();
        let (running, ..) = with_parts(folder.path(), parts, &clock).await;
        let shared = &running.store.shared;
        let mut state = shared.state();
        let mut chosen = |took: Micros| {
            state.rush.note_full(1_000_000, Timestamp(clock.now().0 - took), clock.now());
            let merge = shared.choose_merge(&mut state, &mut Quiet::default());
            merge.map(|merge| merge.effort)
        };
        assert_eq!(chosen(Timestamp::HOUR), Some(effort), "{parts} parts");
        assert_eq!(chosen(Timestamp::SECOND), in_a_rush, "{parts} parts");
        assert_eq!(chosen(Timestamp::HOUR), Some(effort), "{parts} parts");
    }
}

#[tokio::test]
async fn many_events_that_fill_a_tail_at_once_are_a_rush() {
    for (rows, is_rush) in [(9_999, false), (10_001, true)] {
        let folder = tempfile::tempdir().unwrap();
        let clock = SteppingClock::still();
        let config = ColumnarConfig { seal_bytes: 1, ..config(folder.path()) };
        let (running, ..) = Running::still_at(config, Arc::clone(&clock)).unwrap();
        let rows: Vec<_> = (0..rows).map(|n| row(n, "u", format!("e{n}"), 7)).collect();
        running.store.commit(commit(rows)).await.unwrap();
        assert_eq!(running.store.shared.state().rush.is_on(clock.now()), is_rush);
    }
}

#[tokio::test]
async fn merges_go_on_when_a_rush_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let clock = SteppingClock::still();
    let (mut running, _sealer, merger) = with_parts(folder.path(), PARTS, &clock).await;
    let shared = Arc::clone(&running.store.shared);
    let began = clock.now();
    shared.state().rush.note_full(1_000_000, began, began);
    // The rush lasts for three seconds from its last tail on.
    clock.step_by(2 * Timestamp::SECOND);
    running.run(move || {
        shared.let_ingestion_pass();
        assert_eq!(clock.now().since(began), 6 * Timestamp::SECOND, "it has looked twice");
        merger.run()
    });
    running.wait_for_parts(|parts| parts < PARTS).await;
    assert_eq!(count(running.store.as_ref()).await as u64, PARTS);
}

#[tokio::test]
async fn merges_go_on_after_the_seal_that_they_let_pass() {
    let folder = tempfile::tempdir().unwrap();
    let (mut running, sealer, merger) = with_parts_and_a_tail(folder.path()).await;
    let shared = Arc::clone(&running.store.shared);
    running.run(move || {
        shared.let_ingestion_pass();
        assert!(shared.view().frozen.is_empty());
        Ok(())
    });
    running.run(|| merger.run());
    running.run(|| sealer.run());
    running.wait_for_parts(|parts| parts < PARTS).await;
    running.wait_until_durable(PARTS + 1).await;
    assert_eq!(count(running.store.as_ref()).await as u64, PARTS + 1);
}

#[tokio::test]
async fn closing_ends_a_merger_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut running, sealer, merger) = with_parts_and_a_tail(folder.path()).await;
    let shared = Arc::clone(&running.store.shared);
    running.run(|| merger.run());
    running.run(move || {
        shared.let_ingestion_pass();
        Ok(())
    });
    drop((running, sealer));
    assert_eq!(check(folder.path()).unwrap().rows, PARTS);
}
