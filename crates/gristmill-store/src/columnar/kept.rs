//! A cache under a budget of bytes, for what questions read.
//!
//! A question reads all that it needs, mostly in the same order each time. If that is more than the
//! budget, a cache that always makes room for the newest has forgotten everything by the time it is
//! wanted again. So what one of the last questions used keeps its place, and what finds no room is
//! not kept; the rest gives way, that first which has not been used for longest. What is of a lower
//! rank gives way to what is of a higher one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, GuardResult};

/// What one of so many last questions used keeps its place, more of them if its rank is high: a question
/// uses much that is low and little that is high.
const LAST_QUESTIONS: [u64; 2] = [32, 512];
/// Room is made for at least the budget divided by this at a time, because all entries are looked at
/// for it.
const BUDGET_BY_ROOM: u64 = 32;
/// The number of entries has no limit of its own: each counts for bytes of the budget.
const ANY_NUMBER: u64 = 1 << 40;

/// The bytes of an entry for which there is no room, and which goes at once.
const NOT_KEPT: u64 = 0;

/// What gives way to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// To all of a higher rank, whenever it was used.
    Low,
    /// To nothing but what is newer by many questions.
    High,
}

/// Values under a budget.
pub(super) struct Kept<K, V> {
    entries: Cache<K, Arc<Entry<V>>>,
    budget: u64,
    bytes: AtomicU64,
    /// The number of the latest question.
    question: AtomicU64,
    /// For each rank the question at which nothing could give way, if any.
    nothing_to_evict: Mutex<[Option<u64>; 2]>,
}

struct Entry<V> {
    value: V,
    rank: Rank,
    bytes: u64,
    /// The latest question that used it.
    last_question: AtomicU64,
}

impl<K: Eq + Hash + Clone, V: Clone> Kept<K, V> {
    /// An empty cache for so many bytes, which are about so many entries.
    pub(super) fn new(bytes: usize, entries: usize) -> Self {
        Self {
            entries: Cache::with_weighter(entries.max(1), ANY_NUMBER, UnitWeighter),
            budget: bytes as u64,
            bytes: AtomicU64::new(0),
            question: AtomicU64::new(0),
            nothing_to_evict: Mutex::default(),
        }
    }

    /// The budget.
    pub(super) fn bytes(&self) -> usize {
        self.budget as usize
    }

    /// Begins another question.
    pub(super) fn begin_question(&self) {
        self.question.fetch_add(1, Relaxed);
    }

