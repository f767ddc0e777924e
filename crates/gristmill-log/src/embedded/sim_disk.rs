//! A disk in memory that can fail or crash at any call, and forgets what was not synced.
//!
//! Every file and the directory have two images: what programs see, and what is on stable storage.
//! A sync copies one to the other. After a crash, stable storage has in addition any part of what
//! was not synced: each change fully, not at all, or torn at 512-byte sectors.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile, DiskLock};

const SECTOR: usize = 512;

/// What happens at a chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops; every later call fails.
    Crash,
    /// The call fails with an input/output error. A failed sync loses part of what it should
    /// have made durable, for good.
    Error,
    /// A call that needs space fails for the lack of it, a write after none, half or all of its
    /// bytes. Other calls do not fail.
    Full,
    /// A write ends after half of its bytes. Other calls do not fail.
    ShortWrite,
}

/// A simulated disk with one directory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    files: Vec<Image>,
    entries: BTreeMap<String, usize>,
    durable_entries: BTreeMap<String, usize>,
    /// What happened to the directory since it was synced.
    unsynced: Vec<EntryChange>,
    calls: u64,
    plan: BTreeMap<u64, Fault>,
    is_crashed: bool,
    is_full: bool,
    is_locked: bool,
    random: u64,
}

#[derive(Clone, Default)]
struct Image {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Clone)]
enum EntryChange {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl SimDisk {
    /// An empty disk; `seed` decides every choice it makes.
    pub fn new(seed: u64) -> Self {
        Self::with_files(BTreeMap::new(), seed)
    }

    /// A disk with these files, all durable.
    pub fn with_files(files: BTreeMap<String, Vec<u8>>, seed: u64) -> Self {
        let (names, images): (Vec<_>, Vec<_>) = files
            .into_iter()
            .map(|(name, bytes)| {
                (name, Image { durable: bytes.clone(), bytes, unsynced: Vec::new() })
            })
            .unzip();
        let entries: BTreeMap<String, usize> = names.into_iter().zip(0..).collect();
        Self(Arc::new(Mutex::new(State {
            files: images,
            durable_entries: entries.clone(),
            entries,
            unsynced: Vec::new(),
            calls: 0,
            plan: BTreeMap::new(),
            is_crashed: false,
            is_full: false,
            is_locked: false,
            random: seed,
        })))
    }

    /// Lets the call number `call`, counted from 1, go wrong too.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state().plan.insert(call, fault);
    }

