//! Digests do not show in what walks give, are made for what is asked again, come back after a restart,
//! and are made anew where a file is not whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gristmill_model::{
    Field, Partition, Positions, ProjectId, SessionId, TimeRange, Timestamp, UserId,
};

use super::super::ColumnarConfig;
use super::super::tests::{Running, commit, row};
use super::shape::{Covers, Shape, Walked};
use crate::conformance::view::view;
use crate::{MemoryStore, Precision, Row, Scan, Store, Ties, Wanted, Work};

/// A store with one slice, so that compaction leaves one part in each shard.
fn config(folder: &Path) -> ColumnarConfig {
    ColumnarConfig { slice: 1_000 * Timestamp::DAY, ..super::super::tests::config(folder) }
}

fn sample(n: u64) -> Row<'static> {
    let time = ((n as i64 * 7919) % 50) * (Timestamp::HOUR / 7);
    let mut row = row(n, "", format!("e{n}"), time);
    row.event.user = UserId::new(format!("u{}", n % 20));
    row.event.page_url = format!("/{}", n * 7 % 1_999).into();
    row.event.session = (!n.is_multiple_of(3)).then(|| SessionId::new(format!("s{}", n % 11)));
    let plan = ["free", "pro", "team"][n as usize % 3];
    row.event.properties = format!(r#"{{"plan":"{plan}","n":{}}}"#, n % 5).into();
    row
}

/// Walks of several shapes, all through users.
fn scans() -> Vec<Scan> {
    let plain = Scan::of(ProjectId::new("p"));
    let plan = vec![Field::from_name("plan")];
    let by_hours = Scan { precision: Precision::Hours, ..plain.clone() };
    let half = TimeRange { start: Some(Timestamp(4 * Timestamp::HOUR)), end: None };
    vec![
        Scan { precision: Precision::Untold, fields: plan.clone(), ..plain.clone() },
        Scan {
            fields: vec![Field::SessionWithinUser, plan[0].clone()],
            numbers: vec![Field::from_name("n")],
            ..by_hours.clone()
        },
        Scan { range: half, ..by_hours },
        Scan {
            fields: plan,
            wanted: Wanted::WithText(0, vec!["pro".to_owned()]),
            ties: Ties::InAnyOrder,
            ..plain
        },
    ]
}

/// What a walk gives, and what the question has cost.
async fn ask(store: &dyn Store, scan: &Scan) -> (Vec<String>, Work) {
    let snapshot = store.snapshot().await.unwrap();
    let mut told = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, scan).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            for (rows, moments) in batch.rows().zip(batch.moments()) {
                let events = &batch.events;
                let text = |column: usize, row: usize| {
                    let code = events.columns[column][row];
                    events.dictionaries[column].text(code).map(str::to_owned)
                };
                let hours: BTreeMap<_, _> = events.hours
                    [if events.hours.is_empty() { 0..0 } else { moments }]
                .iter()
                .flat_map(|hour| hour.rows().map(move |row| (row, hour.hour)))
                .collect();
                for row in rows {
                    let count = events.counts.get(row).copied().unwrap_or(1);
                    let columns = 0..events.columns.len();
                    let texts: Vec<_> = columns.map(|column| text(column, row)).collect();
                    let hour = hours.get(&row);
                    let number = events.numbers.first().map(|numbers| numbers[row].to_bits());
                    let time = events.times.get(row);
                    let one = format!("{time:?} {hour:?} {texts:?} {number:?}");
                    let is_wanted = match &scan.wanted {
                        Wanted::WithText(column, wanted) => {
                            texts[*column].as_ref().is_some_and(|text| wanted.contains(text))
                        }
                        _ => true,
                    };
                    told.extend((0..count).filter(|_| is_wanted).map(|_| one.clone()));
                }
            }
        }
    }
    told.sort();
    (told, snapshot.work())
}

async fn filled(config: ColumnarConfig) -> Running {
    let running = Running::open(config).unwrap();
    running.store.commit(commit((0..2_000).map(sample).collect())).await.unwrap();
    running.store.compact().await.unwrap();
    running
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("digests")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn what_is_asked_again_is_walked_through_in_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(config(folder.path())).await;
    for scan in scans() {
        let (first, plain) = ask(&*running.store, &scan).await;
        assert!(!first.is_empty() && plain.rows > 0);
        let (second, _) = ask(&*running.store, &scan).await;
        let (third, digested) = ask(&*running.store, &scan).await;
        assert!(second == first && third == first, "{scan:?}");
        assert!(digested.rows < plain.rows, "{scan:?}: {plain:?}, {digested:?}");
        assert_eq!((digested.parts, digested.cache_misses), (0, 0));
    }
}

