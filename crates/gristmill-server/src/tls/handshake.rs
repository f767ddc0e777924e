//! The handshake with a client: it ends in a secure connection, or is refused so that the client hears why.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Stream;
use crate::metrics::Metrics;
use crate::server::part;

/// The first byte of every handshake.
const HANDSHAKE: u8 = 22;
/// What a client is told that speaks HTTP without TLS.
const PLAINTEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 23\r\nconnection: close\r\n\r\nthis port speaks https\n";

/// Makes a client's connection secure until `deadline`; `None` if that is not to be.
pub(crate) async fn accept(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    deadline: Instant,
    metrics: &Metrics,
) -> Option<Stream> {
    match timeout_at(deadline, shake_hands(stream, acceptor)).await {
        Ok(Ok(stream)) => {
            metrics.tls_handshakes.add(1);
            Some(stream)
        }
        Ok(Err(Refusal::Silence)) => None,
        Ok(Err(Refusal::Plaintext(stream))) => {
            metrics.tls_plaintext.add(1);
            tracing::debug!("a client spoke no TLS");
            part(stream, PLAINTEXT).await;
            None
        }
        Ok(Err(Refusal::Failed(error, stream))) => {
            metrics.tls_failures.add(1);
            tracing::debug!(%error, "a TLS handshake failed");
            part(stream, b"").await;
            None
        }
        Err(_) => {
            metrics.tls_failures.add(1);
            metrics.connections_timed_out.add(1);
            tracing::debug!("a TLS handshake took longer than `server.header_timeout`");
            None
        }
    }
}

/// Why there is no secure connection.
enum Refusal {
    /// The client has said nothing and is gone.
    Silence,
    /// It does not speak TLS.
    Plaintext(TcpStream),
    /// It does, but there is no agreement. It has been sent the reason.
    Failed(io::Error, TcpStream),
}

async fn shake_hands(stream: TcpStream, acceptor: TlsAcceptor) -> Result<Stream, Refusal> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(Refusal::Silence),
        Ok(_) if first != [HANDSHAKE] => return Err(Refusal::Plaintext(stream)),
        Ok(_) => {}
    }
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream.into()))),
        Err((error, stream)) => Err(Refusal::Failed(error, stream)),
    }
}
