//! The end of a relay that answers: a request out of frames goes through the router, and its answer
//! into frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use gristmill_model::{Entropy, Timestamp};
use http::Method;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use xxhash_rust::xxh3::xxh3_128;

use super::frames::{
    RequestFrame, RequestHead, ResponseFrame, ResponseHead, from_frame, take_piece, to_frame,
};
use crate::front::Front;

/// Answers one request.
pub(super) async fn handle(
    front: Front,
    call: Request<Streaming<RequestFrame>>,
) -> Result<Response<Frames>, Status> {
    let mut frames = call.into_inner();
    // Whoever sends nothing holds a connection for no longer than somebody without a head would.
    let first = timeout(front.config().header_timeout, frames.message()).await;
    let first =
        first.map_err(|_| Status::deadline_exceeded("the first frame did not come in time"))?;
    let first = first?.unwrap_or_default();
    let head = first.head.ok_or_else(|| wrong("head"))?;
    let length = head.content_length;
    let body = RelayedBody { frames, ready: first.body, left: length };
    // Another process may say that a request came earlier, but not that it is still to come.
    let now = front.app().map_or(Timestamp::MAX, |app| app.now());
    let head = RequestHead { received_us: head.received_us.min(now.0), ..head };
    let request = request(head, Body::new(body)).ok_or_else(|| wrong("request"))?;
    Ok(Response::new(Frames::of(front.answer_relayed(request).await)))
}

fn wrong(what: &str) -> Status {
    Status::invalid_argument(format!("the first frame has no valid {what}"))
}

fn request(head: RequestHead, body: Body) -> Option<http::Request<Body>> {
    let mut request = http::Request::new(body);
    *request.method_mut() = Method::try_from(head.method.as_str()).ok()?;
    *request.uri_mut() = http::Uri::try_from(head.target).ok()?;
    *request.headers_mut() = from_frame(head.headers)?;
    let seed = head.seed.as_ref().try_into().ok()?;
    let arrival = Arrival::new(Timestamp(head.received_us), u128::from_le_bytes(seed));
    request.extensions_mut().insert(Arc::new(arrival));
    Some(request)
}

/// When a relayed request came, and what the ids of its events are made of, where they can be derived
/// from nothing else: the same for every try of the same request.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) received: Timestamp,
    seed: u128,
    count: AtomicU64,
}

impl Arrival {
    fn new(received: Timestamp, seed: u128) -> Self {
        Self { received, seed, count: AtomicU64::new(0) }
    }
}

impl Entropy for Arrival {
    fn next_u128(&self) -> u128 {
        let count = self.count.fetch_add(1, Relaxed);
        let mut input = [0; 24];
        let (seed, number) = input.split_at_mut(16);
        seed.copy_from_slice(&self.seed.to_le_bytes());
        number.copy_from_slice(&count.to_le_bytes());
        xxh3_128(&input)
    }
}

/// The body of a relayed request.
struct RelayedBody {
    frames: Streaming<RequestFrame>,
    ready: Bytes,
    /// How many bytes were announced and have not come.
    left: u64,
}

impl hyper::body::Body for RelayedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if !self.ready.is_empty() {
                let data = std::mem::take(&mut self.ready);
                self.left = self.left.saturating_sub(data.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match ready!(Pin::new(&mut self.frames).poll_next(context)) {
                Some(Ok(frame)) => self.ready = frame.body,
                Some(Err(status)) => return Poll::Ready(Some(Err(io::Error::other(status)))),
                None if self.left > 0 => {
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer in frames. A small one is a single frame; the head of one that is slow does not wait.
pub(super) struct Frames {
    head: Option<ResponseHead>,
    body: Body,
    ready: Bytes,
}

impl Frames {
    fn of(response: http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let head = ResponseHead {
            status: u32::from(parts.status.as_u16()),
            headers: to_frame(&parts.headers),
            content_length: body.size_hint().exact(),
        };
        Self { head: Some(head), body, ready: Bytes::new() }
    }

    fn frame(&mut self) -> ResponseFrame {
        ResponseFrame { head: self.head.take(), body: take_piece(&mut self.ready) }
    }
}

impl Stream for Frames {
    type Item = Result<ResponseFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if !self.ready.is_empty() {
                return Poll::Ready(Some(Ok(self.frame())));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => self.ready = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(Status::aborted(error.to_string()))));
                }
                Poll::Ready(None) if self.head.is_none() => return Poll::Ready(None),
                Poll::Pending if self.head.is_none() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => return Poll::Ready(Some(Ok(self.frame()))),
            }
        }
    }
}
