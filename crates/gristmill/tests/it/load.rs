//! Writers that post without end while something happens to the platform, and know of each event what
//! became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Connection, Ledger, Request, Stopwatch, Tally, TestServer, http, pause, wait_until,
};
use serde_json::{Value, json};

use crate::support::wait_for_more;

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const WRITERS: u64 = 4;
const EVENTS_OF_A_REQUEST: u64 = 5;
/// How many requests have events of one type; one question tells the counts of all of them.
const REQUESTS_OF_A_TYPE: u64 = 1_000;

/// By what an event is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named {
    /// By its id. It is sent again until it is taken.
    ById,
    /// By its user. It has neither id nor time and is sent once, so that only a gateway can keep a second
    /// try from being a second event.
    ByUser,
}

/// The writers and what they know.
#[derive(Debug)]
pub(crate) struct Load {
    front: SocketAddr,
    named: Named,
    ledger: Ledger,
    types: Mutex<BTreeSet<String>>,
    accepted: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    /// Has several writers post until the trouble is over.
    pub(crate) fn run(
        front: SocketAddr,
        named: Named,
        trouble: impl FnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let load = Self {
            front,
            named,
            ledger: Ledger::new(),
            types: Mutex::default(),
            accepted: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let load = &load;
                    scope.spawn(move || load.write(writer))
                })
                .collect();
            let over = trouble(&load);
            load.is_over.store(true, Ordering::SeqCst);
            for writer in writers {
                writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
            }
            over
        })?;
        Ok(load)
    }

    /// Waits until so many more events have been taken.
    pub(crate) fn more(&self, count: u64) -> anyhow::Result<()> {
        wait_for_more(&self.accepted, count, PATIENCE)
    }

    /// Waits until everything that has been taken by now is counted, and gives how long that took.
    pub(crate) fn catch_up(&self) -> anyhow::Result<Duration> {
        let waited = Stopwatch::start();
        let accepted = self.accepted.load(Ordering::SeqCst);
        let id = format!("probe-{accepted}");
        let event = json!({"id": id, "user_id": "probe", "event_type": "probe", "page_url": "/"});
        let request = Request::post_json("/v1/events?wait=visible", event.to_string());
        self.begin("probe", [&id]);
        let counted = || -> Option<()> {
            let answer = http::send(self.front, &request).ok().filter(|it| it.status == 200)?;
            let position = answer.json().ok()?["position"].as_str()?.to_owned();
            let target = format!("/v1/analytics/summary?at_least={}", http::encode(&position));
            let summary = http::send(self.front, &Request::get(&target)).ok()?.json().ok()?;
            (summary["total_events"].as_u64()? > accepted).then_some(())
        };
        wait_until("all that was taken to be counted", PATIENCE, counted)?;
        self.end([&id]);
        Ok(waited.elapsed())
    }

    /// Waits until everything is counted, and holds the counts against the ledger.
    pub(crate) fn check(&self, front: &TestServer) -> anyhow::Result<Tally> {
        let total = || front.get_json("/v1/analytics/summary").ok()?["total_events"].as_u64();
        let lag = || -> Option<u64> {
            let lag = front.get_json("/lag").ok()?;
            let partitions = lag["lag"].as_object()?.values().filter_map(Value::as_object);
            partitions.flat_map(serde_json::Map::values).map(Value::as_u64).sum()
        };
        let expected = self.ledger.len() as u64;
        let all = || match self.named {
            Named::ById => (total()? >= expected).then_some(()),
            // Of what was never answered, nobody knows how much comes.
            Named::ByUser => (lag()? == 0).then_some(()),
        };
        let waited = wait_until("everything to be counted", PATIENCE, all);
        waited.with_context(|| format!("{:?} of {expected}", total()))?;
        self.ledger.check(&self.counts(front)?)
    }

    fn counts(&self, front: &TestServer) -> anyhow::Result<BTreeMap<String, u64>> {
        let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for event_type in types.iter() {
            let property = match self.named {
                Named::ById => "event_id",
                Named::ByUser => "user_id",
            };
            let target = format!(
                "/v1/analytics/top?property={property}&limit=10000&event_type={event_type}"
            );
            let answer = front.get_json(&target)?;
            let values = answer["values"].as_array().context("no values")?;
            anyhow::ensure!(values.len() < 10_000, "too many events to be told");
            for value in values {
                let name = value["value"].as_str().context("no name")?.to_owned();
                counts.insert(name, value["count"].as_u64().context("no count")?);
            }
        }
        Ok(counts)
    }

    fn write(&self, writer: u64) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.front)?;
        let mut number = 0_u64;
        while !self.is_over.load(Ordering::SeqCst) {
            let event_type = format!("w{writer}-{}", number / REQUESTS_OF_A_TYPE);
            let name = |place| format!("{writer}-{number}-{place}");
            let names: Vec<_> = (0..EVENTS_OF_A_REQUEST).map(name).collect();
            let event = |name: &String| match self.named {
                Named::ById => json!({"id": name, "user_id": format!("u{}", number % 50),
                    "event_type": event_type, "page_url": "/"}),
                Named::ByUser => json!({"user_id": name, "event_type": event_type}),
            };
            let events: Vec<_> = names.iter().map(event).collect();
            let request = Request::post_json("/v1/events/batch", json!(events).to_string());
            self.begin(&event_type, &names);
            if self.is_taken(&mut connection, &request)? {
                self.end(&names);
            }
            number += 1;
        }
        Ok(())
    }

    /// Sends a request, again and again if its events have ids.
    fn is_taken(&self, connection: &mut Connection, request: &Request) -> anyhow::Result<bool> {
        loop {
            let answer = connection.send(request)?;
            match (answer.status, self.named) {
                (200, Named::ByUser) => return Ok(true),
                (200, Named::ById) => {
                    // A few hundred events a second are enough to meet every fault.
                    pause(Duration::from_millis(20));
                    return Ok(true);
                }
                (503 | 504, Named::ById) => pause(Duration::from_millis(20)),
                (503 | 504, Named::ByUser) => return Ok(false),
                (status, _) => anyhow::bail!("{status}: {}", answer.text()),
            }
        }
    }

    fn begin<'a>(&self, event_type: &str, names: impl IntoIterator<Item = &'a String>) {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if !types.contains(event_type) {
            types.insert(event_type.to_owned());
        }
        names.into_iter().for_each(|name| self.ledger.sending(name));
    }

    fn end<'a>(&self, names: impl IntoIterator<Item = &'a String>) {
        for name in names {
            self.ledger.accepted(name);
            self.accepted.fetch_add(1, Ordering::SeqCst);
        }
    }
}
