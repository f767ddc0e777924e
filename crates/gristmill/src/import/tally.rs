//! What became of the rows of an import.

use gristmill_client::Receipt;

use super::Batch;
use crate::console::thousands;

/// How many errors are told line by line; the rest is counted.
const ERRORS_TOLD: usize = 20;

/// Counts rows and events by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) read: u64,
    pub(crate) accepted: u64,
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    /// Accepted, but set aside or older than the retention.
    pub(crate) set_aside: u64,
    pub(crate) rejected: u64,
    /// Batches that were sent more than once.
    pub(crate) repeated: u64,
    errors: Vec<String>,
}

impl Tally {
    /// Adds the rows of a batch, of which the bad ones are rejected here and now.
    pub(crate) fn add_rows(&mut self, batch: &Batch, file: &str) {
        self.read += (batch.lines.len() + batch.bad.len()) as u64;
        for (line, reason) in &batch.bad {
            self.reject(file, *line, reason);
        }
    }

    /// Adds what the server says of a batch.
    pub(crate) fn add_receipt(&mut self, batch: &Batch, receipt: &Receipt, file: &str) {
        self.accepted += receipt.accepted;
        self.repeated += u64::from(receipt.retries > 0);
        for result in &receipt.results {
            match result.status.as_str() {
                "stored" => self.stored += 1,
                "duplicate" => self.duplicates += 1,
                "quarantined" | "expired" => self.set_aside += 1,
                "rejected" => {
                    let line = batch.lines.get(result.index).copied().unwrap_or_default();
                    let reason = result.message.as_deref().or(result.code.as_deref());
                    self.reject(file, line, reason.unwrap_or("rejected"));
                }
                _ => {}
            }
        }
    }

    fn reject(&mut self, file: &str, line: u64, reason: &str) {
        self.rejected += 1;
        if self.errors.len() < ERRORS_TOLD {
            self.errors.push(format!("{file}line {line}: {reason}"));
        }
    }

    /// One line per error, the first 20 of them, and how many more there are.
    pub(crate) fn error_lines(&self) -> Vec<String> {
        let mut lines = self.errors.clone();
        let more = self.rejected - lines.len() as u64;
        if more > 0 {
            lines.push(format!("… and {} more", thousands(more)));
        }
        lines
    }

    /// The whole in one line.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "read {}, accepted {}, stored {}, duplicates {}, rejected {}",
            thousands(self.read),
            thousands(self.accepted),
            thousands(self.stored),
            thousands(self.duplicates),
            thousands(self.rejected),
        );
        if self.set_aside > 0 {
            text.push_str(&format!(", set aside {}", thousands(self.set_aside)));
        }
        text
    }
}
