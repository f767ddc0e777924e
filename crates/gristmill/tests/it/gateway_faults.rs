//! What is behind a gateway dies under load: nothing that was accepted is lost, nothing that was tried
//! again counts twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Behind, Connection, Deployment, Ledger, Request, SeededEntropy, TestServer, http, pause,
    wait_until,
};
use serde_json::json;

use crate::profiles::behind_gateway;
use crate::support::{metric, server};

const KILLS: usize = 8;
const WRITERS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn kills_behind_a_gateway_lose_and_double_nothing() -> anyhow::Result<()> {
    let mut deployment = behind_gateway()?;
    let front = deployment.front().address();
    let (ledger, is_over, accepted) = (Ledger::new(), AtomicBool::new(false), AtomicU64::new(0));
    let dice = SeededEntropy::new(u64::from(std::process::id()));
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (ledger, is_over, accepted) = (&ledger, &is_over, &accepted);
                scope.spawn(move || write(front, writer, ledger, is_over, accepted))
            })
            .collect();
        let kills = (0..KILLS).try_for_each(|_| {
            let wanted = accepted.load(Ordering::SeqCst) + 200;
            let taken = || (accepted.load(Ordering::SeqCst) >= wanted).then_some(());
            wait_until("events to be taken", PATIENCE, taken)?;
            pause(Duration::from_millis(dice.below(100)));
            let backend = &mut deployment.behind()[0];
            backend.kill9()?;
            backend.restart().map(drop)
        });
        is_over.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        kills
    })?;
    let front = deployment.front();
    let (tally, retries) = (
        wait_for_all(front, &ledger).with_context(|| deployment.front().log())?,
        metric(front, "gristmill_gateway_retries_total")?,
    );
    assert!(tally.accepted > KILLS * 200, "{tally:?}");
    assert!(retries > 0, "the kills met no request");
    // Nearly all of what was under way was tried again, so clients hardly noticed.
    assert!(tally.unknown_absent + tally.unknown_counted < tally.accepted / 10, "{tally:?}");
    Ok(())
}

/// Posts events that have neither id nor time, each of a user of its own, so that only the gateway can
/// keep a second try from being a second event.
fn write(
    front: std::net::SocketAddr,
    writer: u64,
    ledger: &Ledger,
    is_over: &AtomicBool,
    accepted: &AtomicU64,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(front)?;
    let mut number = 0_u64;
    while !is_over.load(Ordering::SeqCst) {
        let users: Vec<String> = (0..5).map(|place| format!("{writer}-{number}-{place}")).collect();
        number += 1;
        let events = users.iter().map(|user| json!({"user_id": user, "event_type": "t"}));
        let events: Vec<_> = events.collect();
        users.iter().for_each(|user| ledger.sending(user));
        let request = Request::post_json("/v1/events/batch", json!(events).to_string());
        let answer = connection.send(&request)?;
        match answer.status {
            200 => {
                users.iter().for_each(|user| ledger.accepted(user));
                accepted.fetch_add(users.len() as u64, Ordering::SeqCst);
            }
            // Unknown: the log of the process may hold them.
            503 | 504 => {}
            status => anyhow::bail!("{status}: {}", answer.text()),
        }
    }
    Ok(())
}

/// Waits until everything accepted is counted, and holds the counts against the ledger.
fn wait_for_all(front: &TestServer, ledger: &Ledger) -> anyhow::Result<gristmill_testkit::Tally> {
    let all_is_counted = || (front.get_json("/lag").ok()?["lag"]["events"]["0"] == 0).then_some(());
    wait_until("everything to be counted", PATIENCE, all_is_counted)?;
    let mut counts = BTreeMap::new();
    for writer in 0..WRITERS {
        let filter =
            json!({"field": "user_id", "op": "starts_with", "value": format!("{writer}-")});
        let filter = http::encode(&filter.to_string());
        let target = format!("/v1/analytics/top?property=user_id&limit=10000&where={filter}");
        let answer = front.get_json(&target)?;
        let values = answer["values"].as_array().context("no values")?;
        anyhow::ensure!(values.len() < 10_000, "too many users to be told");
        for value in values {
            let user = value["value"].as_str().context("no user")?.to_owned();
            counts.insert(user, value["count"].as_u64().context("no count")?);
        }
    }
    ledger.check(&counts)
}

#[test]
fn a_dead_process_is_left_out() -> anyhow::Result<()> {
    // Two of them, each with a log and a store of its own, one of which dies for good.
    let behind = [Behind::all(server()), Behind::all(server())];
    let mut deployment = Deployment::behind_gateway(server(), &behind)?;
    let post = |front: &TestServer, number: u64| -> anyhow::Result<()> {
        let event = json!({"id": number.to_string(), "user_id": "u", "event_type": "t"});
        front.post_json("/v1/events?wait=visible", &event).map(drop)
    };
    for number in 0..20 {
        post(deployment.front(), number)?;
    }
    let total = |server: &TestServer| -> anyhow::Result<u64> {
        let summary = server.get_json("/v1/analytics/summary")?;
        summary["total_events"].as_u64().context("no total")
    };
    let totals = deployment.behind().iter().map(total).collect::<anyhow::Result<Vec<_>>>()?;
    assert_eq!(totals, [10, 10], "they take turns");
    deployment.behind()[0].kill9()?;
    let waited = gristmill_testkit::Stopwatch::start();
    for number in 20..120 {
        post(deployment.front(), number)?;
    }
    assert!(waited.elapsed() < Duration::from_secs(15), "{:?}", waited.elapsed());
    assert_eq!(total(&deployment.behind()[1])?, 110);
    assert_eq!(deployment.front().send(&Request::get("/ready"))?.status, 200);
    Ok(())
}

#[test]
fn a_process_that_stands_still_is_left_out_until_it_goes_on() -> anyhow::Result<()> {
    let behind = [Behind::all(server()), Behind::all(server())];
    let mut deployment = Deployment::behind_gateway(server(), &behind)?;
    let event = json!({"user_id": "u", "event_type": "t"});
    deployment.behind()[0].freeze()?;
    // Some of these are sent to the process that stands still, and then to the other one.
    for _ in 0..20 {
        deployment.front().post_json("/v1/events?wait=visible", &event)?;
    }
    let total = deployment.behind()[1].get_json("/v1/analytics/summary")?;
    assert_eq!(total["total_events"], 20);
    deployment.behind()[0].thaw()?;
    let reached = || -> Option<()> {
        let health = deployment.front().get_json("/health").ok()?;
        let targets = health["targets"]["ingest"].as_object()?;
        targets.values().all(|is_reached| *is_reached == true).then_some(())
    };
    wait_until("the process to be reached again", PATIENCE, reached)
}
