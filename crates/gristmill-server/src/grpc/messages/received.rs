//! The messages that a client sends: bounded, and no longer compressed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use gristmill_ingest::{Encoding, InflateError, inflate};
use gristmill_model::{ErrorCode, limits};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::{HEAD_BYTES, Head, too_large};
use crate::grpc::status;
use crate::problem::Problem;

/// A message of up to this size takes nothing from the room for large ones.
const SMALL_BYTES: usize = 64 * 1024;

/// A body of messages, of which no compressed one comes out, and no large one. What is wrong with it is
/// a [`Status`].
pub(in crate::grpc) struct Received {
    body: Body,
    encoding: Encoding,
    /// What has come and was not given.
    come: BytesMut,
    /// Pieces to give.
    pieces: VecDeque<Bytes>,
    /// The length of the message that is being given, and how much of it is missing.
    length: usize,
    left: usize,
    /// The room that all large messages share.
    room: Arc<Semaphore>,
    /// What this one has of it.
    held: Option<OwnedSemaphorePermit>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing was given since the last look at what has come.
    Reading,
    /// What was given is being read.
    Given,
    /// Nothing more comes.
    Over,
}

impl Received {
    pub(in crate::grpc) fn new(body: Body, encoding: Encoding, room: Arc<Semaphore>) -> Self {
        Self {
            body,
            encoding,
            come: BytesMut::new(),
            pieces: VecDeque::new(),
            length: 0,
            left: 0,
            room,
            held: None,
            progress: Progress::Reading,
        }
    }

    /// Makes pieces of what has come: of plain messages, and of one compressed one at most, so that no
    /// more is unpacked than is about to be read.
    fn cut(&mut self) -> Result<(), Status> {
        self.cut_plain()?;
        self.cut_packed()
    }

    /// Takes all plain messages off the front, the last of them maybe in part.
    fn cut_plain(&mut self) -> Result<(), Status> {
        let mut at = 0;
        loop {
            let given = self.left.min(self.come.len() - at);
            at += given;
            self.give(given)?;
            let Some(head) = self.come.get(at..).and_then(Head::read) else { break };
            // Compressed without an encoding is wrong, which the service says.
            let is_packed = head.flag == Head::PACKED && self.encoding != Encoding::Identity;
            if self.left > 0 || is_packed {
                break;
            }
            check(head)?;
            (self.length, self.left, self.held) = (head.length, head.length, None);
            at += HEAD_BYTES;
        }
        if at > 0 {
            self.pieces.push_back(self.come.split_to(at).freeze());
        }
        Ok(())
    }

    /// Takes one compressed message off the front, if it is whole.
    fn cut_packed(&mut self) -> Result<(), Status> {
        let Some(head) = Head::read(&self.come).filter(|_| self.left == 0) else {
            return Ok(());
        };
        check(head)?;
        let whole = HEAD_BYTES + head.length;
        self.hold(self.come.len().min(whole))?;
        if self.come.len() < whole {
            return Ok(());
        }
        let message = self.come.split_to(whole).freeze().slice(HEAD_BYTES..);
        let message = inflate(self.encoding, message, limits::MESSAGE_BYTES)
            .map_err(|error| corrupt(&error))?;
        let head = Head { flag: Head::PLAIN, length: message.len() };
        self.hold(message.len())?;
        self.pieces.extend([Bytes::copy_from_slice(&head.write()), message]);
        Ok(())
    }

    /// So much more of a plain message is given.
    fn give(&mut self, bytes: usize) -> Result<(), Status> {
        self.left -= bytes;
        self.hold(self.length - self.left)
    }

    /// Makes sure that a message has room for so many bytes, which have come. What a client merely
    /// announces takes none.
    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes <= SMALL_BYTES.max(held) {
            return Ok(());
        }
        let missing = u32::try_from(bytes - held).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.room).try_acquire_many_owned(missing).map_err(|_| {
            let detail = "as many large messages are under way as the server may hold";
            status::of(&Problem::new(ErrorCode::Overloaded, detail))
        })?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }

    /// Nothing more is given after this.
    fn fail(&mut self, status: Status) -> Status {
        self.progress = Progress::Over;
        self.pieces.clear();
        self.held = None;
        status
    }

    /// The rest of a body that ended within a message, which the service finds cut short.
    fn rest(&mut self) -> Option<Bytes> {
        let rest = self.come.split();
        (!rest.is_empty()).then(|| rest.freeze())
    }
}

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                self.progress = Progress::Given;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match self.progress {
                Progress::Over => return Poll::Ready(None),
                // Who asks for more has read what was given.
                Progress::Given if self.left == 0 => (self.length, self.held) = (0, None),
                Progress::Given | Progress::Reading => {}
            }
            self.progress = Progress::Reading;
            if !self.come.is_empty() {
                if let Err(status) = self.cut() {
                    return Poll::Ready(Some(Err(self.fail(status))));
                }
                if !self.pieces.is_empty() {
                    continue;
                }
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
                self.progress = Progress::Over;
                return Poll::Ready(self.rest().map(|rest| Ok(Frame::data(rest))));
            };
            let data = match frame.map_err(|error| Status::from_error(Box::new(error)))?.into_data()
            {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            if self.left >= data.len() && self.come.is_empty() {
                // Within a message nothing is looked at, and nothing is copied.
                if let Err(status) = self.give(data.len()) {
                    return Poll::Ready(Some(Err(self.fail(status))));
                }
                self.pieces.push_back(data);
                continue;
            }
            self.come.extend_from_slice(&data);
        }
    }
}

