//! The socket under hyper: tells the protocol from the first bytes and watches heads go by.
//!
//! hyper drops `Content-Length` from a request that also has `Transfer-Encoding`, so such a
//! request, the classic way to smuggle a second one past a proxy, can only be seen here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::vitals::Vitals;

/// What every HTTP/2 connection begins with.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much of a head is looked at; hyper refuses longer ones.
const HEAD_BYTES: usize = 32 * 1024;

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
    stream: TcpStream,
    first: [u8; HTTP2_PREFACE.len()],
    given: usize,
    filled: usize,
    protocol: Protocol,
    vitals: Arc<Vitals>,
    head: Vec<u8>,
    head_of: Option<u64>,
}

impl Wire {
    /// Reads until the protocol is certain; `None` if the client closes before a byte.
    pub(crate) async fn open(
        mut stream: TcpStream,
        vitals: Arc<Vitals>,
    ) -> io::Result<Option<Self>> {
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
        let (head, head_of) = (Vec::new(), None);
        Ok(Some(Self { stream, first, given: 0, filled, protocol, vitals, head, head_of }))
    }

    /// The protocol.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Looks at bytes that were read: between two requests they are a head.
    fn observe(&mut self, bytes: &[u8]) {
        if self.protocol == Protocol::Http2 || bytes.is_empty() || self.vitals.is_busy() {
            return;
        }
        let next = self.vitals.requests();
        if self.head_of != Some(next) {
            self.head_of = Some(next);
            self.head.clear();
            if next > 0 {
                self.vitals.begin_head();
            }
        }
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        let looked_at = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let recent = self.head.get(looked_at..).unwrap_or_default();
        let is_whole = recent.windows(4).any(|window| window == b"\r\n\r\n")
            || recent.windows(2).any(|window| window == b"\n\n");
        if is_whole && has_both_lengths(&self.head) {
            self.vitals.mark_ambiguous_length();
        }
    }
}

/// Whether the head of a request names both ways to give a body's length.
fn has_both_lengths(head: &[u8]) -> bool {
    let (mut length, mut encoding) = (false, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        match line.iter().position(|byte| *byte == b':').and_then(|colon| line.get(..colon)) {
            Some(name) if name.eq_ignore_ascii_case(b"content-length") => length = true,
            Some(name) if name.eq_ignore_ascii_case(b"transfer-encoding") => encoding = true,
            Some(_) => {}
            // The blank line: what follows is the body.
            None => break,
        }
    }
    length && encoding
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
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.vitals.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.vitals.touch();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::has_both_lengths;

    #[test]
    fn both_lengths_are_found_in_the_head_only() {
        let both = b"POST / HTTP/1.1\r\nContent-Length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(has_both_lengths(both));
        let in_body = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\ntransfer-encoding: chunked\r\n";
        assert!(!has_both_lengths(in_body));
        assert!(!has_both_lengths(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
}
