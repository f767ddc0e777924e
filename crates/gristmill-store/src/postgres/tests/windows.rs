//! Windows of activity: each event in one row, whatever happens.

use gristmill_testkit::wait_until;

use super::super::session::Session;
use super::proxy::{Mode, Proxy};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// The rows that were written: users and page views.
fn rows(database: &TestDatabase) -> Vec<[u64; 2]> {
    let question = "SELECT unique_users, page_view_count FROM user_activity_metrics ORDER BY id";
    let rows = database.run(question).unwrap();
    rows.iter().map(|row| [row[0].parse().unwrap(), row[1].parse().unwrap()]).collect()
}

async fn open(url: &str, windows: Windows) -> Open {
    let mut open = Open::with_windows(url, "log", windows);
    open.reached().await.unwrap();
    open
}

/// These records of the feed, of which every other is a page view.
fn views(first: u64, next: u64) -> Commit<'static> {
    let mut records = records(first, next);
    for row in records.rows.iter_mut().filter(|row| row.position.offset % 2 == 0) {
        row.event.event_type = "page_view".into();
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_close_with_enough_events_and_count_each_once() {
    let database = TestDatabase::create().unwrap();
    let windows = Windows { interval: HOUR, events: 10 };
    let proxy = Proxy::before(&database.url(), Mode::Open).await;
    let url = proxy.url(&database.url());
    let first = open(&url, windows).await;
    commit(&first.store, &views(0, 4)).await;
    assert_eq!(rows(&database), [[0; 2]; 0], "the window is open");
    drop(first);

    // It goes on after a restart, and a duplicate is not in it.
    let second = open(&url, windows).await;
    commit(&second.store, &batch(4, vec![event(1)])).await;
    commit(&second.store, &views(5, 11)).await;
    assert_eq!(rows(&database), [[3, 5]]);

    // Neither a lost answer nor another process that commits the same makes a second row.
    proxy.set(Mode::SwallowCommit);
    second.store.commit(views(11, 25)).await.unwrap_err();
    commit(&second.store, &views(11, 25)).await;
    let other = open(&url, windows).await;
    commit(&other.store, &views(11, 25)).await;
    assert_eq!(rows(&database), [[3, 5], [3, 7]]);

    // What is left is written in the end, once; an empty window is not.
    commit(&second.store, &views(25, 26)).await;
    second.store.finish().await;
    second.store.finish().await;
    assert_eq!(rows(&database), [[3, 5], [3, 7], [1, 0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_close_after_a_while() {
    let database = TestDatabase::create().unwrap();
    let interval = Duration::from_millis(50);
    let open = open(&database.url(), Windows { interval, events: 1_000 }).await;
    commit(&open.store, &views(0, 4)).await;
    let written = || {
        let written: u64 = rows(&database).iter().map(|[_, views]| views).sum();
        (written == 2).then_some(())
    };
    tokio::task::block_in_place(|| {
        wait_until("the window to be closed", Duration::from_secs(30), written).unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_of_one_log_close_its_windows_together() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let database = TestDatabase::create().unwrap();
    let windows = Windows { interval: INTERVAL, events: 1_000_000 };
    let mut opens = Vec::new();
    for _ in 0..3 {
        opens.push(open(&database.url(), windows).await);
    }
    let mut next = 0;
    while rows(&database).len() < 3 {
        let open = &opens[next as usize % opens.len()];
        commit(&open.store, &views(next, next + 1)).await;
        next += 1;
    }
    drop(opens);
    // A row says when its window was closed: each about an interval after the one before.
    let between = "SELECT coalesce(min(extract(epoch FROM after - before)), 0) > 0.9 FROM (SELECT \
                   timestamp AS after, lag(timestamp) OVER (ORDER BY id) AS before \
                   FROM user_activity_metrics) AS rows";
    assert_eq!(database.run(between).unwrap(), [["t"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_the_table_of_windows_holds_up_no_commit() {
    let database = TestDatabase::create().unwrap();
    let open = open(&database.url(), Windows { interval: HOUR, events: 2 }).await;
    commit(&open.store, &views(0, 2)).await;
    assert_eq!(rows(&database), [[2, 1]]);
    database.run("ALTER TABLE user_activity_metrics RENAME TO elsewhere").unwrap();
    commit(&open.store, &views(2, 4)).await;
    database.run("ALTER TABLE elsewhere RENAME TO user_activity_metrics").unwrap();

    let address = Address::parse(&database.url()).unwrap();
    let holder = Session::open(&address, "").await.unwrap();
    let lock = "BEGIN; LOCK TABLE user_activity_metrics";
    holder.client.batch_execute(lock).await.unwrap();
    commit(&open.store, &views(4, 6)).await;
    drop(holder);
    assert_eq!(counted(&database), [6; 3]);
    // Nothing is left out in the end.
    commit(&open.store, &views(6, 8)).await;
    assert_eq!(rows(&database), [[2, 1], [3, 3]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_window_reads_what_is_in_it_only() {
    const EVENTS: u64 = 5_000;
    let database = TestDatabase::create().unwrap();
    let open = open(&database.url(), Windows { interval: HOUR, events: 100 }).await;
    for first in (0..EVENTS).step_by(100) {
        commit(&open.store, &views(first, first + 100)).await;
    }
    drop(open);
    // The server counts when a connection has ended.
    let read = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_user_tables \
                WHERE schemaname = 'gristmill' AND relname = 'events'";
    let read = || -> Option<u64> {
        let read = database.run(read).unwrap()[0][0].parse().unwrap();
        (read >= EVENTS).then_some(read)
    };
    let read = tokio::task::block_in_place(|| {
        wait_until("statistics", Duration::from_secs(30), read).unwrap()
    });
    assert!(read < 2 * EVENTS, "{read} rows were read");
    assert_eq!(rows(&database).len(), 50);
}
