//! One subscription, as the body of an answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;
use tokio::time::sleep;

use super::subscription::Subscription;
use super::topic::Revision;
use crate::app::App;
use crate::problem::Problem;

/// How long a stream is silent at most, so that nobody between takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEAT_TEXT: Bytes = Bytes::from_static(b": heartbeat\n\n");
/// When a browser comes again after a stream has ended, in milliseconds.
const OPENING: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// The body that tells a client of its subscription.
pub(super) fn body(app: &App, subscription: Subscription) -> Body {
    // A client that reads counts as alive if something is sent to it in time.
    let heartbeat = HEARTBEAT.min(app.config.write_timeout / 2);
    let telling = Telling { subscription, rest: Some(OPENING), heartbeat };
    Body::new(Stream(Some(Box::pin(telling.next()))))
}

/// A client that is told of its subscription.
struct Telling {
    subscription: Subscription,
    /// What is to be sent before anything else.
    rest: Option<Bytes>,
    heartbeat: Duration,
}

impl Telling {
    /// The next piece of the stream, and what comes after it.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        if let Some(rest) = self.rest.take() {
            return Some((rest, Some(self)));
        }
        let news = tokio::select! {
            biased;
            news = self.subscription.next() => news?,
            () = sleep(self.heartbeat) => return Some((HEARTBEAT_TEXT, Some(self))),
        };
        match news {
            Ok(Revision { covered, data, .. }) => {
                // Answers may be long: all connections share the text of one.
                self.rest = Some(data);
                Some((format!("event: revision\nid: {covered}\n").into(), Some(self)))
            }
            Err(problem) => Some((problem_event(&problem), None)),
        }
    }
}

fn problem_event(problem: &Problem) -> Bytes {
    let (status, code, detail) = (problem.status().as_u16(), problem.code(), problem.detail());
    let data = json!({"status": status, "code": code.name(), "detail": detail});
    format!("event: problem\ndata: {data}\n\n").into()
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Option<Telling>)>> + Send>>;

/// A body that looks for its next piece whenever the connection can take one.
struct Stream(Option<Next>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let piece = ready!(next.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(piece.map(|(bytes, rest)| {
            self.0 = rest.map(|telling| Box::pin(telling.next()) as Next);
            Ok(Frame::data(bytes))
        }))
    }
}
