//! What an operator may set of the server.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

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
    /// The origin whose pages may read the session dialect's routes.
    pub dashboard_origin: HeaderValue,
    /// What all listeners speak; without it they speak in the clear.
    pub tls: Option<Arc<ServerTls>>,
    /// What takes spans of requests; without it nothing is recorded.
    pub tracer: Option<Arc<Tracer>>,
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
            dashboard_origin: HeaderValue::from_static("http://localhost:5173"),
            tls: None,
            tracer: None,
        }
    }
}
