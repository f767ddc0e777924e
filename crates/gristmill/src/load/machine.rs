//! What the machine says: how fast its disk syncs, how large files and processes are.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tokio::time::Instant;

use super::Latencies;

/// How many syncs of each size are measured.
const SYNCS: usize = 200;
/// The `f_type` of a file system in memory.
const TMPFS: i64 = 0x0102_1994;
/// The `f_type` of the older file system in memory.
const RAMFS: i64 = 0x8584_58F6;

/// How long a write and `fdatasync` takes on the raw device, by the size of the write.
#[derive(Clone, Default, Serialize)]
pub(crate) struct SyncProbe {
    pub(crate) of_4_kib: Latencies,
    pub(crate) of_64_kib: Latencies,
}

/// Bytes on disk below a data directory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sizes {
    pub(crate) log_bytes: u64,
    pub(crate) store_bytes: u64,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

/// Measures writes with `fdatasync` in a directory. Blocks for about a second.
pub(crate) fn probe_sync(dir: &Path) -> anyhow::Result<SyncProbe> {
    let path = dir.join("sync-probe");
    let measured = (|| {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        // Like the log's, the file has its size before, so that a sync writes no metadata.
        (&file).write_all(&vec![0; SYNCS * 64 * 1024])?;
        file.sync_all()?;
        Ok(SyncProbe { of_4_kib: syncs(&file, 4 * 1024)?, of_64_kib: syncs(&file, 64 * 1024)? })
    })();
    let _ = std::fs::remove_file(&path);
    measured.map_err(|error: io::Error| {
        anyhow::anyhow!("cannot measure syncs in {}: {error}", dir.display())
    })
}

fn syncs(file: &File, bytes: usize) -> io::Result<Latencies> {
    use std::os::unix::fs::FileExt as _;
    let block = vec![0xA5; bytes];
    let mut latencies = Latencies::default();
    for number in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&block, (number * bytes) as u64)?;
        file.sync_data()?;
        latencies.add(started.elapsed());
    }
    Ok(latencies)
}

/// Whether a directory lies in memory, where nothing is durable.
pub(crate) fn is_memory_only(dir: &Path) -> bool {
    let in_memory = [TMPFS, RAMFS];
    rustix::fs::statfs(dir).is_ok_and(|facts| in_memory.contains(&facts.f_type))
}

/// The bytes that the log and the store take on disk.
pub(crate) fn sizes(data_dir: &Path) -> anyhow::Result<Sizes> {
    Ok(Sizes {
        log_bytes: bytes_below(&data_dir.join("log"))?,
        store_bytes: bytes_below(&data_dir.join("store"))?,
    })
}

fn bytes_below(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        let entries =
            std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => left.push(entry.path()),
                Ok(facts) => sum += facts.blocks() * 512,
                // Parts are deleted while the server runs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(sum)
}

/// The memory that a process holds now and has held at most, in bytes; `None` if the system does
/// not tell.
pub(crate) fn memory(process: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
}
