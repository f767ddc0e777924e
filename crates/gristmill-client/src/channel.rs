//! One HTTP/2 connection for gRPC.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gristmill_model::{Clock, Entropy};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::ambient::{SystemClock, SystemEntropy};
use crate::call::API_KEY;
use crate::connect::{Connector, Speech, base_of, connector};
use crate::error::innermost;
use crate::{ApiKey, ClientError, ClientTls};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection must show that it is alive, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that may be under way to this side, for each call and over all of a connection.
const CALL_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Where a server speaks gRPC, and as whom to speak to it.
#[derive(Clone)]
pub struct StreamTarget {
    pub(crate) url: String,
    uri: Uri,
    connector: Connector,
    key: Option<HeaderValue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl StreamTarget {
    /// The server at `url`, e.g. `http://127.0.0.1:50051`. Does not connect yet. At `https` it is
    /// trusted if the system's authorities vouch for it.
    pub fn at(url: &str) -> Result<Self, ClientError> {
        Self::with_tls(url, &ClientTls::default())
    }

    /// The server at `url`, at `https` as `tls` says, whose files are read now.
    pub fn with_tls(url: &str, tls: &ClientTls) -> Result<Self, ClientError> {
        let (url, uri) = base_of(url)?;
        if !matches!(uri.path(), "" | "/") {
            let reason = "it has a path".to_owned();
            return Err(ClientError::Url { url, reason });
        }
        let connector = connector(&uri, tls, Speech::Http2)?;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Ok(Self { url, uri, connector, key: None, clock, entropy })
    }

    /// Sends this key with every call, as `x-api-key`.
    pub fn key(self, key: impl Into<ApiKey>) -> Result<Self, ClientError> {
        Ok(Self { key: Some(key.into().header()?), ..self })
    }

    /// Takes time and randomness from these.
    #[must_use]
    pub fn ambient(self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, ..self }
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Channel, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable {
            url: self.url.clone(),
            reason,
            is_unsent: true,
        };
        let late = || ClientError::Timeout {
            url: self.url.clone(),
            seconds: CONNECT_TIMEOUT.as_secs_f64(),
        };
        let connecting = self.connector.clone().call(self.uri.clone());
        let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| late())?;
        let stream = connected.map_err(|error| unreachable(innermost(error.as_ref())))?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(CALL_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(stream);
        let handshake = timeout(CONNECT_TIMEOUT, handshake).await.map_err(|_| late())?;
        let (requests, connection) = handshake.map_err(|error| unreachable(innermost(&error)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer hears of the error too.
            let _ = connection.await;
        });
        let (scheme, authority) = (self.uri.scheme().cloned(), self.uri.authority().cloned());
        let key = self.key.clone();
        Ok(Channel { requests, scheme, authority, key, _driver: Arc::new(driver) })
    }
}

impl fmt::Debug for StreamTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTarget").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A connection for the clients of [`gristmill_proto`], which ends with its last clone.
#[derive(Clone, Debug)]
pub struct Channel {
    requests: SendRequest<Body>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    key: Option<HeaderValue>,
    _driver: Arc<JoinSet<()>>,
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = self.scheme.clone();
        parts.authority = self.authority.clone();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(key) = &self.key {
            request.headers_mut().insert(API_KEY, key.clone());
        }
        Box::pin(self.requests.send_request(request))
    }
}
