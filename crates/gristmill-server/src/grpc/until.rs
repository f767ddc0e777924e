//! Streams that would go on for ever, and end with the process.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::trailers;

/// A body that ends with `UNAVAILABLE` when the process stops.
pub(crate) struct UntilStop {
    body: Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
}

impl UntilStop {
    /// The body until `draining` is set.
    pub(crate) fn new(body: Body, draining: &CancellationToken) -> Self {
        Self { body, stop: Box::pin(draining.clone().cancelled_owned()), is_over: false }
    }
}

impl hyper::body::Body for UntilStop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.stop.as_mut().poll(context).is_pending() {
            return Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(context)));
        }
        self.is_over = true;
        let status = Status::unavailable("the process stops: call again");
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
