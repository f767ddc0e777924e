//! Segments that are made from trimmed ones: what the file held before never shows.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gristmill_log::EventLog;
use gristmill_log::conformance::{read_all, samples};
use gristmill_log::embedded::{
    Disk, DiskFile, DiskLock, EmbeddedConfig, EmbeddedLog, Fault, SimDisk, check,
};
use gristmill_model::{Partition, Positions};

use crate::support::{Ledger, block_on, config, open, start};

const SPARE: &str = "spare.tmp";

fn name(number: u64) -> String {
    format!("{number:020}.segment")
}

/// Trims all it can, and then appends over several segments, twice.
async fn trim_and_work(ledger: &mut Ledger, log: &EmbeddedLog) {
    for _ in 0..2 {
        // A failing disk may fail this as well.
        let _ = log.trim(&log.durable()).await;
        for round in 0..3 {
            ledger.append(log, round % 2, 20).await;
        }
    }
}

#[test]
fn a_log_whose_last_segment_was_used_before_is_clean() {
    let config = config(2, 8 << 10);
    let disk = SimDisk::new(1);
    let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
    let mut ledger = Ledger::default();
    block_on(async {
        ledger.work(&running.log).await;
        running.log.trim(&running.log.durable()).await.unwrap();
        assert!(disk.files().contains_key(SPARE), "the trimmed segment is kept");
        while disk.files().contains_key(SPARE) {
            ledger.append(&running.log, 0, 3).await;
        }
    });
    running.stop().unwrap();

    let files = disk.files();
    let (_, last) = files.last_key_value().unwrap();
    let end = last.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(end > 4096 + 2_000, "the last segment holds bytes of another one");
    let report = check(Path::new("log"), &disk).unwrap();
    assert_eq!((report.damage, report.has_unfinished_write), (None, false));
    drop(open(config.clone(), Arc::new(disk.clone())).unwrap());
    assert_eq!(disk.files(), files, "there was nothing to cut off");

    let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
    block_on(ledger.work_on(&running.log));
    running.stop().unwrap();
    ledger.verify(&disk.reboot(1), &config, "after more appends");
}

#[test]
fn a_crash_at_any_call_while_segments_are_used_again_loses_nothing() {
    let config = config(2, 8 << 10);
    for seed in 0..6 {
        for call in 1.. {
            let context = format!("seed {seed}, crash at call {call} of the second part");
            let disk = SimDisk::new(seed);
            let mut ledger = Ledger::default();
            let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
            let last_call = block_on(async {
                ledger.work(&running.log).await;
                let last_call = disk.calls() + call;
                disk.fail_at(last_call, Fault::Crash);
                trim_and_work(&mut ledger, &running.log).await;
                last_call
            });
            let _ = running.stop();
            if disk.calls() < last_call {
                assert!(call > 20, "only {call} calls");
                break;
            }
            // Then during recovery, at another call each time.
            let again = disk.reboot(call);
            again.fail_at(1 + (call * 7 + seed) % 17, Fault::Crash);
            let _ = open(config.clone(), Arc::new(again.clone()));
            again.crash();
            let again = again.reboot(seed);
            ledger.verify(&again, &config, &context);

            // And once more in the midst of what is appended after that.
            let running = start(config.clone(), Arc::new(again.clone())).unwrap();
            again.fail_at(again.calls() + 1 + call % 11, Fault::Crash);
            block_on(trim_and_work(&mut ledger, &running.log));
            again.crash();
            let _ = running.stop();
            let again = again.reboot(call + seed);
            ledger.verify(&again, &config, &format!("{context}, then more"));
        }
    }
}

#[test]
fn a_segment_whose_trimming_may_not_be_durable_is_not_used_again() {
    let config = config(2, 8 << 10);
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let running = start(config.clone(), Arc::new(disk.clone())).unwrap();
        let mut ledger = Ledger::default();
        block_on(async {
            ledger.work(&running.log).await;
            // Every second call of trimming syncs the directory, unless a hint comes between.
            disk.fail_at(disk.calls() + 2 + seed % 4, Fault::Error);
            let _ = running.log.trim(&running.log.durable()).await;
            // Stops at every call of the next rotation and behind it.
            disk.fail_at(disk.calls() + 1 + seed % 15, Fault::Crash);
            for _ in 0..3 {
                ledger.append(&running.log, 0, 20).await;
            }
        });
        disk.crash();
        let _ = running.stop();
        for reboot in 0..8 {
            ledger.verify(&disk.reboot(reboot), &config, &format!("seed {seed}, {reboot}"));
        }
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// A disk on which something happens right after a file was opened, once.
struct Interrupted {
    disk: SimDisk,
    hook: Arc<Mutex<Option<(String, Hook)>>>,
}

impl Disk for Interrupted {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path)?;
        let hook = self.hook.lock().unwrap().take_if(|(name, _)| path.ends_with(name));
        if let Some((_, hook)) = hook {
            hook();
        }
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

#[test]
fn a_reader_whose_segment_is_used_again_goes_on_behind_it() {
    let config = EmbeddedConfig { recent_bytes: 0, ..config(1, 8 << 10) };
    let disk = SimDisk::new(1);
    let hook = Arc::new(Mutex::new(None));
    let opened = |config: &EmbeddedConfig| {
        let disk = Interrupted { disk: disk.clone(), hook: Arc::clone(&hook) };
        start(config.clone(), Arc::new(disk)).unwrap()
    };
    // The first segment: one frame, and the hint of a writer that stops.
    let running = opened(&config);
    block_on(running.log.append(Partition(0), &samples(0..60))).unwrap();
    running.stop().unwrap();

    let running = opened(&config);
    let log = Arc::clone(&running.log);
    block_on(async {
        let mut reader = log.read_from(&Positions::start()).await.unwrap();
        let first = reader.next(1).await.unwrap();
        assert_eq!(first.iter().map(|batch| batch.next_offset).max(), Some(60));
        // The reader stands at the hint, and the next records are in the next segment.
        log.append(Partition(0), &samples(60..126)).await.unwrap();
        assert!(disk.files().contains_key(&name(1)));

        let (trimmed, sim) = (Arc::clone(&log), disk.clone());
        let overwrite = move || {
            block_on(async {
                let below = [(Partition(0), 60)].into_iter().collect();
                trimmed.trim(&below).await.unwrap();
                assert!(sim.files().contains_key(SPARE));
                trimmed.append(Partition(0), &samples(126..192)).await.unwrap();
                assert!(!sim.files().contains_key(SPARE), "the file is another segment now");
            });
        };
        *hook.lock().unwrap() = Some((name(0), Box::new(overwrite) as Hook));
        let batches = reader.next(1).await.unwrap();
        assert!(hook.lock().unwrap().is_none(), "the reader came to the trimmed segment");
        assert_eq!(batches.first().map(|batch| batch.first_offset), Some(60));
        let rest = reader.next(1).await.unwrap();
        assert_eq!(rest.first().map(|batch| batch.first_offset), Some(126));
        let found = read_all(&*log, &log.start()).await.unwrap();
        assert_eq!(found[&Partition(0)], samples(60..192));
    });
    drop(log);
    running.stop().unwrap();
}
