//! The report of a benchmark: for people as lines, for machines as JSON.

use std::fmt;

use serde::Serialize;

use super::{Driven, Freshness, Look, Sizes, StoreTotals, SyncProbe};
use crate::console::thousands;

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    /// What was sent: connections, batch, bytes of an event, users.
    pub(crate) workload: String,
    /// What an acknowledgement meant.
    pub(crate) durability: &'static str,
    pub(crate) driven: Driven,
    pub(crate) accepted_per_second: f64,
    /// Accepted events by the time until the last of them could be queried.
    pub(crate) queryable_per_second: Option<f64>,
    /// Events that can be queried more or less than were acknowledged. Must be 0.
    pub(crate) miscounted: i64,
    pub(crate) freshness: Option<Freshness>,
    pub(crate) sync_before: Option<SyncProbe>,
    pub(crate) sync_after: Option<SyncProbe>,
    /// The store when all events could be queried, and now and then before.
    pub(crate) store: Option<StoreTotals>,
    pub(crate) looks: Vec<Look>,
    pub(crate) sizes: Option<Sizes>,
    /// Before the load; at most until all events could be queried; and at most when all of them had
    /// been asked about.
    pub(crate) idle_memory_bytes: Option<u64>,
    pub(crate) load_memory_bytes: Option<u64>,
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) start_seconds: Option<f64>,
    pub(crate) baseline: Option<Driven>,
    pub(crate) kill: Option<KillReport>,
}

/// What a kill without warning left behind.
#[derive(Serialize)]
pub(crate) struct KillReport {
    /// Events acknowledged over the whole run.
    pub(crate) acknowledged: u64,
    /// Events of requests that were in flight.
    pub(crate) unknown: u64,
    /// Events that can be queried after the restart.
    pub(crate) found: u64,
    /// Acknowledged events that are missing. Must be 0.
    pub(crate) lost: u64,
    /// Events beyond what was acknowledged and in flight. Must be 0.
    pub(crate) surplus: u64,
    /// From the start of the new process until all events could be queried.
    pub(crate) restart_seconds: f64,
}

impl Report {
    /// What a load alone says.
    pub(crate) fn of(driven: Driven, workload: String) -> Self {
        Self {
            workload,
            durability: "as the server is set up",
            accepted_per_second: driven.rate(),
            driven,
            queryable_per_second: None,
            miscounted: 0,
            freshness: None,
            sync_before: None,
            sync_after: None,
            store: None,
            looks: Vec::new(),
            sizes: None,
            idle_memory_bytes: None,
            load_memory_bytes: None,
            peak_memory_bytes: None,
            start_seconds: None,
            baseline: None,
            kill: None,
        }
    }

    /// Whether everything that must be 0 is.
    pub(crate) fn is_sound(&self) -> bool {
        let kept = self.kill.as_ref().is_none_or(|kill| kill.lost == 0 && kill.surplus == 0);
        let fresh = self.freshness.as_ref().is_none_or(|fresh| fresh.unfulfilled == 0);
        kept && fresh && self.miscounted == 0
    }

    /// Bytes that the store's files take per event in them.
    fn stored_bytes_per_event(&self) -> Option<f64> {
        let store = self.store?;
        let filed = store.stored.saturating_sub(store.hot_rows);
        let bytes = self.sizes?.store_bytes;
        (filed > 0).then(|| bytes as f64 / filed as f64)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: String| {
            writeln!(f, "{name:<22} {value}")
        };
        line(f, "workload", self.workload.clone())?;
        line(f, "durability", self.durability.to_owned())?;
        let driven = &self.driven;
        let accepted = format!(
            "{} events/s ({} events in {:.1} s)",
            thousands(self.accepted_per_second as u64),
            thousands(driven.accepted),
            driven.seconds
        );
        line(f, "accepted", accepted)?;
        if let Some(queryable) = self.queryable_per_second {
            line(f, "queryable", format!("{} events/s", thousands(queryable as u64)))?;
        }
        line(f, "acknowledgement", driven.latencies.to_string())?;
        line(f, "not accepted", self.refusals())?;
        if self.miscounted != 0 {
            line(f, "MISCOUNTED", self.miscounted.to_string())?;
        }
        if let Some(fresh) = &self.freshness {
            let samples = fresh.latencies.count();
            let text = format!("{} ({samples} samples, from sending)", fresh.latencies);
            line(f, "sent to queryable", text)?;
            if fresh.unfulfilled > 0 {
                line(f, "UNFULFILLED", fresh.unfulfilled.to_string())?;
            }
        }
        for (when, probe) in [("before", &self.sync_before), ("after", &self.sync_after)] {
            if let Some(probe) = probe {
                line(f, &format!("fdatasync {when}"), format!("4 KiB: {}", probe.of_4_kib))?;
                line(f, "", format!("64 KiB: {}", probe.of_64_kib))?;
            }
        }
        self.write_resources(f)?;
        self.write_comparisons(f)
    }
}

impl Report {
    fn write_resources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sizes) = self.sizes {
            let (store, log) =
                (thousands(sizes.store_bytes >> 20), thousands(sizes.log_bytes >> 20));
            let per_event = self.stored_bytes_per_event();
            let per_event = per_event.map_or("nothing in files yet".to_owned(), |bytes| {
                format!("{bytes:.1} B per event in files")
            });
            writeln!(f, "{:<22} store {store} MiB ({per_event}), log {log} MiB", "on disk")?;
        }
        let debt = |look: &Look| look.totals.merge_debt_rows;
        if let Some(store) = self.store {
            writeln!(
                f,
                "{:<22} {} parts, {} events wait to be merged, at most {} during the load",
                "upkeep",
                thousands(store.parts),
                thousands(store.merge_debt_rows),
                thousands(self.looks.iter().map(debt).max().unwrap_or_default()),
            )?;
        }
        let memory = [self.idle_memory_bytes, self.load_memory_bytes, self.peak_memory_bytes];
        if let [Some(idle), Some(load), Some(peak)] = memory {
            writeln!(
                f,
                "{:<22} {} MiB idle, {} MiB at most under load, {} a question over everything included",
                "memory",
                thousands(idle >> 20),
                thousands(load >> 20),
                thousands(peak >> 20),
            )?;
        }
        if let Some(seconds) = self.start_seconds {
            writeln!(f, "{:<22} {seconds:.3} s", "start until ready")?;
        }
        Ok(())
    }

    fn write_comparisons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(baseline) = &self.baseline {
            writeln!(
                f,
                "{:<22} {} events/s by a bare server, {}; this is {:.2}x of it",
                "baseline",
                thousands(baseline.rate() as u64),
                baseline.latencies,
                self.accepted_per_second / baseline.rate().max(1.0),
            )?;
        }
        if let Some(kill) = &self.kill {
            writeln!(
                f,
                "{:<22} acknowledged {}, in flight {}, found {}: lost {}, surplus {}; restart {:.3} s",
                "kill -9",
                thousands(kill.acknowledged),
                thousands(kill.unknown),
                thousands(kill.found),
                thousands(kill.lost),
                thousands(kill.surplus),
                kill.restart_seconds,
            )?;
        }
        Ok(())
    }

    fn refusals(&self) -> String {
        let driven = &self.driven;
        let mut parts: Vec<String> = driven
            .refused
            .iter()
            .map(|(status, count)| format!("{} requests {status}", thousands(*count)))
            .collect();
        if driven.broken > 0 {
            parts.push(format!("{} connections broken", thousands(driven.broken)));
        }
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}
