//! `StreamEvents`: events for as long as the client sends.
//!
//! A task of the stream's own reads requests, has several appends under way, and answers them in order. What
//! it holds is bounded: it reads no further when as many bytes are under way as the client was told, when
//! the admission budget has no room, or when the client does not read its answers. Single events are
//! gathered while earlier appends run, so that they do not cost a sync each.

mod append;
mod driver;
mod gathered;
mod outbox;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_util::Stream;
use gristmill_proto::analytics::v1::{StreamEventsRequest, StreamEventsResponse};
use http::Extensions;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use crate::app::App;
use crate::caller::caller_of;
use crate::trace;
use driver::Driver;

/// How many sends of answers may wait for the connection, beside the one that it has and the outbox.
const SENDS: usize = 1;

type Answer = Result<StreamEventsResponse, Status>;

/// The answers to a stream's requests.
pub(super) struct Answers {
    ready: vec::IntoIter<Answer>,
    sent: mpsc::Receiver<Vec<Answer>>,
    /// Ends with the answers: the client is gone then. Gives the status that the stream was cut with.
    driving: JoinSet<Option<Status>>,
}

/// Begins to answer a stream.
pub(super) fn open(
    app: &Arc<App>,
    extensions: &Extensions,
    requests: Streaming<StreamEventsRequest>,
) -> Answers {
    let (sender, sent) = mpsc::channel(SENDS);
    let driver = Driver::new(Arc::clone(app), caller_of(extensions), requests);
    let mut driving = JoinSet::new();
    driving.spawn(trace::handed_on(driver.run(sender)));
    Answers { ready: Vec::new().into_iter(), sent, driving }
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        loop {
            if let Some(answer) = self.ready.next() {
                return Poll::Ready(Some(answer));
            }
            match ready!(self.sent.poll_recv(context)) {
                Some(answers) => self.ready = answers.into_iter(),
                // None of the driver's ends may look like a good one if it is not.
                None => {
                    return Poll::Ready(match ready!(self.driving.poll_join_next(context)) {
                        Some(Ok(Some(status))) => Some(Err(status)),
                        Some(Err(_)) => Some(Err(Status::internal("the server made a mistake"))),
                        Some(Ok(None)) | None => None,
                    });
                }
            }
        }
    }
}
