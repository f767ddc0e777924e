//! The client: one pool of kept-alive connections to one server, and the retry loop around it.
//!
//! Invariant: an attempt is never a different request than the one before it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::Entropy;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::backoff::{Backoff, retry_after};
use crate::{ClientError, ClientTls, Receipt, tls};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How many requests run at once, each on a connection of its own; more wait.
    pub connections: usize,
    /// How long one attempt may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How often a request is sent again after 408, 429, 502, 503, 504, a broken connection or
    /// no answer in time.
    pub retries: u32,
    /// About how long to wait before the first retry; doubles with each.
    pub first_backoff: Duration,
    /// The longest wait between retries, unless the server asks for more by `Retry-After`.
    pub longest_backoff: Duration,
    /// For servers at `https`.
    pub tls: ClientTls,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connections: 4,
            timeout: Duration::from_secs(30),
            retries: 8,
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(10),
            tls: ClientTls::default(),
        }
    }
}

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

/// Speaks to one server over HTTP/1.1. Cheap to share behind an `Arc`.
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    config: ClientConfig,
    permits: Semaphore,
    entropy: Arc<dyn Entropy>,
}

impl Client {
    /// A client for the server at `url`, e.g. `http://127.0.0.1:8080`. Does not connect yet, but reads the files
    /// of `config.tls` if the server is at `https`.
    pub fn new(
        url: &str,
        config: ClientConfig,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ClientError> {
        let base = base_of(url)?;
        let connector = tls::connector(&base, &config.tls)?;
        let base = base.to_string().trim_end_matches('/').to_owned();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(config.connections)
            .build(connector);
        let permits = Semaphore::new(config.connections.max(1));
        Ok(Self { pool, base, config, permits, entropy })
    }

    /// The server's address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.base
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
        let call =
            Call { method: Method::POST, path, content_type: Some(content_type), body: batch };
        let (reply, retries) = self.persist(&call).await?;
        // A batch without one acceptable event is a 422 that tells of each event all the same.
        if reply.status != 200 && reply.status != 422 {
            return Err(ClientError::refused(self.target(path), reply.status, &reply.body));
        }
        let receipt = self.read::<Receipt>(path, &reply.body)?;
        if reply.status == 422 && receipt.results.is_empty() {
            return Err(ClientError::refused(self.target(path), reply.status, &reply.body));
        }
        Ok(Receipt { retries, ..receipt })
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
        let call = Call { method: Method::GET, path, content_type: None, body: Bytes::new() };
        self.exchange_json(&call).await
    }

    /// Posts a value as JSON and reads the JSON of the answer. The request is repeated like any
    /// other, so it must be one that may be.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(value).map_err(|error| ClientError::Answer {
            url: self.target(path),
            reason: format!("the request cannot be written as json: {error}"),
        })?;
        let content_type = Some("application/json");
        let call = Call { method: Method::POST, path, content_type, body: body.into() };
        self.exchange_json(&call).await
    }

    /// Gets a path once, without retries, and gives the answer whatever its status.
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        let call = Call { method: Method::GET, path, content_type: None, body: Bytes::new() };
        self.attempt(&call).await.map(|(reply, _)| reply)
    }

    async fn exchange_json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ClientError> {
        let (reply, _) = self.persist(call).await?;
        if !(200..300).contains(&reply.status) {
            return Err(ClientError::refused(self.target(call.path), reply.status, &reply.body));
        }
        self.read(call.path, &reply.body)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::Answer {
            url: self.target(path),
            reason: error.to_string(),
        })
    }

    /// Repeats a call until it has a final answer or the retries are used up; tells how many were.
    async fn persist(&self, call: &Call<'_>) -> Result<(Reply, u32), ClientError> {
        let backoff =
            Backoff { first: self.config.first_backoff, longest: self.config.longest_backoff };
        let mut retries = 0;
        loop {
            let outcome = self.attempt(call).await;
            let asked = match &outcome {
                Ok((reply, _)) if !is_transient(reply.status) => None,
                Ok((_, asked)) => Some(*asked),
                Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. }) => Some(None),
                Err(_) => None,
            };
            match asked {
                Some(asked) if retries < self.config.retries => {
                    retries += 1;
                    let wait = backoff.wait(retries, asked, self.entropy.next_u128());
                    tokio::time::sleep(wait).await;
                }
                _ => return outcome.map(|(reply, _)| (reply, retries)),
            }
        }
    }

    /// Sends a call once and reads the whole answer, with the time that the server asks to wait.
    async fn attempt(&self, call: &Call<'_>) -> Result<(Reply, Option<Duration>), ClientError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
        let request = self.request(call)?;
        let answered = tokio::time::timeout(self.config.timeout, self.send(call.path, request));
        answered.await.unwrap_or_else(|_| {
            let seconds = self.config.timeout.as_secs_f64();
            Err(ClientError::Timeout { url: self.target(call.path), seconds })
        })
    }

    async fn send(
        &self,
        path: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<(Reply, Option<Duration>), ClientError> {
        let unreachable = |error: &dyn std::error::Error| ClientError::Unreachable {
            url: self.target(path),
            reason: innermost(error),
        };
        let response = self.pool.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let asked = retry_after(response.headers());
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| unreachable(error.as_ref()))?.to_bytes();
        Ok((Reply { status, body }, asked))
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut builder = Request::builder().method(&call.method).uri(self.target(call.path));
        if let Some(content_type) = call.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        builder.body(Full::new(call.body.clone())).map_err(|error| ClientError::Url {
            url: self.target(call.path),
            reason: error.to_string(),
        })
    }

    fn target(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// One request, to be sent as often as it takes.
struct Call<'a> {
    method: Method,
    path: &'a str,
    content_type: Option<&'static str>,
    body: Bytes,
}

/// Statuses after which the same bytes are sent again.
fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 502 | 503 | 504)
}

/// Checks a server's address.
fn base_of(url: &str) -> Result<Uri, ClientError> {
    let wrong = |reason: &str| ClientError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let base = url.trim_end_matches('/');
    let uri: Uri = base.parse().map_err(|_| wrong("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(wrong("it does not begin with http:// or https://")),
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    Ok(uri)
}

/// The text of the cause at the bottom: "connection refused" rather than "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
