//! The files of a store's directory, named by number. What the manifest does not name is garbage.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// Where a store's files are.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

/// What a numbered file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows, as Parquet.
    Part,
    /// The filter over the identities of a part.
    Filter,
    /// Identities of the window.
    Window,
    /// Quarantined records.
    Quarantine,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Part, Kind::Filter, Kind::Window, Kind::Quarantine];

    fn extension(self) -> &'static str {
        match self {
            Kind::Part => "parquet",
            Kind::Filter => "filter",
            Kind::Window => "window",
            Kind::Quarantine => "quarantine",
        }
    }
}

impl Directory {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self { path: path.to_owned() })
    }

    /// A directory that is only read.
    pub(super) fn existing(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn file(&self, number: u64, kind: Kind) -> PathBuf {
        self.path.join(format!("{number:08}.{}", kind.extension()))
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.path.join("manifest")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the names of new and removed files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Writes a whole file durably, except for its name.
    pub(super) fn write(&self, number: u64, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.file(number, kind))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Reads a file that ends with the CRC of what stands before, which is given.
    pub(super) fn read_checked(&self, number: u64, kind: Kind) -> Result<Vec<u8>, StoreError> {
        let path = self.file(number, kind);
        let mut bytes = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| {
            StoreError::Damaged(format!("cannot read {}: {error}", path.display()))
        })?;
        if !strip_crc(&mut bytes) {
            return Err(damaged(&path));
        }
        Ok(bytes)
    }

    pub(super) fn remove(&self, number: u64, kind: Kind) {
        let path = self.file(number, kind);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file that is no longer needed");
        }
    }

    /// Every numbered file there is.
    pub(super) fn list(&self) -> io::Result<Vec<(u64, Kind)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let Some((stem, extension)) = name.to_str().and_then(|name| name.split_once('.'))
            else {
                continue;
            };
            let kind = Kind::ALL.into_iter().find(|kind| kind.extension() == extension);
            if let (Ok(number), Some(kind)) = (stem.parse(), kind) {
                found.push((number, kind));
            }
        }
        Ok(found)
    }
}

/// Files that are being made. They are removed again unless the manifest comes to name them, so
/// that what fails for lack of room leaves the room it found.
#[derive(Debug)]
pub(super) struct NewFiles<'a> {
    directory: &'a Directory,
    files: Vec<(u64, Kind)>,
}

impl<'a> NewFiles<'a> {
    pub(super) fn of(directory: &'a Directory) -> Self {
        Self { directory, files: Vec::new() }
    }

    /// Notes that a file is about to be made.
    pub(super) fn add(&mut self, number: u64, kind: Kind) {
        self.files.push((number, kind));
    }

    /// Keeps them all.
    pub(super) fn keep(mut self) {
        self.files.clear();
    }
}

impl Drop for NewFiles<'_> {
    fn drop(&mut self) {
        for &(number, kind) in &self.files {
            self.directory.remove(number, kind);
        }
    }
}

/// Whether an error says that there is no room, which is waited for.
pub(super) fn is_full(error: &StoreError) -> bool {
    let StoreError::Io(error) = error else { return false };
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Appends the CRC that `read_checked` verifies.
pub(super) fn append_crc(bytes: &mut Vec<u8>) {
    let crc = crc32fast::hash(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

fn strip_crc(bytes: &mut Vec<u8>) -> bool {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return false;
    };
    let intact = crc32fast::hash(body) == u32::from_le_bytes(*crc);
    bytes.truncate(bytes.len() - 4);
    intact
}

pub(super) fn damaged(path: &Path) -> StoreError {
    StoreError::Damaged(format!(
        "{} is damaged: its checksum does not match; restore it from a backup",
        path.display()
    ))
}
