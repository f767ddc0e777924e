//! Sentences that several of these tests speak.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{Request, ServerOptions, TestServer, http, wait_until};
use serde_json::Value;

/// How long an acknowledged event may take until it is counted, on a busy machine.
const VISIBLE_WITHIN: Duration = Duration::from_secs(30);

/// A server of the binary under test.
pub(crate) fn server() -> ServerOptions {
    ServerOptions::new(env!("CARGO_BIN_EXE_gristmill"))
}

/// Waits until the server counts `total` events, and fails if it ever counts more.
pub(crate) fn wait_for_total(server: &TestServer, total: u64) -> anyhow::Result<()> {
    let what = format!("{total} events to be counted");
    let seen = wait_until(&what, VISIBLE_WITHIN, || {
        let seen = summary(server).ok()?["total_events"].as_u64()?;
        (seen >= total).then_some(seen)
    });
    let seen = seen.with_context(|| format!("{:?}", summary(server)))?;
    anyhow::ensure!(seen == total, "{seen} events are counted, not {total}");
    Ok(())
}

/// Waits until a count that others add to has grown by so much.
pub(crate) fn wait_for_more(
    counter: &AtomicU64,
    count: u64,
    limit: Duration,
) -> anyhow::Result<()> {
    let wanted = counter.load(Ordering::SeqCst) + count;
    let has_grown = || (counter.load(Ordering::SeqCst) >= wanted).then_some(());
    wait_until("events to be taken", limit, has_grown)
}

/// The summary of everything.
pub(crate) fn summary(server: &TestServer) -> anyhow::Result<Value> {
    server.get_json("/v1/analytics/summary")
}

/// One of the store's numbers, such as `parts`.
pub(crate) fn store_number(server: &TestServer, name: &str) -> anyhow::Result<u64> {
    let stats = server.get_json("/stats")?;
    stats["store"][name].as_u64().with_context(|| format!("no {name} in {stats}"))
}

/// The sum of a metric over all its labels.
pub(crate) fn metric(server: &TestServer, name: &str) -> anyhow::Result<u64> {
    let text = server.send(&Request::get("/metrics"))?.text();
    let samples = text.lines().filter_map(|line| {
        let (metric, value) = line.rsplit_once(' ')?;
        (metric.split('{').next() == Some(name)).then(|| value.parse::<u64>())
    });
    let values = samples.collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(!values.is_empty(), "no {name} in {text}");
    Ok(values.iter().sum())
}

/// How often each event id of one event type is counted.
pub(crate) fn counts_of_type(
    server: &TestServer,
    event_type: &str,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let event_type = http::encode(event_type);
    let target = format!("/v1/analytics/top?property=event_id&limit=10000&event_type={event_type}");
    let answer = server.get_json(&target)?;
    let values = answer["values"].as_array().context("no values")?;
    let counts = values.iter().map(|value| {
        let id = value["value"].as_str().context("no value")?;
        Ok((id.to_owned(), value["count"].as_u64().context("no count")?))
    });
    counts.collect()
}
