//! Each role in a process of its own, over Kafka, PostgreSQL and Redis: processors that die and stand
//! still under load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Connection, Deployment, Ledger, Request, SeededEntropy, Tally, TestDatabase, TestServer,
    TestTopic, http, pause, shared_redis, wait_until,
};
use serde_json::json;

use crate::profiles::split;

const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: usize = 12;
const WRITERS: u64 = 4;
/// Longer than a group waits for one of its members.
const STANDS_STILL: Duration = Duration::from_secs(5);

#[test]
fn processors_that_die_or_stand_still_lose_and_double_nothing() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let roles = ["process", "process", "process", "ingest", "query"];
    let mut deployment = split(&topic, &database, &shared_redis()?, &roles)?;
    let front = deployment.front().address();
    let (ledger, is_over, accepted) = (Ledger::new(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (ledger, is_over, accepted) = (&ledger, &is_over, &accepted);
                scope.spawn(move || write(front, writer, ledger, is_over, accepted))
            })
            .collect();
        let faults = trouble(&mut deployment, &accepted);
        is_over.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        faults
    })?;
    let tally = wait_for_all(deployment.front(), &ledger)?;
    assert!(tally.accepted > KILLS * 100, "{tally:?}");
    let counts = "SELECT (SELECT count(*) FROM gristmill.events), \
                  (SELECT count(*) FROM gristmill.identities), \
                  (SELECT sum(stored) FROM gristmill.positions)";
    let counts = database.run(counts)?.remove(0);
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    Ok(())
}

/// Kills processors one after the other, and has one stand still until it is taken for dead.
fn trouble(deployment: &mut Deployment, accepted: &AtomicU64) -> anyhow::Result<()> {
    let dice = SeededEntropy::new(u64::from(std::process::id()));
    let more = |count| {
        let wanted = accepted.load(Ordering::SeqCst) + count;
        let taken = || (accepted.load(Ordering::SeqCst) >= wanted).then_some(());
        wait_until("events to be taken", PATIENCE, taken)
    };
    for kill in 0..KILLS {
        more(100)?;
        pause(Duration::from_millis(dice.below(300)));
        let processor = &mut deployment.behind()[dice.below(3) as usize];
        if kill % 6 == 3 {
            processor.freeze()?;
            pause(STANDS_STILL);
            processor.thaw()?;
        } else {
            processor.kill9()?;
            processor.spawn()?;
        }
    }
    more(100)
}

/// Posts events that have an id each, again until they are taken.
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
        let ids: Vec<String> = (0..5).map(|place| format!("{writer}-{number}-{place}")).collect();
        number += 1;
        let event = |id: &String| json!({"id": id, "user_id": format!("u{}", number % 50), "event_type": format!("w{writer}")});
        let events: Vec<_> = ids.iter().map(event).collect();
        ids.iter().for_each(|id| ledger.sending(id));
        let request = Request::post_json("/v1/events/batch", json!(events).to_string());
        loop {
            let answer = connection.send(&request)?;
            match answer.status {
                200 => break,
                503 | 504 => pause(Duration::from_millis(20)),
                status => anyhow::bail!("{status}: {}", answer.text()),
            }
        }
        ids.iter().for_each(|id| ledger.accepted(id));
        accepted.fetch_add(ids.len() as u64, Ordering::SeqCst);
        // A few hundred events a second are enough to meet every fault.
        pause(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until everything accepted is counted, and holds the counts against the ledger.
fn wait_for_all(front: &TestServer, ledger: &Ledger) -> anyhow::Result<Tally> {
    let expected = ledger.len() as u64;
    let counted = || -> Option<u64> {
        front.get_json("/v1/analytics/summary").ok()?["total_events"].as_u64()
    };
    let all = || (counted()? >= expected).then_some(());
    let waited = wait_until("everything to be counted", PATIENCE, all);
    waited.with_context(|| format!("{:?} of {expected}", counted()))?;
    let mut counts = BTreeMap::new();
    for writer in 0..WRITERS {
        let event_type = http::encode(&format!("w{writer}"));
        let target =
            format!("/v1/analytics/top?property=event_id&limit=10000&event_type={event_type}");
        let answer = front.get_json(&target)?;
        let values = answer["values"].as_array().context("no values")?;
        anyhow::ensure!(values.len() < 10_000, "too many events to be told");
        for value in values {
            let id = value["value"].as_str().context("no id")?.to_owned();
            counts.insert(id, value["count"].as_u64().context("no count")?);
        }
    }
    ledger.check(&counts)
}
