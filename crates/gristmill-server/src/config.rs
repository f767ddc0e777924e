//! What an operator may set of the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use subtle::ConstantTimeEq;

use crate::keys::{Hash, hash};
use crate::tls::ServerTls;
use crate::trace::Tracer;

/// The server's limits and deadlines.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How many connections are served at a time; one more is answered 503 and closed.
    pub max_connections: usize,
    /// How long a client may take to send a request's head, the first byte of a new connection
    /// included.
    pub header_timeout: Duration,
    /// How long a connection may lie idle between requests.
    pub keep_alive_timeout: Duration,
    /// How long a client may pause within a body.
    pub body_idle_timeout: Duration,
    /// How long a whole body may take.
    pub body_timeout: Duration,
    /// How long a client may stop reading an answer that is sent in pieces; for any other answer,
    /// which is handed over whole, it is the time between requests.
    pub write_timeout: Duration,
    /// How long a request may take to be answered, its body included.
    pub request_timeout: Duration,
    /// How long `wait=visible` and `at_least` wait for events to become visible.
    pub visible_timeout: Duration,
    /// How long requests in flight may take to finish once the server stops.
    pub drain_timeout: Duration,
    /// Whether the calls and their messages may be asked for by gRPC reflection.
    pub grpc_reflection: bool,
    /// The origins whose pages may read answers.
    pub cors_origins: Vec<HeaderValue>,
    /// Who may come in.
    pub access: Access,
    /// What all listeners speak; without it they speak in the clear.
    pub tls: Option<Arc<ServerTls>>,
    /// What takes spans of requests; without it nothing is recorded.
    pub tracer: Option<Arc<Tracer>>,
}

/// Who may come in, beside whoever has a key of the store.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// A key that is no document of the store.
    pub admin_key: Option<AdminKey>,
    /// An address, with the setting that names it, at which other machines reach this process, which so
    /// may not serve without keys.
    pub demands_keys: Option<String>,
    /// Whether there were keys when this process last ran: until the store has been read, there are.
    pub had_keys: bool,
}

impl Access {
    /// Whether requests need keys also when there are none in the store.
    pub(crate) fn asks_for_keys(&self) -> bool {
        self.admin_key.is_some() || self.demands_keys.is_some()
    }
}

/// The key of the settings, of which only a hash is held.
#[derive(Clone)]
pub struct AdminKey(Hash);

impl AdminKey {
    /// The key with this text.
    pub fn new(text: &str) -> Self {
        Self(hash(text))
    }

    /// Whether the hash is that of this key, in a time that does not tell how much of it is right.
    pub(crate) fn has(&self, hash: &Hash) -> bool {
        hash.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminKey(..)")
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(120),
            visible_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
            grpc_reflection: true,
            cors_origins: vec![HeaderValue::from_static("http://localhost:5173")],
            access: Access::default(),
            tls: None,
            tracer: None,
        }
    }
}
