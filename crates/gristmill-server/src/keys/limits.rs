//! How much may be sent with a key, as clients give it, as it is kept, and as it is told.

use gristmill_model::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// How much may be sent with a key; nothing said is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(default)]
pub(crate) struct Limits {
    /// Events per second, on average; one request may go beyond it, and those after it wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) events_per_second: Option<u64>,
    /// Bytes of requests' bodies per second, when their encoding is undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_per_second: Option<u64>,
    /// Events from one midnight in UTC to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) events_per_day: Option<u64>,
    /// Bytes from one midnight in UTC to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_per_day: Option<u64>,
}

impl Limits {
    /// The names of all of them.
    pub(super) const NAMES: [&str; 4] =
        ["events_per_second", "bytes_per_second", "events_per_day", "bytes_per_day"];

    /// Whether there is no limit.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is counted by the day, over all processes.
    pub(super) fn has_quota(&self) -> bool {
        self.events_per_day.is_some() || self.bytes_per_day.is_some()
    }

    /// Refuses limits that make no sense.
    pub(super) fn check(self) -> Result<Self, Problem> {
        let limits = [
            self.events_per_second,
            self.bytes_per_second,
            self.events_per_day,
            self.bytes_per_day,
        ];
        for (name, limit) in Self::NAMES.into_iter().zip(limits) {
            let most = limits::KEY_LIMIT;
            if limit.is_some_and(|limit| !(1..=most).contains(&limit)) {
                let detail = format!("`limits.{name}` must be a whole number from 1 to {most}");
                return Err(Problem::argument(detail));
            }
        }
        Ok(self)
    }
}
