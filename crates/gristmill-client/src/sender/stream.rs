//! One gRPC stream: batches with numbers, acknowledged together, under the server's credit.
//!
//! Invariant: a batch leaves this lane only when it is acknowledged or given back. After a broken
//! connection all others go again, in order.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use gristmill_proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_proto::analytics::v1::stream_events_request::Request as Sent;
use gristmill_proto::analytics::v1::stream_events_response::Response as Heard;
use gristmill_proto::analytics::v1::{
    BatchAck, EventBatch, RejectedEvent, StreamEventsRequest, StreamEventsResponse,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

use super::piece::Piece;
use super::queue::{Batch, Queue};
use super::report::{Fate, Reason, Rejection};
use super::shared::Shared;
use crate::{Channel, ClientError, StreamTarget};

/// How long the server may take to begin a stream, and to acknowledge anything while something is
/// under way; then the connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most batches under way, whatever the credit.
const UNDER_WAY: usize = 4096;
/// How many messages wait to be written to the connection.
const WRITES: usize = 2;

/// Sends what comes into the only lane, for as long as it is polled.
pub(super) async fn run(shared: Arc<Shared>, target: StreamTarget) {
    let Some(queue) = shared.queues.first() else { return };
    let backoff = shared.backoff();
    let (mut failures, mut suspects) = (0, 0);
    loop {
        let mut session = Session::new(&shared, queue, suspects);
        let end = session.run(&target).await;
        let text = end.to_string();
        if session.is_idle() && matches!(end.blame(), Blame::Nobody) {
            tracing::debug!(reason = text, "a stream ended on which nothing was under way");
            (failures, suspects) = (0, 0);
            // It is taken, and goes over the next stream.
            queue.next().await;
            continue;
        }
        shared.failed(&text);
        failures = if session.has_progressed { 1 } else { failures + 1 };
        let under_way = session.sent.len();
        suspects = match end.blame() {
            // If there were several, they go one by one, to find out.
            Blame::OneBatch if under_way > 1 => under_way,
            Blame::OneBatch => {
                give_back(&shared, queue, under_way, &text);
                0
            }
            Blame::Client => {
                queue.take_all();
                give_back(&shared, queue, usize::MAX, &text);
                0
            }
            Blame::Nobody => session.suspects,
        };
        give_up(&shared, queue);
        let wait = backoff.wait(failures, None, shared.entropy.next_u128());
        tracing::debug!(error = text, ?wait, "a stream ended, connecting again");
        meanwhile(&shared, queue, sleep(wait)).await;
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Unreachable(#[from] ClientError),
    #[error("the server ended the stream: {} ({})", .0.message(), .0.code())]
    Status(#[from] Status),
    #[error("the server ended the stream")]
    Finished,
    #[error("the server acknowledged nothing for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(&'static str),
    #[error("no acknowledgement came in time")]
    Overdue,
}

/// What an end says of what was sent.
enum Blame {
    /// Trying again is enough.
    Nobody,
    /// The server does not take one of the batches under way, and never will.
    OneBatch,
    /// The server does not take anything from this client.
    Client,
}

impl End {
    fn blame(&self) -> Blame {
        let End::Status(status) = self else { return Blame::Nobody };
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Blame::Client,
            Code::InvalidArgument | Code::OutOfRange => Blame::OneBatch,
            _ => Blame::Nobody,
        }
    }
}

/// Does something, and meanwhile gives back what is overdue, so that nobody waits longer than was promised.
async fn meanwhile<T>(shared: &Shared, queue: &Queue, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        let first = queue.taken().front().map(|batch| batch.since + shared.config.give_up_after);
        let overdue = first.unwrap_or_else(Instant::now);
        tokio::select! {
            done = &mut work => return done,
            () = sleep_until(overdue), if first.is_some() => give_up(shared, queue),
            // Takes what is due, so that it can be given back.
            _ = queue.next(), if first.is_none() => {}
        }
    }
}

/// Gives the first batches back as refused.
fn give_back(shared: &Shared, queue: &Queue, count: usize, error: &str) {
    for batch in queue.taken().into_iter().take(count) {
        let mut fate = Fate::default();
        let reason = Reason::Refused(error.into());
        fate.lost(&batch.piece.lines, &reason, batch.may_have_arrived());
        shared.settle(queue, &batch, fate);
    }
}

/// Gives back what is overdue.
fn give_up(shared: &Shared, queue: &Queue) {
    let now = Instant::now();
    for batch in queue.taken() {
        if now >= batch.since + shared.config.give_up_after {
            let mut error = shared.last_error();
            if error.is_empty() {
                error = "no stream began in time".into();
            }
            let mut fate = Fate::default();
            fate.lost(&batch.piece.lines, &Reason::GaveUp(error), batch.may_have_arrived());
            shared.settle(queue, &batch, fate);
        }
    }
}

/// A stream that has begun.
struct Begun {
    /// Drives the connection for as long as it is here.
    _channel: Channel,
    writes: mpsc::Sender<StreamEventsRequest>,
    answers: Streaming<StreamEventsResponse>,
    first: Option<StreamEventsResponse>,
}

/// Begins a stream, and hears the server's first answer.
async fn begin(target: &StreamTarget) -> Result<Begun, End> {
    let channel = target.connect().await?;
    let (writes, mut reads) = mpsc::channel::<StreamEventsRequest>(WRITES);
    let requests = stream::poll_fn(move |context| reads.poll_recv(context));
    let mut client = EventIngestionServiceClient::new(channel.clone());
    let begun = timeout(PATIENCE, client.stream_events(requests)).await;
    let mut answers = begun.map_err(|_| End::Silent)??.into_inner();
    let first = timeout(PATIENCE, answers.message()).await.map_err(|_| End::Silent)??;
    Ok(Begun { _channel: channel, writes, answers, first })
}

/// One stream, from connecting to its end.
struct Session<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
    /// Batches to be sent, in order.
    unsent: VecDeque<Arc<Batch>>,
    /// Batches that were sent, in order.
    sent: VecDeque<UnderWay>,
    next_sequence: u64,
    /// Bytes under way, and how many may be.
    sent_bytes: u64,
    credit: u64,
    heard_at: Instant,
    /// Events that were told of in acknowledgements beyond those of settled batches, and which of
    /// them were rejected.
    told: u64,
    rejected: Vec<RejectedEvent>,
    has_begun: bool,
    has_progressed: bool,
    /// So many batches go one by one, because the server did not take one of them.
    suspects: usize,
}

struct UnderWay {
    sequence: u64,
    bytes: u64,
    batch: Arc<Batch>,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, queue: &'a Queue, suspects: usize) -> Self {
        Self {
            shared,
            queue,
            unsent: VecDeque::new(),
            sent: VecDeque::new(),
            next_sequence: 1,
            sent_bytes: 0,
            credit: 0,
            heard_at: Instant::now(),
            told: 0,
            rejected: Vec::new(),
            has_begun: false,
            has_progressed: false,
            suspects,
        }
    }

    /// Whether it stood, and nothing was to be sent or acknowledged.
    fn is_idle(&self) -> bool {
        self.has_begun && self.unsent.is_empty() && self.sent.is_empty()
    }

    async fn run(&mut self, target: &StreamTarget) -> End {
        match self.exchange(target).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn exchange(&mut self, target: &StreamTarget) -> Result<std::convert::Infallible, End> {
        let mut begun = meanwhile(self.shared, self.queue, begin(target)).await?;
        self.hear(begun.first.take())?;
        self.has_begun = true;
        self.unsent = self.queue.taken();
        self.heard_at = Instant::now();
        loop {
            self.step(&begun.writes, &mut begun.answers).await?;
        }
    }

    /// Waits for whatever comes first: an answer, room to send, more to send, or the end of patience.
    async fn step(
        &mut self,
        writes: &mpsc::Sender<StreamEventsRequest>,
        answers: &mut Streaming<StreamEventsResponse>,
    ) -> Result<(), End> {
        let next = self.unsent.front().map(|batch| request(self.next_sequence, batch));
        let bytes = next.as_ref().map_or(0, |next| next.encoded_len() as u64);
        // A batch that is larger than all credit goes alone.
        let has_credit = self.credit >= bytes || self.sent.is_empty();
        let most = if self.suspects > 0 { 1 } else { UNDER_WAY };
        let may_send = next.is_some() && has_credit && self.sent.len() < most;
        let oldest = self.sent.front().map(|first| &first.batch).or(self.unsent.front());
        let overdue = oldest.map(|batch| batch.since + self.shared.config.give_up_after);
        let silent = self.heard_at + PATIENCE;
        tokio::select! {
            answer = answers.message() => self.hear(answer?),
            place = writes.reserve(), if may_send => {
                let place = place.map_err(|_| End::Finished)?;
                if let Some(next) = next {
                    place.send(next);
                    self.went(bytes);
                }
                Ok(())
            }
            batch = self.queue.next(), if self.unsent.is_empty() => {
                self.unsent.push_back(batch);
                Ok(())
            }
            () = sleep_until(silent), if !self.sent.is_empty() => Err(End::Silent),
            () = sleep_until(overdue.unwrap_or(silent)), if overdue.is_some() => Err(End::Overdue),
        }
    }

    /// The first unsent batch was sent.
    fn went(&mut self, bytes: u64) {
        let Some(batch) = self.unsent.pop_front() else { return };
        if self.sent.is_empty() {
            self.heard_at = Instant::now();
        }
        batch.goes_out();
        self.sent.push_back(UnderWay { sequence: self.next_sequence, bytes, batch });
        self.next_sequence += 1;
        self.sent_bytes += bytes;
        self.credit = self.credit.saturating_sub(bytes);
    }

    fn hear(&mut self, answer: Option<StreamEventsResponse>) -> Result<(), End> {
        let answer = answer.ok_or(End::Finished)?.response;
        self.heard_at = Instant::now();
        match answer {
            Some(Heard::Status(status)) => {
                self.credit = status.credit_bytes.saturating_sub(self.sent_bytes);
                Ok(())
            }
            Some(Heard::BatchAck(ack)) => {
                self.acknowledged(ack);
                Ok(())
            }
            Some(Heard::EventResponse(_)) => Err(End::Nonsense("no single event was sent")),
            None => Ok(()),
        }
    }

    /// Many rejections of one batch come in several acknowledgements, so a batch is settled when all of
    /// its events were told of.
    fn acknowledged(&mut self, ack: BatchAck) {
        self.credit = self.credit.saturating_add(ack.credit_bytes);
        self.told += ack.accepted + ack.rejected.len() as u64;
        self.rejected.extend(ack.rejected);
        while let Some(first) = self.sent.front() {
            let events = first.batch.piece.events as u64;
            if first.sequence > ack.sequence || events > self.told {
                return;
            }
            let Some(UnderWay { sequence, bytes, batch }) = self.sent.pop_front() else { return };
            self.told -= events;
            self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
            let mut fate = Fate::default();
            let rejections = take_rejections(&mut self.rejected, sequence);
            let Piece { lines, events } = &batch.piece;
            fate.answered(lines, *events, rejections, ack.position.clone());
            self.shared.settle(self.queue, &batch, fate);
            self.has_progressed = true;
            self.suspects = self.suspects.saturating_sub(1);
        }
        // Whatever is left is about nothing that was sent.
        self.told = 0;
        self.rejected.clear();
    }
}

fn request(sequence: u64, batch: &Batch) -> StreamEventsRequest {
    let batch = EventBatch { sequence, events: Vec::new(), ndjson: batch.piece.lines.clone() };
    StreamEventsRequest { request: Some(Sent::Batch(batch)) }
}

fn take_rejections(rejected: &mut Vec<RejectedEvent>, sequence: u64) -> Vec<Rejection> {
    let mine = rejected.extract_if(.., |event| event.sequence == sequence);
    let rejections = mine.filter_map(|event| {
        let result = event.result?;
        let index = usize::try_from(result.index).ok()?;
        Some(Rejection { index, code: result.code, message: result.message })
    });
    rejections.collect()
}
