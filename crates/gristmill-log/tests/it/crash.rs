//! The machine stops at every call to the disk: nothing acknowledged is lost, ever.

use std::sync::Arc;

use gristmill_log::EventLog;
use gristmill_log::embedded::{EmbeddedConfig, Fault, OpenError, SimDisk};

use crate::support::{Ledger, block_on, config, open, start};

/// Runs a workload on a disk that stops at the call `call`; says whether it came that far.
fn work_until(disk: &SimDisk, config: &EmbeddedConfig, call: u64, ledger: &mut Ledger) -> bool {
    disk.fail_at(call, Fault::Crash);
    if let Ok(running) = start(config.clone(), Arc::new(disk.clone())) {
        block_on(ledger.work(&running.log));
        let _ = running.stop();
    }
    let is_over = disk.calls() < call;
    disk.crash();
    !is_over
}

/// The loss of the last segment must show, if it has frames.
fn assert_last_segment_is_missed(disk: &SimDisk, config: &EmbeddedConfig, context: &str) {
    let mut files = disk.files();
    let Some((_, last)) = files.pop_last().filter(|_| !files.is_empty()) else { return };
    if last.iter().skip(4096).any(|byte| *byte != 0) {
        let opened = open(config.clone(), Arc::new(SimDisk::with_files(files, 1)));
        assert!(matches!(opened, Err(OpenError::Damaged(_))), "{context}: a segment is missing");
    }
}

#[test]
fn a_crash_after_trimming_leaves_no_gap() {
    let config = config(2, 8 << 10);
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
        let mut ledger = Ledger::default();
        block_on(async {
            ledger.work(&running.log).await;
            let before = disk.files().len();
            assert!(before >= 4, "there are {before} segments");
            disk.fail_at(disk.calls() + 1 + seed % 7, Fault::Crash);
            let _ = running.log.trim(&running.log.durable()).await;
        });
        disk.crash();
        let _ = running.stop();
        ledger.verify(&disk.reboot(seed), &config, &format!("seed {seed}"));
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing_acknowledged() {
    let config = config(2, 8 << 10);
    let mut calls = 0;
    for seed in 0..4 {
        for call in 1.. {
            let context = format!("seed {seed}, crash at call {call}");
            let mut ledger = Ledger::default();
            let disk = SimDisk::new(seed);
            if !work_until(&disk, &config, call, &mut ledger) {
                calls += call;
                break;
            }
            // Then during recovery, at another call each time, and once more after that.
            let again = disk.reboot(seed);
            again.fail_at(1 + (call * 7 + seed) % 17, Fault::Crash);
            let _ = open(config.clone(), Arc::new(again.clone()));
            again.crash();
            let again = again.reboot(call);
            ledger.verify(&again, &config, &context);

            // What is appended after a recovery survives the next crash too.
            if let Ok(running) = start(config.clone(), Arc::new(again.clone())) {
                block_on(ledger.work_on(&running.log));
                again.crash();
                let _ = running.stop();
            }
            let again = again.reboot(call + seed);
            ledger.verify(&again, &config, &format!("{context}, then more"));
            assert_last_segment_is_missed(&again, &config, &context);
        }
    }
    assert!(calls > 400, "the workload makes too few calls: {calls} over all seeds");
}

#[test]
fn what_was_read_after_a_restart_stays() {
    let config = config(2, 8 << 10);
    for seed in 0..40 {
        let mut ledger = Ledger::default();
        let disk = SimDisk::new(seed);
        // Only the process ends, at a failed sync: the kernel still has what was written, and
        // takes for written what is not.
        disk.fail_at(30 + seed, Fault::Error);
        let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
        block_on(ledger.work(&running.log));
        let _ = running.stop();

        let (log, writer) = open(config.clone(), Arc::new(disk.clone())).unwrap();
        let before = log.durable();
        drop((log, writer));
        disk.crash();
        let disk = disk.reboot(seed);
        ledger.verify(&disk, &config, &format!("seed {seed}"));
        let (log, _writer) = open(config.clone(), Arc::new(disk)).unwrap();
        let after = log.durable();
        assert_eq!(after, before, "seed {seed}");
    }
}
