//! Any bytes as an answer that a cache has kept.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use gristmill_fuzz::Platform;
use gristmill_store::MemoryStore;
use gristmill_store::cache::{Cache, CacheStats, Entry};
use http::Request;
use libfuzzer_sys::fuzz_target;

const TARGETS: [&str; 3] = [
    "/v1/analytics/summary",
    "/v1/analytics/top?property=plan",
    "/analytics/events?user_id=u1&page_url=a",
];

/// A cache that gives what was put with another end.
#[derive(Default)]
struct Lying {
    put: Mutex<Option<Entry>>,
    end: Mutex<Vec<u8>>,
}

#[async_trait]
impl Cache for Lying {
    async fn get(&self, _: &str) -> Option<Entry> {
        let Entry { version, value } = self.put.lock().expect("no panic").clone()?;
        let end = self.end.lock().expect("no panic").clone();
        // A count is a number; before any other answer stands its question, after the length of that.
        let kept = value.first_chunk::<8>().map_or(0, |length| {
            usize::try_from(u64::from_be_bytes(*length))
                .map_or(0, |length| length.saturating_add(8))
        });
        let start = value.get(..kept).unwrap_or_default();
        Some(Entry { version, value: Bytes::from([start, &end].concat()) })
    }

    async fn put(&self, _: &str, entry: Entry) {
        *self.put.lock().expect("no panic") = Some(entry);
    }

    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

thread_local! {
    static PLATFORM: RefCell<(Platform, Arc<Lying>)> = RefCell::new(platform());
}

fn platform() -> (Platform, Arc<Lying>) {
    let cache = Arc::new(Lying::default());
    (Platform::over(Arc::new(MemoryStore::new(2)), Some(cache.clone())), cache)
}

fuzz_target!(|input: &[u8]| {
    let Some((which, end)) = input.split_first() else { return };
    let target = TARGETS[usize::from(*which) % TARGETS.len()];
    PLATFORM.with_borrow_mut(|(platform, cache)| {
        *cache.put.lock().expect("no panic") = None;
        *cache.end.lock().expect("no panic") = end.to_vec();
        // The first is worked out and kept, the second is answered with what was kept.
        for _ in 0..2 {
            let request = Request::get(target).header("host", "a").body(Body::empty());
            platform.answer(request.expect("a request"));
        }
    });
});
