//! Settings of a sender.

use std::path::PathBuf;
use std::time::Duration;

use gristmill_model::limits;

use super::StartError;

/// The largest buffer, in bytes.
const MOST_BUFFER_BYTES: usize = 2 * 1024 * 1024 * 1024;
/// The longest time of any setting: ten years.
const MOST_TIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a [`Sender`](super::Sender) behaves.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// The most events in a request; 1,000 if not set, at most 10,000.
    pub batch_events: usize,
    /// About how many bytes of events make a request; 1 MiB if not set. A larger event goes alone.
    pub batch_bytes: usize,
    /// How long an event waits for others to share its request; 20 ms if not set.
    pub linger: Duration,
    /// How many requests are under way at once; 4 if not set. All events of a user go through one
    /// lane, one request after the other, which keeps their order. A stream has one lane.
    pub lanes: usize,
    /// The most events that are kept in memory until their fate is known; 100,000 if not set.
    pub buffer_events: usize,
    /// The most bytes of them, as JSON; 64 MiB if not set, at most 2 GiB.
    pub buffer_bytes: usize,
    /// Whether requests are compressed; not if not set. A stream does not.
    pub compression: Compression,
    /// How long an event is tried for, from when it was handed over; then it is given back as
    /// undelivered. 5 minutes if not set. An event on disk is tried for ever.
    pub give_up_after: Duration,
    /// About how long to wait before the first retry; doubles with each. 100 ms if not set.
    pub first_backoff: Duration,
    /// The longest wait between retries, unless the server asks for more by `Retry-After` (a minute
    /// at most). 10 s if not set.
    pub longest_backoff: Duration,
    /// How long [`close`](super::Sender::close) goes on trying; 30 s if not set.
    pub close_within: Duration,
    /// The most undelivered events that are kept for the next report; 10,000 if not set, and half
    /// of `buffer_bytes`. Of more only the number is told.
    pub kept_undelivered: usize,
    /// Where events are kept on disk while the server is away; nowhere if not set. Not for a stream.
    pub spill: Option<SpillConfig>,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            batch_events: 1_000,
            batch_bytes: 1024 * 1024,
            linger: Duration::from_millis(20),
            lanes: 4,
            buffer_events: 100_000,
            buffer_bytes: 64 * 1024 * 1024,
            compression: Compression::None,
            give_up_after: Duration::from_secs(300),
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(10),
            close_within: Duration::from_secs(30),
            kept_undelivered: 10_000,
            spill: None,
        }
    }
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip, quickly.
    Gzip,
}

/// How events are kept on disk while the server is away.
#[derive(Clone, Debug)]
pub struct SpillConfig {
    /// A directory for this sender alone; it is made if it is missing.
    pub dir: PathBuf,
    /// The most bytes of the files there; 1 GiB if not set. When they are full, events wait in
    /// memory, as without a spill.
    pub max_bytes: u64,
    /// The size at which a new file is begun; 8 MiB if not set, at most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// How long the server must be away before events go to disk; 2 s if not set.
    pub after: Duration,
}

impl SpillConfig {
    /// Keeps events in this directory, else with the default settings.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 1024 * 1024 * 1024,
            segment_bytes: 8 * 1024 * 1024,
            after: Duration::from_secs(2),
        }
    }
}

impl SenderConfig {
    /// Refuses what makes no sense.
    pub(super) fn check(&self) -> Result<(), StartError> {
        let counts = [
            ("batch_events", self.batch_events, limits::BATCH_EVENTS),
            ("batch_bytes", self.batch_bytes, limits::FRAME_BYTES / 2),
            ("lanes", self.lanes, 256),
            ("buffer_events", self.buffer_events, MOST_BUFFER_BYTES),
            ("buffer_bytes", self.buffer_bytes, MOST_BUFFER_BYTES),
        ];
        for (name, value, most) in counts {
            if value == 0 || value > most {
                let reason = format!("is {value}; give 1 to {most}");
                return Err(StartError::Setting { name, reason });
            }
        }
        if self.buffer_bytes < limits::LINE_BYTES {
            let reason = format!("holds less than one event may take, {}", limits::LINE_BYTES);
            return Err(StartError::Setting { name: "buffer_bytes", reason });
        }
        if self.spill.as_ref().is_some_and(|spill| spill.max_bytes < 4 * self.batch_bytes as u64) {
            let reason = "holds less than four times `batch_bytes`".to_owned();
            return Err(StartError::Setting { name: "spill.max_bytes", reason });
        }
        let after = self.spill.as_ref().map(|spill| ("spill.after", spill.after));
        let times = [("give_up_after", self.give_up_after), ("linger", self.linger)];
        for (name, time) in times.into_iter().chain(after) {
            if time > MOST_TIME {
                let reason = format!("is {time:?}; give {MOST_TIME:?} at most");
                return Err(StartError::Setting { name, reason });
            }
        }
        Ok(())
    }
}
