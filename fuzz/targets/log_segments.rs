//! The files of an embedded log with some bytes changed: it refuses, or what it gives is what was written.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crc32fast::Hasher;
use gristmill_fuzz::{edits, quiet_runtime};
use gristmill_log::conformance::samples;
use gristmill_log::embedded::{EmbeddedConfig, EmbeddedLog, LogWriter, SimDisk, check};
use gristmill_log::{EventLog, Payload, ReadError};
use gristmill_model::{Event, Partition};
use gristmill_testkit::SeededEntropy;
use libfuzzer_sys::fuzz_target;

type Files = BTreeMap<String, Vec<u8>>;
type Events = BTreeMap<Partition, Vec<Event<'static>>>;

static WRITTEN: LazyLock<(Files, Events)> = LazyLock::new(written);

fuzz_target!(|input: &[u8]| {
    let Some((mends, input)) = input.split_first() else { return };
    let mends = mends % 2 == 1;
    let (mut files, events) = (WRITTEN.0.clone(), &WRITTEN.1);
    edits(input).for_each(|edit| edit.apply(&mut files));
    if mends {
        files.values_mut().for_each(|segment| mend(segment));
    }
    let _ = check(Path::new("log"), &SimDisk::with_files(files.clone(), 1));
    let Ok((log, writer)) = open(SimDisk::with_files(files, 1)) else { return };
    log.close();
    writer.run().expect("the disk is well");
    let read = quiet_runtime().block_on(read(&log));
    if let (Ok(read), false) = (&read, mends) {
        for (partition, read) in read {
            assert!(events[partition].starts_with(read), "{partition:?}");
        }
    }
});

/// The events of a log that can be read, in their partitions.
async fn read(log: &EmbeddedLog) -> Result<Events, ReadError> {
    let (mut next, durable) = (log.start(), log.durable());
    let mut reader = log.read_from(&next).await?;
    let mut events = Events::new();
    while !next.covers(&durable) {
        for batch in reader.next(1 << 20).await? {
            next.advance(batch.partition, batch.next_offset);
            let of_partition = events.entry(batch.partition).or_default();
            of_partition.extend(batch.records().filter_map(|record| match record.payload {
                Ok(Payload::Event(event)) => Some(event.into_owned()),
                Err(_) => None,
            }));
        }
    }
    Ok(events)
}

fn config() -> EmbeddedConfig {
    EmbeddedConfig { segment_bytes: 8 << 10, partitions: 2, ..EmbeddedConfig::new("log") }
}

fn open(disk: SimDisk) -> Result<(Arc<EmbeddedLog>, LogWriter), String> {
    let entropy = Arc::new(SeededEntropy::new(3));
    EmbeddedLog::open(config(), Arc::new(disk), entropy).map_err(|error| error.to_string())
}

/// The files of a log of three segments, and the events in it.
fn written() -> (Files, Events) {
    let disk = SimDisk::new(1);
    let (log, writer) = open(disk.clone()).expect("an empty disk");
    let running = std::thread::spawn(move || writer.run());
    let events = quiet_runtime().block_on(async {
        for number in 0..24 {
            let partition = Partition(number as u32 % 2);
            let appended = log.append(partition, &samples(number * 3..number * 3 + 3)).await;
            appended.expect("the disk is well");
        }
        read(&log).await.expect("the disk is well")
    });
    log.close();
    running.join().expect("no panic").expect("the disk is well");
    (disk.files(), events)
}

/// Makes every checksum right, so that what is behind them is read.
fn mend(segment: &mut [u8]) {
    const HEADER: usize = 4096;
    if segment.len() < HEADER {
        return;
    }
    let crc = |seed: u32, parts: &[&[u8]]| {
        let mut hasher = Hasher::new_with_initial(seed);
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().to_le_bytes()
    };
    let header = crc(0, &[&segment[..12], &segment[16..HEADER]]);
    segment[12..16].copy_from_slice(&header);
    let seed = u32::from_le_bytes(crc(0, &[&segment[16..32]]));
    let (mut at, mut previous) = (HEADER, header);
    while let Some(frame) = segment.get_mut(at..).filter(|frame| frame.starts_with(b"GMFR")) {
        let Some((head, body)) = frame.split_first_chunk_mut::<64>() else { break };
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let padded = length.saturating_add(7) & !7;
        if let Some(body) = body.get(..padded) {
            let sum = crc(seed, &[&head[32..40], body]);
            head[12..16].copy_from_slice(&sum);
        }
        head[48..52].copy_from_slice(&previous);
        previous = crc(seed, &[&head[8..]]);
        head[4..8].copy_from_slice(&previous);
        at = at.saturating_add(64 + padded);
    }
}
