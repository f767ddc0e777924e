//! What holds for every call, whatever its service: it has a deadline, a panic ends it and nothing else,
//! and it is counted by the code that it ends with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use gristmill_model::ErrorCode;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;

use super::methods::{Shape, methods};
use super::{status, timeout, trailers};
use crate::front::unless_it_panics;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::request_id::X_REQUEST_ID;

/// A call, from the moment it came.
pub(crate) struct Call {
    method: Option<usize>,
    id: HeaderValue,
    metrics: Arc<Metrics>,
    /// When the client gives up.
    deadline: Option<Instant>,
    /// When the answer must have begun.
    begins_by: Option<Instant>,
}

impl Call {
    /// Takes a call in.
    pub(crate) fn begin(path: &str, id: HeaderValue, metrics: Arc<Metrics>) -> Self {
        let method = methods().number(path);
        Self { method, id, metrics, deadline: None, begins_by: None }
    }

    /// Sets when it ends. A unary one must be answered within `longest`; a stream that has begun lives as
    /// long as both ends want.
    pub(crate) fn limit(&mut self, headers: &HeaderMap, longest: Duration) -> Result<(), Problem> {
        let (now, patience) = (Instant::now(), timeout::of(headers)?);
        self.deadline = patience.and_then(|patience| now.checked_add(patience));
        self.begins_by = match self.shape() {
            Shape::Unary | Shape::ServerStream => {
                let latest = now + longest;
                Some(self.deadline.map_or(latest, |deadline| deadline.min(latest)))
            }
            Shape::ClientStream => self.deadline,
        };
        Ok(())
    }

    /// Whether either side may send many messages.
    pub(crate) fn is_stream(&self) -> bool {
        self.shape() != Shape::Unary
    }

    /// What there is not is refused as a unary call would be.
    fn shape(&self) -> Shape {
        let method = self.method.and_then(|number| methods().all().get(number));
        method.map_or(Shape::Unary, |method| method.shape)
    }

    /// Does what answers the call; what is not done at the deadline is dropped.
    pub(crate) async fn run(
        self,
        work: Pin<Box<impl Future<Output = Response<Body>>>>,
    ) -> Response<CallBody> {
        if self.begins_by.is_some_and(|by| by <= Instant::now()) {
            return self.refuse(&late());
        }
        let work = unless_it_panics(work);
        let done = match self.begins_by {
            Some(by) => timeout_at(by, work).await,
            None => Ok(work.await),
        };
        match done {
            Ok(Some(response)) => self.answer(response),
            Ok(None) => {
                self.metrics.panics.add(1);
                self.refuse(&mistake())
            }
            Err(_) => self.refuse(&late()),
        }
    }

    /// Ends the call before anything is done.
    pub(crate) fn refuse(self, problem: &Problem) -> Response<CallBody> {
        let response = status::of(problem).into_http::<tonic::body::Body>();
        self.answer(response.map(Body::new))
    }

    fn answer(self, mut response: Response<Body>) -> Response<CallBody> {
        response.headers_mut().insert(X_REQUEST_ID, self.id.clone());
        let counted = Counted { method: self.method, metrics: self.metrics, is_counted: false };
        let ends = self.deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        let (parts, body) = response.into_parts();
        let mut body = CallBody { inner: body, ends, id: self.id, counted, is_over: false };
        if parts.headers.contains_key(Status::GRPC_STATUS) {
            body.counted.count(&parts.headers);
        }
        Response::from_parts(parts, body)
    }
}

/// The messages that answer a call, and what it ends with.
pub(crate) struct CallBody {
    inner: Body,
    ends: Option<Pin<Box<Sleep>>>,
    id: HeaderValue,
    counted: Counted,
    is_over: bool,
}

impl CallBody {
    fn end(&mut self, mut trailers: HeaderMap) -> Frame<Bytes> {
        self.is_over = true;
        self.counted.count(&trailers);
        if trailers.get(Status::GRPC_STATUS).is_some_and(|code| code != "0") {
            trailers.insert(X_REQUEST_ID, self.id.clone());
        }
        Frame::trailers(trailers)
    }
}

