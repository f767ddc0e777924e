//! The socket under hyper: tells the protocol from the first bytes and watches heads go by.
//!
//! hyper drops `Content-Length` from a request that also has `Transfer-Encoding`, so such a
//! request, the classic way to smuggle a second one past a proxy, can only be seen here.
//!
//! A socket that closes with unread bytes throws away the answer that is under way to a client
//! that still sends. After such an answer the socket is closed for writing, and read for a while.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::tls::Stream;
use crate::vitals::Vitals;

/// What every HTTP/2 connection begins with.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much of a line of a head is looked at: more than the longest name that matters.
const LINE_BYTES: usize = 32;
/// How long a client may go on sending after an answer that ends its connection.
const LINGER_TIME: Duration = Duration::from_secs(5);
/// From how many bytes on something is written at once, for little would be saved by writing more with it.
const LARGE_BYTES: usize = 4 * 1024;
/// How much of that is read at a time.
const LINGER_BYTES: usize = 16 * 1024;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A socket whose first bytes have been read to tell its protocol, and are given again.
pub(crate) struct Wire {
    stream: Stream,
    first: [u8; HTTP2_PREFACE.len()],
    given: usize,
    filled: usize,
    protocol: Protocol,
    vitals: Arc<Vitals>,
    head: Head,
    /// Whether other tasks have had their turn since the last flush.
    has_waited: bool,
    /// When a socket that is closed for writing is closed for reading too.
    lingering: Option<Pin<Box<Sleep>>>,
}

/// What has been seen of the head of a request.
#[derive(Default)]
struct Head {
    /// How many requests came before.
    number: u64,
    /// The beginning of the line that is not at its end yet.
    line: Vec<u8>,
    has_bytes: bool,
    has_request_line: bool,
    has_length: bool,
    has_encoding: bool,
    is_whole: bool,
}

impl Wire {
    /// Reads until the protocol is certain; `None` if the client closes before a byte.
    pub(crate) async fn open(mut stream: Stream, vitals: Arc<Vitals>) -> io::Result<Option<Self>> {
        let mut first = [0; HTTP2_PREFACE.len()];
        let mut filled = 0;
        let mut protocol = Protocol::Http2;
        while let Some(rest) = first.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = stream.read(rest).await?;
            filled += read;
            if filled == 0 {
                return Ok(None);
            }
            if read == 0 || first.get(..filled) != HTTP2_PREFACE.get(..filled) {
                protocol = Protocol::Http1;
                break;
            }
        }
        let head = Head::default();
        Ok(Some(Self {
            stream,
            first,
            given: 0,
            filled,
            protocol,
            vitals,
            head,
            has_waited: false,
            lingering: None,
        }))
    }

    /// The protocol.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Lets other tasks go on before something small is written: many small answers of an HTTP/2
    /// connection are ready at about the same time, and then go out together.
    fn poll_turn(&mut self, bytes: usize, context: &Context<'_>) -> Poll<()> {
        if self.protocol == Protocol::Http1 || self.has_waited || bytes >= LARGE_BYTES {
            return Poll::Ready(());
        }
        self.has_waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Looks at bytes that were read: between two requests they are a head.
    fn observe(&mut self, bytes: &[u8]) {
        if self.protocol == Protocol::Http2 || bytes.is_empty() || self.vitals.is_busy() {
            return;
        }
        let number = self.vitals.requests();
        if self.head.number != number {
            self.head =
                Head { number, line: std::mem::take(&mut self.head.line), ..Head::default() };
        }
        if !self.head.has_bytes && number > 0 {
            self.vitals.begin_head();
        }
        if self.head.read(bytes) {
            self.vitals.mark_ambiguous_length();
        }
    }
}

impl Head {
    /// Takes in bytes and tells whether they end a head that gives its body's length in two ways.
    fn read(&mut self, bytes: &[u8]) -> bool {
        self.has_bytes = true;
        if self.is_whole {
            return false;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if piece.ends_with(b"\n") {
                self.end_line();
                self.line.clear();
            }
            if self.is_whole {
                break;
            }
        }
        self.is_whole && self.has_length && self.has_encoding
    }

