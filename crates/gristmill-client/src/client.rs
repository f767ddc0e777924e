//! The client: one pool of kept-alive connections to one server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::{Clock, Entropy};
use http::{Method, header};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::ambient::{SystemClock, SystemEntropy};
use crate::call::{Call, Exchange, JSON};
use crate::connect::{Speech, base_of, connector};
use crate::event::encode;
use crate::{ApiKey, ClientConfig, ClientError, Event, Receipt};

/// How the events of a batch are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFormat {
    /// One JSON object per line.
    Ndjson,
    /// A JSON array, or an object with `events`.
    Json,
}

/// When an ingest request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// As soon as the events are on stable storage.
    Durable,
    /// When they can be queried, too; the results then tell which were duplicates.
    Visible,
}

/// A whole answer of any status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Speaks to one server over HTTP/1.1. A clone is cheap and shares the connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) exchange: Arc<Exchange>,
}

impl Client {
    /// A client for the server at `url`, e.g. `http://127.0.0.1:8080`, with the default settings.
    /// Does not connect yet.
    pub fn at(url: &str) -> Result<Self, ClientError> {
        Self::with_config(url, ClientConfig::default())
    }

    /// A client for the server at `url` that has this key, else with the default settings.
    pub fn with_key(url: &str, key: impl Into<ApiKey>) -> Result<Self, ClientError> {
        Self::with_config(url, ClientConfig { api_key: Some(key.into()), ..Default::default() })
    }

    /// A client for the server at `url`. Does not connect yet, but reads the files of `config.tls` if
    /// the server is at `https`.
    pub fn with_config(url: &str, config: ClientConfig) -> Result<Self, ClientError> {
        Self::new(url, config, Arc::new(SystemEntropy))
    }

    /// A client that takes its randomness, for ids and waiting times, from `entropy`.
    pub fn new(
        url: &str,
        config: ClientConfig,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ClientError> {
        Self::with_ambient(url, config, entropy, Arc::new(SystemClock))
    }

    /// A client that also takes the time, for events that carry none, from `clock`.
    pub fn with_ambient(
        url: &str,
        config: ClientConfig,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let (base, uri) = base_of(url)?;
        let connector = connector(&uri, &config.tls, Speech::Http1)?;
        let key = config.api_key.as_ref().map(ApiKey::header).transpose()?;
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(config.connections)
            .build(connector);
        let permits = Semaphore::new(config.connections.max(1));
        let exchange = Exchange { pool, base, config, key, permits, entropy, clock };
        Ok(Self { exchange: Arc::new(exchange) })
    }

    /// The server's address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.exchange.base
    }

    /// Sends one event and waits until it is on stable storage. An event without an id gets one, so
    /// that it counts once however often it has to be sent. Many events go faster through a
    /// [`Sender`](crate::Sender).
    ///
    /// An event that the server rejects is a receipt, not an error.
    pub async fn send(&self, event: &Event, wait: WaitFor) -> Result<Receipt, ClientError> {
        let exchange = &self.exchange;
        let line = encode(event, exchange.clock.as_ref(), exchange.entropy.as_ref());
        let line = line
            .map_err(|error| ClientError::Setting { name: "event", reason: error.to_string() })?;
        self.ingest(line, BatchFormat::Ndjson, wait).await
    }

    /// Sends a batch of events and says what became of them. Every event should carry an id or a
    /// time of its own, so that a batch that is sent again is counted once.
    pub async fn ingest(
        &self,
        batch: Bytes,
        format: BatchFormat,
        wait: WaitFor,
    ) -> Result<Receipt, ClientError> {
        let path = match wait {
            WaitFor::Durable => "/v1/events/batch",
            WaitFor::Visible => "/v1/events/batch?wait=visible",
        };
        let content_type = match format {
            BatchFormat::Ndjson => "application/x-ndjson",
            BatchFormat::Json => "application/json",
        };
        let headers = &[(header::CONTENT_TYPE, content_type)];
        let call = Call { method: Method::POST, path, headers, body: batch };
        let (reply, retries) = self.exchange.persist(&call).await?;
        Ok(Receipt { retries, ..self.receipt(path, &reply)? })
    }

    /// Sends a batch once, and waits for the answer until then at most. With an error comes how long the
    /// server asks to wait.
    pub(crate) async fn try_ingest(
        &self,
        body: Bytes,
        is_gzip: IsGzip,
        until: Option<Instant>,
    ) -> Result<Receipt, (ClientError, Option<Duration>)> {
        const PATH: &str = "/v1/events/batch";
        let headers =
            [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CONTENT_ENCODING, "gzip")];
        let headers = match is_gzip {
            IsGzip::Yes => &headers[..],
            IsGzip::No => &headers[..1],
        };
        let call = Call { method: Method::POST, path: PATH, headers, body };
        let attempt = self.exchange.attempt(&call, until).await;
        let (reply, asked) = attempt.map_err(|error| (error, None))?;
        self.receipt(PATH, &reply).map_err(|error| (error, asked))
    }

    fn receipt(&self, path: &str, reply: &Reply) -> Result<Receipt, ClientError> {
        let refused =
            || ClientError::refused(self.exchange.target(path), reply.status, &reply.body);
        // A batch without one acceptable event is a 422 that tells of each event all the same.
        if reply.status != 200 && reply.status != 422 {
            return Err(refused());
        }
        let receipt = self.exchange.read::<Receipt>(path, &reply.body)?;
        if reply.status == 422 && receipt.results.is_empty() {
            return Err(refused());
        }
        Ok(receipt)
    }

    /// Waits until everything below a receipt's `position` can be queried.
    pub async fn wait_visible(&self, position: &str) -> Result<(), ClientError> {
        // A range before all events, so that the question itself costs nothing.
        let path = format!(
            "/v1/analytics/summary?start=0001-01-01T00:00:00Z&end=0001-01-01T00:00:01Z&at_least={position}"
        );
        self.get_json::<serde::de::IgnoredAny>(&path).await.map(|_| ())
    }

    /// Reads the JSON at a path, e.g. `/v1/analytics/summary?tz=Europe/Berlin`.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.exchange.exchange_json(&Call::get(path)).await
    }

    /// Posts a value as JSON and reads the JSON of the answer. The request is repeated like any
    /// other, so it must be one that may be.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = self.json_body(value)?;
        let call = Call { method: Method::POST, path, headers: JSON, body };
        self.exchange.exchange_json(&call).await
    }

    pub(crate) fn json_body(&self, value: &impl Serialize) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(value).map_err(|error| ClientError::Setting {
            name: "body",
            reason: format!("cannot be written as json: {error}"),
        })?;
        Ok(body.into())
    }

    /// Gets a path once, without retries, and gives the answer whatever its status.
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        self.exchange.attempt(&Call::get(path), None).await.map(|(reply, _)| reply)
    }

    /// Deletes what is at a path. The request is repeated like any other.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let call = Call { method: Method::DELETE, path, headers: &[], body: Bytes::new() };
        let (reply, _) = self.exchange.persist(&call).await?;
        match reply.status {
            200..300 => Ok(()),
            status => Err(ClientError::refused(self.exchange.target(path), status, &reply.body)),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// Whether a body was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsGzip {
    Yes,
    No,
}
