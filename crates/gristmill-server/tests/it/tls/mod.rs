//! Listeners under TLS: what they agree to, whom they refuse, and how they take new certificates.

mod refusals;
mod renewal;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill_server::{
    ClientAuth, ClientAuthority, IdentityFiles, ServerConfig, ServerTls, ServerTlsFiles,
};
use gristmill_testkit::{Authority, Issued, ManualClock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::connections::post_over_http_2;
use crate::support::{Listening, NOW, PATIENCE, post, status_of};

static OLDER: &[&SupportedProtocolVersion] = &[&TLS12];
static NEWER: &[&SupportedProtocolVersion] = &[&TLS13];
static ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

const LIVE: &[u8] = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A server under TLS, with the files of its certificates.
struct Secure {
    server: Listening,
    tls: Arc<ServerTls>,
    /// By which certificates have expired, or not.
    clock: Arc<ManualClock>,
    authority: Authority,
    folder: TempDir,
}

impl Secure {
    /// A server that asks nothing of clients.
    fn new(config: ServerConfig) -> Self {
        Self::asking(config, ClientAuth::None, ClientAuth::None)
    }

    /// A server that asks clients for certificates of its own authority.
    fn asking(config: ServerConfig, http: ClientAuth, grpc: ClientAuth) -> Self {
        let authority = Authority::new("the authority").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), authority.pem()).unwrap();
        write(&folder, &authority.issue("localhost").unwrap());
        let files = ServerTlsFiles {
            identity: IdentityFiles { certificate: path("cert.pem"), key: path("key.pem") },
            clients: Some(ClientAuthority { ca: path("ca.pem"), http, grpc }),
        };
        let clock = Arc::new(ManualClock::at(NOW));
        let tls = Arc::new(ServerTls::load(files, clock.clone()).unwrap());
        let server = Listening::new(ServerConfig { tls: Some(Arc::clone(&tls)), ..config });
        Self { server, tls, clock, authority, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Somebody who trusts the server's authority.
    fn client(&self) -> Visitor {
        Visitor::trusting(&self.authority)
    }

    /// A number of `/metrics`.
    async fn metric(&self, name: &str) -> u64 {
        let page = self.client().ask(self.server.address, &get("/metrics")).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }
}

fn write(folder: &TempDir, issued: &Issued) {
    std::fs::write(folder.path().join("cert.pem"), &issued.certificate).unwrap();
    std::fs::write(folder.path().join("key.pem"), &issued.key).unwrap();
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").into_bytes()
}

/// A client of TLS.
#[derive(Clone)]
struct Visitor {
    trusted: String,
    identity: Option<Issued>,
    protocols: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Visitor {
    fn trusting(authority: &Authority) -> Self {
        Self {
            trusted: authority.pem(),
            identity: None,
            protocols: Vec::new(),
            versions: ALL_VERSIONS,
        }
    }

    fn showing(mut self, identity: Issued) -> Self {
        self.identity = Some(identity);
        self
    }

    fn speaking(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusted.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(self.versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Issued { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        Arc::new(config).into()
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        timeout(PATIENCE, self.connector().connect(name, stream)).await.unwrap()
    }

    /// Sends a request over a connection of its own and gives everything that comes back.
    async fn ask(&self, address: SocketAddr, request: &[u8]) -> io::Result<String> {
        let mut stream = self.connect(address).await?;
        stream.write_all(request).await?;
        stream.flush().await?;
        read_to_end(&mut stream).await
    }
}

async fn read_to_end(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let mut text = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.unwrap()?;
    Ok(String::from_utf8(text).unwrap())
}

/// The certificate that the server showed.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn both_versions_of_tls_and_both_protocols_are_spoken() {
    let secure = Secure::new(ServerConfig::default());
    let address = secure.server.address;
    for versions in [OLDER, NEWER] {
        let client = Visitor { versions, ..secure.client() };
        for (offered, agreed) in
            [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
        {
            let stream = client.clone().speaking(offered).connect(address).await.unwrap();
            let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(protocol, agreed.map(|name| name.as_bytes().to_vec()), "{offered:?}");
        }
        let request = post("/v1/events", "connection: close\r\n", r#"{"event_type":"t"}"#);
        let answer = client.ask(address, &request).await.unwrap();
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert!(answer.contains("\"accepted\":1"), "{answer}");
    }
    let expiry = "gristmill_tls_certificate_expiry_timestamp_seconds{of=\"server\"}";
    assert_eq!(secure.metric(expiry).await, 3_792_268_800, "2090-03-04");
    // Those that only agreed on a protocol, and those that asked.
    assert!(secure.metric("gristmill_tls_handshakes_total{outcome=\"done\"}").await >= 9);
}

#[tokio::test]
async fn http_2_is_served_over_one_connection() {
    let secure = Secure::new(ServerConfig::default());
    let client = secure.client().speaking(&["h2"]);
    let stream = client.connect(secure.server.address).await.unwrap();
    post_over_http_2(stream, "https://localhost/v1/events").await;
}

#[tokio::test]
async fn client_that_says_it_is_done_still_gets_its_answer() {
    let secure = Secure::new(ServerConfig::default());
    let mut stream = secure.client().connect(secure.server.address).await.unwrap();
    stream.write_all(&post("/v1/events?wait=visible", "", r#"{"event_type":"t"}"#)).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_to_end(&mut stream).await.unwrap();
    assert!(answer.contains("\"status\":\"stored\""), "{answer}");
}

#[tokio::test]
async fn client_that_sends_too_much_reads_why_it_is_refused() {
    let secure = Secure::new(ServerConfig::default());
    let stream = secure.client().connect(secure.server.address).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        let head = b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
            content-length: 9999999999\r\n\r\n";
        writer.write_all(head).await.unwrap();
        // It goes on until the server closes, after the answer has been read.
        while writer.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
    });
    let mut text = Vec::new();
    timeout(PATIENCE, reader.read_to_end(&mut text)).await.unwrap().unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(status_of(&text), 413, "{text}");
}
