//! The contract, held against every adapter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gristmill_log::conformance::{read_all, sample, samples, suite};
use gristmill_log::embedded::{EmbeddedConfig, OpenError, RealDisk, check};
use gristmill_log::{AppendError, EventLog, LogBatch, MemoryLog, ReadError};
use gristmill_model::{Partition, Positions};

use crate::support::{Running, block_on, open, start};

#[test]
fn memory_log_keeps_the_contract() {
    for partitions in [1, 4] {
        block_on(suite(
            || async move { Arc::new(MemoryLog::new(partitions)) as Arc<dyn EventLog> },
        ));
    }
}

#[test]
fn embedded_log_keeps_the_contract() {
    let configs = [(1, 8 << 10, 0), (4, 8 << 10, 20_000), (1, 1 << 20, 32 << 20), (4, 64 << 10, 1)];
    for (partitions, segment_bytes, recent_bytes) in configs {
        let running = Mutex::new(Vec::new());
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            let config = EmbeddedConfig {
                dir: dir.path().join("a/log"),
                segment_bytes,
                partitions,
                recent_bytes,
            };
            let started = start(config, Arc::new(RealDisk)).unwrap();
            let log: Arc<dyn EventLog> = Arc::clone(&started.log) as _;
            running.lock().unwrap().push((started, dir));
            std::future::ready(log)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(suite(make));
        for (started, dir) in running.into_inner().unwrap() {
            let durable = started.log.durable();
            let log_dir = dir.path().join("a/log");
            started.stop().unwrap();
            check_reopened(&log_dir, partitions, segment_bytes, &durable);
        }
    }
}

fn check_reopened(dir: &std::path::Path, partitions: u32, segment_bytes: u64, durable: &Positions) {
    let report = check(dir, &RealDisk).unwrap();
    assert_eq!(report.damage, None);
    assert!(!report.has_unfinished_write);
    let config = EmbeddedConfig { partitions, segment_bytes, ..EmbeddedConfig::new(dir) };
    let (log, _writer) = open(config, Arc::new(RealDisk)).unwrap();
    assert_eq!(log.durable(), *durable);
    let found = block_on(read_all(&*log, &log.start())).unwrap();
    let records: usize = found.values().map(Vec::len).sum();
    assert_eq!(records as u64, durable.records_since(&log.start()));
    assert_eq!(report.records, records as u64);
}

/// Whoever gets few records takes them for the end of the log, and waits for more.
#[test]
fn a_read_gives_what_there_is_up_to_what_was_asked_for() {
    for (segment_bytes, recent_bytes) in [(64 << 20, 32 << 20), (8 << 10, 20_000), (8 << 10, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let config =
            EmbeddedConfig { segment_bytes, recent_bytes, ..EmbeddedConfig::new(dir.path()) };
        let running = start(config, Arc::new(RealDisk)).unwrap();
        for max_bytes in [10_000, 30_000] {
            block_on(check_reads(&*running.log, max_bytes));
        }
        running.stop().unwrap();
    }
    block_on(check_reads(&MemoryLog::new(1), 10_000));
}

async fn check_reads(log: &dyn EventLog, max_bytes: usize) {
    for number in 0..200 {
        log.append(Partition(0), &samples(number * 10..number * 10 + 10)).await.unwrap();
    }
    let end = log.durable().next(Partition(0));
    let mut reader = log.read_from(&Positions::start()).await.unwrap();
    let (mut next, mut largest) = (0, 0);
    while next < end {
        let batches = reader.next(max_bytes).await.unwrap();
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.block.bytes()).collect();
        largest = sizes.iter().copied().max().unwrap().max(largest);
        next = batches.last().unwrap().next_offset;
        let read = sizes.iter().sum::<usize>();
        assert!(
            next == end || read + 2 * largest > max_bytes,
            "{read} of {max_bytes} up to {next}"
        );
    }
}

#[test]
fn records_that_make_no_sense_have_offsets_like_any_other() {
    let log = MemoryLog::new(1);
    block_on(async {
        log.append(Partition(0), &samples(0..2)).await.unwrap();
        let garbage = Bytes::from_static(b"garbage");
        assert_eq!(log.append_raw(Partition(0), garbage, 2).unwrap().offsets, (2..4).into());
        log.append(Partition(0), &samples(4..5)).await.unwrap();
        let mut reader = log.read_from(&Positions::start()).await.unwrap();
        let batches = reader.next(1 << 20).await.unwrap();
        let records: Vec<_> = batches.iter().flat_map(LogBatch::records).collect();
        let offsets: Vec<u64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4]);
        assert_eq!(records[2].payload.as_ref().unwrap_err().bytes, b"garbage");
        assert!(records[4].payload.is_ok());
    });
}

fn real(dir: &tempfile::TempDir) -> (EmbeddedConfig, Running) {
    let config = EmbeddedConfig::new(dir.path());
    let running = start(config.clone(), Arc::new(RealDisk)).unwrap();
    (config, running)
}

#[test]
fn only_one_process_has_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (config, running) = real(&dir);
    let second = open(config.clone(), Arc::new(RealDisk)).err();
    assert!(matches!(second, Some(OpenError::InUse { .. })), "{second:?}");
    let checked = check(dir.path(), &RealDisk);
    assert!(matches!(checked, Err(OpenError::InUse { .. })), "{checked:?}");
    running.stop().unwrap();
    assert!(open(config, Arc::new(RealDisk)).is_ok());
}

#[test]
fn a_log_keeps_its_number_of_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let (config, running) = real(&dir);
    running.stop().unwrap();
    let wider = EmbeddedConfig { partitions: 2, ..config.clone() };
    let refused = open(wider, Arc::new(RealDisk)).err();
    assert!(
        matches!(refused, Some(OpenError::Partitions { held: 1, wanted: 2, .. })),
        "{refused:?}"
    );
    for (partitions, segment_bytes) in [(0, 1 << 20), (257, 1 << 20), (1, 100), (1, 1 << 40)] {
        let odd = EmbeddedConfig { partitions, segment_bytes, ..config.clone() };
        let refused = open(odd, Arc::new(RealDisk)).err();
        assert!(matches!(refused, Some(OpenError::Config(_))), "{refused:?}");
    }
}

#[test]
fn closing_answers_what_is_queued_and_ends_readers() {
    let dir = tempfile::tempdir().unwrap();
    let (_, running) = real(&dir);
    let log = Arc::clone(&running.log);
    block_on(async {
        let mut reader = log.read_from(&Positions::start()).await.unwrap();
        let events = [sample(0)];
        let mut append = std::pin::pin!(log.append(Partition(0), &events));
        // Polled once, so that it is queued.
        let early = tokio::time::timeout(Duration::ZERO, append.as_mut()).await;
        log.close();
        let appended = match early {
            Ok(appended) => appended,
            Err(_) => append.await,
        };
        assert_eq!(appended.unwrap().offsets, (0..1).into());
        assert_eq!(log.append(Partition(0), &events).await, Err(AppendError::Closed));
        assert_eq!(reader.next(1 << 20).await.unwrap()[0].count, 1);
        assert!(matches!(reader.next(1 << 20).await, Err(ReadError::Closed)));
    });
    running.stop().unwrap();
}

#[test]
fn nobody_waits_for_a_writer_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = open(EmbeddedConfig::new(dir.path()), Arc::new(RealDisk)).unwrap();
    drop(writer);
    let refused = block_on(log.append(Partition(0), &[sample(0)]));
    assert!(matches!(refused, Err(AppendError::Failed(_))), "{refused:?}");
}
