//! Kept answers over a real PostgreSQL and a real Redis: as quick as they like, and never old.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Request, SeededEntropy, Stopwatch, TestDatabase, TestRedis, TestServer, pause,
};
use serde_json::json;

use crate::postgres;
use crate::support::{metric, summary};

/// How long an answer may take although Redis does not answer, on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

fn server(database: &TestDatabase, redis: &TestRedis) -> anyhow::Result<TestServer> {
    postgres::server(database).setting("REDIS_ADDR", &redis.address()).start()
}

/// Posts events of users on a page, and waits until they can be queried.
fn post(server: &TestServer, first: u64, clicks: &[(&str, &str)]) -> anyhow::Result<()> {
    let event = |(id, (user, page)): (u64, &(&str, &str))| json!({"id": id.to_string(), "user_id": user, "event_type": "t", "page_url": page});
    let events: Vec<_> = (first..).zip(clicks).map(event).collect();
    let answer = server.post_json("/v1/events/batch?wait=visible", &json!({ "events": events }))?;
    anyhow::ensure!(answer["accepted"] == clicks.len(), "{answer}");
    Ok(())
}

/// How often a user clicked on a page, as the older system's gateway is asked.
fn count(server: &TestServer, user: &str, page: &str) -> anyhow::Result<u64> {
    let body = json!({"user_id": user, "page_url": page}).to_string();
    let answer = server.send(&Request::new("GET", "/analytics/events").body(body))?;
    anyhow::ensure!(answer.status == 200, "{}", answer.text());
    answer.json()?["count"].as_u64().context("no count")
}

/// What `Server-Timing` says of an answer.
fn timing(server: &TestServer, request: &Request) -> anyhow::Result<(String, String)> {
    let answer = server.send(request)?;
    anyhow::ensure!(answer.status == 200, "{}", answer.text());
    Ok((answer.header("server-timing").context("no Server-Timing")?.to_owned(), answer.text()))
}

#[test]
fn a_page_count_is_plain_in_redis_and_right_at_once() -> anyhow::Result<()> {
    let (database, redis) = (TestDatabase::create()?, TestRedis::start()?);
    let server = server(&database, &redis)?;
    assert_eq!(count(&server, "ada", "/a")?, 0, "an unknown page");
    let get = |key: &str| Ok::<_, anyhow::Error>(redis.run(&["GET", key])?.trim().to_owned());
    assert_eq!(get("ada__+__/a")?, "0");
    for number in 1..=20 {
        post(&server, number, &[("ada", "/a")])?;
        assert_eq!(count(&server, "ada", "/a")?, number);
        assert_eq!(get("ada__+__/a")?, number.to_string());
        assert_eq!(count(&server, "ada", "/a")?, number);
    }
    assert!(metric(&server, "gristmill_cache_hits_total")? >= 20);
    // Whatever others make of it.
    redis.run(&["SET", "ada__+__/a", "1000"])?;
    assert_eq!(count(&server, "ada", "/a")?, 20);
    assert_eq!(get("ada__+__/a")?, "20");
    // Names that could be those of two counts are not used.
    post(&server, 100, &[("a__+__b", "/"), ("gristmill:version:ada", "/")])?;
    for user in ["a__+__b", "gristmill:version:ada"] {
        assert_eq!(count(&server, user, "/")?, 1);
        assert_eq!(get(&format!("{user}__+__/"))?, "");
    }
    assert_eq!(metric(&server, "gristmill_cache_errors_total")?, 0);
    Ok(())
}

#[test]
fn answers_are_given_again_until_something_is_committed() -> anyhow::Result<()> {
    let (database, redis) = (TestDatabase::create()?, TestRedis::start()?);
    let server = server(&database, &redis)?;
    post(&server, 0, &[("a", "/"), ("b", "/")])?;
    let top = Request::get("/v1/analytics/top?property=user_id");
    let csv = Request::get("/v1/analytics/top?property=user_id").header("Accept", "text/csv");
    let funnel =
        json!({"steps": [{"name": "s", "event_type": "t"}, {"name": "s", "event_type": "t"}]});
    let funnel = Request::post_json("/v1/analytics/funnel", funnel.to_string());
    for request in [&top, &csv, &funnel] {
        let [first, second] = [timing(&server, request)?, timing(&server, request)?];
        assert!(first.0.contains("answer;desc=\"new\""), "{first:?}");
        assert!(second.0.contains("answer;desc=\"kept\""), "{second:?}");
        assert_eq!(first.1, second.1);
    }
    let other = self::server(&database, &redis)?;
    assert!(timing(&other, &top)?.0.contains("kept"), "another process keeps them too");
    let position = other.post_json(
        "/v1/events",
        &json!({"id": "2", "user_id": "c", "event_type": "t", "page_url": "/"}),
    )?;
    let position = position["position"].as_str().context("no position")?;
    let since = format!("/v1/analytics/top?property=user_id&at_least={position}");
    let (_, fresh) = timing(&other, &Request::get(&since))?;
    assert!(fresh.contains("\"c\""), "{fresh}");
    for server in [&server, &other] {
        let (_, text) = timing(server, &top)?;
        assert_eq!(text, fresh);
    }

    // What a cohort says may change without a commit, and so may what is true of a user today.
    let sent = json!({"id": "k", "definition": {"event_type": "t"}});
    let made = server.send(&Request::post_json("/v1/cohorts", sent.to_string()))?;
    anyhow::ensure!(made.status == 201, "{}", made.text());
    let filter = gristmill_testkit::http::encode(&json!({"cohort": "k"}).to_string());
    let members = Request::get(&format!("/v1/analytics/summary?where={filter}"));
    for request in [members, Request::get("/v1/analytics/users/a")] {
        for _ in 0..2 {
            let (timing, _) = timing(&server, &request)?;
            assert!(timing.contains("answer;desc=\"new\""), "{timing}");
        }
    }
    Ok(())
}