impl hyper::body::Body for CallBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(context).is_ready()) {
            let trailers = trailers(&status::of(&late()));
            return Poll::Ready(Some(Ok(self.end(trailers))));
        }
        let inner = &mut self.inner;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(context)));
        let Ok(polled) = polled else {
            self.counted.metrics.panics.add(1);
            let trailers = trailers(&status::of(&mistake()));
            return Poll::Ready(Some(Ok(self.end(trailers))));
        };
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            end_or_error => return Poll::Ready(end_or_error),
        };
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(trailers) => self.end(trailers),
            Err(data) => data,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Sees to it that a call is counted once.
struct Counted {
    method: Option<usize>,
    metrics: Arc<Metrics>,
    is_counted: bool,
}

impl Counted {
    fn count(&mut self, trailers: &HeaderMap) {
        let code = trailers.get(Status::GRPC_STATUS);
        let code =
            code.map_or(tonic::Code::Unknown, |code| tonic::Code::from_bytes(code.as_bytes()));
        self.count_as(code);
    }

    fn count_as(&mut self, code: tonic::Code) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.metrics.calls.ended(self.method, code);
        }
    }
}

impl Drop for Counted {
    /// The client left before the end.
    fn drop(&mut self) {
        self.count_as(tonic::Code::Cancelled);
    }
}

fn late() -> Problem {
    let detail = "the call was not done by its deadline; whether what it asked for was done is \
        unknown: send the same again";
    Problem::new(ErrorCode::DeadlineExceeded, detail)
}

fn mistake() -> Problem {
    tracing::error!("a call ended in a panic");
    Problem::new(ErrorCode::Internal, "the server made a mistake")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn call(timeout: &str) -> (Call, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new(&[]));
        let headers =
            HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), timeout.parse().unwrap())]);
        let id = HeaderValue::from_static("mine");
        let mut call = Call::begin(&format!("/{METHOD}"), id, Arc::clone(&metrics));
        call.limit(&headers, Duration::from_secs(60)).unwrap();
        (call, metrics)
    }

    fn counted(metrics: &Metrics) -> Vec<(&str, &str, u64)> {
        metrics.calls.counts().collect()
    }

    const METHOD: &str = "analytics.AnalyticsService/GetEventCount";

    #[tokio::test]
    async fn a_panic_ends_the_call_and_nothing_else() {
        let (call, metrics) = call("60S");
        let response = call.run(Box::pin(async { panic!("a mistake") })).await;
        assert_eq!(response.headers()["grpc-status"], "13");
        assert_eq!(response.headers()["x-request-id"], "mine");
        drop(response);
        assert_eq!(counted(&metrics), [(METHOD, "INTERNAL", 1)]);
        assert_eq!(metrics.panics.get(), 1);
    }

    #[tokio::test]
    async fn a_panic_within_a_stream_ends_it_with_trailers() {
        let (call, metrics) = call("60S");
        let body = http_body_util::StreamBody::new(futures_util::stream::poll_fn(
            |_| -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> { panic!("a mistake") },
        ));
        let response = call.run(Box::pin(async { Response::new(Body::new(body)) })).await;
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "13");
        assert_eq!(trailers["x-request-id"], "mine");
        assert_eq!(counted(&metrics), [(METHOD, "INTERNAL", 1)]);
    }

    #[tokio::test]
    async fn work_is_dropped_at_the_deadline_or_not_begun() {
        let (late, metrics) = call("0n");
        let response = late.run(Box::pin(async { panic!("it was begun") })).await;
        assert_eq!(response.headers()["grpc-status"], "4");
        drop(response);
        assert_eq!(
            (counted(&metrics), metrics.panics.get()),
            (vec![(METHOD, "DEADLINE_EXCEEDED", 1)], 0)
        );

        let (slow, _) = call("20m");
        let held = Arc::new(());
        let holding = Arc::clone(&held);
        let response = slow.run(Box::pin(async move {
            let _holding = holding;
            std::future::pending().await
        }));
        let response = response.await;
        assert_eq!(response.headers()["grpc-status"], "4");
        assert_eq!(Arc::strong_count(&held), 1, "the work goes on");
    }

    #[tokio::test]
    async fn a_stream_ends_at_the_clients_deadline() {
        let (call, _) = call("20m");
        let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, axum::Error>,
        >());
        let response = call.run(Box::pin(async { Response::new(Body::new(body)) })).await;
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "4");
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_counted_too() {
        let (call, metrics) = call("60S");
        drop(call.run(Box::pin(async { Response::new(Body::empty()) })).await);
        assert_eq!(counted(&metrics), [(METHOD, "CANCELLED", 1)]);
    }
}
