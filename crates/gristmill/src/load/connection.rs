//! A connection that speaks just enough HTTP/1.1: it sends ready requests one after the other and
//! reads of each answer the status and how many events were accepted.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// A connection to a server, for one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The number after `"accepted":`; `None` if the body has none.
    pub(crate) accepted: Option<u64>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a whole request and reads the whole answer. After an error the connection is of no
    /// further use, and whether the request happened is unknown.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read_some().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        let length = head.body_start + head.body_bytes;
        if length > ANSWER_BYTES {
            return Err(invalid("the answer is too large"));
        }
        while self.buffer.len() < length {
            self.read_some().await?;
        }
        let body = self.buffer.get(head.body_start..length).unwrap_or_default();
        Ok(Answer { status: head.status, accepted: accepted(body) })
    }

    async fn read_some(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body_start: usize,
    body_bytes: usize,
}

impl Head {
    /// Reads a head; `None` if its end has not come yet.
    fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default())
            .map_err(|_| invalid("the answer's head is not text"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("the answer has no status"))?;
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let body_bytes = match length {
            Some(length) => length,
            None if status == 204 || status == 304 => 0,
            None => return Err(invalid("the answer has no content-length")),
        };
        Ok(Some(Head { status, body_start: end + 4, body_bytes }))
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The number after `"accepted":`, which stands near the start of a receipt.
fn accepted(body: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"accepted\":";
    let start = body.get(..256).unwrap_or(body);
    let at = start.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = body.get(at..)?.trim_ascii_start();
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number, digit| {
        Some(number.unwrap_or(0_u64).saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let answer =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nContent-LENGTH: 12\r\n\r\nxx";
        let whole = answer.len() - 2;
        for end in 0..whole {
            assert_eq!(Head::parse(&answer[..end]).unwrap(), None, "{end}");
        }
        let head = Head { status: 503, body_start: whole, body_bytes: 12 };
        assert_eq!(Head::parse(answer).unwrap(), Some(head));
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok());
        assert!(Head::parse(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn accepted_events_are_read_from_a_receipt() {
        assert_eq!(accepted(br#"{"accepted":100,"rejected":0}"#), Some(100));
        assert_eq!(accepted(br#"{"rejected":3,"accepted": 7}"#), Some(7));
        assert_eq!(accepted(br#"{"accepted":null}"#), None);
        assert_eq!(accepted(b""), None);
    }
}
