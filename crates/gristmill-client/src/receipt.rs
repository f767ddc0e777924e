//! What the server says of a batch.

use serde::Deserialize;

/// What the server says of a batch. Every accepted event is on stable storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// How many events were accepted.
    pub accepted: u64,
    /// How many were not; `results` says why.
    pub rejected: u64,
    /// All accepted events lie below: an opaque token that queries take as `at_least`.
    pub position: String,
    /// One entry per event that the server tells of, by `index`.
    pub results: Vec<EventResult>,
    /// How often the batch had to be sent again before this answer. If it is not 0, an event that
    /// is told as `duplicate` may be one that an earlier attempt of the same call brought in.
    #[serde(skip)]
    pub retries: u32,
}

/// What became of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EventResult {
    /// Which event of the batch, from 0.
    pub index: usize,
    /// Its id, given or derived; empty if it could not be read.
    pub id: String,
    /// `accepted` or `rejected`; after waiting for visibility `stored`, `duplicate`,
    /// `quarantined`, `expired` or `rejected`.
    pub status: String,
    /// Of a rejected event, the error's name.
    pub code: Option<String>,
    /// Of a rejected event, what is wrong with it.
    #[serde(alias = "detail")]
    pub message: Option<String>,
}

impl Receipt {
    /// How many events are told to have this status.
    pub fn count(&self, status: &str) -> u64 {
        self.results.iter().filter(|result| result.status == status).count() as u64
    }
}