#[tokio::test]
async fn later_events_are_told_with_those_of_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(config(folder.path())).await;
    let expected = MemoryStore::new(3);
    expected.commit(commit((0..2_000).map(sample).collect())).await.unwrap();
    for scan in scans() {
        ask(&*running.store, &scan).await;
        ask(&*running.store, &scan).await;
    }
    for store in [&*running.store as &dyn Store, &expected] {
        store.commit(commit((2_000..2_100).map(sample).collect())).await.unwrap();
    }
    for scan in scans() {
        let told = ask(&*running.store, &scan).await.0.len();
        assert_eq!(told, ask(&expected, &scan).await.0.len(), "{scan:?}");
        let snapshots =
            (running.store.snapshot().await.unwrap(), expected.snapshot().await.unwrap());
        let fields = scan.fields.iter().filter(|field| **field != Field::SessionWithinUser);
        let fields = fields.cloned().collect();
        let by_times = Scan { precision: Precision::Times, wanted: Wanted::All, fields, ..scan };
        assert_eq!(view(&*snapshots.0, &by_times), view(&*snapshots.1, &by_times));
    }
}

#[tokio::test]
async fn digests_come_back_after_a_restart_and_go_with_their_parts() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(config(folder.path())).await;
    let mut expected = Vec::new();
    for scan in scans() {
        ask(&*running.store, &scan).await;
        expected.push(ask(&*running.store, &scan).await.0);
    }
    let kept = files(folder.path());
    assert!(kept.len() >= scans().len());
    drop(running);
    let running = Running::open(config(folder.path())).unwrap();
    for (scan, expected) in scans().iter().zip(&expected) {
        let (told, work) = ask(&*running.store, scan).await;
        assert_eq!(told, *expected);
        assert_eq!(work.parts, 0, "no file of rows is opened: {scan:?}");
    }
    // Rows in the same slices are merged with those that are there.
    running.store.commit(commit((2_000..4_000).map(sample).collect())).await.unwrap();
    running.store.compact().await.unwrap();
    assert!(files(folder.path()).iter().all(|path| !kept.contains(path)));
}

#[tokio::test]
async fn digests_that_are_not_whole_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let scan = scans().remove(1);
    let running = filled(config(folder.path())).await;
    ask(&*running.store, &scan).await;
    let expected = ask(&*running.store, &scan).await.0;
    drop(running);
    let whole: Vec<Vec<u8>> =
        files(folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.truncate(10),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 128;
        },
    ];
    for damage in damages {
        let paths = files(folder.path());
        assert_eq!(paths.len(), whole.len());
        for (path, bytes) in paths.iter().zip(&whole) {
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
        let running = Running::open(config(folder.path())).unwrap();
        for _ in 0..2 {
            assert_eq!(ask(&*running.store, &scan).await.0, expected);
        }
        let now: Vec<Vec<u8>> =
            files(folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(now, whole, "they are there again");
    }
}

#[tokio::test]
async fn files_have_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let without = ColumnarConfig { cache_bytes: 0, ..config(folder.path()) };
    let running = filled(without).await;
    for scan in scans() {
        let first = ask(&*running.store, &scan).await.0;
        for _ in 0..3 {
            assert_eq!(ask(&*running.store, &scan).await.0, first);
        }
    }
    assert!(files(folder.path()).is_empty());
    drop(running);
    let little = ColumnarConfig { cache_bytes: 60_000, ..config(folder.path()) };
    let running = Running::open(little).unwrap();
    for scan in scans().iter().cycle().take(8) {
        ask(&*running.store, scan).await;
        let paths = files(folder.path());
        let bytes: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(bytes <= 60_000);
    }
    assert!(!files(folder.path()).is_empty());
}

/// The events of every hour, through events in no order, and how many rows that took.
async fn by_hour(store: &dyn Store) -> (BTreeMap<i32, u32>, u64) {
    by_hour_in(store, TimeRange::ALL).await
}

