//! The messages that a client is sent: bounded, and compressed where that pays.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use gristmill_ingest::Encoding;
use gristmill_model::limits;
use hyper::body::Frame;
use tonic::Status;

use super::{HEAD_BYTES, Head, too_large};
use crate::grpc::trailers;

/// A smaller message is sent as it is: its packet would be sent all the same.
const LEAST_BYTES: usize = 1024;
/// How hard Zstandard tries: little, because answers are made once and read once.
const ZSTD_LEVEL: i32 = 1;

/// A body of messages, of which none is too large.
pub(in crate::grpc) struct Sent {
    body: tonic::body::Body,
    encoding: Encoding,
    is_over: bool,
}

impl Sent {
    pub(in crate::grpc) fn new(body: tonic::body::Body, encoding: Encoding) -> Self {
        Self { body, encoding, is_over: false }
    }

    /// Compresses the messages of a piece, which are whole.
    fn pack(&self, piece: Bytes) -> Result<Bytes, Status> {
        let mut rest = piece.clone();
        let mut packed: Option<BytesMut> = None;
        let mut at = 0;
        while let Some(Head { flag, length }) = Head::read(&rest) {
            if length > limits::MESSAGE_BYTES {
                return Err(too_large("the answer"));
            }
            let whole = HEAD_BYTES + length;
            if rest.len() < whole {
                break;
            }
            let message = rest.split_to(whole);
            let is_worth_it = length >= LEAST_BYTES && self.encoding != Encoding::Identity;
            if flag == Head::PLAIN && is_worth_it {
                let smaller =
                    compress(self.encoding, message.get(HEAD_BYTES..).unwrap_or_default());
                let smaller = smaller.map_err(|error| Status::internal(error.to_string()))?;
                let head = Head { flag: Head::PACKED, length: smaller.len() };
                let out = packed.get_or_insert_with(|| piece.slice(..at).into());
                out.extend_from_slice(&head.write());
                out.extend_from_slice(&smaller);
            } else if let Some(out) = &mut packed {
                out.extend_from_slice(&message);
            }
            at += whole;
        }
        match packed {
            None => Ok(piece),
            Some(mut out) => {
                out.extend_from_slice(&rest);
                Ok(out.freeze())
            }
        }
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end_or_error => return Poll::Ready(end_or_error),
        };
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        Poll::Ready(Some(Ok(match self.pack(piece) {
            Ok(piece) => Frame::data(piece),
            Err(status) => {
                self.is_over = true;
                Frame::trailers(trailers(&status))
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

fn compress(encoding: Encoding, message: &[u8]) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Identity => Ok(message.to_vec()),
        Encoding::Zstd => zstd::bulk::compress(message, ZSTD_LEVEL),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(message)?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        [&Head { flag: 0, length }.write()[..], &vec![b'x'; length]].concat()
    }

    #[test]
    fn long_messages_are_compressed_and_short_ones_are_left_alone() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let sent = Sent::new(tonic::body::Body::empty(), encoding);
            let short = Bytes::from(message(LEAST_BYTES - 1));
            assert_eq!(sent.pack(short.clone()).unwrap(), short);
            let all = [&short[..], &message(5_000), &short, &message(5_000)].concat();
            let packed = sent.pack(all.into()).unwrap();
            let mut rest = packed;
            let mut lengths = Vec::new();
            while let Some(head) = Head::read(&rest) {
                let message = rest.split_to(HEAD_BYTES + head.length).slice(HEAD_BYTES..);
                let encoding =
                    if head.flag == Head::PACKED { encoding } else { Encoding::Identity };
                lengths.push(gristmill_ingest::inflate(encoding, message, 10_000).unwrap().len());
            }
            assert_eq!(lengths, [LEAST_BYTES - 1, 5_000, LEAST_BYTES - 1, 5_000]);
        }
    }

    #[test]
    fn an_answer_over_the_limit_is_refused() {
        let sent = Sent::new(tonic::body::Body::empty(), Encoding::Identity);
        let at = |length| sent.pack(message(length).into()).map(|piece| piece.len());
        assert_eq!(at(limits::MESSAGE_BYTES).unwrap(), limits::MESSAGE_BYTES + HEAD_BYTES);
        let refused = at(limits::MESSAGE_BYTES + 1).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }
}
