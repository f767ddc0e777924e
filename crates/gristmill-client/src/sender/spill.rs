//! Events on disk while the server is away: a queue of batches in segment files.
//!
//! A segment is the text `GRSPIL01` and then records: the length of the lines, the number of events
//! and a CRC-32 of both numbers and the lines, each as 4 bytes, little-endian, and the lines as NDJSON. A record
//! counts as kept when it is synced. A segment is deleted when all its records are acknowledged;
//! after a crash before that, some are sent once more, which the server counts once.
//!
//! Invariants: a file of an earlier run is never written to; no file with a record that was not
//! acknowledged is deleted; what cannot be read is set aside, not deleted.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use super::SpillConfig;
use super::piece::Piece;

const MAGIC: &[u8; 8] = b"GRSPIL01";
const HEADER_BYTES: usize = 12;
/// The most bytes of a record; a length beyond is none.
const RECORD_BYTES: u32 = 64 * 1024 * 1024;

/// How long to wait for a directory that another sender has.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why events could not be put on disk.
#[derive(Debug, Error)]
pub(super) enum SpillError {
    /// There is no room until some were sent.
    #[error("the spill is full")]
    Full,
    /// The disk says so.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Batches on disk, in order.
pub(super) struct Spill {
    config: SpillConfig,
    files: Mutex<Files>,
    /// Events that are not acknowledged.
    events: AtomicU64,
    damaged: AtomicU64,
    /// Changes whenever something was put in or taken out.
    changed: watch::Sender<()>,
}

struct Files {
    segments: VecDeque<Segment>,
    /// What the last segment is written through; none if it was written by an earlier run.
    writer: Option<File>,
    next_number: u64,
    /// Of all segments.
    bytes: u64,
    /// Keeps others out of the directory.
    lock: File,
    /// Whether another sender may have it.
    is_released: bool,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// Up to where records are whole.
    end: u64,
    /// Up to where they are acknowledged.
    done: u64,
    /// Events in whole records that are not acknowledged.
    events: u64,
    /// Of the file, which may be longer than its whole records.
    bytes: u64,
    has_damage: bool,
}

/// The first batch on disk.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) piece: Piece,
    end: u64,
}

impl Spill {
    /// Opens a directory and finds what an earlier run left there. Blocks.
    pub(super) fn open(config: SpillConfig) -> io::Result<Self> {
        fs::create_dir_all(&config.dir)?;
        let lock = File::options().create(true).append(true).open(config.dir.join("lock"))?;
        take(&lock)?;
        let (mut segments, mut damaged) = (VecDeque::new(), 0);
        let numbered = numbered_files(&config.dir, "spill")?;
        let aside = numbered_files(&config.dir, "damaged")?;
        let last = numbered.last().into_iter().chain(aside.last()).map(|(number, _)| *number).max();
        let next_number = last.map_or(Some(1), |last| last.checked_add(1));
        let next_number = next_number.ok_or_else(|| {
            let reason = format!("there is no number after that of the file {:020}", u64::MAX);
            io::Error::other(reason)
        })?;
        for (_, path) in numbered {
            let segment = scan(path)?;
            if segment.end > MAGIC.len() as u64 {
                segments.push_back(segment);
            } else {
                damaged += u64::from(segment.has_damage);
                remove(&segment)?;
            }
        }
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        let files = Files { segments, writer: None, next_number, bytes, lock, is_released: false };
        Ok(Self {
            config,
            events: AtomicU64::new(files.events()),
            files: Mutex::new(files),
            damaged: AtomicU64::new(damaged),
            changed: watch::Sender::new(()),
        })
    }

    /// Lets another sender have the directory. Nothing is written to it after this.
    pub(super) fn release(&self) {
        let mut files = self.lock();
        files.is_released = true;
        // The lock ends with the file at the latest.
        let _ = files.lock.unlock();
    }

    pub(super) fn config(&self) -> &SpillConfig {
        &self.config
    }

    /// Events that are not acknowledged.
    pub(super) fn events(&self) -> u64 {
        self.events.load(SeqCst)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events() == 0
    }

