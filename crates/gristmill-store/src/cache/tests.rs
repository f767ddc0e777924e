//! Both caches against the contract, and what becomes of one whose Redis is in trouble.

use std::time::Duration;

use gristmill_model::Partition;
use gristmill_testkit::{TestRedis, shared_redis};
use tokio::time::Instant;

use super::*;
use crate::Feed;

const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(400);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(150);

fn redis_at(url: &str) -> RedisCache {
    let address = RedisAddress::parse(url).unwrap();
    let keep = Duration::from_secs(60);
    // The contract's largest values take a busy machine more than a moment.
    let patience = Duration::from_secs(5);
    RedisCache::new(RedisConfig { address, keep, patience, pause: PAUSE }).unwrap()
}

fn hasty(server: &TestRedis) -> RedisCache {
    let address = RedisAddress::parse(&format!("redis://{}", server.address())).unwrap();
    let keep = Duration::from_secs(60);
    RedisCache::new(RedisConfig { address, keep, patience: PATIENCE, pause: PAUSE }).unwrap()
}

fn entry(records: u64) -> Entry {
    let version = Version::new(7, [(Feed { log: 1, partition: Partition(0) }, records)]);
    Entry { version, value: records.to_string().into() }
}

/// Asks again and again until the cache is used again, which may take a pause.
async fn wait_until_used(cache: &RedisCache) {
    let used = async {
        while cache.stats().is_shunned || cache.get("wait").await.is_none() {
            cache.put("wait", entry(1)).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), used).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    conformance::check(&MemoryCache::new(16 << 20, Duration::from_secs(60))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    conformance::check(&redis_at(&shared_redis().unwrap())).await;
}

#[tokio::test]
async fn memory_is_bounded_and_nothing_is_kept_for_ever() {
    let cache = MemoryCache::new(100_000, Duration::from_millis(50));
    for number in 0..1_000 {
        cache.put(&format!("{number}"), Entry { value: vec![0; 1_000].into(), ..entry(1) }).await;
    }
    cache.flush().await;
    let bytes = cache.stats().bytes;
    assert!(bytes > 10_000 && bytes <= 100_000, "{bytes}");
    cache.put("late", entry(1)).await;
    let expired = async {
        while cache.get("late").await.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), expired).await.unwrap();
    assert_eq!(cache.get("late").await, None);
}

#[tokio::test]
async fn others_read_the_plain_value_and_what_they_write_is_no_entry() {
    let server = TestRedis::start().unwrap();
    let cache = hasty(&server);
    cache.put("ada__+__/a", entry(41)).await;
    assert_eq!(server.run(&["GET", "ada__+__/a"]).unwrap().trim(), "41");
    let lives: i64 = server.run(&["PTTL", "ada__+__/a"]).unwrap().trim().parse().unwrap();
    assert!((1..=60_000).contains(&lives), "{lives}");
    let companion = "gristmill:version:ada__+__/a";
    for foreign in [
        &["SET", "ada__+__/a", "40"][..],
        &["DEL", "ada__+__/a"],
        &["DEL", companion],
        &["SET", companion, "41"],
        &["SET", companion, "x:y:z 1"],
        &[
            "EVAL",
            "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 1)",
            "1",
            companion,
        ],
        &[
            "EVAL",
            "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 1)",
            "1",
            "ada__+__/a",
        ],
    ] {
        server.run(foreign).unwrap();
        assert_eq!(cache.get("ada__+__/a").await, None, "{foreign:?}");
        cache.put("ada__+__/a", entry(41)).await;
        assert_eq!(cache.get("ada__+__/a").await, Some(entry(41)), "{foreign:?}");
    }
    assert_eq!(cache.stats(), CacheStats::default());
}