    /// Sets whether there is no room for new space.
    pub fn set_full(&self, full: Fullness) {
        self.state().is_full = full == Fullness::Full;
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Stops the machine.
    pub fn crash(&self) {
        self.state().is_crashed = true;
    }

    /// The disk as it is found when the machine starts again.
    pub fn reboot(&self, seed: u64) -> SimDisk {
        let mut state = self.state();
        state.random ^= seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut entries = state.durable_entries.clone();
        for change in state.unsynced.clone() {
            if state.chance(2) {
                change.apply(&mut entries);
            }
        }
        let files = entries
            .into_iter()
            .map(|(name, file)| {
                let bytes = state.after_crash(file);
                (name, bytes)
            })
            .collect();
        Self::with_files(files, state.next_random())
    }

    /// What the files hold now, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let bytes = |file: &usize| state.files.get(*file).map(|image| image.bytes.clone());
        state.entries.iter().filter_map(|(name, file)| Some((name.clone(), bytes(file)?))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a disk has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fullness {
    /// There is none.
    Full,
    /// There is enough.
    Roomy,
}

impl State {
    /// Counts a call; gives the fault that is planned for it.
    fn enter(&mut self) -> io::Result<Option<Fault>> {
        if self.is_crashed {
            return Err(stopped());
        }
        self.calls += 1;
        let fault = self.plan.get(&self.calls).copied();
        self.is_crashed = fault == Some(Fault::Crash);
        Ok(fault)
    }

    /// For a call that changes nothing.
    fn enter_reading(&mut self) -> io::Result<()> {
        match self.enter()? {
            Some(Fault::Crash) => Err(stopped()),
            Some(Fault::Error) => Err(broken()),
            Some(Fault::Full | Fault::ShortWrite) | None => Ok(()),
        }
    }

    /// For a call that changes the directory: a crash may come after it happened.
    fn change_entries(&mut self, change: EntryChange) -> io::Result<()> {
        let fault = self.enter()?;
        let needs_space = !matches!(change, EntryChange::Remove(_));
        match fault {
            Some(Fault::Error) => return Err(broken()),
            Some(Fault::Full) if needs_space => return Err(full()),
            Some(Fault::Full | Fault::ShortWrite | Fault::Crash) | None => {}
        }
        change.clone().apply(&mut self.entries);
        self.unsynced.push(change);
        if fault == Some(Fault::Crash) { Err(stopped()) } else { Ok(()) }
    }

    fn change_file(&mut self, file: usize, change: Change) {
        if let Some(image) = self.files.get_mut(file) {
            change.apply(&mut image.bytes);
            image.unsynced.push(change);
        }
    }

    fn entry(&self, path: &Path) -> io::Result<usize> {
        self.entries.get(&name_of(path)).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What is left of a file: all that was synced, and any part of the rest.
    fn after_crash(&mut self, file: usize) -> Vec<u8> {
        let Some(image) = self.files.get(file).cloned() else { return Vec::new() };
        let mut bytes = image.durable;
        for change in image.unsynced {
            match self.next_random() % 3 {
                0 => {}
                1 => change.apply(&mut bytes),
                _ => self.tear(change, &mut bytes),
            }
        }
        bytes
    }

    /// Applies some sectors of a write.
    fn tear(&mut self, change: Change, bytes: &mut Vec<u8>) {
        let Change::Write { at, bytes: written } = change else { return };
        let mut from = 0;
        while from < written.len() {
            let sector_end = (at + from) / SECTOR * SECTOR + SECTOR - at;
            let to = sector_end.min(written.len());
            if self.chance(2) {
                let part = Change::Write { at: at + from, bytes: written[from..to].to_vec() };
                part.apply(bytes);
            }
            from = to;
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.next_random().is_multiple_of(one_in)
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                let end = at + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*at..end].copy_from_slice(bytes);
            }
            Change::Size(size) => image.resize(*size, 0),
        }
    }
}

impl EntryChange {
    fn apply(self, entries: &mut BTreeMap<String, usize>) {
        match self {
            EntryChange::Create(name, file) => {
                entries.insert(name, file);
            }
            EntryChange::Rename(from, to, file) => {
                entries.remove(&from);
                entries.insert(to, file);
            }
            EntryChange::Remove(name) => {
                entries.remove(&name);
            }
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.state().enter_reading()
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.enter_reading()?;
        Ok(state.entries.keys().cloned().collect())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.state();
        state.enter_reading()?;
        if state.is_locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.is_locked = true;
        Ok(Box::new(SimLock(self.clone())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if state.is_full {
            state.calls += 1;
            return Err(full());
        }
        let file = state.files.len();
        state.files.push(Image::default());
        state.change_entries(EntryChange::Create(name_of(path), file))?;
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.enter_reading()?;
        Ok(Box::new(SimFile { disk: self.clone(), file: state.entry(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.entry(from)?;
        state.change_entries(EntryChange::Rename(name_of(from), name_of(to), file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.entry(path)?;
        state.change_entries(EntryChange::Remove(name_of(path)))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.enter_reading()?;
        state.durable_entries = state.entries.clone();
        state.unsynced.clear();
        Ok(())
    }
}

struct SimLock(SimDisk);

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.state().is_locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.enter_reading()?;
        Ok(state.files.get(self.file).map_or(0, |image| image.bytes.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.enter_reading()?;
        let image = state.files.get(self.file);
        let bytes = image.and_then(|image| image.bytes.get(at as usize..)).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.enter()?;
        let (kept, outcome) = match fault {
            None => (bytes.len(), Ok(())),
            Some(Fault::Crash) => (bytes.len(), Err(stopped())),
            Some(Fault::Error) => (bytes.len() / 2, Err(broken())),
            Some(Fault::Full) => {
                (bytes.len() * (state.next_random() % 3) as usize / 2, Err(full()))
            }
            Some(Fault::ShortWrite) => (bytes.len() / 2, Err(io::ErrorKind::WriteZero.into())),
        };
        let bytes = bytes[..kept].to_vec();
        state.change_file(self.file, Change::Write { at: at as usize, bytes });
        outcome
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.enter()?;
        let size = state.files.get(self.file).map_or(0, |image| image.bytes.len());
        match fault {
            Some(Fault::Error) => return Err(broken()),
            Some(Fault::Full) => return Err(full()),
            _ if state.is_full && size < bytes as usize => return Err(full()),
            Some(Fault::Crash | Fault::ShortWrite) | None => {}
        }
        state.change_file(self.file, Change::Size(size.max(bytes as usize)));
        if fault == Some(Fault::Crash) { Err(stopped()) } else { Ok(()) }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.enter()?;
        if fault == Some(Fault::Error) {
            return Err(broken());
        }
        state.change_file(self.file, Change::Size(bytes as usize));
        if fault == Some(Fault::Crash) { Err(stopped()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.enter_reading();
        let is_crashed = state.is_crashed;
        let lost = outcome.is_err() && !is_crashed && state.chance(2);
        let Some(image) = state.files.get_mut(self.file) else { return outcome };
        match &outcome {
            Ok(()) => {
                for change in std::mem::take(&mut image.unsynced) {
                    change.apply(&mut image.durable);
                }
            }
            // The pages count as clean from now on, though they never reached the disk.
            Err(_) if lost => image.unsynced.clear(),
            Err(_) => {}
        }
        outcome
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn broken() -> io::Error {
    io::Error::other("simulated input/output error")
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}
