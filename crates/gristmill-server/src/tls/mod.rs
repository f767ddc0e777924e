//! TLS: certificates out of files, for listeners and for the connections to other roles.
//!
//! Files are read when the process starts, and again when they have changed. A handshake uses what was
//! read last; connections that stand keep what they began with. What cannot be read replaces nothing.
//!
//! The cryptography is ring's and is named where it is needed: no default of the process is set or asked for.

mod expiry;
mod files;
mod gateway;
mod handshake;
mod renewed;
mod server;
mod stream;

use std::sync::Arc;

use gristmill_model::Timestamp;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use files::{IdentityFiles, TlsError};
pub use gateway::{GatewayTls, GatewayTlsFiles};
pub(crate) use handshake::accept;
pub use server::{ClientAuth, ClientAuthority, ServerTls, ServerTlsFiles};
pub(crate) use stream::Stream;

/// HTTP/2 and HTTP/1.1, as they are named in handshakes.
const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What became of the certificates of one setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    /// When the process's own certificate expires, where it has one and says so.
    pub(crate) expires: Option<Timestamp>,
    /// How often changed files were taken.
    pub(crate) renewals: u64,
    /// How often changed files could not be used.
    pub(crate) failures: u64,
}

/// The one implementation of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