    fn end_line(&mut self) {
        if matches!(self.line.as_slice(), b"\n" | b"\r\n") {
            // Blank lines before a request mean nothing.
            self.is_whole = self.has_request_line;
        } else if !self.has_request_line {
            self.has_request_line = true;
        } else if let Some(colon) = self.line.iter().position(|byte| *byte == b':') {
            let name = self.line.get(..colon).unwrap_or_default();
            self.has_length |= name.eq_ignore_ascii_case(b"content-length");
            self.has_encoding |= name.eq_ignore_ascii_case(b"transfer-encoding");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        if let Some(rest) = this.first.get(this.given..this.filled).filter(|r| !r.is_empty()) {
            let take = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..take).unwrap_or(rest));
            this.given += take;
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        }
        this.observe(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(bytes.len(), context));
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.vitals.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(slices.iter().map(|slice| slice.len()).sum(), context));
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.vitals.touch();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_waited = false;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.vitals.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let end = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
        while end.as_mut().poll(context).is_pending() {
            let mut room = [MaybeUninit::uninit(); LINGER_BYTES];
            let mut ignored = ReadBuf::uninit(&mut room);
            // An error is an end too: the client is gone.
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut ignored));
            if read.is_err() || ignored.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;

    use tokio::io::{AsyncWrite, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{HTTP2_PREFACE, Head, LARGE_BYTES, Protocol, Wire};
    use crate::tls::Stream;
    use crate::vitals::Vitals;

    /// A connection that begins so, and its client, which must live as long.
    async fn connection(first: &[u8]) -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(first).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let wire = Wire::open(Stream::Plain(stream), Vitals::new()).await.unwrap().unwrap();
        (wire, client)
    }

    /// Writes, and tells how often that had to be tried.
    async fn tries_for(wire: &mut Wire, bytes: &[u8]) -> usize {
        let mut tries = 0;
        let written = poll_fn(|context| {
            tries += 1;
            Pin::new(&mut *wire).poll_write(context, bytes)
        });
        assert_eq!(written.await.unwrap(), bytes.len());
        tries
    }

    async fn tries(wire: &mut Wire) -> usize {
        tries_for(wire, b"an answer").await
    }

    #[tokio::test]
    async fn other_tasks_have_their_turn_before_an_http_2_connection_writes() {
        let (mut wire, _client) = connection(HTTP2_PREFACE).await;
        assert_eq!(wire.protocol(), Protocol::Http2);
        assert!(tries(&mut wire).await >= 2);
        assert_eq!(tries(&mut wire).await, 1, "once for all that is written together");
        wire.flush().await.unwrap();
        assert_eq!(tries(&mut wire).await, 2);
        wire.flush().await.unwrap();
        assert_eq!(tries_for(&mut wire, &[0; LARGE_BYTES]).await, 1, "large enough by itself");
    }

    #[tokio::test]
    async fn an_http_1_connection_writes_at_once() {
        let (mut wire, _client) = connection(b"GET / HTTP/1.1\r\n\r\n").await;
        tries(&mut wire).await;
        wire.flush().await.unwrap();
        assert_eq!(tries(&mut wire).await, 1);
    }

    fn is_ambiguous(pieces: &[&str]) -> bool {
        let mut head = Head::default();
        pieces.iter().any(|piece| head.read(piece.as_bytes()))
    }

    #[test]
    fn both_lengths_are_found_in_the_head_only_however_it_is_cut() {
        let both = "\r\nPOST / HTTP/1.1\r\nContent-Length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(is_ambiguous(&[both]));
        assert!(is_ambiguous(&[&format!("{both}2\r\n{{}}\r\n0\r\n\r\n")]));
        for at in 1..both.len() {
            assert!(is_ambiguous(&[&both[..at], &both[at..]]), "cut at {at}");
        }
        let in_body =
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(!is_ambiguous(&[in_body]));
        assert!(!is_ambiguous(&["POST content-length: HTTP/1.1\ntransfer-encoding: x\n\n"]));
    }
}
