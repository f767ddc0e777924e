//! What became of events, and who hears of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use gristmill_model::{ErrorCode, Positions};

use crate::EventError;
use crate::event::{id_of, lines_of};

/// Hears of events as their fate becomes known. It is called by the tasks that send, so it must not
/// block for long.
pub trait Observer: Send + Sync + 'static {
    /// These events are on stable storage.
    fn delivered(&self, events: &Delivered) {
        let _ = events;
    }

    /// These events were not delivered. Those that are returned are kept for the next report of
    /// `flush` or `close`: all of them, unless this is implemented.
    fn undelivered(&self, events: Vec<Undelivered>) -> Vec<Undelivered> {
        events
    }
}

/// Keeps everything for the next report.
impl Observer for () {}

/// Events that are on stable storage.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub(crate) lines: Bytes,
    pub(crate) rejected: Vec<usize>,
    pub(crate) events: usize,
    pub(crate) position: String,
}

impl Delivered {
    /// How many they are.
    pub fn count(&self) -> u64 {
        (self.events - self.rejected.len().min(self.events)) as u64
    }

    /// Their ids, in order.
    pub fn ids(&self) -> Vec<String> {
        let lines = lines_of(&self.lines).enumerate();
        let kept = lines.filter(|(index, _)| !self.rejected.contains(index));
        kept.map(|(_, line)| id_of(&line)).collect()
    }

    /// What a question gives as `at_least` so that its answer includes them.
    pub fn position(&self) -> &str {
        &self.position
    }
}

/// An event that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The event as it was sent, with its id: JSON that
    /// [`send_ndjson`](super::Sender::send_ndjson) takes again. What arrived all the same counts once.
    pub json: Bytes,
    /// Why.
    pub reason: Reason,
    /// Whether it may have arrived all the same, without the server saying so.
    pub may_have_arrived: bool,
}

impl Undelivered {
    /// The event's id.
    pub fn id(&self) -> String {
        id_of(&self.json)
    }
}

/// Why an event was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server rejects this event, and always will.
    Rejected {
        /// The error's stable name.
        code: Arc<str>,
        /// What is wrong with it.
        message: Arc<str>,
    },
    /// The server refuses the whole request for good, for example because of the key.
    Refused(Arc<str>),
    /// There was no success within `give_up_after`; the last error.
    GaveUp(Arc<str>),
    /// The sender was closed, and `close_within` was over; the last error, if there was one.
    Closed(Arc<str>),
    /// The sender was dropped without being closed.
    Dropped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rejected { code, message } => write!(f, "rejected: {message} ({code})"),
            Reason::Refused(error) => write!(f, "refused: {error}"),
            Reason::GaveUp(error) => write!(f, "gave up: {error}"),
            Reason::Closed(error) if error.is_empty() => f.write_str("the sender was closed"),
            Reason::Closed(error) => write!(f, "the sender was closed: {error}"),
            Reason::Dropped => f.write_str("the sender was dropped without being closed"),
        }
    }
}

/// What became of the events that a sender was given.
#[derive(Clone, Debug, Default)]
#[must_use = "it has the events that were not delivered"]
pub struct Report {
    /// Events on stable storage, since the sender was started; those that were on disk before
    /// included.
    pub delivered: u64,
    /// The events that were not delivered, each in one report only.
    pub undelivered: Vec<Undelivered>,
    /// How many more there were since the last report, whose content was let go because nobody
    /// asked for it.
    pub forgotten: u64,
    /// Events that are kept on disk, to be sent later.
    pub on_disk: u64,
    /// Files of the spill that cannot be read and were set aside, with `.damaged` in their names.
    pub damaged_files: u64,
    /// What a question gives as `at_least` so that its answer includes all that was delivered.
    pub position: String,
}

impl Report {
    /// Whether every event was delivered or is kept on disk.
    pub fn is_complete(&self) -> bool {
        self.undelivered.is_empty() && self.forgotten == 0 && self.damaged_files == 0
    }
}

/// What became of the events of one batch.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) delivered: Vec<Delivered>,
    pub(super) undelivered: Vec<Undelivered>,
}

