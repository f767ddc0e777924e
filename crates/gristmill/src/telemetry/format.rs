//! The choice of a format for the log.

use serde::{Deserialize, Serialize};

/// How the process's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people if standard error is a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}
