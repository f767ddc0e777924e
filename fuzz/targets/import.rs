//! Any bytes as a file to import: every event that is made of a row is JSON on a line of its own. And as the
//! file that says how far an import came.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "the modules of the binary are compiled here as they are"
)]

#[path = "../../crates/gristmill/src"]
mod src {
    pub(crate) mod console;
    pub(crate) mod import;
}

use std::fs;
use std::sync::Arc;

use clap::{Args, FromArgMatches};
use gristmill_fuzz::folder;
use libfuzzer_sys::fuzz_target;
use src::console;
use src::import::{BatchLimits, Checkpoint, Input, InputFormat, MappingFlags, Place, read_batches};
use tokio::sync::mpsc;

const LIMITS: BatchLimits = BatchLimits { rows: 100, bytes: 1 << 20 };
/// More than an input can have.
const BATCHES: usize = 1 << 16;
const FLAGS: [&[&str]; 5] = [
    &["import"],
    &["import", "--infer"],
    &["import", "--user", "{user}-{ip}", "--type", "=hit", "--time", "at.time"],
    &["import", "--infer", "--properties", "a,b.c", "--id", "id"],
    &["import", "--no-rest"],
];

fuzz_target!(|input: &[u8]| {
    let Some((form, bytes)) = input.split_first() else { return };
    let form = usize::from(*form);
    let folder = folder();
    let path = folder.path().join("rows");
    fs::write(&path, bytes).expect("a file");
    let inputs = [Input::new(&path).expect("the file")];
    let format = [
        None,
        Some(InputFormat::Ndjson),
        Some(InputFormat::Csv),
        Some(InputFormat::Tsv),
        Some(InputFormat::AccessLog),
    ];
    let command = MappingFlags::augment_args(clap::Command::new("import"));
    let matches = command.get_matches_from(FLAGS[form / 5 % FLAGS.len()]);
    let flags = MappingFlags::from_arg_matches(&matches).expect("flags");
    let (send, mut receive) = mpsc::channel(BATCHES);
    let (from, read) = (Place::default(), Arc::default());
    let _ = read_batches(&inputs, format[form % 5], &flags, LIMITS, from, &read, &send);
    drop(send);
    while let Some(batch) = receive.blocking_recv() {
        let lines: Vec<_> = batch.body.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), batch.lines.len());
        for line in lines {
            let json: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(line);
            assert!(json.is_ok(), "{json:?}: {}", String::from_utf8_lossy(line));
        }
    }
    if let Ok(mut checkpoint) = Checkpoint::open(Some(&path), &inputs) {
        checkpoint.finish(0, checkpoint.done());
        checkpoint.save().expect("the folder is there");
    }
});
