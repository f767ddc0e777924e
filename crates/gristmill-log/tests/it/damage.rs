//! Bytes that change at rest: acknowledged records are read as they were, or damage is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gristmill_log::conformance::{read_all, samples};
use gristmill_log::embedded::{CheckReport, OpenError, SimDisk, check};
use gristmill_log::{EventLog, ReadError};
use gristmill_model::{Event, Partition};

use crate::support::{block_on, config, open, start};

type Files = BTreeMap<String, Vec<u8>>;
/// Where frames start in a segment.
const FRAMES_AT: usize = 4096;
const SEGMENT_BYTES: u64 = 8 << 10;

/// The files of a log after some appends of two events, before its writer stops and after it; and
/// the files before the last append.
fn written(appends: u64) -> (Files, Files, Files) {
    let disk = SimDisk::new(1);
    let running = start(config(1, SEGMENT_BYTES), Arc::new(disk.clone())).unwrap();
    let mut before = disk.files();
    block_on(async {
        for append in 0..appends {
            before = disk.files();
            let events = samples(append * 2..append * 2 + 2);
            running.log.append(Partition(0), &events).await.unwrap();
        }
    });
    let after = disk.files();
    running.stop().unwrap();
    (before, after, disk.files())
}

fn name(number: u64) -> String {
    format!("{number:020}.segment")
}

/// What a reader gets of these files: all records, or what is wrong.
fn read(files: &Files) -> Result<Vec<Event<'static>>, String> {
    let disk = Arc::new(SimDisk::with_files(files.clone(), 1));
    let (log, _writer) = match open(config(1, SEGMENT_BYTES), disk) {
        Ok(opened) => opened,
        Err(OpenError::Damaged(damage)) => return Err(damage.to_string()),
        Err(error) => panic!("expected the damage to be named, not: {error}"),
    };
    match block_on(read_all(&*log, &log.start())) {
        Ok(mut found) => Ok(found.remove(&Partition(0)).unwrap_or_default()),
        Err(ReadError::Damaged(damage)) => Err(damage),
        Err(error) => panic!("expected the damage to be named, not: {error}"),
    }
}

fn checked(files: &Files) -> CheckReport {
    check(Path::new("log"), &SimDisk::with_files(files.clone(), 1)).unwrap()
}

