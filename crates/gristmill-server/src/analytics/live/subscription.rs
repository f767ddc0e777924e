//! One subscription: what one client has been told, and where it hears more.

use std::sync::Arc;

use gristmill_model::{ErrorCode, Positions};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::topic::{News, Question, Revision, Topic};
use crate::app::App;
use crate::metrics::Entered;
use crate::problem::Problem;

/// What one client has been told, and where it hears more.
pub(crate) struct Subscription {
    news: watch::Receiver<News>,
    told: Told,
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
    pub(crate) async fn begin(
        app: &Arc<App>,
        question: Box<dyn Question>,
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
            draining: app.draining.clone(),
            _topic: topic,
            _place: place,
        })
    }

    /// The newest revision that the client was not told yet, as soon as there is one. There is
    /// none any more after a problem, and when the server stops. Nothing is lost if the future is
    /// dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<Revision, Problem>> {
        let news = tokio::select! {
            biased;
            () = self.draining.cancelled() => return None,
            news = newest(&mut self.news, &self.told) => news?,
        };
        if let Ok(revision) = &news {
            self.told.number = revision.number;
        }
        Some(news)
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
