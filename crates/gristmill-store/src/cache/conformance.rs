//! What every adapter of [`Cache`] is held to.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use bytes::Bytes;
use gristmill_model::{Partition, limits};

use super::{Cache, Entry};
use crate::{Feed, Version};

/// Checks the whole contract on a cache that holds nothing, does not forget meanwhile, and is not
/// used by others. Panics where it is broken.
pub async fn check(cache: &impl Cache) {
    an_entry_is_given_as_it_was_put(cache).await;
    the_later_version_stays(cache).await;
    another_lineage_takes_the_place(cache).await;
    what_is_too_large_is_not_kept(cache).await;
    of_many_writers_at_once_the_latest_wins(cache).await;
    assert_eq!(cache.stats().errors, 0);
}

/// A version with so many records.
fn version(lineage: u64, records: u64) -> Version {
    Version::new(lineage, [(Feed { log: 1, partition: Partition(0) }, records)])
}

fn entry(version: Version, value: impl Into<Bytes>) -> Entry {
    Entry { version, value: value.into() }
}

async fn an_entry_is_given_as_it_was_put(cache: &impl Cache) {
    assert_eq!(cache.get("given").await, None);
    let bytes: Vec<u8> = (0..=255).collect();
    let feeds = (1..9).map(|log| (Feed { log, partition: Partition(log) }, u64::MAX / 16));
    for (key, entry) in [
        ("given", entry(version(1, 5), "7")),
        ("ünï code\n", entry(Version::new(u64::MAX, feeds), bytes)),
        ("empty", entry(version(0, 0), "")),
    ] {
        cache.put(key, entry.clone()).await;
        assert_eq!(cache.get(key).await, Some(entry));
    }
    assert_eq!(cache.get("give").await, None);
}

async fn the_later_version_stays(cache: &impl Cache) {
    for (records, expected) in [(5, 5), (4, 5), (6, 6), (0, 6), (1 << 40, 1 << 40), (7, 1 << 40)] {
        cache.put("stays", entry(version(1, records), records.to_string())).await;
        let held = cache.get("stays").await.unwrap();
        assert_eq!(held, entry(version(1, expected), expected.to_string()), "after {records}");
    }
}

async fn another_lineage_takes_the_place(cache: &impl Cache) {
    for new in [entry(version(1, 9), "old"), entry(version(2, 3), "new")] {
        cache.put("lineage", new.clone()).await;
        assert_eq!(cache.get("lineage").await, Some(new));
    }
}

async fn what_is_too_large_is_not_kept(cache: &impl Cache) {
    let longest_key = "k".repeat(limits::CACHE_KEY_BYTES);
    let longest_value = vec![b'v'; limits::CACHE_VALUE_BYTES];
    let largest = entry(version(1, 1), longest_value.clone());
    cache.put(&longest_key, largest.clone()).await;
    assert_eq!(cache.get(&longest_key).await, Some(largest));

    let longer_key = longest_key + "k";
    cache.put(&longer_key, entry(version(1, 1), "")).await;
    assert_eq!(cache.get(&longer_key).await, None);
    let longer_value = [longest_value, vec![b'v']].concat();
    cache.put("large", entry(version(1, 1), longer_value)).await;
    assert_eq!(cache.get("large").await, None);
    let many = (0..1_000).map(|log| (Feed { log, partition: Partition(0) }, 1));
    cache.put("versions", entry(Version::new(1, many), "")).await;
    assert_eq!(cache.get("versions").await, None);
}

async fn of_many_writers_at_once_the_latest_wins(cache: &impl Cache) {
    for round in 0..20_u64 {
        // In an order that differs from round to round.
        let order = (0..16).map(|writer| (writer * 7 + round * 5) % 16);
        let writers = order.map(|records| {
            let value = format!("{round}:{records}");
            cache.put("race", entry(version(round, records), value))
        });
        futures_util::future::join_all(writers).await;
        let held = cache.get("race").await.unwrap();
        assert_eq!(held, entry(version(round, 15), format!("{round}:15")));
    }
}
