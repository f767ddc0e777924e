//! What listeners show to clients, and what they ask of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill_model::Clock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::files::{Identity, IdentityFiles, NamedFile, TlsError};
use super::renewed::{Made, Renewed};
use super::{HTTP_1_1, HTTP_2, Status, provider};
use crate::connection::Speech;

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may; one that does not hold is refused all the same.
    Optional,
    /// They must.
    Required,
}

/// Where the certificates of clients come from, and who needs one.
#[derive(Clone, Debug)]
pub struct ClientAuthority {
    /// PEM: the authorities whose certificates are taken.
    pub ca: PathBuf,
    /// On listeners for HTTP.
    pub http: ClientAuth,
    /// On listeners for gRPC.
    pub grpc: ClientAuth,
}

/// The files of `[server.tls]`.
#[derive(Clone, Debug)]
pub struct ServerTlsFiles {
    /// What the server shows.
    pub identity: IdentityFiles,
    /// What it asks clients for, if anything.
    pub clients: Option<ClientAuthority>,
}

/// TLS for all listeners.
pub struct ServerTls(Renewed<Handshakes>);

struct Handshakes {
    http: TlsAcceptor,
    grpc: TlsAcceptor,
}

impl ServerTls {
    /// Reads the files. An error names the setting and the file; the clock tells whether a certificate has
    /// expired.
    pub fn load(files: ServerTlsFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let named = |setting, path| NamedFile { setting, path };
        let identity = Identity {
            certificate: named("server.tls.certificate", files.identity.certificate),
            key: named("server.tls.key", files.identity.key),
        };
        let clients = files.clients.map(|clients| {
            let ClientAuthority { ca, http, grpc } = clients;
            (named("server.tls.client_ca", ca), http, grpc)
        });
        let all = identity.files().chain(clients.iter().map(|(ca, ..)| ca.clone())).collect();
        let renewed = Renewed::new(all, clock, move || {
            let (certified, expires) = identity.load()?;
            let certified = Arc::new(certified);
            let acceptor = |auth| {
                let verifier = verifier(clients.as_ref().map(|(ca, ..)| ca), auth)?;
                acceptor(&certified, verifier).map_err(|error| identity.key.wrong(error))
            };
            let (http, grpc) = match &clients {
                Some((_, http, grpc)) => (*http, *grpc),
                None => (ClientAuth::None, ClientAuth::None),
            };
            let value = Handshakes { http: acceptor(http)?, grpc: acceptor(grpc)? };
            Ok(Made { value, expires })
        });
        renewed.map(Self)
    }

    /// Reads the files again if they have changed and lie still. May block on the disk. If they cannot be used
    /// or their certificate has expired, the log says so, and what was read before stays.
    pub fn renew_if_changed(&self) {
        self.0.renew_if_changed();
    }

    /// Reads the files again, like [`renew_if_changed`](Self::renew_if_changed), whether they have
    /// changed or not.
    pub fn renew(&self) {
        self.0.renew();
    }

    /// For the next handshake.
    pub(crate) fn acceptor(&self, speech: Speech) -> TlsAcceptor {
        let current = self.0.current();
        match speech {
            Speech::Http => current.value.http.clone(),
            Speech::Grpc => current.value.grpc.clone(),
        }
    }

    /// What became of the files.
    pub(crate) fn status(&self) -> Status {
        self.0.status()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// Takes clients whose certificates come from an authority, where they are asked for.
fn verifier(
    ca: Option<&NamedFile>,
    auth: ClientAuth,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (Some(ca), ClientAuth::Optional | ClientAuth::Required) = (ca, auth) else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let builder = WebPkiClientVerifier::builder_with_provider(ca.authorities()?, provider());
    let builder = match auth {
        ClientAuth::Required => builder,
        _ => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| ca.wrong(error))
}

fn acceptor(
    certified: &Arc<CertifiedKey>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<TlsAcceptor, tokio_rustls::rustls::Error> {
    let asks = verifier.offer_client_auth();
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions()?;
    let shown = SingleCertAndKey::from(Arc::clone(certified));
    let builder = builder.with_client_cert_verifier(verifier);
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    if asks {
        // A session that is taken up again would not show its certificate again, which may have
        // expired or come from an authority that is no longer trusted.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
    Ok(Arc::new(config).into())
}
