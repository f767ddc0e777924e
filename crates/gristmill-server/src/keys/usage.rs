//! What was used of keys, told to the other processes and to the next start through the store.
//!
//! Each key that is used has a document; processes add what they have counted, each change naming the
//! version that it starts from. So quotas hold over all processes together, and beyond them goes what is
//! sent within the few seconds until the processes have heard of each other.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use gristmill_model::{ProjectId, Timestamp};
use gristmill_store::{Document, DocumentKey, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::meter::Meter;
use super::record::PROJECT;

/// The kind of these documents.
pub(super) const KIND: &str = "key-usage";

/// Events and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Totals {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        let events = self.events.saturating_add(other.events);
        Self { events, bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// What is left without the other.
    pub(crate) fn minus(self, other: Self) -> Self {
        let events = self.events.saturating_sub(other.events);
        Self { events, bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// What a process knows of the use of a key.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// When it was last used, in any process that has told; 0 is never.
    last: AtomicI64,
    /// What of that is in the document.
    last_told: AtomicI64,
    /// The version of the document that was heard last.
    heard: AtomicU64,
    pub(super) meter: Option<Meter>,
}

/// What the document says.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Told {
    last_used_us: i64,
    day: i64,
    #[serde(flatten)]
    totals: Totals,
}

/// Where the document of a key's use is.
pub(super) fn place(id: &str) -> DocumentKey<'_> {
    DocumentKey { project: ProjectId::new(PROJECT), kind: KIND, id }
}

impl Usage {
    /// The use of a key that was not used.
    pub(super) fn new(meter: Option<Meter>) -> Self {
        Self { meter, ..Self::default() }
    }

    /// The key was used.
    pub(super) fn note(&self, now: Timestamp) {
        // Most requests find it noted already, and then do not write to what all threads read.
        if self.last.load(Relaxed) / 1_000_000 < now.0 / 1_000_000 {
            self.last.fetch_max(now.0, Relaxed);
        }
    }

    /// When it was last used.
    pub(super) fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.last.load(Relaxed))).filter(|last| last.0 > 0)
    }

    /// Takes in what a document says.
    pub(super) fn hear(&self, document: &Document, now: Timestamp) {
        if self.heard.load(Relaxed) == document.version {
            return;
        }
        let told: Told = serde_json::from_str(&document.body).unwrap_or_default();
        self.last.fetch_max(told.last_used_us, Relaxed);
        self.last_told.fetch_max(told.last_used_us, Relaxed);
        if let Some(meter) = &self.meter {
            // Looking first brings it to today.
            let (day, _) = meter.untold(now);
            if day != told.day {
                // It may be today by the clock of another process already, and here a moment later.
                return;
            }
            meter.hear(day, told.totals, Totals::default());
        }
        self.heard.store(document.version, Relaxed);
    }

    /// Whether something counts against a quota and is not told.
    pub(super) fn has_untold_amounts(&self, now: Timestamp) -> bool {
        let meter = self.meter.as_ref().filter(|meter| meter.has_quota());
        meter.is_some_and(|meter| meter.untold(now).1 != Totals::default())
    }

    /// Whether a use is not told.
    pub(super) fn has_untold_use(&self) -> bool {
        self.last.load(Relaxed) > self.last_told.load(Relaxed)
    }

    /// Adds what is not told to the document. Another process may be quicker; then the next time does it.
    pub(super) async fn tell(
        &self,
        store: &dyn Store,
        id: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let found = store.document(place(id)).await?;
        let mut told: Told = match &found {
            Some(document) => serde_json::from_str(&document.body).unwrap_or_default(),
            None => Told::default(),
        };
        let mine = self.meter.as_ref().map(|meter| meter.untold(now));
        if let Some((day, amounts)) = mine {
            if told.day != day {
                told = Told { day, totals: Totals::default(), ..told };
            }
            told.totals = told.totals.plus(amounts);
        }
        let last = self.last.load(Relaxed);
        told.last_used_us = told.last_used_us.max(last);
        // Its keys are strings, so it has a text.
        let body = serde_json::to_string(&told).unwrap_or_default();
        store.put_document(place(id), found.map(|document| document.version), body).await?;
        self.last_told.fetch_max(told.last_used_us, Relaxed);
        if let (Some(meter), Some((day, amounts))) = (&self.meter, mine) {
            meter.hear(day, told.totals, amounts);
        }
        Ok(())
    }
}