/// The same of the events in a range.
async fn by_hour_in(store: &dyn Store, range: TimeRange) -> (BTreeMap<i32, u32>, u64) {
    let snapshot = store.snapshot().await.unwrap();
    let scan = Scan { precision: Precision::Hours, range, ..Scan::of(ProjectId::new("p")) };
    let mut told = BTreeMap::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, &scan).unwrap();
        while let Some(events) = cursor.next_events().unwrap() {
            for hour in events.hours {
                let count = |row: usize| events.counts.get(row).copied().unwrap_or(1);
                *told.entry(hour.hour).or_default() += hour.rows().map(count).sum::<u32>();
            }
        }
    }
    (told, snapshot.work().rows)
}

#[tokio::test]
async fn events_come_once_when_only_some_walks_have_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let config = ColumnarConfig { shards: 1, ..config(folder.path()) };
    let running = Running::open(config.clone()).unwrap();
    let expected = MemoryStore::new(1);
    let rows = |from: u64, to: u64| commit((from..to).map(sample).collect());
    for store in [&*running.store as &dyn Store, &expected] {
        store.commit(rows(0, 18_000)).await.unwrap();
    }
    running.store.compact().await.unwrap();
    assert!(running.store.snapshot().await.unwrap().shards() > 2, "several walks");
    by_hour(&*running.store).await;
    by_hour(&*running.store).await;
    drop(running);
    // A small part, which is no part of a digest, lies beside them.
    let running = Running::open(ColumnarConfig { seal_bytes: 1, ..config.clone() }).unwrap();
    for store in [&*running.store as &dyn Store, &expected] {
        store.commit(rows(18_000, 18_500)).await.unwrap();
    }
    let sealed: Positions = [(Partition(0), 18_500)].into_iter().collect();
    running.store.watch().wait_for(|progress| progress.durable.covers(&sealed)).await.unwrap();
    drop(running);
    let expected = by_hour(&expected).await.0;
    let kept = files(folder.path());
    assert!(kept.len() > 2);
    // One walk after the other has none any more when the process starts.
    for (removed, path) in kept.iter().enumerate() {
        let running = Running::open(config.clone()).unwrap();
        let (told, rows) = by_hour(&*running.store).await;
        assert_eq!(told, expected);
        assert!(removed > 0 || rows < 18_000, "at first all walks have digests");
        drop(running);
        fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn ranges_that_cut_hours_lose_and_double_nothing() {
    cut_hours_of(sample).await;
}

#[tokio::test]
async fn the_only_hour_may_be_cut() {
    cut_hours_of(|n| {
        let mut row = sample(n);
        row.event.time = Timestamp(row.event.time.0 / 8 + 31 * (Timestamp::HOUR / 7));
        row
    })
    .await;
}

/// Asks for ranges of all kinds, where events are like this.
async fn cut_hours_of(sample: fn(u64) -> Row<'static>) {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(config(folder.path())).unwrap();
    let expected = MemoryStore::new(3);
    for store in [&*running.store as &dyn Store, &expected] {
        store.commit(commit((0..2_000).map(sample).collect())).await.unwrap();
    }
    running.store.compact().await.unwrap();
    let moment = |sevenths: i64| Some(Timestamp(sevenths * (Timestamp::HOUR / 7) + 1));
    let whole = |hours: i64| Some(Timestamp(hours * Timestamp::HOUR));
    let starts = [None, moment(-9), moment(-1), moment(10), whole(2), moment(12), moment(31)];
    let ends = [None, moment(3), moment(12), whole(6), moment(31), moment(46), moment(90)];
    for (start, end) in starts.iter().flat_map(|start| ends.map(|end| (*start, end))) {
        let range = TimeRange { start, end };
        for precision in [Precision::Hours, Precision::Untold] {
            let mut scan = Scan { precision, range, ..scans().remove(1) };
            // Sessions have no texts here, and have some elsewhere.
            scan.fields.remove(0);
            let told = ask(&expected, &scan).await.0;
            for _ in 0..3 {
                assert!(ask(&*running.store, &scan).await.0 == told, "{scan:?}");
            }
        }
        let told = by_hour_in(&expected, range).await.0;
        for _ in 0..3 {
            assert_eq!(by_hour_in(&*running.store, range).await.0, told, "{range:?}");
        }
    }
}

#[tokio::test]
async fn what_a_range_leaves_of_its_first_hour_is_told_where_all_of_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(config(folder.path())).unwrap();
    let expected = MemoryStore::new(1);
    let late = |n: u64| {
        let mut row = sample(n);
        row.event.time = Timestamp(row.event.time.0 + Timestamp::HOUR / 3);
        row
    };
    for store in [&*running.store as &dyn Store, &expected] {
        store.commit(commit((0..500).map(late).collect())).await.unwrap();
    }
    running.store.compact().await.unwrap();
    // No event is before the range, which begins within the first one's hour.
    let range = TimeRange { start: Some(Timestamp(Timestamp::HOUR / 4)), end: None };
    let told = by_hour_in(&expected, range).await.0;
    assert!(told.contains_key(&0));
    for _ in 0..3 {
        assert_eq!(by_hour_in(&*running.store, range).await.0, told);
    }
}

