//! `https`: whom the client trusts, and what it shows.
//!
//! The system's authorities are trusted, and those of a file. The cryptography is ring's and is named
//! here: no default of the process is set or asked for.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::ClientError;

/// What `https` needs beside what the system has; `http` needs nothing of it.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// A PEM file of authorities that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// What the client shows to servers that ask for it.
    pub identity: Option<ClientIdentity>,
}

/// A certificate of the client's own.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// PEM: the certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// The settings of TLS itself, without a protocol to agree on.
pub(crate) fn config(tls: &ClientTls) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    // What the system has may hold what this library does not understand; that is for none to care about.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = &tls.ca {
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| unusable(ca, error))?;
        }
    }
    if roots.is_empty() {
        let reason = "this system has no list of authorities, and no file of them is given";
        return Err(ClientError::Tls { reason: reason.to_owned() });
    }
    trusting(roots, tls.identity.as_ref())
}

/// The settings of connections that are no use for TLS.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, ClientError> {
    trusting(RootCertStore::empty(), None)
}

fn trusting(
    roots: RootCertStore,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, ClientError> {
    let wrong = |error: &dyn Display| ClientError::Tls { reason: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| wrong(&error))?;
    let builder = builder.with_root_certificates(roots);
    let Some(ClientIdentity { certificate, key }) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    // The reason names no bytes: this is a secret.
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| unusable(key, "it cannot be read or holds no private key in PEM"))?;
    builder
        .with_client_auth_cert(certificates(certificate)?, secret)
        .map_err(|error| unusable(certificate, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(|error| unusable(path, error))?;
    match read.is_empty() {
        true => Err(unusable(path, "it holds no certificate in PEM")),
        false => Ok(read),
    }
}

fn unusable(path: &Path, reason: impl Display) -> ClientError {
    ClientError::Tls { reason: format!("cannot use {}: {reason}", path.display()) }
}
