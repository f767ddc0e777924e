//! The files of a columnar store with some bytes changed: it refuses, or it can be asked.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use gristmill_fuzz::{NOW, Platform, edits, folder, quiet_runtime, with_crc};
use gristmill_log::conformance::sample;
use gristmill_model::{Partition, Position, Positions, ProjectId, Timestamp};
use gristmill_store::columnar::{ColumnarConfig, ColumnarStore, check};
use gristmill_store::{Commit, DocumentKey, Quarantined, Row, Store};
use gristmill_testkit::{ManualClock, SeededEntropy};
use http::Request;
use libfuzzer_sys::fuzz_target;

type Files = BTreeMap<String, Vec<u8>>;

static WRITTEN: LazyLock<Files> = LazyLock::new(written);

fuzz_target!(|input: &[u8]| {
    let Some((form, input)) = input.split_first() else { return };
    let mut files = WRITTEN.clone();
    if form % 3 == 2 {
        // What the manifest says is changed by records at its end.
        let manifest = files.get_mut("manifest").expect("every store has one");
        input.split(|byte| *byte == b'\n').for_each(|json| append(manifest, json));
    } else {
        edits(input).for_each(|edit| edit.apply(&mut files));
    }
    if form % 3 == 1 {
        mend(&mut files);
    }
    let folder = folder();
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).expect("a file");
    }
    let _ = check(folder.path());
    let Ok((store, ..)) = open(folder.path()) else { return };
    let platform = Platform::over(store, None);
    for target in ["/v1/analytics/summary", "/v1/analytics/users/user-1", "/v1/cohorts"] {
        let request = Request::get(target).header("host", "a").body(Body::empty());
        platform.answer(request.expect("a request"));
    }
});

type Open =
    (Arc<ColumnarStore>, gristmill_store::columnar::Sealer, gristmill_store::columnar::Merger);

fn open(dir: &Path) -> Result<Open, gristmill_store::StoreError> {
    let config = ColumnarConfig {
        dir: dir.to_owned(),
        shards: 2,
        slice: Timestamp::DAY,
        seal_bytes: 64 << 20,
        seal_age: Timestamp::DAY,
        tidy_after: Timestamp::DAY,
        window: Timestamp::DAY,
        window_bytes: 1 << 20,
        cache_bytes: 1 << 20,
    };
    ColumnarStore::open(config, Arc::new(ManualClock::at(NOW)), &SeededEntropy::new(1))
}

/// The files of a store with two batches of events, a record that was set aside, and a document.
fn written() -> Files {
    let folder = folder();
    let (store, sealer, merger) = open(folder.path()).expect("an empty folder");
    let loops = [std::thread::spawn(|| sealer.run()), std::thread::spawn(|| merger.run())];
    quiet_runtime().block_on(async {
        let key = DocumentKey { project: ProjectId::new("default"), kind: "cohort", id: "c" };
        store.put_document(key, None, "{}".to_owned()).await.expect("a document");
        for batch in 0..2 {
            let place = |offset| Position { partition: Partition(0), offset };
            let rows = (batch * 9..batch * 9 + 8)
                .map(|number| Row { position: place(number), event: sample(number) });
            let position = place(batch * 9 + 8);
            let (reason, bytes) = ("none".to_owned(), b"?".to_vec());
            let next: Positions = [(Partition(0), batch * 9 + 9)].into_iter().collect();
            let quarantine = vec![Quarantined { position, reason, bytes }];
            let commit = Commit { rows: rows.collect(), quarantine, next };
            store.commit(commit).await.expect("a commit");
            store.compact().await.expect("a seal");
        }
    });
    store.close();
    for running in loops {
        running.join().expect("no panic").expect("the disk is well");
    }
    let entries = fs::read_dir(folder.path()).expect("the folder");
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a name of ours");
        (name, fs::read(entry.path()).expect("the file"))
    };
    entries.map(|entry| file(entry.expect("an entry"))).collect()
}

/// Makes every checksum right, so that what is behind them is read. Those of Parquet files stay: no byte of
/// one is read before all of it has been verified.
fn mend(files: &mut Files) {
    for (name, bytes) in files.iter_mut() {
        match name.rsplit_once('.').map(|(_, kind)| kind) {
            Some("window" | "filter" | "quarantine") => with_crc(bytes),
            None if name == "manifest" => *bytes = manifest(bytes),
            _ => {}
        }
    }
}

/// The lines of a manifest with their checksums.
fn manifest(bytes: &[u8]) -> Vec<u8> {
    let mut mended = Vec::new();
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.get(9..)).for_each(|json| append(&mut mended, json));
    mended
}

/// Appends a record to a manifest.
fn append(manifest: &mut Vec<u8>, json: &[u8]) {
    manifest.extend_from_slice(format!("{:08x} ", crc32fast::hash(json)).as_bytes());
    manifest.extend_from_slice(json);
    manifest.push(b'\n');
}