#[tokio::test]
async fn the_whole_hours_of_a_range_are_walked_through_in_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(config(folder.path())).await;
    let plain = scans().remove(1);
    ask(&*running.store, &plain).await;
    ask(&*running.store, &plain).await;
    let kept = files(folder.path());
    assert!(!kept.is_empty());
    let start = Some(Timestamp(2 * Timestamp::HOUR + 1));
    let cut = Scan { range: TimeRange { start, end: None }, ..plain };
    let (_, work) = ask(&*running.store, &cut).await;
    // What is left of the first hour is looked for in columns.
    assert!(work.parts > 0 && work.rows > 2_000, "{work:?}");
    assert_eq!(files(folder.path()), kept, "it is the same digest");
}

#[tokio::test]
async fn a_question_that_began_before_a_merge_leaves_no_digest() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(config(folder.path())).await;
    let scan = scans().remove(0);
    let expected = ask(&*running.store, &scan).await.0;
    let old = running.store.snapshot().await.unwrap();
    running.store.commit(commit((2_000..4_000).map(sample).collect())).await.unwrap();
    running.store.compact().await.unwrap();
    let mut rows = 0;
    for shard in 0..old.shards() {
        let mut cursor = old.scan(shard, &scan).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            rows += match batch.events.counts {
                [] => batch.events.rows,
                counts => counts.iter().sum::<u32>() as usize,
            };
        }
    }
    assert_eq!(rows, expected.len());
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn what_is_nearly_as_much_as_the_columns_is_not_digested() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(config(folder.path())).await;
    // So few that it does not matter are digested all the same.
    running.store.commit(commit((2_000..8_000).map(sample).collect())).await.unwrap();
    running.store.compact().await.unwrap();
    // Nearly every event of a user is on a page of its own.
    let fields = vec![Field::PageUrl];
    let scan = Scan { precision: Precision::Untold, fields, ..Scan::of(ProjectId::new("p")) };
    let (plain, work) = ask(&*running.store, &scan).await;
    // The second one finds out.
    assert_eq!(ask(&*running.store, &scan).await.0, plain);
    for _ in 0..2 {
        let (again, work_again) = ask(&*running.store, &scan).await;
        assert_eq!(again, plain);
        assert_eq!(work_again.rows, work.rows);
    }
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_digest_does_where_it_tells_enough() {
    let scan = Scan::of(ProjectId::new("p"));
    let shape = |walked, scan: &Scan, covers| Shape::of(walked, scan, covers);
    let of_users = |scan: &Scan, covers| shape(Walked::Users, scan, covers).is_some();
    assert!(!of_users(&scan, Covers::All), "times of all events are as many as these");
    let by_hours = Scan { precision: Precision::Hours, ..scan.clone() };
    assert!(of_users(&by_hours, Covers::Some));
    let cut = TimeRange { start: Some(Timestamp(1)), end: None };
    let cut = Scan { range: cut, ..by_hours.clone() };
    assert!(!of_users(&cut, Covers::Some), "the range begins within an hour");
    assert!(of_users(&cut, Covers::All));
    for field in [Field::UserId, Field::EventId, Field::Properties] {
        assert!(!of_users(&Scan { fields: vec![field], ..by_hours.clone() }, Covers::All));
    }
    let one = Scan { user: Some("u".to_owned()), ..by_hours };
    assert!(!of_users(&one, Covers::All));
    let wanted = Wanted::WithText(0, vec!["a".to_owned()]);
    let steps = Scan { fields: vec![Field::EventType], wanted, ..scan.clone() };
    assert!(!of_users(&steps, Covers::All), "ties are decided by positions, which it has not");
    assert!(of_users(&Scan { ties: Ties::InAnyOrder, ..steps }, Covers::All));
    let ends = Scan { wanted: Wanted::Ends, ..scan };
    assert!(shape(Walked::Events, &ends, Covers::All).is_some());
    assert!(shape(Walked::Events, &ends, Covers::Some).is_none());
}
