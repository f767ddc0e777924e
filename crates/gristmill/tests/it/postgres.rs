//! The binary with its store in a real PostgreSQL, which `scripts/services` starts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Deployment, Request, ServerOptions, TestDatabase, TestPostgres, TestServer, TestTopic,
    data_file, http, shared_redis, wait_until,
};
use serde_json::{Value, json};

use crate::profiles::split;
use crate::real_data::{
    DESKDROP, DataSet, GHARCHIVE, Report, deskdrop_answers, gharchive_answers, import,
};
use crate::support::{self, summary, wait_for_more, wait_for_total};

/// How long a server may take to notice that its database is gone, or back.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// The roles of a process each; two of them share the partitions.
const APART: [&str; 4] = ["ingest", "process", "process", "query"];

/// A server with its store in a database, chosen as older systems' environments do.
pub(crate) fn server(database: &TestDatabase) -> ServerOptions {
    support::server().setting("DATABASE_URL", &database.url())
}

#[test]
fn gharchive_in_postgres_is_answered_as_expected() -> anyhow::Result<()> {
    let database = TestDatabase::create()?;
    let alone = || Deployment::alone(server(&database));
    answers_hold(&GHARCHIVE, gharchive_answers, [GHARCHIVE.events, 0], &database, alone)
}

#[test]
fn deskdrop_in_postgres_is_answered_as_expected() -> anyhow::Result<()> {
    let database = TestDatabase::create()?;
    let alone = || Deployment::alone(server(&database));
    answers_hold(&DESKDROP, deskdrop_answers, [0, DESKDROP.events], &database, alone)
}

#[test]
fn gharchive_through_kafka_is_answered_as_expected() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let apart = || split(&topic, &database, &shared_redis()?, &APART);
    answers_hold(&GHARCHIVE, gharchive_answers, [GHARCHIVE.events, 0], &database, apart)
}

#[test]
fn deskdrop_through_kafka_is_answered_as_expected() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let apart = || split(&topic, &database, &shared_redis()?, &APART);
    answers_hold(&DESKDROP, deskdrop_answers, [0, DESKDROP.events], &database, apart)
}

/// Imports a data set and holds the answers, also after a kill of all processes, and what older systems'
/// SQL finds: so many clicks and so many events with a session.
fn answers_hold(
    set: &DataSet,
    answers: fn(&TestServer, &Value) -> anyhow::Result<()>,
    [clicks, with_session]: [u64; 2],
    database: &TestDatabase,
    start: impl Fn() -> anyhow::Result<Deployment>,
) -> anyhow::Result<()> {
    let (Some(file), Some(expected)) = (data_file(set.file), data_file("expected.json")) else {
        return Ok(());
    };
    let expected: Value = serde_json::from_slice(&std::fs::read(expected)?)?;
    let mut deployment = start()?;
    assert_eq!(import(deployment.front(), set, &file)?, Report::stored(set.events));
    deployment.crash()?;
    let front = deployment.front();
    answers(front, &expected).context("after a kill")?;
    assert_eq!(import(front, set, &file)?, Report::duplicates(set.events));
    assert_eq!(summary(front)?["total_events"], set.events);
    let found = database.run(
        "SELECT (SELECT count(*) FROM click_events), (SELECT count(*) FROM web_events), \
         (SELECT coalesce(sum(click_count), 0) FROM page_clicks)",
    )?;
    assert_eq!(found, [[clicks, with_session, clicks].map(|number| number.to_string())]);
    Ok(())
}

#[test]
fn a_database_that_comes_late_or_crashes_costs_nothing() -> anyhow::Result<()> {
    let postgres = TestPostgres::start()?;
    let database = postgres.create_database()?;
    postgres.crash()?;
    let mut server = server(&database).start_unready()?;
    let ready = |server: &TestServer| -> anyhow::Result<u16> {
        Ok(server.send(&Request::get("/ready"))?.status)
    };
    wait_until("the server to answer", NOTICED_WITHIN, || ready(&server).ok())?;
    assert_eq!(ready(&server)?, 503);
    post(&server, 0)?;
    assert_eq!(server.send(&Request::get("/v1/analytics/summary"))?.status, 503);
    postgres.restart()?;
    server.wait_ready()?;
    wait_for_total(&server, 1)?;

    // Under load, so that commits are cut in the middle.
    let (next, is_over) = (AtomicU64::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let writer = scope.spawn(|| -> anyhow::Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                post(&server, next.load(Ordering::Relaxed))?;
                next.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let crashes = (0..3).try_for_each(|_| {
            wait_for_more(&next, 200, NOTICED_WITHIN)?;
            postgres.crash()?;
            wait_until("503", NOTICED_WITHIN, || (ready(&server).ok()? == 503).then_some(()))?;
            wait_for_more(&next, 200, NOTICED_WITHIN)?;
            postgres.restart()
        });
        is_over.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        crashes
    })?;
    server.wait_ready()?;
    let total = next.into_inner();
    wait_for_total(&server, total)?;
    let clicks = database.run("SELECT sum(click_count), count(*) FROM page_clicks")?;
    assert_eq!(clicks, [[total.to_string(), "1".to_owned()]]);

    // What cannot be settled now is not waited for.
    postgres.crash()?;
    post(&server, total)?;
    let status = server.terminate()?;
    assert!(status.success(), "{status}: {}", server.log());
    postgres.restart()?;
    server.restart()?;
    wait_for_total(&server, total + 1)?;
    assert!(!server.log().contains("gristmill:gristmill"), "the password is in the log");
    Ok(())
}

#[test]
fn commands_know_of_postgres_and_keep_its_password() -> anyhow::Result<()> {
    let database = TestDatabase::create()?;
    let mut server = server(&database).start()?;
    post(&server, 0)?;
    wait_for_total(&server, 1)?;
    let run = |server: &TestServer, arguments: &[&str]| -> anyhow::Result<String> {
        let done = server.command(arguments)?;
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "{arguments:?}: {said}");
        Ok(said.into_owned())
    };
    let compact = run(&server, &["compact", &format!("--url=http://{}", server.address())])?;
    assert!(compact.contains("no files of its own"), "{compact}");
    let windows = || database.run("SELECT unique_users FROM user_activity_metrics");
    assert!(windows()?.is_empty(), "the window is open");
    server.terminate()?;
    assert_eq!(windows()?, [["1"]], "it is closed in the end");
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().context("a path that is not UTF-8")?;
    let check = run(&server, &["check", "--data-dir", data_dir])?;
    assert!(check.contains("log: whole: 1 records") && check.contains("PostgreSQL"), "{check}");
    let config = run(&server, &["config"])?;
    assert!(config.contains("user=gristmill password=***"), "{config}");
    for said in [check, config] {
        assert!(!said.contains("gristmill:gristmill"), "{said}");
    }

    // The log of another data directory is another log, and begins at its beginning.
    let other = support::server().setting("DATABASE_URL", &database.url()).start()?;
    post(&other, 1)?;
    wait_for_total(&other, 2)
}

/// Posts an event on a page, which must be taken.
fn post(server: &TestServer, number: u64) -> anyhow::Result<()> {
    let event =
        json!({"id": number.to_string(), "user_id": "u", "event_type": "t", "page_url": "/"});
    let answer =
        http::send(server.address(), &Request::post_json("/v1/events", event.to_string()))?;
    anyhow::ensure!(answer.status == 200, "event {number}: {}", answer.text());
    Ok(())
}