/// Makes sure that a message may be so large.
fn check(head: Head) -> Result<(), Status> {
    if head.length > limits::MESSAGE_BYTES { Err(too_large("the message")) } else { Ok(()) }
}

fn corrupt(error: &InflateError) -> Status {
    match error {
        InflateError::TooLarge { .. } => too_large("the message, no longer compressed,"),
        InflateError::Corrupt(_) | InflateError::Unsupported(_) => {
            let detail = "a compressed message cannot be read";
            status::of(&Problem::new(ErrorCode::InvalidBody, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;

    use super::*;

    const PACKED: &[u8] = b"\x01";

    fn message(flag: &[u8], payload: &[u8]) -> Vec<u8> {
        [flag, &u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
    }

    fn zstd(payload: &[u8]) -> Vec<u8> {
        message(PACKED, &zstd::bulk::compress(payload, 1).unwrap())
    }

    async fn receive(pieces: Vec<Vec<u8>>, room: usize) -> Result<Vec<u8>, Status> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece.into())));
        let body = Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<Result<_, _>>>())));
        let room = Arc::new(Semaphore::new(room));
        let received = Received::new(body, Encoding::Zstd, room).collect().await?;
        Ok(received.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn messages_come_out_plain_however_they_are_cut() {
        let long = vec![b'x'; 300];
        let plain = |payload: &[u8]| message(b"\0", payload);
        let sent = [plain(b"one"), zstd(&long), plain(b""), zstd(b""), plain(b"end")].concat();
        let wanted = [plain(b"one"), plain(&long), plain(b""), plain(b""), plain(b"end")].concat();
        for size in 1..=sent.len() {
            let pieces = sent.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(receive(pieces, 0).await.unwrap(), wanted, "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn no_more_is_unpacked_than_is_about_to_be_read() {
        const LENGTH: usize = 1 << 20;
        let many = zstd(&vec![0; LENGTH]).repeat(40);
        let room = Arc::new(Semaphore::new(2 * LENGTH));
        let mut received = Received::new(Body::from(many), Encoding::Zstd, room);
        let mut given = 0;
        while let Some(frame) = received.frame().await {
            given += frame.unwrap().into_data().unwrap().len();
            let ahead: usize = received.pieces.iter().map(Bytes::len).sum();
            assert!(ahead <= LENGTH, "{ahead} bytes are unpacked ahead");
        }
        assert_eq!(given, 40 * (HEAD_BYTES + LENGTH));
    }

    #[tokio::test]
    async fn room_is_taken_for_what_has_come_and_not_for_what_is_announced() {
        let length = 3 * SMALL_BYTES;
        let sent = [message(b"\0", &vec![0; length]), message(b"\0", b"small")].concat();
        let frames =
            sent.chunks(SMALL_BYTES).map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
        let frames: Vec<_> = frames.map(Ok::<_, Infallible>).collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let room = Arc::new(Semaphore::new(length));
        let mut received = Received::new(body, Encoding::Zstd, Arc::clone(&room));
        let mut taken = Vec::new();
        while let Some(frame) = received.frame().await {
            frame.unwrap();
            taken.push(length - room.available_permits());
        }
        assert_eq!(taken, [0, 2 * SMALL_BYTES - HEAD_BYTES, length - HEAD_BYTES, 0]);
    }

    #[tokio::test]
    async fn large_messages_are_refused_before_and_after_they_are_unpacked() {
        let code =
            async |bytes: Vec<u8>, room| receive(vec![bytes], room).await.map_err(|e| e.code());
        let limit = limits::MESSAGE_BYTES;
        let head = |length: usize| Head { flag: 0, length }.write().to_vec();
        assert_eq!(code(head(limit + 1), limit).await, Err(tonic::Code::ResourceExhausted));
        assert!(code(head(limit), 0).await.is_ok(), "cut short, which the service finds");
        let whole = message(b"\0", &vec![0; limit]);
        assert!(code(whole.clone(), limit).await.is_ok());
        assert_eq!(code(whole, limit - 1).await, Err(tonic::Code::Unavailable));
        let bomb = zstd(&vec![0; limit + 1]);
        assert!(bomb.len() < 10_000);
        assert_eq!(code(bomb, limit).await, Err(tonic::Code::ResourceExhausted));
        assert!(code(zstd(&vec![0; limit]), limit).await.is_ok());
        assert_eq!(code(message(PACKED, b"no zstd"), 0).await, Err(tonic::Code::InvalidArgument));
    }
}
