//! What is cached never shows in an answer, and what is asked again is not decoded again.

use std::path::Path;

use gristmill_model::{
    Field, Partition, Positions, ProjectId, SessionId, TimeRange, Timestamp, UserId,
};

use super::ColumnarConfig;
use super::tests::{Running, commit, config, row};
use crate::{Row, Scan, Snapshot, Store, Work};

const FIELDS: [&str; 7] =
    ["event_type", "session_id", "page_url", "user_id", "plan", "o.k", "event_id"];

/// Every row of every user, as text, shard by shard.
fn all_rows(snapshot: &dyn Snapshot, range: TimeRange) -> Vec<String> {
    let fields = FIELDS.map(Field::from_name).to_vec();
    let scan = Scan { project: ProjectId::new("p"), user: None, range, fields };
    let mut rows = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, &scan).unwrap();
        while let Some(run) = cursor.next_user().unwrap() {
            for (index, time) in run.times.iter().enumerate() {
                let text = |field: usize| run.dictionaries[field].text(run.columns[field][index]);
                let texts: Vec<_> = (0..FIELDS.len()).map(text).collect();
                rows.push(format!("{} {time} {texts:?}", run.user));
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
    row.event.properties = format!(r#"{{"plan":"{plan}","o":{{"k":{}}}}}"#, n % 5).into();
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