#[tokio::test]
async fn a_frozen_redis_costs_a_moment_once_and_is_used_again() {
    let server = TestRedis::start().unwrap();
    let cache = hasty(&server);
    cache.put("key", entry(5)).await;
    assert_eq!(cache.get("key").await, Some(entry(5)));
    server.freeze().unwrap();
    let since = Instant::now();
    assert_eq!(cache.get("key").await, None);
    assert!((PATIENCE..PATIENCE + SLACK).contains(&since.elapsed()), "{:?}", since.elapsed());
    assert!(cache.stats().is_shunned);
    let since = Instant::now();
    for _ in 0..100 {
        cache.put("key", entry(9)).await;
        assert_eq!(cache.get("key").await, None);
    }
    assert!(since.elapsed() < PATIENCE / 2, "{:?}", since.elapsed());
    assert_eq!(cache.stats().errors, 1);

    // After the pause one of many tries again, and the others do without.
    tokio::time::sleep_until(since + PAUSE).await;
    let since = Instant::now();
    let all = (0..100).map(|_| cache.get("key"));
    assert!(futures_util::future::join_all(all).await.iter().all(Option::is_none));
    assert!(since.elapsed() < PATIENCE + SLACK, "{:?}", since.elapsed());
    assert_eq!(cache.stats().errors, 2);

    server.thaw().unwrap();
    wait_until_used(&cache).await;
    assert_eq!(cache.get("key").await, Some(entry(5)));
}

#[tokio::test]
async fn what_comes_late_does_not_take_the_place_of_what_is_newer() {
    let server = TestRedis::start().unwrap();
    let (slow, other) = (hasty(&server), hasty(&server));
    slow.put("key", entry(1)).await;
    other.put("key", entry(6)).await;
    server.freeze().unwrap();
    // It is sent, and carried out when the server goes on.
    slow.put("key", entry(5)).await;
    assert_eq!(slow.stats().errors, 1);
    server.thaw().unwrap();
    let eval = || {
        server.run(&["INFO", "commandstats"]).unwrap().matches("cmdstat_evalsha:calls=4").count()
    };
    let carried_out = || (eval() == 1).then_some(());
    // The first of them found no script.
    gristmill_testkit::wait_until("the late script", Duration::from_secs(5), carried_out).unwrap();
    assert_eq!(other.get("key").await, Some(entry(6)));
}

#[tokio::test]
async fn a_redis_that_was_never_there_goes_or_refuses_is_done_without() {
    let mut server = TestRedis::absent().unwrap();
    let cache = hasty(&server);
    assert!(!cache.stats().is_shunned);
    cache.put("key", entry(5)).await;
    assert_eq!(cache.get("key").await, None);
    assert!(cache.stats().is_shunned);
    server.restart().unwrap();
    wait_until_used(&cache).await;

    cache.put("key", entry(5)).await;
    server.kill().unwrap();
    assert_eq!(cache.get("key").await, None);
    server.restart().unwrap();
    wait_until_used(&cache).await;
    assert_eq!(cache.get("key").await, None, "it had no dump");

    for (trouble, cure) in [
        (&["CONFIG", "SET", "maxmemory", "1"][..], &["CONFIG", "SET", "maxmemory", "0"][..]),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (&["CONFIG", "SET", "requirepass", "x"], &["-a", "x", "CONFIG", "SET", "requirepass", ""]),
    ] {
        cache.put("held", entry(5)).await;
        server.run(trouble).unwrap();
        // Connections that are there stay let in.
        server.run(&["-a", "x", "CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        let errors = cache.stats().errors;
        cache.put("key", entry(7)).await;
        cache.put("key", entry(7)).await;
        assert!(cache.stats().errors > errors && cache.stats().is_shunned, "{trouble:?}");
        server.run(cure).unwrap();
        wait_until_used(&cache).await;
        assert_eq!(cache.get("held").await, Some(entry(5)), "{trouble:?}");
    }
}

#[test]
fn addresses_are_shown_without_the_password() {
    for (text, shown) in [
        ("redis://h", "redis://h:6379"),
        ("redis://:secret@h:7/2", "redis://:***@h:7/2"),
        ("redis://ada:secret@h", "redis://ada:***@h:6379"),
    ] {
        let address = RedisAddress::parse(text).unwrap();
        assert_eq!(address.to_string(), shown);
        assert_eq!(format!("{address:?}"), shown);
    }
    for wrong in ["", "h:1", "http://h", "redis://h:port", "rediss://:secret@h"] {
        let error = RedisAddress::parse(wrong).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
    let parse = |text| RedisAddress::parse(text).unwrap();
    assert_ne!(parse("redis://:a@h"), parse("redis://:b@h"));
}
