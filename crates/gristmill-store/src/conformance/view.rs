//! Everything that a walk gives, as texts, with the promises of the walk checked on the way.

use std::collections::BTreeMap;

use crate::port::{Scan, Snapshot, Store};

/// One event as a walk gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) time: i64,
    pub(super) texts: Vec<Option<String>>,
}

/// Walks through all shards of a new snapshot.
pub(super) async fn everything(store: &dyn Store, scan: &Scan) -> BTreeMap<String, Vec<Seen>> {
    view(store.snapshot().await.unwrap().as_ref(), scan)
}

/// Walks through all shards: each user is met once, in its own shard, in order of time.
pub(super) fn view(snapshot: &dyn Snapshot, scan: &Scan) -> BTreeMap<String, Vec<Seen>> {
    let mut users = BTreeMap::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, scan).unwrap();
        let mut codes = Vec::new();
        while let Some(run) = cursor.next_user().unwrap() {
            assert_eq!(snapshot.shard_of(&scan.project, run.user), shard);
            assert!(!run.times.is_empty() && run.times.is_sorted());
            assert_eq!(run.columns.len(), scan.fields.len());
            assert_eq!(run.dictionaries.len(), scan.fields.len());
            assert!(run.columns.iter().all(|column| column.len() == run.times.len()));
            let row = |row: usize| Seen {
                time: run.times[row],
                texts: (run.columns.iter().zip(run.dictionaries))
                    .map(|(column, dictionary)| dictionary.text(column[row]).map(str::to_owned))
                    .collect(),
            };
            let rows: Vec<Seen> = (0..run.times.len()).map(row).collect();
            codes.push((run.columns.iter().map(|c| c.to_vec()).collect::<Vec<_>>(), rows.clone()));
            assert!(users.insert(run.user.to_owned(), rows).is_none(), "{} twice", run.user);
        }
        // A code stands for the same text until the cursor is dropped.
        for (columns, rows) in codes {
            for (field, column) in columns.iter().enumerate() {
                let texts = column.iter().map(|code| cursor.dictionaries()[field].text(*code));
                assert!(texts.eq(rows.iter().map(|row| row.texts[field].as_deref())));
            }
        }
    }
    users
}