    /// Files that were set aside.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(SeqCst)
    }

    /// Hears of every change from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Puts events behind the others, and returns when they are synced.
    pub(super) async fn keep(self: &Arc<Self>, piece: Piece) -> Result<(), SpillError> {
        let spill = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || spill.append(&[piece]).1);
        task.await.unwrap_or_else(|error| Err(SpillError::Io(io::Error::other(error))))
    }

    /// Puts events behind the others, and syncs each file once. Tells how many of the pieces are kept, and
    /// why the next one is not. Blocks.
    pub(super) fn append(&self, pieces: &[Piece]) -> (usize, Result<(), SpillError>) {
        let mut files = self.lock();
        let mut kept = 0;
        if files.is_released {
            return (kept, Err(SpillError::Io(io::Error::other("the sender is closed"))));
        }
        let result = loop {
            match files.write(pieces.get(kept..).unwrap_or_default(), &self.config) {
                Ok(0) => break Ok(()),
                Ok(more) => kept += more,
                Err(error) => break Err(error),
            }
        };
        // Whoever waits for room must not be woken by having found none.
        if kept > 0 {
            self.tell(&files);
        }
        (kept, result)
    }

    /// Waits for a first batch. After an error it may be asked again.
    pub(super) async fn first(self: &Arc<Self>) -> io::Result<Record> {
        let mut changed = self.subscribe();
        loop {
            let spill = Arc::clone(self);
            // A task that blocks is not cancelled, so its own error is a panic.
            match tokio::task::spawn_blocking(move || spill.read()).await {
                Ok(Ok(Some(record))) => return Ok(record),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(None)) | Err(_) => {}
            }
            // The sender of this watch lives as long as `self`.
            let _ = changed.changed().await;
        }
    }

    /// Reads the first batch. Blocks.
    fn read(&self) -> io::Result<Option<Record>> {
        let mut files = self.lock();
        loop {
            let is_last = files.segments.len() == 1;
            let Some(segment) = files.segments.front_mut() else { return Ok(None) };
            if segment.done >= segment.end {
                if is_last {
                    return Ok(None);
                }
                // Nothing got into it, for want of room on the disk.
                self.drop_done(&mut files);
                continue;
            }
            let error = match read_at(&segment.path, segment.done) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => error,
            };
            let path = segment.path.display();
            if !is_damage(&error) {
                return Err(io::Error::new(error.kind(), format!("cannot read {path}: {error}")));
            }
            // It could be read when it was written or found, so the disk has changed it since.
            tracing::error!(%path, %error, "a file of kept events is damaged");
            segment.has_damage = true;
            (segment.end, segment.events) = (segment.done, 0);
            self.drop_done(&mut files);
            self.tell(&files);
        }
    }

    /// Lets go of the first batch.
    pub(super) async fn acknowledge(self: &Arc<Self>, record: Record) {
        let spill = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let mut files = spill.lock();
            if files.is_released {
                return;
            }
            if let Some(first) = files.segments.front_mut() {
                first.done = record.end;
                first.events = first.events.saturating_sub(record.piece.events as u64);
            }
            spill.drop_done(&mut files);
            spill.tell(&files);
        });
        // A task that blocks is not cancelled.
        let _ = task.await;
    }

    /// Deletes the first segment if all of it is acknowledged, or sets it aside if not all of it can be read.
    fn drop_done(&self, files: &mut Files) {
        let Some(first) = files.segments.front() else { return };
        if first.done < first.end {
            return;
        }
        self.damaged.fetch_add(u64::from(first.has_damage), SeqCst);
        if let Err(error) = remove(first) {
            // It would be sent again by the next run, and counted once.
            let path = first.path.display();
            tracing::warn!(%path, %error, "cannot take a file out of the spill");
        }
        files.bytes = files.bytes.saturating_sub(first.bytes);
        files.segments.pop_front();
        if files.segments.is_empty() {
            files.writer = None;
        }
    }

    /// Tells everybody what there is now.
    fn tell(&self, files: &Files) {
        self.events.store(files.events(), SeqCst);
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// Events that are not acknowledged.
    fn events(&self) -> u64 {
        self.segments.iter().map(|segment| segment.events).sum()
    }

    /// Writes as many of the pieces as go into one segment, and syncs them; tells how many.
    fn write(&mut self, pieces: &[Piece], config: &SpillConfig) -> Result<usize, SpillError> {
        let Some(first) = pieces.first() else { return Ok(0) };
        if self.bytes + record_bytes(first) > config.max_bytes {
            return Err(SpillError::Full);
        }
        let most = config.segment_bytes.min(config.max_bytes / 4);
        let is_full = self.segments.back().is_none_or(|last| last.bytes >= most);
        if is_full || self.writer.is_none() {
            self.begin(&config.dir)?;
        }
        let (Some(writer), Some(last)) = (&mut self.writer, self.segments.back_mut()) else {
            return Err(SpillError::Io(io::Error::other("no segment")));
        };
        let (mut count, mut bytes, mut events) = (0, 0, 0);
        let mut written = Ok(());
        for piece in pieces {
            let is_over = self.bytes + bytes + record_bytes(piece) > config.max_bytes;
            if count > 0 && (last.bytes + bytes >= most || is_over) {
                break;
            }
            written = encode(piece).and_then(|record| writer.write_all(&record));
            if written.is_err() {
                break;
            }
            count += 1;
            bytes += record_bytes(piece);
            events += piece.events as u64;
        }
        if let Err(error) = written.and_then(|()| writer.sync_data()) {
            self.take_back();
            return Err(error.into());
        }
        last.end += bytes;
        last.bytes = last.end;
        last.events += events;
        self.bytes += bytes;
        Ok(count)
    }

    fn begin(&mut self, dir: &Path) -> io::Result<()> {
        let path = dir.join(format!("{:020}.spill", self.next_number));
        self.next_number += 1;
        let mut file = File::options().create_new(true).append(true).open(&path)?;
        let begun = file.write_all(MAGIC).and_then(|()| file.sync_all());
        if let Err(error) = begun.and_then(|()| File::open(dir)?.sync_all()) {
            // An empty file that stays is deleted when the directory is opened next.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let bytes = MAGIC.len() as u64;
        let segment =
            Segment { path, end: bytes, done: bytes, events: 0, bytes, has_damage: false };
        self.segments.push_back(segment);
        self.bytes += bytes;
        self.writer = Some(file);
        Ok(())
    }

    /// Takes what could not be written or synced from the disk, as far as that goes, and puts nothing more
    /// behind it, because what a failed sync left there is unknown. If it is there after all it is sent, as
    /// events that were told as not kept may be.
    fn take_back(&mut self) {
        let (Some(writer), Some(last)) = (self.writer.take(), self.segments.back_mut()) else {
            return;
        };
        let _ = writer.set_len(last.end);
        let bytes = writer.metadata().map_or(last.bytes, |data| data.len());
        self.bytes = self.bytes - last.bytes + bytes;
        last.bytes = bytes;
        if last.end == MAGIC.len() as u64 && fs::remove_file(&last.path).is_ok() {
            self.bytes -= bytes;
            self.segments.pop_back();
        }
    }
}

/// Takes a lock, which a sender that has just ended may hold for a moment longer.
fn take(lock: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        if lock.try_lock().is_ok() {
            return Ok(());
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another sender uses the directory"))
}

/// Whether an error says that a record is not there as it was written, rather than that the system cannot
/// read it now.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}

/// Deletes a segment, or sets it aside if not all of it can be read.
fn remove(segment: &Segment) -> io::Result<()> {
    if !segment.has_damage {
        return fs::remove_file(&segment.path);
    }
    let aside = segment.path.with_extension("damaged");
    tracing::error!(path = %aside.display(), "a file of kept events is damaged and is set aside");
    fs::rename(&segment.path, aside)
}

fn numbered_files(dir: &Path, kind: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let is_segment = path.extension().is_some_and(|extension| extension == kind);
        if let (Some(number), true) = (number, is_segment) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Finds the whole records of a segment.
fn scan(path: PathBuf) -> io::Result<Segment> {
    let bytes = fs::metadata(&path)?.len();
    let mut file = BufReader::new(File::open(&path)?);
    let mut magic = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    let (mut end, mut events) = (magic.len() as u64, 0);
    let mut has_damage = magic != MAGIC && !MAGIC.starts_with(&magic);
    while !has_damage && magic.len() == MAGIC.len() {
        match read_record(&mut file, end, bytes) {
            Ok(record) => (events, end) = (events + record.piece.events as u64, record.end),
            // A record that was being written when the program or the machine ended; it was never
            // told as kept.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => has_damage = true,
            Err(error) => return Err(error),
        }
    }
    let done = (MAGIC.len() as u64).min(end);
    Ok(Segment { path, end, done, events, bytes, has_damage })
}

fn read_at(path: &Path, at: u64) -> io::Result<Record> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(at))?;
    read_record(&mut file, at, bytes)
}

/// Reads the record at a place of a file of so many bytes.
fn read_record(file: &mut impl Read, at: u64, bytes: u64) -> io::Result<Record> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = header;
    let length = u32::from_le_bytes([a, b, c, d]);
    let events = u32::from_le_bytes([e, f, g, h]);
    let checksum = u32::from_le_bytes([i, j, k, l]);
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a record is damaged");
    if length > RECORD_BYTES {
        return Err(damaged());
    }
    let end = at + HEADER_BYTES as u64 + u64::from(length);
    if end > bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut lines = vec![0; length as usize];
    file.read_exact(&mut lines)?;
    if checksum != sum(length, events, &lines) || lines.is_empty() {
        return Err(damaged());
    }
    Ok(Record { piece: Piece { lines: lines.into(), events: events as usize }, end })
}

/// What a piece takes on disk.
fn record_bytes(piece: &Piece) -> u64 {
    (HEADER_BYTES + piece.lines.len()) as u64
}

fn encode(Piece { lines, events }: &Piece) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "the batch is too large");
    let length = u32::try_from(lines.len()).ok().filter(|length| *length <= RECORD_BYTES);
    let length = length.ok_or_else(too_large)?;
    let events = u32::try_from(*events).map_err(|_| too_large())?;
    let mut record = Vec::with_capacity(HEADER_BYTES + lines.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&events.to_le_bytes());
    record.extend_from_slice(&sum(length, events, lines).to_le_bytes());
    record.extend_from_slice(lines);
    Ok(record)
}

fn sum(length: u32, events: u32, lines: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&events.to_le_bytes());
    hasher.update(lines);
    hasher.finalize()
}
