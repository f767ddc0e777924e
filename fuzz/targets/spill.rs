//! Any bytes as a file that a sender left on disk: nothing of it is thrown away that was not sent.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use gristmill_client::{Client, ClientConfig, Sender, SenderConfig, SpillConfig};
use gristmill_fuzz::{folder, quiet_runtime};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

const MAGIC: &[u8] = b"GRSPIL01";

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(quiet_runtime());
}

fuzz_target!(|input: &[u8]| {
    let Some((form, bytes)) = input.split_first() else { return };
    let folder = folder();
    let file = if form % 2 == 0 { bytes.to_vec() } else { records(bytes) };
    fs::write(folder.path().join("00000000000000000001.spill"), &file).expect("a file");
    let on_disk = RUNTIME.with_borrow_mut(|runtime| runtime.block_on(left(folder.path())));
    let kept = fs::read_dir(folder.path())
        .expect("the folder")
        .any(|entry| fs::read(entry.expect("an entry").path()).expect("a file") == file);
    assert!(kept || (on_disk == 0 && is_unfinished(&file)));
});

/// Whether nothing in a file was ever told as kept: it ends within its first record.
fn is_unfinished(file: &[u8]) -> bool {
    let Some(record) = file.strip_prefix(MAGIC) else { return MAGIC.starts_with(file) };
    let Some((&[a, b, c, d, ..], lines)) = record.split_first_chunk::<12>() else { return true };
    let length = u32::from_le_bytes([a, b, c, d]);
    length <= 64 << 20 && lines.len() < length as usize
}

/// How many events a sender finds in a folder, whose server is away.
async fn left(folder: &Path) -> u64 {
    let quick = Duration::from_millis(1);
    let client = ClientConfig { timeout: quick, retries: 0, ..ClientConfig::default() };
    let client = Client::with_config("http://127.0.0.1:1", client).expect("a client");
    let config = SenderConfig {
        first_backoff: quick,
        longest_backoff: quick,
        close_within: 2 * quick,
        spill: Some(SpillConfig::in_dir(folder)),
        ..SenderConfig::default()
    };
    let sender = Sender::start(&client, config).await.expect("a sender");
    let found = sender.stats().on_disk;
    // It tries to send the first record, or finds that there is none to be read.
    let tried = async {
        while sender.stats().on_disk > 0 && sender.stats().last_error.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let tried = tokio::time::timeout(Duration::from_secs(10), tried).await;
    assert!(tried.is_ok(), "neither sent nor refused: {:?}", sender.stats());
    let _ = sender.close().await;
    found
}

/// The pieces between zeros as whole records, and what comes after the last one as it is.
fn records(bytes: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    let mut pieces = bytes.split(|byte| *byte == 0);
    let rest = pieces.next_back().unwrap_or_default();
    for lines in pieces {
        let (length, events) = (lines.len() as u32, lines.len() as u32 % 5);
        let numbers = [length.to_le_bytes(), events.to_le_bytes()].concat();
        file.extend_from_slice(&numbers);
        file.extend_from_slice(&crc32fast::hash(&[&numbers, lines].concat()).to_le_bytes());
        file.extend_from_slice(lines);
    }
    file.extend_from_slice(rest);
    file
}
