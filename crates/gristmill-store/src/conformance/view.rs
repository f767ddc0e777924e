//! Everything that a walk gives, as texts, with the promises of the walk checked on the way.

use std::collections::BTreeMap;

use crate::{Events, Scan, Snapshot, Store};

/// One event as a walk gave it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(super) time: i64,
    pub(super) texts: Vec<Option<String>>,
    /// The bits of numbers.
    pub(super) numbers: Vec<Option<u64>>,
}

/// Walks through all shards of a new snapshot.
pub(super) async fn everything(store: &dyn Store, scan: &Scan) -> BTreeMap<String, Vec<Seen>> {
    view(store.snapshot().await.unwrap().as_ref(), scan)
}

/// Walks through all shards: each user is met once, in its own shard, in order of time.
pub(crate) fn view(snapshot: &dyn Snapshot, scan: &Scan) -> BTreeMap<String, Vec<Seen>> {
    let mut users = BTreeMap::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, scan).unwrap();
        let mut codes = Vec::new();
        while let Some(batch) = cursor.next_users().unwrap() {
            assert_eq!(batch.rows().last().map_or(0, |rows| rows.end), batch.events.times.len());
            for run in batch.runs() {
                assert_eq!(snapshot.shard_of(&scan.project, run.user), shard);
                assert!(!run.events.times.is_empty() && run.events.times.is_sorted());
                let rows = seen(&run.events, scan);
                let columns: Vec<_> = run.events.columns.iter().map(|c| c.to_vec()).collect();
                codes.push((columns, rows.clone()));
                assert!(users.insert(run.user.to_owned(), rows).is_none(), "{} twice", run.user);
            }
        }
        // A code stands for the same text until the cursor is dropped.
        for (columns, rows) in codes {
            for (field, column) in columns.iter().enumerate() {
                let texts = column.iter().map(|code| cursor.dictionaries()[field].text(*code));
                assert!(texts.eq(rows.iter().map(|row| row.texts[field].as_deref())));
            }
        }
    }
    check_events(snapshot, scan, &users);
    users
}

/// The same events come in no order.
fn check_events(snapshot: &dyn Snapshot, scan: &Scan, users: &BTreeMap<String, Vec<Seen>>) {
    let (mut rows, mut spans) = (Vec::new(), Vec::new());
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, scan).unwrap();
        while let Some(span) = cursor.next_span().unwrap() {
            spans.extend(span.map(<[i64; 2]>::from));
        }
        let mut cursor = snapshot.scan_events(shard, scan).unwrap();
        while let Some(events) = cursor.next_events().unwrap() {
            rows.extend(seen(&events, scan));
        }
        assert_eq!(cursor.dictionaries().len(), scan.fields.len());
    }
    let mut expected: Vec<Seen> = users.values().flatten().cloned().collect();
    expected.sort();
    rows.sort();
    assert_eq!(rows, expected);
    check_only_numbers(snapshot, scan, &expected);
    let (told, times) = (|| spans.iter().flatten(), || expected.iter().map(|row| &row.time));
    assert_eq!((told().min(), told().max()), (times().min(), times().max()));
}

/// Events with a number come once as well if others may be left out.
fn check_only_numbers(snapshot: &dyn Snapshot, scan: &Scan, expected: &[Seen]) {
    let has_number = |row: &&Seen| row.numbers.iter().any(Option::is_some);
    let scan = Scan { only_numbers: true, ..scan.clone() };
    let mut rows = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, &scan).unwrap();
        while let Some(events) = cursor.next_events().unwrap() {
            rows.extend(seen(&events, &scan));
        }
    }
    rows.sort();
    assert!(rows.iter().filter(has_number).eq(expected.iter().filter(has_number)));
}

fn seen(events: &Events<'_>, scan: &Scan) -> Vec<Seen> {
    assert_eq!(events.columns.len(), scan.fields.len());
    assert!(events.columns.iter().all(|column| column.len() == events.times.len()));
    assert_eq!(events.numbers.len(), scan.numbers.len());
    assert!(events.numbers.iter().all(|numbers| numbers.len() == events.times.len()));
    let row = |row: usize| Seen {
        time: events.times[row],
        texts: (events.columns.iter().enumerate())
            .map(|(field, column)| events.dictionaries[field].text(column[row]).map(str::to_owned))
            .collect(),
        numbers: (events.numbers.iter())
            .map(|numbers| Some(numbers[row]).filter(|number| !number.is_nan()).map(f64::to_bits))
            .collect(),
    };
    (0..events.times.len()).map(row).collect()
}
