//! What reads the requests of a stream and answers them.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use gristmill_model::{ErrorCode, Positions, limits};
use gristmill_proto::analytics::v1::stream_events_request::Request;
use gristmill_proto::analytics::v1::stream_events_response::Response;
use gristmill_proto::analytics::v1::{BatchAck, EventBatch, StreamEventsRequest, StreamStatus};
use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::Answer;
use super::append::{Answered, Content, Count, Settled, Way, append};
use super::gathered::{Gathered, Gathering};
use super::outbox::Outbox;
use crate::app::App;
use crate::body::refused;
use crate::caller::Caller;
use crate::grpc::status;
use crate::problem::Problem;

/// How many appends of one stream are under way at most, and how many of single events: the next group
/// gathers while the last one runs.
const APPENDS: usize = 8;
const SINGLE_APPENDS: usize = 2;
/// How long a request waits for room in the admission budget, and between two looks at it.
const ROOM_TIME: Duration = Duration::from_secs(5);
const ROOM_STEP: Duration = Duration::from_millis(5);

type Append = Pin<Box<dyn Future<Output = Result<Settled, Problem>> + Send>>;

pub(super) struct Driver {
    way: Way,
    requests: Streaming<StreamEventsRequest>,
    /// What was read and found no room in the budget yet, and until when it waits.
    waiting: Option<(Request, usize, Instant)>,
    gathering: Gathering,
    gathered: Gathered,
    appends: FuturesOrdered<Append>,
    /// How many events each of them holds.
    counts: VecDeque<Count>,
    outbox: Outbox,
    /// The number of the last batch.
    sequence: u64,
    /// Everything acknowledged lies below.
    positions: Positions,
    /// How many bytes of requests may be under way, and are.
    credit: usize,
    under_way: usize,
    /// When something last came or went.
    last_use: Instant,
    /// Set when nothing more is read; the stream ends with it when all is answered.
    end: Option<Result<(), Status>>,
}

impl Driver {
    pub(super) fn new(
        app: Arc<App>,
        caller: Caller,
        requests: Streaming<StreamEventsRequest>,
    ) -> Self {
        let Caller { project, who, .. } = caller;
        let budget = app.services.ingest.config().max_in_flight_bytes;
        Self {
            way: Way { app, project, who, turn: Arc::new(Mutex::new(())) },
            requests,
            waiting: None,
            gathering: Gathering::default(),
            gathered: Gathered::default(),
            appends: FuturesOrdered::new(),
            counts: VecDeque::new(),
            outbox: Outbox::default(),
            sequence: 0,
            positions: Positions::start(),
            credit: limits::STREAM_CREDIT_BYTES.min(budget / 4).max(1),
            under_way: 0,
            last_use: Instant::now(),
            end: None,
        }
    }

    /// Answers until the client ends, the server stops or something fails. Gives the status of a stream
    /// that is cut because nobody reads its answers.
    pub(super) async fn run(mut self, answers: mpsc::Sender<Vec<Answer>>) -> Option<Status> {
        let draining = self.way.app.draining.clone();
        self.tell_status("ready");
        loop {
            if self.is_settled() {
                if let Some(Err(status)) = self.end.replace(Ok(())) {
                    self.last_use = Instant::now();
                    self.outbox.end(status);
                }
                if self.outbox.is_empty() {
                    return None;
                }
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                () = draining.cancelled(), if self.end.is_none() => self.stop(),
                room = answers.reserve(), if !self.outbox.is_empty() => {
                    let Ok(room) = room else { return None };
                    self.last_use = Instant::now();
                    room.send(self.outbox.take());
                }
                Some(settled) = self.appends.next(), if !self.appends.is_empty() => {
                    self.settle(settled);
                }
                request = next(&mut self.requests), if self.may_read() => self.take(request),
                () = ready(()), if self.may_append() => self.append_gathered(),
                () = sleep_until(wake) => {
                    if self.is_stuck() {
                        let time = self.way.app.config.write_timeout.as_secs();
                        return Some(Status::unavailable(format!(
                            "no answer was read for {time} s: connect again and send what was not \
                             acknowledged"
                        )));
                    }
                    self.look_at_clock();
                }
            }
        }
    }

