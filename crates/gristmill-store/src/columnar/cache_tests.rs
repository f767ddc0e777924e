//! What is cached never shows in an answer, what is asked again is not decoded again, and users are
//! whole across the borders of row groups and of walks.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_model::{
    Field, Partition, Positions, ProjectId, SessionId, TimeRange, Timestamp, UserId,
};

use super::ColumnarConfig;
use super::tests::{Running, commit, config, row};
use crate::conformance::view::view;
use crate::{ABSENT, MemoryStore, Row, Scan, Snapshot, Store, UserRun, Work};

const FIELDS: [&str; 7] =
    ["event_type", "session_id", "page_url", "user_id", "plan", "o.k", "event_id"];

/// Every row of every user, as text, shard by shard.
fn all_rows(snapshot: &dyn Snapshot, range: TimeRange) -> Vec<String> {
    let fields = FIELDS.map(Field::from_name).to_vec();
    let scan = Scan { range, fields, ..Scan::of(ProjectId::new("p")) };
    let mut rows = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, &scan).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            for UserRun { user, events } in batch.runs() {
                for (index, time) in events.times.iter().enumerate() {
                    let code = |field: usize| events.columns[field][index];
                    let text = |field: usize| events.dictionaries[field].text(code(field));
                    let texts: Vec<_> = (0..FIELDS.len()).map(text).collect();
                    rows.push(format!("{user} {time} {texts:?}"));
                }
            }
        }
    }
    rows
}

/// A store of some users whose histories lie in a merged part, in one just sealed and in memory.
async fn filled(folder: &Path, cache_bytes: usize) -> Running {
    let config = ColumnarConfig { cache_bytes, ..config(folder) };
    let running = Running::open(config.clone()).unwrap();
    running.store.commit(commit((0..1_000).map(sample).collect())).await.unwrap();
    running.store.compact().await.unwrap();
    drop(running);
    let running = Running::open(ColumnarConfig { seal_bytes: 1, ..config.clone() }).unwrap();
    running.store.commit(commit((1_000..2_000).map(sample).collect())).await.unwrap();
    let sealed: Positions = [(Partition(0), 2_000)].into_iter().collect();
    running.store.watch().wait_for(|progress| progress.durable.covers(&sealed)).await.unwrap();
    drop(running);
    let running = Running::open(config).unwrap();
    running.store.commit(commit((2_000..3_000).map(sample).collect())).await.unwrap();
    running
}

