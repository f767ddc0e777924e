//! What is behind a gateway dies under load: nothing that was accepted is lost, nothing that was tried
//! again counts twice.

use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Behind, Deployment, Request, SeededEntropy, TestServer, pause, wait_until,
};
use serde_json::json;

use crate::load::{Load, Named, PATIENCE};
use crate::profiles::behind_gateway;
use crate::support::{metric, server};

const KILLS: usize = 8;

#[test]
fn kills_behind_a_gateway_lose_and_double_nothing() -> anyhow::Result<()> {
    let mut deployment = behind_gateway()?;
    let front = deployment.front().address();
    let dice = SeededEntropy::new(u64::from(std::process::id()));
    let load = Load::run(front, Named::ByUser, |load| {
        (0..KILLS).try_for_each(|_| {
            load.more(200)?;
            pause(Duration::from_millis(dice.below(100)));
            let backend = &mut deployment.behind()[0];
            backend.kill9()?;
            backend.restart().map(drop)
        })
    })?;
    let front = deployment.front();
    let tally = load.check(front).with_context(|| front.log())?;
    let retries = metric(front, "gristmill_gateway_retries_total")?;
    assert!(tally.accepted > KILLS * 200, "{tally:?}");
    assert!(retries > 0, "the kills met no request");
    // Nearly all of what was under way was tried again, so clients hardly noticed.
    assert!(tally.unknown_absent + tally.unknown_counted < tally.accepted / 10, "{tally:?}");
    Ok(())
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
    // Two for each role of each process, which are made one after the other.
    let are_all_up =
        |log: String| (log.matches(r#""message":"connected""#).count() >= 8).then_some(());
    wait_until("all connections", PATIENCE, || are_all_up(deployment.front().log()))?;
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