    /// Whether nothing more is read, and all that was has an answer.
    fn is_settled(&self) -> bool {
        self.end.is_some()
            && self.waiting.is_none()
            && self.gathered.is_empty()
            && self.appends.is_empty()
    }

    fn may_read(&self) -> bool {
        self.end.is_none()
            && self.waiting.is_none()
            && self.under_way < self.credit
            && self.appends.len() < APPENDS
            && !self.outbox.is_full()
            && !self.gathered.is_full(self.gathering)
    }

    /// Whether the gathered events are to be appended now.
    fn may_append(&self) -> bool {
        let Some(due) = self.gathered.due(self.gathering) else { return false };
        let is_due = self.end.is_some()
            || self.waiting.is_some()
            || self.gathered.is_full(self.gathering)
            || self.under_way >= self.credit
            || due <= Instant::now();
        is_due && self.appends.len() < SINGLE_APPENDS
    }

    /// When to look at the clock if nothing happens.
    fn wake(&self) -> Instant {
        let config = &self.way.app.config;
        if self.waiting.is_some() {
            return Instant::now() + ROOM_STEP;
        }
        let idle = if self.outbox.is_empty() {
            self.last_use + config.keep_alive_timeout
        } else {
            self.last_use + config.write_timeout
        };
        match self.gathered.due(self.gathering) {
            Some(due) if due > Instant::now() => idle.min(due),
            _ => idle,
        }
    }

    /// Whether the client has stopped reading its answers.
    fn is_stuck(&self) -> bool {
        !self.outbox.is_empty() && self.last_use.elapsed() >= self.way.app.config.write_timeout
    }

    fn look_at_clock(&mut self) {
        if let Some((request, bytes, until)) = self.waiting.take() {
            return self.admit(request, bytes, until);
        }
        let idle = self.way.app.config.keep_alive_timeout;
        let is_quiet = self.gathered.is_empty() && self.appends.is_empty();
        if self.last_use.elapsed() < idle {
            return;
        }
        if is_quiet && self.end.is_none() {
            let detail = format!("no request came for {} s: connect again", idle.as_secs());
            self.fail(&Problem::new(ErrorCode::RequestTimeout, detail));
        } else {
            self.last_use = Instant::now();
        }
    }

    /// The server stops: what was taken is acknowledged, the rest is for another server.
    fn stop(&mut self) {
        if let Some((request, bytes, _)) = self.waiting.take() {
            drop(request);
            self.under_way -= bytes;
        }
        let detail = "the server is stopping: connect again and send what was not acknowledged";
        self.fail(&Problem::new(ErrorCode::NotReady, detail));
    }

    fn fail(&mut self, problem: &Problem) {
        self.end = Some(Err(status::of(problem)));
    }

    /// Takes a request in, or the end of them.
    fn take(&mut self, request: Option<Result<StreamEventsRequest, Status>>) {
        self.last_use = Instant::now();
        let request = match request {
            None => return self.end = Some(Ok(())),
            Some(Err(status)) => return self.end = Some(Err(status)),
            Some(Ok(request)) => request,
        };
        let bytes = request.encoded_len();
        match request.request {
            None => {
                let detail = "`request` is missing: send an event, a batch or a config";
                self.fail(&Problem::argument(detail));
            }
            Some(Request::Config(config)) => match Gathering::of(&config) {
                Ok(gathering) => {
                    self.gathering = gathering;
                    self.tell_status("configured");
                }
                Err(problem) => self.fail(&problem),
            },
            Some(request) => {
                self.under_way += bytes;
                self.way.app.metrics.received_bytes.add(bytes as u64);
                self.admit(request, bytes, Instant::now() + ROOM_TIME);
            }
        }
    }

