//! Settings of a client.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;

use crate::{ClientError, ClientTls};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What the server knows this client by, sent as `x-api-key`; none if missing.
    pub api_key: Option<ApiKey>,
    /// How many requests run at once, each on a connection of its own; more wait. 4 if not set.
    pub connections: usize,
    /// How long one attempt may take, from connecting to the last byte of the answer. 30 s if not
    /// set.
    pub timeout: Duration,
    /// How often a request is sent again after 408, 429, 500, 502, 503, 504, a broken connection
    /// or no answer in time. 8 if not set.
    pub retries: u32,
    /// About how long to wait before the first retry; doubles with each. 100 ms if not set.
    pub first_backoff: Duration,
    /// The longest wait between retries, unless the server asks for more by `Retry-After`. 10 s if
    /// not set.
    pub longest_backoff: Duration,
    /// Whom to trust, and what to show, where the server is at `https`. The system's authorities, and
    /// nothing, if not set.
    pub tls: ClientTls,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            api_key: None,
            connections: 4,
            timeout: Duration::from_secs(30),
            retries: 8,
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(10),
            tls: ClientTls::default(),
        }
    }
}

/// A secret that the server knows this client by. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key of this text.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// As a header that is never shown.
    pub(crate) fn header(&self) -> Result<HeaderValue, ClientError> {
        let mut value = HeaderValue::from_str(&self.0).map_err(|_| ClientError::Setting {
            name: "api_key",
            reason: "has characters that no key has".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl From<&str> for ApiKey {
    fn from(key: &str) -> Self {
        Self::new(key)
    }
}
