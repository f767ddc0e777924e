//! Several that commit at the same time, each other partitions of one log.

use std::collections::{BTreeMap, HashSet};

use gristmill_testkit::{SeededEntropy, wait_until};

use tokio_postgres::error::SqlState;

use super::super::session::Session;
use super::*;

const STORES: u32 = 3;
const COMMITTERS: u32 = 2;
const PARTITIONS: u32 = STORES * COMMITTERS;
const RECORDS: u64 = 400;
/// So few, that most events are in several partitions.
const EVENTS: u64 = 700;

/// A log of records with many repeats: the number of the event of each record of each partition.
fn random_log(dice: &SeededEntropy) -> BTreeMap<Partition, Vec<u64>> {
    let feed = |_| (0..RECORDS).map(|_| dice.below(EVENTS)).collect();
    (0..PARTITIONS).map(|number| (Partition(number), feed(number))).collect()
}

/// Some records of a partition.
fn part_of(partition: Partition, feed: &[u64], first: usize, end: usize) -> Commit<'static> {
    let row = |(offset, number): (usize, &u64)| {
        let mut event = event(*number);
        if number.is_multiple_of(2) {
            event.event_type = "page_view".into();
        }
        Row { position: Position { partition, offset: offset as u64 }, event }
    };
    let rows = feed.iter().enumerate().skip(first).take(end - first).map(row).collect();
    let next = [(partition, end as u64)].into_iter().collect();
    Commit { rows, quarantine: Vec::new(), next }
}

/// Commits a partition in pieces of any size.
async fn settle(
    store: &PostgresStore,
    partition: Partition,
    feed: &[u64],
    dice: &SeededEntropy,
) -> Vec<Outcome> {
    let (mut outcomes, mut first) = (Vec::new(), 0);
    while first < feed.len() {
        let end = (first + 1 + dice.below(60) as usize).min(feed.len());
        // Not offered again: nothing is in the way but others that commit, and they are waited for.
        outcomes.extend(store.commit(part_of(partition, feed, first, end)).await.unwrap());
        first = end;
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_of_several_partitions_at_the_same_time_count_each_event_once() {
    let database = TestDatabase::create().unwrap();
    let windows = Some(Windows { interval: Duration::from_secs(3600), events: 50 });
    let log = Arc::new(random_log(&SeededEntropy::new(u64::from(std::process::id()))));
    let mut settling = JoinSet::new();
    let mut opens = Vec::new();
    for number in 0..STORES {
        let committers = COMMITTERS as usize;
        let config = PostgresConfig { committers, windows, ..config(&database.url(), "log") };
        let mut open = Open::with(config);
        open.reached().await.unwrap();
        for partition in (0..PARTITIONS).filter(|partition| partition % STORES == number) {
            let (store, log) = (Arc::clone(&open.store), Arc::clone(&log));
            settling.spawn(async move {
                let dice = SeededEntropy::new(u64::from(partition));
                let partition = Partition(partition);
                (partition, settle(&store, partition, &log[&partition], &dice).await)
            });
        }
        opens.push(open);
    }
    let outcomes: BTreeMap<_, _> = settling.join_all().await.into_iter().collect();

    let distinct: HashSet<u64> = log.values().flatten().copied().collect();
    let all = outcomes.values().flatten();
    let stored = all.filter(|outcome| **outcome == Outcome::Stored).count();
    assert_eq!(stored, distinct.len());
    assert_eq!(counted(&database), [distinct.len() as u64; 3]);
    for (partition, told) in &outcomes {
        // Whoever is asked, and asks the tables, says the same.
        for open in &opens {
            let asked = open.store.outcomes(*partition, 0..RECORDS).await.unwrap();
            assert_eq!(asked, told.iter().copied().map(Some).collect::<Vec<_>>());
        }
    }
    opens[0].store.finish().await;
    let views = "SELECT sum(page_view_count) FROM user_activity_metrics";
    let expected = distinct.iter().filter(|number| number.is_multiple_of(2)).count();
    assert_eq!(database.run(views).unwrap(), [[expected.to_string()]]);
    // All of them hear of all that was committed, in the end.
    for open in &opens {
        let all_of_it = |number| (Partition(number), RECORDS);
        let end: Positions = (0..PARTITIONS).map(all_of_it).collect();
        let mut progress = open.store.watch();
        progress.wait_for(|progress| progress.committed.covers(&end)).await.unwrap();
        let duplicates = u64::from(PARTITIONS) * RECORDS - distinct.len() as u64;
        assert_eq!(totals(&open.store), [distinct.len() as u64, duplicates, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_nobodys_business() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    commit(&open.store, &records(0, 3)).await;
    let address = Address::parse(&database.url()).unwrap();
    let other = Session::open(&address, "BEGIN; LOCK TABLE gristmill.events").await.unwrap();
    let store = Arc::clone(&open.store);
    let mut committing = JoinSet::new();
    committing.spawn(async move { store.commit(records(3, 6)).await });
    // The commit holds its positions and waits for the events.
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    tokio::task::block_in_place(|| {
        wait_until("the commit to wait", Duration::from_secs(30), || {
            (database.run(waits).unwrap() == [["1"]]).then_some(())
        })
        .unwrap();
    });
    // The server ends the one that finds out, mostly the one that has waited for longer. On a busy
    // machine that may be this one; the commit then comes through at once.
    let lock = "SELECT FROM gristmill.positions FOR UPDATE; COMMIT";
    if let Err(error) = other.client.batch_execute(lock).await {
        assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error}");
        other.client.batch_execute("ROLLBACK").await.unwrap();
    }
    let outcomes = committing.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(outcomes, [Outcome::Stored; 3]);
    assert_eq!(counted(&database), [6; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_committed_has_its_outcomes() {
    let database = TestDatabase::create().unwrap();
    let (committer, asker) = (Open::at(&database).await, Open::at(&database).await);
    let mut commit = batch(0, [0, 1, 0, 2].map(event).to_vec());
    let position = Position { partition: FEED, offset: 4 };
    let (reason, bytes) = ("no event".to_owned(), vec![1]);
    commit.quarantine.push(crate::Quarantined { position, reason, bytes });
    commit.next = [(FEED, 5)].into_iter().collect();
    committer.store.commit(commit).await.unwrap();
    use Outcome::{Duplicate, Quarantined, Stored};
    let expected = [Stored, Stored, Duplicate, Stored, Quarantined].map(Some);
    for open in [&committer, &asker, &Open::at(&database).await] {
        let told = open.store.outcomes(FEED, 0..7).await.unwrap();
        assert_eq!((&told[..5], &told[5..]), (&expected[..], &[None; 2][..]));
        assert_eq!(open.store.outcomes(FEED, 2..4).await.unwrap(), expected[2..4]);
        assert_eq!(open.store.outcomes(Partition(3), 0..1).await.unwrap(), [None]);
    }
}