    /// Goes on with a request if the budget has room for it.
    fn admit(&mut self, request: Request, bytes: usize, until: Instant) {
        let ingest = &self.way.app.services.ingest;
        let grown = match (&request, self.gathered.permit.as_mut()) {
            (Request::Event(_), Some(permit)) => permit.grow(bytes).map(|()| None),
            _ => ingest.admit(bytes).map(Some),
        };
        let permit = match grown {
            Ok(permit) => permit,
            Err(_) if Instant::now() < until => {
                return self.waiting = Some((request, bytes, until));
            }
            Err(error) => {
                self.under_way -= bytes;
                return self.fail(&refused(error));
            }
        };
        match request {
            Request::Event(event) => {
                self.gathered.push(event, bytes);
                if permit.is_some() {
                    self.gathered.permit = permit;
                }
            }
            Request::Batch(batch) => match self.content(batch) {
                Ok(content) => {
                    self.append_gathered();
                    self.begin(content, bytes, Instant::now(), permit);
                }
                Err(problem) => self.fail(&problem),
            },
            Request::Config(_) => {}
        }
    }

    fn content(&mut self, batch: EventBatch) -> Result<Content, Problem> {
        let EventBatch { sequence, events, ndjson } = batch;
        let wrong = |field: &str, why: &str| {
            Err(Problem::argument(format!("`{field}` {why}")).at(format!("batch.{field}")))
        };
        let sequence = match sequence {
            0 => self.sequence + 1,
            sequence if sequence <= self.sequence => {
                return wrong("sequence", "must grow from batch to batch");
            }
            sequence => sequence,
        };
        let most = limits::BATCH_EVENTS;
        if events.len() > most {
            let detail = format!("the batch holds {} events, more than {most}", events.len());
            return Err(Problem::new(ErrorCode::TooLarge, detail));
        }
        self.sequence = sequence;
        match (events.is_empty(), ndjson.is_empty()) {
            (false, false) => wrong("ndjson", "and `events` are two ways to send a batch: use one"),
            (false, true) => Ok(Content::Batch(sequence, events)),
            (true, _) => Ok(Content::Lines(sequence, ndjson)),
        }
    }

    fn append_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let since = gathered.since();
        let Gathered { events, bytes, permit, .. } = gathered;
        self.begin(Content::Single(events), bytes, since, permit);
    }

    fn begin(
        &mut self,
        content: Content,
        bytes: usize,
        since: Instant,
        permit: Option<gristmill_ingest::Permit>,
    ) {
        self.counts.push_back(content.count());
        let appending = append(self.way.clone(), content, bytes, since, permit);
        self.appends.push_back(Box::pin(appending));
    }

    /// Answers the oldest append.
    fn settle(&mut self, settled: Result<Settled, Problem>) {
        self.last_use = Instant::now();
        self.counts.pop_front();
        let Settled { bytes, positions, told } = match settled {
            Ok(settled) => settled,
            Err(problem) => {
                // What came after it is not acknowledged either, so that the client sends all of it again.
                self.appends = FuturesOrdered::new();
                self.counts.clear();
                self.gathered = Gathered::default();
                self.waiting = None;
                return self.fail(&problem);
            }
        };
        self.under_way -= bytes;
        self.positions.advance_all(&positions);
        match told {
            Answered::Single(told) => {
                for told in told {
                    self.outbox.put(Response::EventResponse(told));
                }
            }
            Answered::Batch { sequence, accepted, rejected } => {
                let position = self.positions.to_string();
                let credit_bytes = bytes as u64;
                let ack = BatchAck { sequence, position, accepted, rejected, credit_bytes };
                self.outbox.acknowledge(ack);
            }
        }
    }

    fn tell_status(&mut self, message: &str) {
        let appending: usize = self.counts.iter().map(Count::get).sum();
        let pending = appending + self.gathered.events.len();
        let status = StreamStatus {
            connected: true,
            pending_events: i32::try_from(pending).unwrap_or(i32::MAX),
            message: message.to_owned(),
            credit_bytes: self.credit as u64,
        };
        self.outbox.put(Response::Status(status));
    }
}

async fn next(
    requests: &mut Streaming<StreamEventsRequest>,
) -> Option<Result<StreamEventsRequest, Status>> {
    poll_fn(|context| Pin::new(&mut *requests).poll_next(context)).await
}