#[test]
fn few_pages_asked_again_and_again_are_found_although_events_come_in() -> anyhow::Result<()> {
    let (database, redis) = (TestDatabase::create()?, TestRedis::start()?);
    let server = server(&database, &redis)?;
    const USERS: [&str; 5] = ["u0", "u1", "u2", "u3", "u4"];
    let mut counts = [0; USERS.len()];
    for round in 0..20_u64 {
        let asked = round as usize % USERS.len();
        counts[asked] += 1;
        let others: Vec<String> = (0..30).map(|n| format!("v{}", round * 10 + n)).collect();
        let mut clicks: Vec<_> = others.iter().map(|user| (user.as_str(), "/")).collect();
        clicks.push((USERS[asked], "/"));
        post(&server, round * 100, &clicks)?;
        for _ in 0..20 {
            for (user, expected) in USERS.iter().zip(counts) {
                assert_eq!(count(&server, user, "/")?, expected);
            }
        }
    }
    let hits = metric(&server, "gristmill_cache_hits_total")?;
    let misses = metric(&server, "gristmill_cache_misses_total")?;
    // Each commit changes one of the five.
    assert_eq!(hits + misses, 20 * 20 * USERS.len() as u64);
    assert!(misses <= 20 + USERS.len() as u64, "{misses} misses, {hits} hits");
    Ok(())
}

/// One process takes events in and another is asked, or the other way round, while Redis is frozen,
/// emptied, filled with lies, and brought back to an old state.
#[test]
fn no_answer_is_old_whatever_becomes_of_redis() -> anyhow::Result<()> {
    let (database, mut redis) = (TestDatabase::create()?, TestRedis::start()?);
    let servers = [server(&database, &redis)?, server(&database, &redis)?];
    let (rounds, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let ask = || -> anyhow::Result<()> {
        let dice = SeededEntropy::new(7);
        while !is_over.load(Ordering::Relaxed) {
            let number = rounds.load(Ordering::Relaxed) + 1;
            let taking = &servers[dice.below(2) as usize];
            post(taking, number, &[("ada", "/a")])?;
            rounds.store(number, Ordering::Relaxed);
            for server in &servers {
                let took = Stopwatch::start();
                for _ in 0..2 {
                    assert_eq!(count(server, "ada", "/a")?, number);
                    assert_eq!(summary(server)?["total_events"], number);
                }
                assert!(took.elapsed() < ANSWERED_WITHIN, "{:?}", took.elapsed());
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let asking = scope.spawn(ask);
        let disturbed = (0..4).try_for_each(|_| disturb(&mut redis, &rounds, &asking));
        is_over.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| anyhow::anyhow!("an answer was wrong"))??;
        disturbed
    })?;
    let hits = |server| metric(server, "gristmill_cache_hits_total");
    assert!(hits(&servers[0])? + hits(&servers[1])? > 0, "nothing was ever kept");
    Ok(())
}

fn disturb(
    redis: &mut TestRedis,
    rounds: &AtomicU64,
    asking: &std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let go_on = || {
        let seen = rounds.load(Ordering::Relaxed);
        gristmill_testkit::wait_until("more rounds", Duration::from_secs(60), || {
            let has_ended = asking.is_finished();
            (has_ended || rounds.load(Ordering::Relaxed) >= seen + 3).then_some(())
        })
    };
    redis.dump()?;
    let old = std::fs::read(redis.dump_file())?;
    go_on()?;
    redis.run(&["FLUSHALL"])?;
    go_on()?;
    redis.run(&["SET", "ada__+__/a", "1"])?;
    redis.freeze()?;
    go_on()?;
    redis.thaw()?;
    // Until it is used again.
    pause(Duration::from_millis(5_100));
    go_on()?;
    redis.kill()?;
    std::fs::write(redis.dump_file(), old)?;
    go_on()?;
    redis.restart()?;
    pause(Duration::from_millis(5_100));
    go_on()
}

#[test]
fn without_redis_nothing_is_missing_but_speed() -> anyhow::Result<()> {
    let (database, redis) = (TestDatabase::create()?, TestRedis::absent()?);
    let server = server(&database, &redis)?;
    post(&server, 0, &[("ada", "/a"), ("ada", "/a")])?;
    for _ in 0..3 {
        assert_eq!(count(&server, "ada", "/a")?, 2);
        assert_eq!(summary(&server)?["total_events"], 2);
    }
    assert_eq!(metric(&server, "gristmill_cache_shunned")?, 1);
    assert!(metric(&server, "gristmill_cache_errors_total")? >= 1);
    Ok(())
}
