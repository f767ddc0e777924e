//! Processes of other roles, and the connections that are kept to them.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use gristmill_model::Entropy;
use http::Uri;
use http::uri::Authority;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::call::{self, Failure};
use super::jittered;
use crate::tls::{GatewayTls, Stream};

/// How many connections are kept to one target.
const CONNECTIONS: usize = 2;
/// How long connecting may take, and the first answer over a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a target must show that it is alive, and how long it may take: so that what it has can be
/// tried elsewhere before the gateway gives up.
const PING_EVERY: Duration = Duration::from_millis(1500);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a connection has failed, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Bytes of an answer that its client has not read, for each request and over all of a connection: so
/// much, that a thousand clients that read nothing hold up no other.
const REQUEST_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// How many answers may be given up at a time, when many clients leave at once.
const GIVEN_UP: usize = 1024;

/// Where another process listens for gRPC: `http://host:port`, or `https://host:port` under TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAddress(Uri);

impl FromStr for TargetAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form http://host:port or https://host:port");
        let uri = Uri::from_str(text).map_err(|_| wrong())?;
        let is_bare = matches!(uri.scheme_str(), Some("http" | "https"))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        let is_place = |authority: &&Authority| {
            authority.port_u16().is_some() && !authority.as_str().contains('@')
        };
        match uri.authority().filter(is_place) {
            Some(_) if is_bare => Ok(Self(uri)),
            _ => Err(wrong()),
        }
    }
}

impl TargetAddress {
    /// Whether it is reached under TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    fn authority(&self) -> &str {
        self.0.authority().map_or("", Authority::as_str)
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure() { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}

/// What requests are sent over.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) requests: SendRequest<tonic::body::Body>,
    /// What they name as their authority.
    pub(super) origin: Uri,
}

/// The connections to all targets of one role.
pub(super) struct Group {
    links: Vec<Arc<Link>>,
    next: AtomicUsize,
}

/// One connection, made again whenever it ends.
pub(super) struct Link {
    address: TargetAddress,
    tls: Option<Arc<GatewayTls>>,
    sender: watch::Sender<Option<Sender>>,
}

impl Group {
    /// Connections to these targets, none of which stands yet.
    pub(super) fn new(addresses: &[TargetAddress], tls: Option<&Arc<GatewayTls>>) -> Self {
        let link = |address: &TargetAddress| {
            let (address, sender) = (address.clone(), watch::Sender::new(None));
            Arc::new(Link { address, tls: tls.cloned(), sender })
        };
        // Neighbours belong to different targets, so that the next try goes to another one.
        let links = (0..CONNECTIONS).flat_map(|_| addresses.iter().map(link)).collect();
        Self { links, next: AtomicUsize::new(0) }
    }

    /// All connections, of which [`Link::keep`] must run.
    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter()
    }

    /// The connections that stand, each once, the next in turn first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = Sender> {
        let first = self.next.fetch_add(1, Relaxed) % self.links.len().max(1);
        let (late, early) = self.links.split_at(first.min(self.links.len()));
        early.iter().chain(late).filter_map(|link| link.sender())
    }

    /// The targets, each with whether it can be reached.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&TargetAddress, bool)> {
        let count = self.links.len() / CONNECTIONS;
        let is_reached = move |address: &TargetAddress| {
            let mut links = self.links.iter().filter(move |link| link.address == *address);
            links.any(|link| link.sender().is_some())
        };
        self.links.iter().take(count).map(move |link| (&link.address, is_reached(&link.address)))
    }

    /// Whether one of them can be reached.
    pub(super) fn is_reachable(&self) -> bool {
        self.links.iter().any(|link| link.sender().is_some())
    }
}

impl Link {
    fn sender(&self) -> Option<Sender> {
        self.sender.borrow().clone().filter(|sender| !sender.requests.is_closed())
    }

    /// Keeps the connection for as long as it is polled.
    pub(super) async fn keep(&self, entropy: &dyn Entropy) -> Infallible {
        let (mut pause, mut is_told) = (PAUSE, false);
        loop {
            let was_reached = self.connect().await;
            self.sender.send_replace(None);
            let peer = self.address.to_string();
            match was_reached {
                Ok(()) => {
                    tracing::warn!(peer, "the connection ended");
                    (pause, is_told) = (PAUSE, true);
                }
                Err(error) if is_told => tracing::debug!(peer, %error, "cannot connect"),
                Err(error) => {
                    tracing::warn!(peer, %error, "cannot connect, trying again");
                    is_told = true;
                }
            }
            sleep(jittered(pause, entropy)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Connects, and returns when a connection that stood has ended.
    async fn connect(&self) -> Result<(), Failure> {
        let unreached = |error: &dyn Error| Failure::unsent(innermost(error));
        let late = || Failure::unsent("it did not answer in time".to_owned());
        let stream = timeout(CONNECT_TIMEOUT, self.open()).await.map_err(|_| late())?;
        let stream = stream.map_err(|error| unreached(&error))?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(REQUEST_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_reset_streams(GIVEN_UP)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (requests, connection) = handshake.map_err(|error| unreached(&error))?;
        let sender = Sender { requests, origin: self.address.0.clone() };
        let mut connection = std::pin::pin!(connection);
        // A process that takes connections may still be none of ours, or stand still.
        let greeting = timeout(CONNECT_TIMEOUT, call::greet(sender.clone()));
        tokio::select! {
            // It knows better than the greeting why it failed.
            biased;
            ended = &mut connection => {
                return Err(ended.err().map_or_else(late, |error| unreached(&error)));
            }
            greeted = greeting => greeted.map_err(|_| late())??,
        }
        self.sender.send_replace(Some(sender));
        tracing::info!(peer = self.address.to_string(), "connected");
        if let Err(error) = connection.await {
            tracing::debug!(peer = self.address.to_string(), %error, "a connection failed");
        }
        Ok(())
    }

    /// Opens a socket, under TLS where the address says so.
    async fn open(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(self.address.authority()).await?;
        // Small requests must not wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        if !self.address.is_secure() {
            return Ok(Stream::Plain(stream));
        }
        let Some(tls) = &self.tls else {
            return Err(io::Error::other("https needs gateway.tls.ca"));
        };
        tls.connect(self.address.0.host().unwrap_or_default(), stream).await
    }
}

/// The text of the cause at the bottom, which says why: "connection refused" rather than "http2 error".
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
