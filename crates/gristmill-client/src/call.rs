//! One request, sent as often as it takes.
//!
//! Invariant: an attempt is never a different request than the one before it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::{Clock, Entropy};
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::backoff::{Backoff, retry_after};
use crate::connect::Connector;
use crate::error::{innermost, is_transient};
use crate::{ClientConfig, ClientError, Reply};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// What carries the key.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// One request, to be sent as often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(HeaderName, &'a str)],
    pub(crate) body: Bytes,
}

impl<'a> Call<'a> {
    /// A question for what is at a path.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, headers: &[], body: Bytes::new() }
    }
}

/// What all clones of a client share.
pub(crate) struct Exchange {
    pub(crate) pool: Pool<Connector, Full<Bytes>>,
    pub(crate) base: String,
    pub(crate) config: ClientConfig,
    pub(crate) key: Option<HeaderValue>,
    pub(crate) permits: Semaphore,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Exchange {
    /// Repeats a call until it has a final answer or the retries are used up; tells how many were.
    pub(crate) async fn persist(&self, call: &Call<'_>) -> Result<(Reply, u32), ClientError> {
        let backoff =
            Backoff { first: self.config.first_backoff, longest: self.config.longest_backoff };
        let mut retries = 0;
        loop {
            let outcome = self.attempt(call, None).await;
            let asked = match &outcome {
                Ok((reply, _)) if !is_transient(reply.status) => None,
                Ok((_, asked)) => Some(*asked),
                Err(error) if error.is_transient() => Some(None),
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

    /// Repeats a call and reads the JSON of its answer.
    pub(crate) async fn exchange_json<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<T, ClientError> {
        let (reply, _) = self.persist(call).await?;
        self.read_success(call.path, &reply)
    }

    /// Reads the JSON of an answer, which must be a success.
    pub(crate) fn read_success<T: DeserializeOwned>(
        &self,
        path: &str,
        reply: &Reply,
    ) -> Result<T, ClientError> {
        if !(200..300).contains(&reply.status) {
            return Err(ClientError::refused(self.target(path), reply.status, &reply.body));
        }
        self.read(path, &reply.body)
    }

    /// Reads JSON.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::Answer {
            url: self.target(path),
            reason: error.to_string(),
        })
    }

    /// Sends a call once and reads the whole answer, with the time that the server asks to wait. It is cut
    /// after the configured timeout, and at `until` if that is earlier.
    pub(crate) async fn attempt(
        &self,
        call: &Call<'_>,
        until: Option<Instant>,
    ) -> Result<(Reply, Option<Duration>), ClientError> {
        let mut request = self.request(call)?;
        let connection = capture_connection(&mut request);
        let begun = Instant::now();
        let sending = async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await.ok();
            timeout(self.config.timeout, self.send(call.path, request, &connection)).await
        };
        let answered = match until {
            None => sending.await,
            Some(until) => timeout_at(until, sending).await.and_then(|answered| answered),
        };
        answered.unwrap_or_else(|_| {
            Err(self.late(call.path, begun.elapsed().min(self.config.timeout), &connection))
        })
    }

    async fn send(
        &self,
        path: &str,
        request: Request<Full<Bytes>>,
        connection: &CaptureConnection,
    ) -> Result<(Reply, Option<Duration>), ClientError> {
        let unreachable = |error: &dyn std::error::Error, is_unsent| ClientError::Unreachable {
            url: self.target(path),
            reason: innermost(error),
            is_unsent,
        };
        let response = self.pool.request(request).await;
        let response = response.map_err(|error| {
            unreachable(&error, error.is_connect() || !has_connected(connection))
        })?;
        let status = response.status().as_u16();
        let asked = retry_after(response.headers());
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| unreachable(error.as_ref(), false))?.to_bytes();
        Ok((Reply { status, body }, asked))
    }

    /// The error of an attempt that was cut. Without a connection nothing was sent.
    fn late(&self, path: &str, waited: Duration, connection: &CaptureConnection) -> ClientError {
        let (url, seconds) = (self.target(path), waited.as_millis() as f64 / 1e3);
        if has_connected(connection) {
            return ClientError::Timeout { url, seconds };
        }
        let reason = format!("there was no connection within {seconds} s");
        ClientError::Unreachable { url, reason, is_unsent: true }
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut builder = Request::builder().method(&call.method).uri(self.target(call.path));
        for (name, value) in call.headers {
            builder = builder.header(name, *value);
        }
        if let Some(key) = &self.key {
            builder = builder.header(API_KEY, key);
        }
        builder.body(Full::new(call.body.clone())).map_err(|error| ClientError::Url {
            url: self.target(call.path),
            reason: error.to_string(),
        })
    }

    /// The whole address of a path.
    pub(crate) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// Whether a request was handed to a connection.
fn has_connected(connection: &CaptureConnection) -> bool {
    connection.connection_metadata().is_some()
}

/// The header that says what a body is.
pub(crate) const JSON: &[(HeaderName, &str)] = &[(header::CONTENT_TYPE, "application/json")];
