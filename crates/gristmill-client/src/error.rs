//! Why a request did not succeed.

use serde::Deserialize;
use thiserror::Error;

/// Why a request did not succeed, after all retries.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("`{url}` is not a server's address: {reason}; write it like http://127.0.0.1:8080")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("`{name}` {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What `https` needs is not there or cannot be used.
    #[error("tls: {reason}")]
    Tls {
        /// Which file, and what is wrong with it.
        reason: String,
    },
    /// The server could not be reached, or the connection broke.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Where to.
        url: String,
        /// What happened.
        reason: String,
        /// Whether nothing was sent. Otherwise it is unknown whether the request happened.
        is_unsent: bool,
    },
    /// There was no answer within `ClientConfig::timeout`. Whether the request happened is
    /// unknown.
    #[error("{url} did not answer within {seconds} s")]
    Timeout {
        /// Where to.
        url: String,
        /// The timeout.
        seconds: f64,
    },
    /// The server answered with an error.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// Where to.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The error's stable name, e.g. `too_large`; empty if the answer did not tell.
        code: String,
        /// The error's text, or the start of the body.
        message: String,
    },
    /// The server's answer is not what this client understands.
    #[error("{url} gave an answer that this client does not understand: {reason}")]
    Answer {
        /// Where to.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The members of a problem document that are of interest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    message: String,
}

impl ClientError {
    /// Whether the same request may succeed later: there was no answer, or one of 408, 429, 500,
    /// 502, 503 and 504.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Timeout { .. } => true,
            ClientError::Refused { status, .. } => is_transient(*status),
            _ => false,
        }
    }

    /// Whether the request may have happened all the same.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            ClientError::Unreachable { is_unsent, .. } => !is_unsent,
            ClientError::Timeout { .. } | ClientError::Answer { .. } => true,
            ClientError::Refused { status, .. } => *status >= 500,
            ClientError::Url { .. } | ClientError::Setting { .. } | ClientError::Tls { .. } => {
                false
            }
        }
    }

    /// The error that an answer of this status and body means.
    pub(crate) fn refused(url: String, status: u16, body: &[u8]) -> Self {
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let message = [problem.detail, problem.message]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_else(|| start_of(body));
        ClientError::Refused { url, status, code: problem.code, message }
    }
}

/// Statuses after which the same bytes are sent again.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The text of the cause at the bottom: "connection refused" rather than "client error".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The first 200 bytes of a body as text, for errors that are not problem documents.
fn start_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body));
    let text = text.trim();
    if text.is_empty() { "no explanation".to_owned() } else { text.to_owned() }
}
