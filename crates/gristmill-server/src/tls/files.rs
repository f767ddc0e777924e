//! The PEM files that settings name.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill_model::limits;
use thiserror::Error;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{expiry, provider};

/// A file that a TLS setting names cannot be used.
#[derive(Debug, Error)]
#[error("{setting}: cannot use {}: {reason}", path.display())]
pub struct TlsError {
    setting: &'static str,
    path: PathBuf,
    reason: String,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// PEM: the certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// A file, and the setting that names it.
#[derive(Clone, Debug)]
pub(super) struct NamedFile {
    pub(super) setting: &'static str,
    pub(super) path: PathBuf,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) certificate: NamedFile,
    pub(super) key: NamedFile,
}

/// What differs when a file has changed; `None` if it is not there.
pub(super) type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl NamedFile {
    /// Who and when the file is now.
    pub(super) fn stamp(&self) -> Stamp {
        let data = std::fs::metadata(&self.path).ok()?;
        Some((data.dev(), data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    }

    /// An error about this file.
    pub(super) fn wrong(&self, reason: impl Display) -> TlsError {
        TlsError { setting: self.setting, path: self.path.clone(), reason: reason.to_string() }
    }

    /// All certificates, of which there is at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| self.wrong(error))?;
        match certificates.is_empty() {
            true => Err(self.wrong("it holds no certificate in PEM")),
            false => Ok(certificates),
        }
    }

    /// All certificates, as authorities that others must come from.
    pub(super) fn authorities(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.wrong(error))?;
        }
        Ok(Arc::new(roots))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        // The reason names no bytes: this is a secret.
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|_| self.wrong("it holds no private key in PEM, or a broken one"))
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        let (mut bytes, most) = (Vec::new(), limits::PEM_FILE_BYTES);
        File::open(&self.path)
            .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| self.wrong(error))?;
        match bytes.len() > most {
            true => Err(self.wrong(format!("it is larger than {most} bytes"))),
            false => Ok(bytes),
        }
    }
}

impl Identity {
    /// The certificate with its key, which must belong together, and when it expires.
    pub(super) fn load(
        &self,
    ) -> Result<(CertifiedKey, Option<gristmill_model::Timestamp>), TlsError> {
        let chain = self.certificate.certificates()?;
        let expires = chain.first().and_then(|certificate| expiry::of(certificate));
        let key = self.key.private_key()?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| {
            let certificate = self.certificate.path.display();
            self.key.wrong(format!("with the certificate {certificate}: {error}"))
        })?;
        Ok((certified, expires))
    }

    /// Both files.
    pub(super) fn files(&self) -> impl Iterator<Item = NamedFile> {
        [self.certificate.clone(), self.key.clone()].into_iter()
    }
}