/// Where the frames end: behind the last byte that is not zero.
fn used(files: &Files, number: u64) -> usize {
    files[&name(number)].iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn every_flipped_bit_is_found_or_harms_nothing() {
    let (_, _, files) = written(4);
    let segment = name(0);
    let end = used(&files, 0) + 80;
    let mut found = 0;
    for bit in 0..end * 8 {
        let mut damaged = files.clone();
        damaged.get_mut(&segment).unwrap()[bit / 8] ^= 1 << (bit % 8);
        match read(&damaged) {
            Ok(events) => assert_eq!(events, samples(0..8), "bit {bit}"),
            Err(damage) => {
                assert!(damage.contains(&segment) && damage.contains("byte "), "{damage}");
                found += 1;
            }
        }
        let report = checked(&damaged);
        assert!(report.damage.is_some() || report.records == 8, "bit {bit}: {report:?}");
    }
    // All but the hint and what is behind it.
    let least = (used(&files, 0) - 80) * 8;
    assert!(found >= least, "{found} flips of at least {least} were found");
}

#[test]
fn flipped_bits_of_sealed_segments_are_found_by_readers() {
    let (_, _, files) = written(60);
    let expected = samples(0..120);
    assert_eq!(read(&files).unwrap(), expected);
    let segments = files.len() as u64;
    assert!(segments >= 3, "only {segments} segments");
    for number in 0..segments {
        for byte in (0..used(&files, number)).step_by(7) {
            let mut damaged = files.clone();
            damaged.get_mut(&name(number)).unwrap()[byte] ^= 1 << (byte % 8);
            if let Ok(events) = read(&damaged) {
                assert_eq!(events, expected, "segment {number}, byte {byte}");
            }
            let report = checked(&damaged);
            assert!(report.damage.is_some() || report.records == 120, "{number} {byte}");
        }
    }
}

#[test]
fn records_before_damage_are_read() {
    let (_, _, files) = written(60);
    let read_until_damage = |byte: usize| {
        let mut damaged = files.clone();
        damaged.get_mut(&name(1)).unwrap()[byte] ^= 1;
        let disk = Arc::new(SimDisk::with_files(damaged, 1));
        let (log, _writer) = open(config(1, SEGMENT_BYTES), disk).unwrap();
        block_on(async {
            let mut reader = log.read_from(&log.start()).await.unwrap();
            let mut next = 0;
            loop {
                match reader.next(1 << 20).await {
                    Ok(batches) => next = batches.last().unwrap().next_offset,
                    Err(ReadError::Damaged(_)) => return next,
                    Err(error) => panic!("expected the damage to be named, not: {error}"),
                }
            }
        })
    };
    let first_segment = read_until_damage(FRAMES_AT + 1);
    assert!(first_segment > 0);
    // A seal of 80 bytes is behind the last frame.
    let all_but_a_frame = read_until_damage(used(&files, 1) - 100);
    assert!(all_but_a_frame > first_segment + 2, "{all_but_a_frame} of {first_segment}");
}

#[test]
fn damage_to_the_last_group_is_found_once_the_log_was_idle() {
    let disk = SimDisk::new(1);
    let running = start(config(1, SEGMENT_BYTES), Arc::new(disk.clone())).unwrap();
    let files = block_on(async {
        running.log.append(Partition(0), &samples(0..2)).await.unwrap();
        let frame_end = used(&disk.files(), 0);
        let hint = async {
            while used(&disk.files(), 0) < frame_end.min(FRAMES_AT + 300) + 40 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, hint).await.expect("a hint while the log is idle");
        disk.files()
    });
    let mut damaged = files;
    damaged.get_mut(&name(0)).unwrap()[FRAMES_AT + 100] ^= 1;
    let damage = read(&damaged).unwrap_err();
    assert!(damage.contains("frame 0 was acknowledged"), "{damage}");
    running.stop().unwrap();
}

/// Where the last frame starts and ends, without a hint that may follow it.
fn last_frame(before: &Files, after: &Files) -> (usize, usize) {
    let (before, after) = (&before[&name(0)], &after[&name(0)]);
    let from = before.iter().zip(after).position(|(a, b)| a != b).unwrap();
    let from = from / 8 * 8;
    let body = u32::from_le_bytes(after[from + 8..from + 12].try_into().unwrap());
    (from, from + 64 + (body as usize).next_multiple_of(8))
}

#[test]
fn a_write_torn_at_any_byte_is_cut_off() {
    let (before, after, _) = written(3);
    let (from, to) = last_frame(&before, &after);
    for cut in from..=to {
        let mut torn = after.clone();
        torn.get_mut(&name(0)).unwrap()[cut..].fill(0);
        let is_whole = torn[&name(0)][from..to] == after[&name(0)][from..to];
        let report = checked(&torn);
        assert_eq!(report.damage, None);
        // Without its header nothing of the frame can be told from what a file held before.
        let has_header = torn[&name(0)][from..from + 64] == after[&name(0)][from..from + 64];
        assert_eq!(report.has_unfinished_write, !is_whole && has_header);
        assert_eq!(read(&torn).unwrap(), samples(0..if is_whole { 6 } else { 4 }), "{cut}");
        // The same, with the file ending there.
        torn.get_mut(&name(0)).unwrap().truncate(cut);
        assert_eq!(read(&torn).unwrap(), samples(0..if cut == to { 6 } else { 4 }), "{cut}");
    }
}

#[test]
fn whatever_follows_the_last_frame_is_ignored_and_overwritten() {
    let (before, after, closed) = written(3);
    let (from, to) = last_frame(&before, &after);
    let segment = &after[&name(0)];
    let room = segment.len() - to;
    let other = {
        let (_, other, _) = written(3);
        other[&name(0)][FRAMES_AT..to].to_vec()
    };
    let behind_a_hole = [&[0; 24], &segment[from..to]].concat();
    let tails: [(Vec<u8>, bool); 6] = [
        (vec![0xff; room], false),
        ((0..room).map(|n| (n * 31 % 251) as u8).collect(), false),
        (segment[from..to].to_vec(), true),
        (segment[FRAMES_AT..to].to_vec(), true),
        (behind_a_hole, true),
        (other, false),
    ];
    for (tail, is_of_this_segment) in tails {
        let mut files = after.clone();
        let bytes = files.get_mut(&name(0)).unwrap();
        bytes[to..].fill(0);
        let kept = tail.len().min(room);
        bytes[to..to + kept].copy_from_slice(&tail[..kept]);
        assert_eq!(read(&files).unwrap(), samples(0..6));
        assert_eq!(checked(&files).has_unfinished_write, is_of_this_segment);

        let disk = SimDisk::with_files(files, 1);
        drop(open(config(1, SEGMENT_BYTES), Arc::new(disk.clone())).unwrap());
        let is_cut_off = disk.files()[&name(0)][to..].iter().all(|byte| *byte == 0);
        assert_eq!(is_cut_off, is_of_this_segment, "only frames of this segment are cut off");
        let running = start(config(1, SEGMENT_BYTES), Arc::new(disk.clone())).unwrap();
        block_on(running.log.append(Partition(0), &samples(6..8))).unwrap();
        running.stop().unwrap();
        assert_eq!(read(&disk.reboot(1).files()).unwrap(), samples(0..8));
    }
    assert_eq!(read(&closed).unwrap(), samples(0..6));
}

#[test]
fn a_frame_that_followed_another_one_is_not_taken_for_the_next() {
    let empty = SimDisk::new(1);
    start(config(1, SEGMENT_BYTES), Arc::new(empty.clone())).unwrap().stop().unwrap();
    // Two histories of one segment, each with frames of the same size.
    let history = |first: u64| {
        let disk = SimDisk::with_files(empty.files(), 1);
        let running = start(config(1, SEGMENT_BYTES), Arc::new(disk.clone())).unwrap();
        let one = block_on(async {
            running.log.append(Partition(0), &samples(first..first + 1)).await.unwrap();
            let one = disk.files();
            running.log.append(Partition(0), &samples(first + 1..first + 2)).await.unwrap();
            one
        });
        running.stop().unwrap();
        (one, disk.files())
    };
    let (one, _) = history(10);
    let (_, other) = history(20);
    let (_, end) = last_frame(&empty.files(), &one);
    let mut mixed = other;
    mixed.get_mut(&name(0)).unwrap()[FRAMES_AT..end]
        .copy_from_slice(&one[&name(0)][FRAMES_AT..end]);
    match read(&mixed) {
        Ok(events) => assert_eq!(events, samples(10..11)),
        Err(damage) => assert!(damage.contains("does not follow the one before"), "{damage}"),
    }
}

#[test]
fn a_missing_or_doubled_segment_is_refused() {
    let (_, _, files) = written(60);
    let count = files.len() as u64;
    for number in 1..count {
        let mut fewer = files.clone();
        fewer.remove(&name(number));
        let damage = read(&fewer).unwrap_err();
        assert!(damage.contains(&name(number)), "{damage}");
        assert!(damage.contains("missing"), "{damage}");
    }
    for number in 0..count {
        let mut doubled = files.clone();
        doubled.insert(name(count), files[&name(number)].clone());
        let damage = read(&doubled).unwrap_err();
        assert!(damage.contains(&format!("this is segment {number}")), "{damage}");
    }
    let mut odd = files.clone();
    odd.insert("7.segment".to_owned(), Vec::new());
    assert!(read(&odd).unwrap_err().contains("7.segment"));

    // Without the first segment the log looks trimmed, which whoever needs its records finds out.
    let mut trimmed = files;
    trimmed.remove(&name(0));
    let events = read(&trimmed).unwrap();
    assert_eq!(events, samples(120 - events.len() as u64..120));
}

#[test]
fn segments_of_different_logs_do_not_mix() {
    let (_, _, one) = written(60);
    let (_, _, other) = written(60);
    let mut mixed = one;
    mixed.insert(name(1), other[&name(1)].clone());
    assert!(read(&mixed).unwrap_err().contains("does not follow segment 0"));
}
