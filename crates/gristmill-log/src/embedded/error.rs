//! What goes wrong with files, said so that an operator knows which one and what to do.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A call to the disk that failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl DiskError {
    /// Says what was tried, for use with `map_err`.
    pub(super) fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError { action, path: path.to_owned(), source }
    }

    /// Whether there was no room, which passes; anything else is a failing device.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Acknowledged bytes that are not what was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the log is damaged: {}, byte {at}: {what}; nothing was changed, since dropping the damaged \
     part would lose acknowledged events: restore this file from a copy of the data directory",
    file.display()
)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub at: u64,
    /// What was expected and what was found.
    pub what: String,
}

/// Why a log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the log in {} is in use by another process: stop that one, or choose another directory",
        dir.display()
    )]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Acknowledged data is damaged or missing.
    #[error("{0}")]
    Damaged(#[from] Damage),
    /// The log was created with another number of partitions.
    #[error(
        "the log in {} was created with {held} partitions and `partitions` says {wanted}: set it \
         to {held}",
        dir.display()
    )]
    Partitions {
        /// The log's directory.
        dir: PathBuf,
        /// How many it has.
        held: u32,
        /// How many were asked for.
        wanted: u32,
    },
    /// A setting is out of range.
    #[error("the log cannot be laid out as configured: {0}")]
    Config(String),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}
