//! What a gateway shows to the processes that it reaches, and what it asks of them.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill_model::Clock;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::files::{Identity, IdentityFiles, NamedFile, TlsError};
use super::renewed::{Made, Renewed};
use super::{HTTP_2, Status, Stream, provider};

/// The files of `[gateway.tls]`.
#[derive(Clone, Debug)]
pub struct GatewayTlsFiles {
    /// PEM: the authorities that the certificates of other processes come from.
    pub ca: PathBuf,
    /// What the gateway shows, if anything.
    pub identity: Option<IdentityFiles>,
    /// The name that the certificates of other processes must have, instead of that of their address.
    pub server_name: Option<String>,
}

/// TLS to other processes.
pub struct GatewayTls {
    connectors: Renewed<TlsConnector>,
    server_name: Option<ServerName<'static>>,
}

impl GatewayTls {
    /// Reads the files. An error names the setting, and the file or the name; the clock tells whether a
    /// certificate has expired.
    pub fn load(files: GatewayTlsFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let named = |setting, path| NamedFile { setting, path };
        let ca = named("gateway.tls.ca", files.ca);
        let server_name = files.server_name.map(certified_name).transpose()?;
        let identity = files.identity.map(|identity| Identity {
            certificate: named("gateway.tls.certificate", identity.certificate),
            key: named("gateway.tls.key", identity.key),
        });
        let mut all = vec![ca.clone()];
        all.extend(identity.iter().flat_map(Identity::files));
        let connectors = Renewed::new(all, clock, move || {
            let builder = ClientConfig::builder_with_provider(provider());
            let builder = builder.with_safe_default_protocol_versions();
            let builder = builder.map_err(|error| ca.wrong(error))?;
            let builder = builder.with_root_certificates(ca.authorities()?);
            let (mut config, expires) = match identity.as_ref().map(Identity::load).transpose()? {
                Some((certified, expires)) => {
                    (builder.with_client_cert_resolver(shown(certified)), expires)
                }
                None => (builder.with_no_client_auth(), None),
            };
            config.alpn_protocols = vec![HTTP_2.to_vec()];
            Ok(Made { value: Arc::new(config).into(), expires })
        })?;
        Ok(Self { connectors, server_name })
    }

    /// Reads the files again if they have changed and lie still. May block on the disk. If they cannot be used
    /// or their certificate has expired, the log says so, and what was read before stays.
    pub fn renew_if_changed(&self) {
        self.connectors.renew_if_changed();
    }

    /// Reads the files again, like [`renew_if_changed`](Self::renew_if_changed), whether they have
    /// changed or not.
    pub fn renew(&self) {
        self.connectors.renew();
    }

    /// Makes a connection to a host secure. That the host takes this process's certificate is only known
    /// when it answers.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let of_host = || ServerName::try_from(bare.unwrap_or(host).to_owned());
        let name = self.server_name.clone().map_or_else(of_host, Ok).map_err(io::Error::other)?;
        let connector = self.connectors.current().value.clone();
        let stream = connector.connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }

    /// What became of the files.
    pub(crate) fn status(&self) -> Status {
        self.connectors.status()
    }
}

impl fmt::Debug for GatewayTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GatewayTls").finish_non_exhaustive()
    }
}

/// A name that a certificate can have.
fn certified_name(name: String) -> Result<ServerName<'static>, TlsError> {
    let setting = NamedFile { setting: "gateway.tls.server_name", path: PathBuf::from(&name) };
    ServerName::try_from(name).map_err(|error| setting.wrong(error))
}

fn shown(certified: CertifiedKey) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(certified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_certificate_has_is_refused_with_its_setting() {
        for name in ["roles.internal", "10.0.0.1", "::1"] {
            certified_name(name.to_owned()).unwrap();
        }
        let error = certified_name("not a name".to_owned()).unwrap_err().to_string();
        assert!(error.starts_with("gateway.tls.server_name: cannot use not a name: "), "{error}");
    }
}
