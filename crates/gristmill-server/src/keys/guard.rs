//! Answers that go on for long end when the key is revoked or expires that they were asked with.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::ring::{NO_LONGER_VALID, Ring};
use crate::caller::Who;
use crate::grpc::{status, trailers};

/// How often it is asked whether the key is still valid.
const PAUSE: Duration = Duration::from_secs(2);

/// How an answer ends whose key is not valid any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client sees no more of it.
    Silent,
    /// The status of a call.
    Status,
}

/// The answer to a caller. What has its length already is there and needs no watching.
pub(crate) fn guard(
    response: Response<Body>,
    ring: &Arc<Ring>,
    who: Who,
    ending: Ending,
) -> Response<Body> {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let ring = Arc::clone(ring);
    response.map(|inner| {
        let next = Instant::now() + PAUSE;
        Body::new(Guarded { inner, ring, who, ending, next, pause: None, is_over: false })
    })
}

struct Guarded {
    inner: Body,
    ring: Arc<Ring>,
    who: Who,
    ending: Ending,
    /// When to ask next.
    next: Instant,
    /// Made when there is something to wait for, which there is not in most answers.
    pause: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl Guarded {
    fn end(&mut self) -> Option<Result<Frame<Bytes>, axum::Error>> {
        self.is_over = true;
        self.inner = Body::empty();
        if self.ending == Ending::Silent {
            return None;
        }
        let ended = status::of(&NO_LONGER_VALID.into());
        Some(Ok(Frame::trailers(trailers(&ended))))
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            if this.next <= Instant::now() {
                if !this.ring.still_knows(&this.who) {
                    return Poll::Ready(this.end());
                }
                this.next = Instant::now() + PAUSE;
            }
            if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
                return Poll::Ready(frame);
            }
            let next = this.next;
            let pause = this.pause.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if pause.deadline() != next {
                pause.as_mut().reset(next);
            }
            ready!(pause.as_mut().poll(context));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
