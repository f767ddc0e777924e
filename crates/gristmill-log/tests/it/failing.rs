//! Calls to the disk that fail: an error is told to whom it concerns, and never a success.

use std::sync::Arc;

use gristmill_log::conformance::{read_all, sample};
use gristmill_log::embedded::{Fault, Fullness, SimDisk};
use gristmill_log::{AppendError, EventLog, ReadError};
use gristmill_model::{Partition, Positions};

use crate::support::{Ledger, block_on, config, start};

#[test]
fn no_failing_call_loses_what_is_acknowledged() {
    let config = config(2, 8 << 10);
    for fault in [Fault::Error, Fault::ShortWrite, Fault::Full] {
        for call in 1.. {
            let context = format!("{fault:?} at call {call}");
            let mut ledger = Ledger::default();
            let disk = SimDisk::new(call);
            disk.fail_at(call, fault);
            if let Ok(running) = start(config.clone(), Arc::new(disk.clone())) {
                block_on(ledger.work(&running.log));
                let outcome = running.stop();
                assert!(fault != Fault::Full || outcome.is_ok(), "{context}: {outcome:?}");
            }
            if disk.calls() < call {
                break;
            }
            // The process starts again, goes on, and then the machine stops.
            ledger.verify(&disk, &config, &context);
            let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
            block_on(ledger.work_on(&running.log));
            disk.crash();
            let _ = running.stop();
            ledger.verify(&disk.reboot(call), &config, &format!("{context}, then a crash"));
        }
    }
}

#[test]
fn what_a_full_disk_refused_is_not_there_after_a_crash() {
    let config = config(2, 8 << 10);
    // Undoing a write takes three calls; then the next append overwrites it.
    for (call, later) in (1..).flat_map(|call| (1..=4).map(move |later| (call, later))) {
        let mut ledger = Ledger::default();
        let disk = SimDisk::new(call);
        disk.fail_at(call, Fault::Full);
        disk.fail_at(call + later, Fault::Crash);
        if let Ok(running) = start(config.clone(), Arc::new(disk.clone())) {
            block_on(ledger.work(&running.log));
            let _ = running.stop();
        }
        if disk.calls() < call {
            break;
        }
        disk.crash();
        let context = format!("full at call {call}, crash at {later} calls later");
        ledger.verify(&disk.reboot(call * 4 + later), &config, &context);
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    let config = config(2, 8 << 10);
    let disk = SimDisk::new(1);
    let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
    let log = Arc::clone(&running.log);
    let mut ledger = Ledger::default();
    block_on(async {
        ledger.append(&log, 0, 5).await;
        disk.set_full(Fullness::Full);
        let mut taken = 0;
        while ledger.append(&log, 0, 10).await {
            taken += 1;
            assert!(taken < 20, "a full disk takes only what is allocated");
        }
        let refused = log.append(Partition(0), &vec![sample(0); 100]).await;
        assert_eq!(refused, Err(AppendError::Full));
        let found = read_all(&*log, &Positions::start()).await.unwrap();
        assert_eq!(found[&Partition(0)].len(), 5 + taken * 10, "reads go on");

        disk.set_full(Fullness::Roomy);
        ledger.work(&log).await;
        assert!(ledger.append(&log, 1, 10).await, "appends go on by themselves");
    });
    drop(log);
    running.stop().unwrap();
    ledger.verify(&disk, &config, "after a full disk");
    ledger.verify(&disk.reboot(1), &config, "after a full disk and a crash");
}

#[test]
fn after_a_failed_sync_the_log_takes_nothing_more() {
    let disk = SimDisk::new(1);
    let running = start(config(1, 8 << 10), Arc::new(disk.clone())).unwrap();
    let log = Arc::clone(&running.log);
    block_on(async {
        log.append(Partition(0), &[sample(0)]).await.unwrap();
        let mut reader = log.read_from(&Positions::start()).await.unwrap();
        // The next calls are a write and a sync, unless a hint comes first.
        disk.fail_at(disk.calls() + 2, Fault::Error);
        for _ in 0..2 {
            let failed = log.append(Partition(0), &[sample(1)]).await;
            assert!(matches!(failed, Err(AppendError::Failed(_))), "{failed:?}");
        }
        assert_eq!(log.durable().next(Partition(0)), 1, "what failed is not shown");
        assert_eq!(reader.next(1).await.unwrap()[0].count, 1);
        assert!(matches!(reader.next(1).await, Err(ReadError::Closed)));
    });
    let error = running.stop().unwrap_err();
    assert!(error.to_string().contains("00000000000000000000.segment"), "{error}");
}