    /// A value, if it is there.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|entry| self.touch(&entry))
    }

    /// A value and whether it was there. Otherwise it is read, by one caller for all that want it
    /// meanwhile, and kept if there is room for the `bytes` that it takes.
    pub(super) fn get_or_read<E>(
        &self,
        (key, rank): (&K, Rank),
        read: impl FnOnce() -> Result<V, E>,
        bytes: impl FnOnce(&V) -> usize,
    ) -> Result<(V, bool), E> {
        let guard = match self.entries.get_value_or_guard(key, None) {
            GuardResult::Value(entry) => return Ok((self.touch(&entry), true)),
            GuardResult::Guard(guard) => guard,
            // Nobody waits for a limited time.
            GuardResult::Timeout => return Ok((read()?, false)),
        };
        let value = read()?;
        let bytes = bytes(&value) as u64;
        let bytes = if self.take_room(bytes, rank) { bytes } else { NOT_KEPT };
        let last_question = AtomicU64::new(self.question.load(Relaxed));
        let entry = Entry { value: value.clone(), rank, bytes, last_question };
        // Also what is not kept is handed to those who wait.
        let is_in = guard.insert(Arc::new(entry)).is_ok();
        if bytes == NOT_KEPT {
            self.entries.remove_if(key, |entry| entry.bytes == NOT_KEPT);
        } else if !is_in {
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        Ok((value, false))
    }

    /// Forgets what nobody will ask for again.
    pub(super) fn forget(&self, is_obsolete: impl Fn(&K) -> bool) {
        self.entries.retain(|key, entry| {
            let stays = !is_obsolete(key);
            self.leave(entry, stays)
        });
    }

    fn touch(&self, entry: &Entry<V>) -> V {
        entry.last_question.store(self.question.load(Relaxed), Relaxed);
        entry.value.clone()
    }

    /// Gives back the room of an entry that does not stay, and says whether it stays.
    fn leave(&self, entry: &Entry<V>, stays: bool) -> bool {
        if !stays {
            self.bytes.fetch_sub(entry.bytes, Relaxed);
        }
        stays
    }

    fn take_room(&self, bytes: u64, rank: Rank) -> bool {
        let take = || {
            let more = |taken: u64| Some(taken + bytes).filter(|taken| *taken <= self.budget);
            self.bytes.fetch_update(Relaxed, Relaxed, more).is_ok()
        };
        if bytes > self.budget {
            return false;
        }
        while !take() {
            // What was made room for may be taken by somebody else meanwhile.
            if !self.evict(bytes, rank) {
                return false;
            }
        }
        true
    }

    /// Makes room for some bytes of a rank if it can, and says whether it made any.
    fn evict(&self, bytes: u64, rank: Rank) -> bool {
        let held = match rank {
            // While somebody else makes room there is none to wait for.
            Rank::Low => self.nothing_to_evict.try_lock().ok(),
            // What is not kept now is not tried again soon.
            Rank::High => self.nothing_to_evict.lock().ok(),
        };
        let Some(mut nothing_to_evict) = held else { return false };
        let question = self.question.load(Relaxed);
        if nothing_to_evict[rank as usize] == Some(question) {
            return false;
        }
        let may_go = |entry: &Entry<V>, last_question: u64| {
            let keeps_for = LAST_QUESTIONS[entry.rank as usize];
            entry.rank < rank || last_question + keeps_for <= question
        };
        let missing = bytes.saturating_sub(self.budget - self.bytes.load(Relaxed));
        if missing == 0 {
            return true;
        }
        let unused: RefCell<BTreeMap<u64, u64>> = RefCell::default();
        self.entries.retain(|_, entry| {
            let last_question = entry.last_question.load(Relaxed);
            if may_go(entry, last_question) {
                *unused.borrow_mut().entry(last_question).or_default() += entry.bytes;
            }
            true
        });
        let enough = bytes.max(self.budget / BUDGET_BY_ROOM);
        let mut older = 0;
        let mut newest = None;
        for (last_question, bytes) in unused.into_inner() {
            if older >= enough {
                break;
            }
            newest = Some((last_question, enough - older));
            older += bytes;
        }
        let Some((newest, from_newest)) = newest else {
            nothing_to_evict[rank as usize] = Some(question);
            return false;
        };
        if older < missing {
            return false;
        }
        // Of what the newest of these questions used only as much goes as is needed.
        let needed = Cell::new(from_newest);
        self.entries.retain(|_, entry| {
            let last_question = entry.last_question.load(Relaxed);
            let stays = !may_go(entry, last_question)
                || last_question > newest
                || (last_question == newest && needed.get() == 0);
            if last_question == newest && may_go(entry, last_question) {
                needed.set(needed.get().saturating_sub(entry.bytes));
            }
            self.leave(entry, stays)
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
            let key = (number, Rank::Low);
            let (value, is_there) = cache.get_or_read(key, read, |_| BYTES).unwrap();
            assert_eq!(value, *number * 2);
            is_there
        };
        numbers.filter(is_there).count()
    }

    fn check_bytes(cache: &Kept<u32, u32>) {
        let bytes = cache.bytes.load(Relaxed);
        assert!(bytes <= cache.budget);
        assert_eq!(bytes as usize, cache.entries.len() * BYTES);
    }

    #[test]
    fn what_does_not_fit_leaves_the_rest_in_its_place() {
        let cache = Kept::new(100 * BYTES, 100);
        assert_eq!(ask(&cache, 0..150), 0);
        for _ in 0..3 * LAST_QUESTIONS[0] {
            assert_eq!(ask(&cache, 0..150), 100);
            check_bytes(&cache);
        }
    }

    #[test]
    fn what_is_not_used_any_more_gives_way() {
        let cache = Kept::new(100 * BYTES, 100);
        ask(&cache, 0..50);
        ask(&cache, 50..100);
        for _ in 0..LAST_QUESTIONS[0] {
            ask(&cache, 50..140);
        }
        assert_eq!(ask(&cache, 50..140), 90, "those of 0..50 gave way");
        assert_eq!(ask(&cache, 50..140), 90);
        check_bytes(&cache);
    }

    #[test]
    fn no_more_gives_way_than_is_needed() {
        let cache = Kept::new(100 * BYTES, 100);
        ask(&cache, 0..100);
        for _ in 0..LAST_QUESTIONS[0] {
            ask(&cache, 0..0);
        }
        assert_eq!(ask(&cache, 100..101), 0);
        assert_eq!(ask(&cache, 100..101), 1);
        assert!(cache.entries.len() > 95, "{}", cache.entries.len());
        check_bytes(&cache);
    }

    #[test]
    fn what_is_obsolete_makes_room_at_once() {
        let cache = Kept::new(100 * BYTES, 100);
        ask(&cache, 0..100);
        cache.forget(|number| *number < 60);
        check_bytes(&cache);
        assert_eq!(ask(&cache, 100..160), 0);
        assert_eq!(ask(&cache, 60..160), 100);
    }

    #[test]
    fn what_is_larger_than_the_budget_is_not_kept() {
        let cache = Kept::new(BYTES - 1, 100);
        assert_eq!(ask(&cache, 0..2), 0);
        assert_eq!(ask(&cache, 0..2), 0);
        assert_eq!(cache.get(&0), None);
        check_bytes(&cache);
    }

    #[test]
    fn what_is_of_a_lower_rank_gives_way_whenever_it_was_used() {
        let cache = Kept::new(100 * BYTES, 100);
        ask(&cache, 0..100);
        let high = |number: u32| {
            let read = || Ok::<_, ()>(number);
            cache.get_or_read((&number, Rank::High), read, |_| BYTES).unwrap().1
        };
        assert!(!(200..260).any(high));
        assert!((200..260).all(high), "they have pushed others out");
        check_bytes(&cache);
        assert_eq!(ask(&cache, 300..350), 0);
        assert!((200..260).all(high), "none of them gives way to a lower rank");
        assert!(!(400..500).any(high));
        assert!((200..260).all(high), "nor to its own so soon");
        check_bytes(&cache);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = Kept::new(100 * BYTES, 100);
        let read = |result: Result<u32, &'static str>| {
            cache.get_or_read((&1, Rank::Low), || result, |_| BYTES)
        };
        assert_eq!(read(Err("broken")), Err("broken"));
        assert_eq!(read(Ok(2)), Ok((2, false)));
        assert_eq!(read(Err("not asked")), Ok((2, true)));
    }

    #[test]
    fn bytes_are_counted_whoever_asks_at_once() {
        let cache = Kept::new(100 * BYTES, 100);
        std::thread::scope(|scope| {
            for start in 0..4_u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for question in 0..200 {
                        let first = (start * 31 + question * 7) % 150;
                        ask(cache, first..first + 60);
                        let key = (&(first + 1000), Rank::High);
                        let fail = cache.get_or_read(key, || Err(()), |_| BYTES);
                        assert_eq!(fail, Err(()));
                        if question % 50 == 0 {
                            cache.forget(|number| number % 3 == 0);
                        }
                    }
                });
            }
        });
        check_bytes(&cache);
    }
}
