//! The ledger: what a client knows of each event it sent, held against what the server counts.
//!
//! An id is written down before it is sent, the outcome after the reply. Of an accepted event
//! exactly one copy must be counted, of one that was only ever rejected none, and of one whose
//! reply never came none or one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a client knows of the events it sent. Shared by all its threads.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Some copy was accepted.
    accepted: bool,
    /// Copies that were sent and of which nothing was heard.
    open: u32,
}

/// How many events of a checked ledger had which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Accepted, and counted once.
    pub accepted: usize,
    /// Never answered, and counted once.
    pub unknown_counted: usize,
    /// Never answered, and not counted.
    pub unknown_absent: usize,
    /// Rejected, and not counted.
    pub rejected: usize,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes down that a copy of the event is about to be sent.
    pub fn sending(&self, id: &str) {
        self.lock().entry(id.to_owned()).or_default().open += 1;
    }

    /// Writes down that the copy was accepted.
    pub fn accepted(&self, id: &str) {
        let mut entries = self.lock();
        let entry = entries.entry(id.to_owned()).or_default();
        entry.accepted = true;
        entry.open = entry.open.saturating_sub(1);
    }

    /// Writes down that the copy was rejected with certainty.
    pub fn rejected(&self, id: &str) {
        let mut entries = self.lock();
        let entry = entries.entry(id.to_owned()).or_default();
        entry.open = entry.open.saturating_sub(1);
    }

    /// How many events were written down.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing was written down.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of which no copy was accepted and of some copy nothing was heard, in order.
    pub fn unknown(&self) -> Vec<String> {
        let entries = self.lock();
        let unknown = entries.iter().filter(|(_, entry)| !entry.accepted && entry.open > 0);
        unknown.map(|(id, _)| id.clone()).collect()
    }

    /// Holds the ledger against how often the server counts each id; ids that it does not name
    /// count 0. An error lists the first violations.
    pub fn check(&self, counts: &BTreeMap<String, u64>) -> anyhow::Result<Tally> {
        let entries = self.lock();
        let mut tally = Tally::default();
        let mut violations = Vec::new();
        for (id, entry) in entries.iter() {
            match (entry.accepted, entry.open > 0, counts.get(id).copied().unwrap_or(0)) {
                (true, _, 1) => tally.accepted += 1,
                (true, _, 0) => violations.push(format!("{id}: accepted and lost")),
                (false, true, 0) => tally.unknown_absent += 1,
                (false, true, 1) => tally.unknown_counted += 1,
                (false, false, 0) => tally.rejected += 1,
                (false, false, 1) => violations.push(format!("{id}: rejected and counted")),
                (_, _, count) => violations.push(format!("{id}: counted {count} times")),
            }
        }
        let alien = counts.iter().filter(|(id, count)| **count > 0 && !entries.contains_key(*id));
        violations.extend(alien.map(|(id, _)| format!("{id}: counted and never sent")));
        anyhow::ensure!(
            violations.is_empty(),
            "{} violations in {} events, {tally:?}: {}",
            violations.len(),
            entries.len(),
            violations.iter().take(10).cloned().collect::<Vec<_>>().join("; ")
        );
        Ok(tally)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let ledger = Ledger::new();
        for id in ["ok", "no", "maybe", "again"] {
            ledger.sending(id);
        }
        ledger.accepted("ok");
        ledger.rejected("no");
        // The first copy of this one was never answered, the second was accepted.
        ledger.sending("again");
        ledger.accepted("again");
        ledger
    }

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect()
    }

    #[test]
    fn honest_server_passes() {
        let tally = ledger().check(&counts(&[("ok", 1), ("again", 1)])).unwrap();
        assert_eq!((tally.accepted, tally.unknown_absent, tally.rejected), (2, 1, 1));
        let tally = ledger().check(&counts(&[("ok", 1), ("again", 1), ("maybe", 1)])).unwrap();
        assert_eq!(tally.unknown_counted, 1);
        assert_eq!(ledger().unknown(), ["maybe"]);
    }

    #[test]
    fn every_kind_of_lie_is_found() {
        for (lie, found) in [
            (&[("again", 1)][..], "ok: accepted and lost"),
            (&[("ok", 2), ("again", 1)], "ok: counted 2 times"),
            (&[("ok", 1), ("again", 1), ("maybe", 2)], "maybe: counted 2 times"),
            (&[("ok", 1), ("again", 1), ("no", 1)], "no: rejected and counted"),
            (&[("ok", 1), ("again", 1), ("who", 1)], "who: counted and never sent"),
        ] {
            let error = ledger().check(&counts(lie)).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }
}
