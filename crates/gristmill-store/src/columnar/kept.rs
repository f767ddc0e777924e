//! A cache under a budget of bytes, for what questions read.
//!
//! A question reads all that it needs, mostly in the same order each time. If that is more than the
//! budget, a cache that always makes room for the newest has forgotten everything by the time it is
//! wanted again. So what one of the last questions used keeps its place, and what finds no room is
//! not kept; the rest gives way, that first which has not been used for longest.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, GuardResult};

/// What one of so many last questions used keeps its place.
const LAST_QUESTIONS: u64 = 16;
/// Room is made for at least this share of the budget at a time, because all entries are looked at
/// for it.
const SHARE: u64 = 32;
/// The number of entries has no limit of its own: each counts for bytes of the budget.
const ANY_NUMBER: u64 = 1 << 40;

/// Values under a budget.
pub(super) struct Kept<K, V> {
    entries: Cache<K, Arc<Entry<V>>>,
    budget: u64,
    used: AtomicU64,
    /// The number of the latest question.
    question: AtomicU64,
    /// The question at which nothing could give way, if any.
    nothing_to_evict: Mutex<Option<u64>>,
}

struct Entry<V> {
    value: V,
    bytes: u64,
    /// The latest question that used it.
    used_by: AtomicU64,
}

impl<K: Eq + Hash + Clone, V: Clone> Kept<K, V> {
    /// An empty cache for so many bytes; it is told about how many entries that may be.
    pub(super) fn new(bytes: usize, entries: usize) -> Self {
        Self {
            entries: Cache::with_weighter(entries.max(1), ANY_NUMBER, UnitWeighter),
            budget: bytes as u64,
            used: AtomicU64::new(0),
            question: AtomicU64::new(0),
            nothing_to_evict: Mutex::new(None),
        }
    }

    /// Begins another question.
    pub(super) fn begin_question(&self) {
        self.question.fetch_add(1, Relaxed);
    }

    /// A value, if it is there.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|entry| self.used(&entry))
    }

    /// A value and whether it was there. Otherwise it is read, by one caller while the others that
    /// want it wait, and kept if there is room for the `bytes` that it takes.
    pub(super) fn get_or_read<E>(
        &self,
        key: &K,
        read: impl FnOnce() -> Result<V, E>,
        bytes: impl FnOnce(&V) -> usize,
    ) -> Result<(V, bool), E> {
        let guard = match self.entries.get_value_or_guard(key, None) {
            GuardResult::Value(entry) => return Ok((self.used(&entry), true)),
            GuardResult::Guard(guard) => Some(guard),
            // Nobody waits for a limited time.
            GuardResult::Timeout => None,
        };
        let value = read()?;
        let bytes = bytes(&value) as u64;
        if let Some(guard) = guard
            && self.take_room(bytes)
        {
            let used_by = AtomicU64::new(self.question.load(Relaxed));
            let entry = Entry { value: value.clone(), bytes, used_by };
            if guard.insert(Arc::new(entry)).is_err() {
                self.used.fetch_sub(bytes, Relaxed);
            }
        }
        Ok((value, false))
    }

    fn used(&self, entry: &Entry<V>) -> V {
        entry.used_by.store(self.question.load(Relaxed), Relaxed);
        entry.value.clone()
    }

    fn take_room(&self, bytes: u64) -> bool {
        let take = || {
            let more = |used: u64| Some(used + bytes).filter(|used| *used <= self.budget);
            self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
        };
        take() || (bytes <= self.budget && self.evict(bytes) && take())
    }

    /// Makes room for some bytes if it can, and says whether it made any.
    fn evict(&self, bytes: u64) -> bool {
        // While somebody else makes room there is none to wait for.
        let Ok(mut nothing_to_evict) = self.nothing_to_evict.try_lock() else { return false };
        let question = self.question.load(Relaxed);
        if *nothing_to_evict == Some(question) {
            return false;
        }
        let mut unused: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, entry) in self.entries.iter() {
            let used_by = entry.used_by.load(Relaxed);
            if used_by + LAST_QUESTIONS <= question {
                *unused.entry(used_by).or_default() += entry.bytes;
            }
        }
        let mut room = 0;
        let enough = bytes.max(self.budget / SHARE);
        let is_needed = |(_, bytes): &(u64, u64)| {
            let is_needed = room < enough;
            room += bytes;
            is_needed
        };
        let Some((newest, _)) = unused.into_iter().take_while(is_needed).last() else {
            *nothing_to_evict = Some(question);
            return false;
        };
        self.entries.retain(|_, entry| {
            let stays = entry.used_by.load(Relaxed) > newest;
            if !stays {
                self.used.fetch_sub(entry.bytes, Relaxed);
            }
            stays
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 10;

    /// Asks for numbers, each of which takes [`BYTES`], and gives how many were there.
    fn ask(cache: &Kept<u32, u32>, numbers: impl Iterator<Item = u32>) -> usize {
        cache.begin_question();
        let is_there = |number: &u32| {
            let read = || Ok::<_, ()>(*number * 2);
            let (value, is_there) = cache.get_or_read(number, read, |_| BYTES).unwrap();
            assert_eq!(value, *number * 2);
            assert!(cache.used.load(Relaxed) <= cache.budget);
            is_there
        };
        numbers.filter(is_there).count()
    }

    #[test]
    fn what_does_not_fit_leaves_the_rest_in_its_place() {
        let cache = Kept::new(100 * BYTES, 100);
        assert_eq!(ask(&cache, 0..150), 0);
        for _ in 0..3 * LAST_QUESTIONS {
            assert_eq!(ask(&cache, 0..150), 100);
        }
    }

    #[test]
    fn what_is_not_used_any_more_gives_way() {
        let cache = Kept::new(100 * BYTES, 100);
        ask(&cache, 0..50);
        ask(&cache, 50..100);
        for _ in 0..LAST_QUESTIONS {
            ask(&cache, 50..140);
        }
        assert_eq!(ask(&cache, 50..140), 90, "those of 0..50 gave way");
        assert_eq!(ask(&cache, 50..140), 90);
        assert_eq!(cache.used.load(Relaxed) as usize, cache.entries.len() * BYTES);
    }

    #[test]
    fn what_is_larger_than_the_budget_is_not_kept() {
        let cache = Kept::new(BYTES - 1, 100);
        assert_eq!(ask(&cache, 0..2), 0);
        assert_eq!(ask(&cache, 0..2), 0);
        assert_eq!(cache.get(&0), None);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = Kept::new(100 * BYTES, 100);
        let read = |result: Result<u32, &'static str>| cache.get_or_read(&1, || result, |_| BYTES);
        assert_eq!(read(Err("broken")), Err("broken"));
        assert_eq!(read(Ok(2)), Ok((2, false)));
        assert_eq!(read(Err("not asked")), Ok((2, true)));
    }
}