/// An event that the server rejects, by its place.
pub(super) struct Rejection {
    pub(super) index: usize,
    pub(super) code: String,
    pub(super) message: String,
}

impl Fate {
    /// The server answered for these events.
    pub(super) fn answered(
        &mut self,
        lines: &Bytes,
        events: usize,
        rejections: Vec<Rejection>,
        position: String,
    ) {
        let mut rejected = Vec::with_capacity(rejections.len());
        if !rejections.is_empty() {
            let all: Vec<_> = lines_of(lines).collect();
            for Rejection { index, code, message } in rejections {
                let Some(json) = all.get(index).cloned() else { continue };
                let reason = Reason::Rejected { code: code.into(), message: message.into() };
                self.undelivered.push(Undelivered { json, reason, may_have_arrived: false });
                rejected.push(index);
            }
        }
        self.delivered.push(Delivered { lines: lines.clone(), rejected, events, position });
    }

    /// These events are larger than any server takes, each for itself.
    pub(super) fn too_large(events: Vec<Bytes>) -> Self {
        let code: Arc<str> = ErrorCode::InvalidEvent.name().into();
        let undelivered = events.into_iter().map(|json| {
            let message = EventError::TooLarge { bytes: json.len() }.to_string().into();
            let reason = Reason::Rejected { code: Arc::clone(&code), message };
            Undelivered { json, reason, may_have_arrived: false }
        });
        Self { delivered: Vec::new(), undelivered: undelivered.collect() }
    }

    /// These events were not delivered.
    pub(super) fn lost(&mut self, lines: &Bytes, reason: &Reason, may_have_arrived: bool) {
        let lost = lines_of(lines).map(|json| Undelivered {
            json,
            reason: reason.clone(),
            may_have_arrived,
        });
        self.undelivered.extend(lost);
    }
}

/// What was heard so far.
pub(super) struct Outcomes {
    observer: Arc<dyn Observer>,
    kept: usize,
    kept_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    delivered: u64,
    undelivered: VecDeque<Undelivered>,
    bytes: usize,
    forgotten: u64,
    position: Positions,
}

impl Outcomes {
    pub(super) fn new(observer: Arc<dyn Observer>, kept: usize, kept_bytes: usize) -> Self {
        Self { observer, kept, kept_bytes, state: Mutex::default() }
    }

    /// Tells everybody what became of events.
    pub(super) fn tell(&self, fate: Fate) {
        for delivered in &fate.delivered {
            self.observer.delivered(delivered);
        }
        let rest = match fate.undelivered.first() {
            None => Vec::new(),
            Some(first) => {
                let (events, reason) = (fate.undelivered.len(), first.reason.to_string());
                tracing::warn!(events, reason, "events were not delivered");
                self.observer.undelivered(fate.undelivered)
            }
        };
        let mut state = self.lock();
        for delivered in &fate.delivered {
            state.delivered += delivered.count();
            // A position of another form is one that this client cannot join with others.
            if let Ok(position) = delivered.position.parse::<Positions>() {
                state.position.advance_all(&position);
            }
        }
        state.keep(rest, self.kept, self.kept_bytes);
    }

    /// What there is to report since the last time.
    pub(super) fn report(&self) -> Report {
        let mut state = self.lock();
        state.bytes = 0;
        Report {
            delivered: state.delivered,
            undelivered: std::mem::take(&mut state.undelivered).into(),
            forgotten: std::mem::take(&mut state.forgotten),
            on_disk: 0,
            damaged_files: 0,
            position: state.position.to_string(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, events: Vec<Undelivered>, most: usize, most_bytes: usize) {
        for event in events {
            if self.undelivered.len() >= most || self.bytes + event.json.len() > most_bytes {
                self.forgotten += 1;
                continue;
            }
            self.bytes += event.json.len();
            // A copy, so that one event does not keep its whole batch.
            let json = Bytes::copy_from_slice(&event.json);
            self.undelivered.push_back(Undelivered { json, ..event });
        }
    }
}
