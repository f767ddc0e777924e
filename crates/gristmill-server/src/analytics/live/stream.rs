//! One subscription, as the body of an answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use gristmill_model::{ErrorCode, Positions};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::question::Question;
use super::topic::{News, Revision, Topic};
use crate::app::App;
use crate::metrics::Entered;
use crate::problem::Problem;

/// How long a stream is silent at most, so that nobody between takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEAT_TEXT: Bytes = Bytes::from_static(b": heartbeat\n\n");
/// When a browser comes again after a stream has ended, in milliseconds.
const OPENING: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// What one client has been told, and where it hears more.
pub(super) struct Subscription {
    news: watch::Receiver<News>,
    told: Told,
    /// What is to be sent before anything else.
    rest: Option<Bytes>,
    heartbeat: Duration,
    draining: CancellationToken,
    /// Keeps the question being asked.
    _topic: Arc<Topic>,
    _place: (OwnedSemaphorePermit, Entered),
}

/// What a client knows.
struct Told {
    /// The position of the newest revision that it had when it came.
    seen: Option<Positions>,
    /// What every revision must include that it is sent.
    floor: Positions,
    /// The number of the newest revision that it was sent.
    number: u64,
}

impl Subscription {
    /// Subscribes a client that has the revision of a position, if any, and returns when the
    /// question is known to have an answer. No revision includes less than `floor`.
    pub(super) async fn begin(
        app: &Arc<App>,
        question: Question,
        seen: Option<Positions>,
        mut floor: Positions,
    ) -> Result<Self, Problem> {
        let place = (app.live.place()?, app.metrics.live_subscriptions.enter());
        // A position of another log, or of one that was lost, says nothing.
        let seen = seen.filter(|seen| app.services.ingest.durable().covers(seen));
        if let Some(seen) = &seen {
            floor.advance_all(seen);
        }
        let topic = app.live.topic(app, question);
        let mut news = topic.news();
        let failed = |_| Problem::new(ErrorCode::Internal, "the server made a mistake");
        let first = news.wait_for(Option::is_some).await.map_err(failed)?.clone();
        if let Some(Err(problem)) = first {
            return Err(problem);
        }
        Ok(Self {
            news,
            told: Told { seen, floor, number: 0 },
            rest: Some(OPENING),
            // A client that reads counts as alive if something is sent to it in time.
            heartbeat: HEARTBEAT.min(app.config.write_timeout / 2),
            draining: app.draining.clone(),
            _topic: topic,
            _place: place,
        })
    }

    /// The body that tells it.
    pub(super) fn into_body(self) -> Body {
        Body::new(Stream(Some(Box::pin(self.next()))))
    }

    /// The next piece of the stream, and what comes after it.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        if let Some(rest) = self.rest.take() {
            return Some((rest, Some(self)));
        }
        let news = tokio::select! {
            biased;
            () = self.draining.cancelled() => return None,
            news = newest(&mut self.news, &self.told) => news?,
            () = sleep(self.heartbeat) => return Some((HEARTBEAT_TEXT, Some(self))),
        };
        match news {
            Ok(Revision { number, covered, data, .. }) => {
                self.told.number = number;
                // Answers may be long: all connections share the text of one.
                self.rest = Some(data);
                Some((format!("event: revision\nid: {covered}\n").into(), Some(self)))
            }
            Err(problem) => Some((problem_event(&problem), None)),
        }
    }
}

impl Told {
    fn is_new(&self, revision: &Revision) -> bool {
        let Self { seen, floor, number } = self;
        let is_known = seen.as_ref().is_some_and(|seen| seen.covers(&revision.since));
        revision.number != *number && revision.covered.covers(floor) && !is_known
    }
}

/// Waits for what a client was not told yet. There is none when the topic has ended.
async fn newest(
    news: &mut watch::Receiver<News>,
    told: &Told,
) -> Option<Result<Revision, Problem>> {
    let is_new = |news: &News| match news {
        None => false,
        Some(Ok(revision)) => told.is_new(revision),
        Some(Err(_)) => true,
    };
    news.wait_for(is_new).await.ok()?.clone()
}

fn problem_event(problem: &Problem) -> Bytes {
    let (status, code, detail) = (problem.status().as_u16(), problem.code(), problem.detail());
    let data = json!({"status": status, "code": code.name(), "detail": detail});
    format!("event: problem\ndata: {data}\n\n").into()
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Option<Subscription>)>> + Send>>;

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
            self.0 = rest.map(|subscription| Box::pin(subscription.next()) as Next);
            Ok(Frame::data(bytes))
        }))
    }
}
