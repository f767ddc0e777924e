//! Answers that are kept in a cache and given again for as long as they hold.
//!
//! Whether one holds is never asked of the cache. Each question looks at the store's present
//! version first, and takes what the cache has if that is about this version, or about an earlier
//! one since which nothing has happened that the question is about. What is worked out says by
//! itself which version it is about, for it comes from the same snapshot. See docs/adr/0012.
//!
//! Equal questions at the same present are worked out once. Who joins has looked at the store
//! before that work took its snapshot, or at the same version, so the answer is not older than the
//! question.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gristmill_store::cache::{Cache, CacheStats, Entry};
use gristmill_store::{Present, Version};
use tokio::sync::OnceCell;

/// What is asked, as far as keeping its answer is concerned.
pub(crate) struct Question<'a, H> {
    /// The state of the store, looked up since the question was asked.
    pub(crate) present: &'a Present,
    /// Where the answer is kept.
    pub(crate) key: &'a str,
    /// What tells it from all other questions, also from those with the same key.
    pub(crate) identity: &'a [u8],
    /// Whether what is kept answers it at the present.
    pub(crate) holds: H,
}

/// How an answer was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was kept.
    Kept,
    /// It was worked out, for this question or for an equal one at the same time.
    WorkedOut,
}

/// How often answers were kept, and how the cache fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerStats {
    /// Questions whose answers were kept.
    pub hits: u64,
    /// Questions whose answers were not.
    pub misses: u64,
    /// The cache itself.
    pub cache: CacheStats,
}

/// The cache and what is being worked out for it.
pub(crate) struct Answers {
    cache: Arc<dyn Cache>,
    flights: Mutex<HashMap<FlightKey, Weak<Flight>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

type FlightKey = (Vec<u8>, Version);

/// An answer that is being worked out; `None` in the end if it may not be kept, or there is none.
type Flight = OnceCell<Option<Entry>>;

/// One of those who wait for a flight. The last one leaves no trace of it.
struct Aboard<'a> {
    answers: &'a Answers,
    key: FlightKey,
    flight: Arc<Flight>,
}

impl Answers {
    pub(crate) fn new(cache: Arc<dyn Cache>) -> Self {
        let (flights, hits, misses) = Default::default();
        Self { cache, flights, hits, misses }
    }

    pub(crate) fn stats(&self) -> AnswerStats {
        let (hits, misses) = (self.hits.load(Relaxed), self.misses.load(Relaxed));
        AnswerStats { hits, misses, cache: self.cache.stats() }
    }

    /// Answers a question. `work` gives an entry that may be kept, or as an error what may not.
    pub(crate) async fn answer<E, W>(
        &self,
        question: Question<'_, impl Fn(&Entry) -> bool>,
        work: impl Fn() -> W,
    ) -> Result<(Entry, Source), E>
    where
        W: Future<Output = Result<Entry, E>>,
    {
        let Question { present, key, identity, holds } = question;
        if let Some(entry) = self.cache.get(key).await.filter(holds) {
            self.hits.fetch_add(1, Relaxed);
            return Ok((entry, Source::Kept));
        }
        self.misses.fetch_add(1, Relaxed);
        let aboard = self.board((identity.to_owned(), present.version().clone()));
        let mut own = None;
        let lead = async {
            let result = work().await;
            let shared = result.as_ref().ok().cloned();
            own = Some(result);
            shared
        };
        let shared = aboard.flight.get_or_init(|| lead).await.clone();
        let entry = match (own, shared) {
            (Some(own), _) => own?,
            // Another has worked it out, and keeps it.
            (None, Some(shared)) => return Ok((shared, Source::WorkedOut)),
            // Another has found nothing that may be shared.
            (None, None) => work().await?,
        };
        self.cache.put(key, entry.clone()).await;
        Ok((entry, Source::WorkedOut))
    }

    fn board(&self, key: FlightKey) -> Aboard<'_> {
        let mut flights = self.flights();
        let flight = flights.get(&key).and_then(Weak::upgrade).unwrap_or_default();
        flights.insert(key.clone(), Arc::downgrade(&flight));
        Aboard { answers: self, key, flight }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<FlightKey, Weak<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Aboard<'_> {
    fn drop(&mut self) {
        let mut flights = self.answers.flights();
        if Arc::strong_count(&self.flight) == 1 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
