//! One try of one request over one connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::client::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::target::Sender;
use crate::grpc::frames::{
    MESSAGE_BYTES, RELAY, RequestFrame, RequestHead, ResponseFrame, ResponseHead, from_frame,
    take_piece,
};

/// Why a try came to nothing.
#[derive(Debug, Error)]
#[error("{reason}")]
pub(super) struct Failure {
    /// Whether the other process has seen nothing of the request.
    pub(super) is_unsent: bool,
    reason: String,
}

impl Failure {
    pub(super) fn unsent(reason: String) -> Self {
        Self { is_unsent: true, reason }
    }

    fn unknown(reason: String) -> Self {
        Self { is_unsent: false, reason }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let mut source = std::error::Error::source(&status);
        while let Some(error) = source {
            if let Some(Failure { is_unsent, reason }) = error.downcast_ref() {
                return Self { is_unsent: *is_unsent, reason: reason.clone() };
            }
            source = error.source();
        }
        Self::unknown(format!("{}: {}", status.code(), status.message()))
    }
}

/// An answer that has begun.
pub(super) struct Answering {
    head: ResponseHead,
    body: Bytes,
    frames: Streaming<ResponseFrame>,
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn send(
    sender: Sender,
    head: RequestHead,
    body: Bytes,
) -> Result<Answering, Failure> {
    let frames = stream::iter(in_frames(head, body));
    let Sender { mut requests, origin } = sender;
    let transport = service_fn(move |request| {
        let sending = requests.try_send_request(request);
        async move {
            sending.await.map_err(|mut error| {
                let is_unsent = error.take_message().is_some();
                Failure { is_unsent, reason: error.into_error().to_string() }
            })
        }
    });
    let mut grpc = Grpc::with_origin(transport, origin).max_decoding_message_size(MESSAGE_BYTES);
    let path = PathAndQuery::from_static(RELAY);
    let call = tonic::Request::new(frames);
    let mut frames = grpc.streaming(call, path, ProstCodec::default()).await?.into_inner();
    let nothing = || Failure::unknown("the answer has no head".to_owned());
    let ResponseFrame { head, body } = frames.message().await?.ok_or_else(nothing)?;
    Ok(Answering { head: head.ok_or_else(nothing)?, body, frames })
}

/// Asks whether the other end answers at all.
pub(super) async fn greet(sender: Sender) -> Result<(), Failure> {
    let (method, target) = ("GET".to_owned(), "/livez".to_owned());
    let seed = Bytes::from_static(&[0; 16]);
    let head = RequestHead { method, target, seed, ..RequestHead::default() };
    let answering = send(sender, head, Bytes::new()).await?;
    match answering.head.status {
        200 => Ok(()),
        status => Err(Failure::unsent(format!("/livez answers {status}"))),
    }
}

fn in_frames(head: RequestHead, mut body: Bytes) -> impl Iterator<Item = RequestFrame> {
    let first = RequestFrame { head: Some(head), body: take_piece(&mut body) };
    let rest = std::iter::from_fn(move || {
        let piece = take_piece(&mut body);
        (!piece.is_empty()).then_some(RequestFrame { head: None, body: piece })
    });
    std::iter::once(first).chain(rest)
}

impl Answering {
    /// The answer as it goes to the client. `place` is held until its end; a stream of events ends
    /// when `draining` is set.
    pub(super) fn into_response(
        self,
        place: OwnedSemaphorePermit,
        draining: &CancellationToken,
    ) -> Result<Response<Body>, Failure> {
        let Self { head, body, frames } = self;
        let wrong = || Failure::unknown("the answer's head makes no sense".to_owned());
        let status = u16::try_from(head.status).ok();
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let mut headers = from_frame(head.headers).ok_or_else(wrong)?;
        headers.remove(header::CONNECTION);
        let is_stream = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let ends = is_stream.then(|| Box::pin(draining.clone().cancelled_owned()));
        let body =
            AnswerBody { frames, ready: body, left: head.content_length, ends, _place: place };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = status.ok_or_else(wrong)?;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// The body of an answer.
struct AnswerBody {
    frames: Streaming<ResponseFrame>,
    ready: Bytes,
    /// How many bytes have not come, where that is known.
    left: Option<u64>,
    ends: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(context).is_ready()) {
            return Poll::Ready(None);
        }
        while self.ready.is_empty() {
            match ready!(Pin::new(&mut self.frames).poll_next(context)) {
                Some(Ok(frame)) => self.ready = frame.body,
                Some(Err(status)) => return Poll::Ready(Some(Err(io::Error::other(status)))),
                None => return Poll::Ready(None),
            }
        }
        let data = std::mem::take(&mut self.ready);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