fn sample(n: u64) -> Row<'static> {
    let time = (n as i64 * 7919) % 1_500;
    let mut row = row(n, "", format!("e{n}"), time);
    row.event.user = UserId::new(format!("u{}", n % 20));
    row.event.session = (!n.is_multiple_of(3)).then(|| SessionId::new(format!("s{}", time / 100)));
    let plan = ["free", "pro", "team"][n as usize % 3];
    let rare = if n.is_multiple_of(7) { format!(r#","rare":{}"#, n % 50) } else { String::new() };
    row.event.properties = format!(r#"{{"plan":"{plan}","o":{{"k":{}}}{rare}}}"#, n % 5).into();
    row
}

#[tokio::test]
async fn answers_are_the_same_with_any_cache() {
    let ranges = [
        TimeRange::ALL,
        TimeRange { start: Some(Timestamp(300)), end: Some(Timestamp(700)) },
        TimeRange { start: Some(Timestamp(1_400)), end: None },
    ];
    let mut answers = Vec::new();
    for cache_bytes in [0, 20_000, 1 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let running = filled(folder.path(), cache_bytes).await;
        let snapshot = running.store.snapshot().await.unwrap();
        let rows = || ranges.map(|range| all_rows(snapshot.as_ref(), range));
        let first = rows();
        assert_eq!(first, rows(), "asked again with {cache_bytes} bytes");
        answers.push(first);
    }
    assert_eq!(answers[0][0].len(), 3_000);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn what_is_asked_again_is_not_decoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let running = filled(folder.path(), 1 << 20).await;
    let ask = async || {
        let snapshot = running.store.snapshot().await.unwrap();
        all_rows(snapshot.as_ref(), TimeRange::ALL);
        snapshot.work()
    };
    let first = ask().await;
    assert!(first.cache_misses > 0);
    let again = ask().await;
    // The ids, of which each is another, are never kept.
    let parts = again.parts;
    assert!(parts > 3, "more than one for each shard");
    let expected = Work {
        cache_hits: first.cache_hits + first.cache_misses - parts,
        cache_misses: parts,
        ..first
    };
    assert_eq!(again, expected);
    assert_eq!(first.rows, 2_000, "those that are in files");
}

/// The rows of each user; a user comes once in all shards.
fn by_user(store: &dyn Snapshot, user: Option<&str>) -> BTreeMap<String, Vec<(i64, String)>> {
    let mut users = BTreeMap::new();
    let fields = vec![Field::EventId, Field::SessionId, Field::SessionWithinUser];
    let user = user.map(str::to_owned);
    let scan = Scan { user, fields, ..Scan::of(ProjectId::new("p")) };
    for shard in 0..store.shards() {
        let mut cursor = store.scan(shard, &scan).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            for UserRun { user, events } in batch.runs() {
                assert_eq!(store.shard_of(&scan.project, user), shard, "{user}");
                let code = |field: usize, row| events.columns[field][row];
                let text = |field: usize, row| events.dictionaries[field].text(code(field, row));
                let mut sessions = Vec::new();
                let row = |row| {
                    check_session(&mut sessions, code(2, row), text(1, row));
                    (events.times[row], format!("{:?} {:?}", text(0, row), text(1, row)))
                };
                let rows = (0..events.times.len()).map(row).collect();
                let codes = events.dictionaries[2].len() as u32;
                assert!(sessions.iter().all(|(code, _)| *code < codes), "{user}");
                assert!(users.insert(user.to_owned(), rows).is_none(), "{user} twice");
            }
        }
    }
    users
}

/// A user's sessions are told apart by their codes as by their texts.
fn check_session(known: &mut Vec<(u32, String)>, code: u32, text: Option<&str>) {
    let Some(text) = text else { return assert_eq!(code, ABSENT) };
    match known.iter().find(|(other, id)| *other == code || id == text) {
        Some((other, id)) => assert_eq!((*other, id.as_str()), (code, text)),
        None => known.push((code, text.to_owned())),
    }
}

#[tokio::test]
async fn users_are_whole_across_row_groups_and_walks() {
    // Two users have most of the rows, so that row groups of any size begin and end within them.
    let user = |n: u64| {
        if n.is_multiple_of(40) { (n % 1_000).to_string() } else { format!("many {}", n % 2) }
    };
    // Projects before and behind.
    let project = |n: u64| ProjectId::new(["o", "q", "p"][(n as usize % 97).min(2)]);
    let rows = |first: u64, count: u64| -> Vec<Row<'static>> {
        let rows = (first..first + count).map(|n| {
            let mut row = sample(n);
            row.event.user = UserId::new(user(n));
            row.event.project = project(n);
            row.event.time = Timestamp(row.event.time.0 * STRETCH);
            row
        });
        rows.collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let config = ColumnarConfig { shards: 1, slice: 100 * Timestamp::DAY, ..config(folder.path()) };
    let memory = MemoryStore::new(3);
    let running = Running::open(config).unwrap();
    let mut next = 0;
    // In a merged part with large row groups, and then in memory as well.
    for count in [90_000, 5_000] {
        for store in [running.store.as_ref() as &dyn Store, &memory] {
            store.commit(commit(rows(next, count))).await.unwrap();
        }
        if next == 0 {
            running.store.compact().await.unwrap();
        }
        next += count;
        let (columnar, plain) =
            (running.store.snapshot().await.unwrap(), memory.snapshot().await.unwrap());
        assert!(columnar.shards() > 8, "one shard is walked in pieces");
        let expected = by_user(plain.as_ref(), None);
        assert_eq!(expected.len(), 27);
        assert!(by_user(columnar.as_ref(), None) == expected);
        for user in ["many 1", "40", "nobody"] {
            let expected = by_user(plain.as_ref(), Some(user));
            assert!(by_user(columnar.as_ref(), Some(user)) == expected, "{user}");
        }
        for scan in scans() {
            let expected = view(plain.as_ref(), &scan);
            assert!(view(columnar.as_ref(), &scan) == expected, "{scan:?}");
        }
    }
}

/// As many times longer is what those samples take, so that they have hours.
const STRETCH: i64 = Timestamp::HOUR / 100;

/// Walks of three projects and several ranges, one of which cuts off the beginning of a user's rows
/// over a whole row group.
fn scans() -> Vec<Scan> {
    let time = |time: i64| Some(Timestamp(time * STRETCH));
    let all = Scan {
        fields: ["plan", "page_url"].map(Field::from_name).into(),
        numbers: ["o.k", "user_id"].map(Field::from_name).into(),
        ..Scan::of(ProjectId::new("p"))
    };
    let of = |project| Scan { project: ProjectId::new(project), ..all.clone() };
    let within = |start, end| Scan { range: TimeRange { start, end }, ..all.clone() };
    let plain = Scan { fields: Vec::new(), numbers: vec![Field::from_name("o.k")], ..all.clone() };
    let rare = Scan { numbers: vec![Field::from_name("rare")], ..within(time(300), None) };
    vec![
        plain,
        Scan { range: TimeRange::ALL, ..rare.clone() },
        rare,
        of("o"),
        of("q"),
        of("r"),
        within(time(1_400), None),
        within(time(300), time(310)),
        within(None, time(20)),
        all,
    ]
}
