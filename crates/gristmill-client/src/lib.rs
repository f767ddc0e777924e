//! The client library: pooling, batching, retries, streams, typed questions.
//!
//! - [`Client`] speaks to a server: it sends events and asks [questions](mod@questions). Whatever goes
//!   wrong on the way — a full server, a cut connection, no answer in time — it sends the very same
//!   bytes again, and since every event in them carries its id, the server counts each once.
//! - [`Sender`] sends events in the background, by requests or over a gRPC stream, with bounded
//!   memory and on wish with a [spill](SpillConfig) to disk. It tells what was not delivered.
//! - [`Channel`] is a connection for the generated clients of [`proto`].
//!
//! `docs/client.md` is the manual: what is guaranteed, every setting, and what is sent again when.

mod ambient;
mod backoff;
mod call;
mod channel;
mod client;
mod config;
mod connect;
mod error;
mod event;
pub mod questions;
mod receipt;
mod sender;
mod tls;

pub use ambient::random_id;
pub use channel::{Channel, StreamTarget};
pub use client::{BatchFormat, Client, Reply, WaitFor};
pub use config::{ApiKey, ClientConfig};
pub use error::ClientError;
pub use event::{Event, EventError};
pub use gristmill_model::{Clock, Entropy, Timestamp};
pub use gristmill_proto as proto;
pub use receipt::{EventResult, Receipt};
pub use sender::{
    Compression, Delivered, Observer, Reason, Report, SendError, Sender, SenderConfig, SenderStats,
    SpillConfig, StartError, Undelivered,
};
pub use tls::{ClientIdentity, ClientTls};

/// Has the examples of the manual compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/client.md")]
struct Manual;
