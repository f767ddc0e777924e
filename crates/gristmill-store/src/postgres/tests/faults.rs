//! What happens when connections break, and when several processes commit.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gristmill_model::{Coded, ErrorCode};

use super::proxy::{Mode, Proxy};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let database = TestDatabase::create().unwrap();
    let proxy = Proxy::before(&database.url(), Mode::Open).await;
    let mut open = Open::begin(&proxy.url(&database.url()), "log");
    open.reached().await.unwrap();
    commit(&open.store, &records(0, 10)).await;

    proxy.set(Mode::SwallowCommit);
    let lost = open.store.commit(records(10, 20)).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(proxy.mode(), Mode::Open, "an answer was swallowed");
    assert_eq!(counted(&database), [20, 20, 20], "it came through all the same");

    // The keeper sees it, and the tables tell the outcomes to whoever waits for them.
    open.knows_of(20).await;
    let told = open.store.outcomes(FEED, 10..21).await.unwrap();
    assert_eq!(told[..10], [Some(Outcome::Stored); 10]);
    assert_eq!(told[10], None, "it is not committed");

    let outcomes = commit(&open.store, &records(10, 20)).await;
    assert_eq!(outcomes, [Outcome::Stored; 10], "the outcomes are those of the first time");
    assert_eq!(counted(&database), [20, 20, 20]);
    assert_eq!(totals(&open.store), [20, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_during_commits_lose_and_double_nothing() {
    const CUTS: usize = 40;
    let database = Arc::new(TestDatabase::create().unwrap());
    let open = Open::at(&database).await;
    let cuts = Arc::new(AtomicUsize::new(0));
    let mut cutting = JoinSet::new();
    let (cut_in, counting) = (Arc::clone(&database), Arc::clone(&cuts));
    cutting.spawn_blocking(move || {
        while counting.load(Relaxed) < CUTS {
            counting.fetch_add(cut_in.cut_connections().unwrap(), Relaxed);
        }
    });
    let mut batches = 0_u64;
    let mut stored = 0;
    while cuts.load(Relaxed) < CUTS {
        // Each batch repeats an event of the one before.
        let ids = (batches * 10).saturating_sub(1)..batches * 10 + 10;
        let first = (batches * 11).saturating_sub(1);
        let records = batch(first, ids.map(event).collect());
        let outcomes = commit(&open.store, &records).await;
        stored += outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count() as u64;
        batches += 1;
    }
    cutting.join_all().await;
    assert_eq!(counted(&database), [batches * 10; 3]);
    assert_eq!(totals(&open.store), [batches * 10, batches - 1, 0]);
    assert_eq!(stored, batches * 10, "every outcome was told as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_committers_the_one_that_is_behind_changes_nothing() {
    let database = TestDatabase::create().unwrap();
    let (first, second) = (Open::at(&database).await, Open::at(&database).await);
    assert_eq!(commit(&first.store, &records(0, 3)).await, [Outcome::Stored; 3]);
    // The second has the same log, and begins where it last knew.
    assert_eq!(commit(&second.store, &records(0, 5)).await, [Outcome::Stored; 5]);
    assert_eq!(commit(&first.store, &records(3, 4)).await, [Outcome::Stored]);
    assert_eq!(counted(&database), [5, 5, 5]);
    for open in [&first, &second] {
        open.knows_of(5).await;
        assert_eq!(totals(&open.store), [5, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committers_at_the_same_time_count_each_record_once() {
    let database = TestDatabase::create().unwrap();
    let mut committers = JoinSet::new();
    for _ in 0..3 {
        let open = Open::at(&database).await;
        committers.spawn(async move {
            for first in (0..300).step_by(20) {
                commit(&open.store, &records(first, first + 20)).await;
            }
            open
        });
    }
    let opens = committers.join_all().await;
    assert_eq!(counted(&database), [300; 3]);
    opens[0].knows_of(300).await;
    assert_eq!(totals(&opens[0].store), [300, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_go_back_are_an_error_that_no_retry_mends() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    commit(&open.store, &records(0, 10)).await;
    database.run("UPDATE gristmill.positions SET next = 5").unwrap();
    let error = open.store.commit(records(10, 11)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged(text) if text.contains("from 10 to 5")),
        "{error}"
    );
    database.run("DELETE FROM gristmill.positions").unwrap();
    let error = open.store.commit(records(10, 11)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged(text) if text.contains("from 10 to 0")),
        "{error}"
    );
    assert_eq!(counted(&database), [10; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_begins_behind_the_database_is_refused() {
    let database = TestDatabase::create().unwrap();
    let begin_at = |start: u64| {
        let log_start = [(FEED, start)].into_iter().collect();
        Open::with(PostgresConfig { log_start, ..config(&database.url(), "log") })
    };
    // A trimmed log and a new database, or one that was restored from before the trimming.
    let error = begin_at(5).reached().await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("up to 0")), "{error}");
    commit(&Open::at(&database).await.store, &records(0, 5)).await;
    let error = begin_at(6).reached().await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("up to 5")), "{error}");
    let mut whole = begin_at(5);
    whole.reached().await.unwrap();
    assert_eq!(commit(&whole.store, &records(5, 6)).await, [Outcome::Stored]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for() {
    let database = TestDatabase::create().unwrap();
    let proxy = Proxy::before(&database.url(), Mode::Cut).await;
    let mut open = Open::begin(&proxy.url(&database.url()), "log");
    assert!(!open.store.is_available());
    let error = open.store.commit(records(0, 1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotReady);
    assert!(open.store.snapshot().await.is_err());

    proxy.set(Mode::Open);
    open.reached().await.unwrap();
    assert!(open.store.is_available());
    commit(&open.store, &records(0, 1)).await;
    open.store.snapshot().await.unwrap();

    proxy.set(Mode::Cut);
    assert!(open.store.commit(records(1, 2)).await.is_err());
    assert!(open.store.snapshot().await.is_err());
    let mut reachable = open.store.shared.reachable.subscribe();
    reachable.wait_for(|reachable| !*reachable).await.unwrap();
    proxy.set(Mode::Open);
    reachable.wait_for(|reachable| *reachable).await.unwrap();
    commit(&open.store, &records(1, 2)).await;
    open.store.snapshot().await.unwrap();
    assert_eq!(counted(&database), [2; 3]);
}
