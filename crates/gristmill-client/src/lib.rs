//! The client library: pooling, batching, retries.
//!
//! [`Client::ingest`] sends a batch of events and answers when they are durable. Whatever goes
//! wrong on the way — a full server, a cut connection, no answer in time — it sends the very same
//! bytes again, and since every event in them carries its id, the server counts each once.

mod backoff;
mod client;
mod error;
mod receipt;
mod tls;

pub use client::{BatchFormat, Client, ClientConfig, Reply, WaitFor};
pub use error::ClientError;
pub use receipt::{EventResult, Receipt};
pub use tls::{ClientIdentity, ClientTls};
