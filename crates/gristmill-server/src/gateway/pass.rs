//! Calls of clients, which a gateway passes on without understanding them: headers, messages and trailers
//! go both ways as they come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::Status;

use super::target::Sender;
use super::{
    FIRST_PAUSE, Gateway, Outcome, PAUSE_GROWTH, end_to_end, jittered, overloaded, sent, told,
    unanswered,
};
use crate::background::Background;
use crate::grpc::methods::{Shape, methods};
use crate::grpc::{UntilStop, status, trailers};
use crate::role::Role;
use crate::trace;

/// For how long a process may go on with a call that is over.
const UNREAD: Duration = Duration::from_secs(30);

type Passed = Request<tonic::body::Body>;

/// Why nobody has answered a call.
enum Failure {
    /// Nobody has seen it.
    Unsent(Box<Passed>),
    /// Somebody may have.
    Unknown,
}

impl Gateway {
    /// Passes a call on to a process of a role.
    pub(crate) async fn pass(&self, role: Role, call: Request<Body>) -> Response {
        match self.passed(role, call).await {
            Ok(response) => response,
            Err(status) => status.into_http::<tonic::body::Body>().map(Body::new),
        }
    }

    async fn passed(&self, role: Role, call: Request<Body>) -> Result<Response, Status> {
        let place = Arc::clone(&self.requests).try_acquire_owned();
        let place = place.map_err(|_| status::of(&overloaded()))?;
        let is_unary = methods().at(call.uri().path()).is_none_or(|it| it.shape == Shape::Unary);
        let (answered, sent) = (CancellationToken::new(), CancellationToken::new());
        let call = call.map(|body| Body::new(UntilAnswered::new(body, &answered, &sent)));
        let answered = answered.drop_guard();
        let answer = self.try_to_send(role, onward(call)).await?;
        let (parts, body) = answer.into_parts();
        let mut headers = HeaderMap::with_capacity(parts.headers.len());
        for (name, value) in end_to_end(&parts.headers) {
            headers.append(name, value.clone());
        }
        let mut body = Body::new(PassedBody {
            body: Some(body),
            role,
            place: Some(place),
            sent,
            unread: Arc::clone(&self.unread),
            _answered: answered,
        });
        if !is_unary {
            body = Body::new(UntilStop::new(body, &self.outside.draining));
        }
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Offers a call to the processes until one of them may have seen it.
    async fn try_to_send(
        &self,
        role: Role,
        call: Passed,
    ) -> Result<http::Response<Incoming>, Status> {
        let deadline = Instant::now() + self.config.deadline;
        let (mut call, mut pause) = (Box::new(call), FIRST_PAUSE);
        for number in 1.. {
            for sender in self.group(role).in_turn() {
                let span = told(role);
                if let Some(span) = &span {
                    trace::put(span.context(), call.headers_mut());
                }
                match sent(span, send(sender, *call)).await {
                    Ok(answer) => return Ok(answer),
                    Err(Failure::Unsent(again)) => call = again,
                    Err(Failure::Unknown) => {
                        self.outside.metrics.relay_failures.add(1);
                        let detail = format!(
                            "the process with the role `{role}` went away; whether it did what was \
                             asked is unknown: send the same again"
                        );
                        return Err(Status::unavailable(detail));
                    }
                }
            }
            let wait = jittered(pause, self.outside.ambience.entropy.as_ref());
            if number >= self.config.tries || Instant::now() + wait >= deadline {
                break;
            }
            self.outside.metrics.relay_retries.add(1);
            sleep(wait).await;
            pause *= PAUSE_GROWTH;
        }
        self.outside.metrics.relay_failures.add(1);
        Err(status::of(&unanswered(role, Outcome::Nothing)))
    }
}

/// A call as it goes to another process.
fn onward(call: Request<Body>) -> Passed {
    let (parts, body) = call.into_parts();
    let mut onward = Request::new(tonic::body::Body::new(body));
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = parts.uri;
    *onward.version_mut() = Version::HTTP_2;
    let headers = onward.headers_mut();
    for (name, value) in end_to_end(&parts.headers).filter(|(name, _)| **name != header::HOST) {
        headers.append(name, value.clone());
    }
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    onward
}

async fn send(sender: Sender, mut call: Passed) -> Result<http::Response<Incoming>, Failure> {
    let Sender { mut requests, origin } = sender;
    let path = call.uri().path_and_query().cloned();
    let mut uri = origin.into_parts();
    uri.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
    *call.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    requests.try_send_request(call).await.map_err(|mut error| match error.take_message() {
        Some(call) => Failure::Unsent(Box::new(call)),
        None => {
            tracing::debug!(error = %error.error(), "a call was lost on its way");
            Failure::Unknown
        }
    })
}

/// The messages of a call until its answer has ended or is given up. Whoever sends them on holds what the
/// client sends them over, which would otherwise stay open for as long as the client likes.
struct UntilAnswered {
    body: Body,
    answered: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Tells when nothing more is sent.
    _sent: DropGuard,
}

impl UntilAnswered {
    fn new(body: Body, answered: &CancellationToken, sent: &CancellationToken) -> Self {
        let answered = Box::pin(answered.clone().cancelled_owned());
        Self { body, answered, _sent: sent.clone().drop_guard() }
    }
}

impl hyper::body::Body for UntilAnswered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.answered.as_mut().poll(context).is_ready() {
            let over = io::Error::other("the call has its answer");
            return Poll::Ready(Some(Err(axum::Error::new(over))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The messages of an answer, and its trailers. A place is held until their end.
struct PassedBody {
    /// Nothing after its end.
    body: Option<Incoming>,
    role: Role,
    place: Option<OwnedSemaphorePermit>,
    /// Set when no message of the call is sent any more.
    sent: CancellationToken,
    unread: Arc<Background>,
    _answered: DropGuard,
}

impl Drop for PassedBody {
    /// A process whose answers nobody reads takes no messages, and while it takes none it does not hear that
    /// there are no more. So its answers are read until it does.
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.sent.is_cancelled() || Handle::try_current().is_err() {
            return;
        }
        let (place, sent) = (self.place.take(), self.sent.clone());
        self.unread.run(0, async move {
            let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
            tokio::select! {
                () = sent.cancelled() => {}
                () = rest => {}
                () = sleep(UNREAD) => tracing::warn!("a process goes on with a call that is over"),
            }
            drop(place);
        });
    }
}

impl hyper::body::Body for PassedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer ended early");
                self.body = None;
                let role = self.role;
                let detail = format!("the process with the role `{role}` went away: call again");
                let trailers = trailers(&Status::unavailable(detail));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            frame_or_end => Poll::Ready(frame_or_end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
