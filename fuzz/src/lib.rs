//! What several targets stand on: a platform in memory, and folders that cost no disk.

mod damage;
mod platform;

use std::path::Path;

use gristmill_ingest::dialect::Context;
use gristmill_model::{ProjectId, Timestamp};
use gristmill_testkit::SeededEntropy;
use tempfile::TempDir;

pub use damage::{Edit, edits, with_crc};
pub use platform::{ADMIN_KEY, Platform, quiet_runtime};

/// 2026-01-01T00:00:00Z, the time of every target.
pub const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

/// An empty folder, in memory where the system has one there.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a folder")
}

/// The facts of a request of the default project.
pub fn context(entropy: &SeededEntropy) -> Context<'_> {
    Context { project: ProjectId::new("default"), received: NOW, idempotency_key: None, entropy }
}
