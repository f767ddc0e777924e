//! The service behind every ingestion route.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use gristmill_log::{AppendError, Appended, EventLog, LogPlace};
use gristmill_model::{Clock, Entropy, Event, EventId, Partition, Position, Positions, ProjectId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::admission::{Admission, AdmissionStats, AdmitError, Permit};
use crate::dialect::{Context, Events, Rejection};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// The largest request body as it is sent, in bytes.
    pub max_body_bytes: usize,
    /// The largest request body after its content encoding is undone, in bytes.
    pub max_inflated_bytes: usize,
    /// The bytes of all requests in flight together. Must have room for the largest request, as
    /// sent and inflated, or that is never admitted.
    pub max_in_flight_bytes: usize,
    /// How many records the store may be behind the log before appends wait for it, for a second
    /// at most. It bounds how late an event becomes visible under full load.
    pub paced_backlog_records: u64,
    /// How many records the store may be behind the log before requests are refused.
    pub max_backlog_records: u64,
}

/// Takes in events.
pub struct Ingest {
    config: IngestConfig,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    admission: Admission,
    accepted: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

/// What became of the events of a request.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// One item per event of the request, in order.
    pub items: Vec<Item<'a>>,
    /// Everything accepted lies below: the request's position token.
    pub positions: Positions,
}

/// What became of one event.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its id, given or derived; of a rejected event whatever could be read, maybe empty.
    pub id: EventId<'a>,
    /// Where it lies in the log, or why it was not taken.
    pub result: Result<Position, Rejection>,
}

/// What was taken in since the start, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestStats {
    /// Events acknowledged as durable.
    pub accepted: u64,
    /// Events rejected one by one.
    pub rejected: u64,
    /// Events whose append was answered with an error; they may be in the log or not.
    pub failed: u64,
    /// What admission did.
    pub admission: AdmissionStats,
}

impl Ingest {
    /// A service over a log. `committed` tells how far the store has come.
    pub fn new(
        config: IngestConfig,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        committed: Box<dyn Fn() -> Positions + Send + Sync>,
    ) -> Self {
        let admission = Admission::new(&config, Arc::clone(&log), committed);
        let [accepted, rejected, failed] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { config, log, clock, entropy, admission, accepted, rejected, failed }
    }

    /// What was set.
    pub fn config(&self) -> &IngestConfig {
        &self.config
    }

    /// Reserves `bytes` for a request, or says when to come again. The permit is held until the
    /// answer is known.
    pub fn admit(&self, bytes: usize) -> Result<Permit, AdmitError> {
        self.admission.admit(bytes)
    }

    /// The facts of a request that its events need.
    pub fn context<'a>(
        &'a self,
        project: ProjectId<'a>,
        idempotency_key: Option<&'a str>,
    ) -> Context<'a> {
        let received = self.clock.now();
        Context { project, received, idempotency_key, entropy: self.entropy.as_ref() }
    }

    /// The positions below which everything is durable, whoever sent it.
    pub fn durable(&self) -> Positions {
        self.log.durable()
    }

    /// What the log is called and where it is.
    pub fn log_place(&self) -> LogPlace<'_> {
        self.log.place()
    }

    /// Whether the log can take events now, as far as it knows.
    pub fn is_available(&self) -> bool {
        self.log.is_available()
    }

    /// What was done so far.
    pub fn stats(&self) -> IngestStats {
        IngestStats {
            accepted: self.accepted.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            failed: self.failed.load(Relaxed),
            admission: self.admission.stats(),
        }
    }

    /// Appends the valid events and answers when all of them are durable.
    ///
    /// The events of one user go to one partition, in order. On an error any of the events may be
    /// in the log; sent again with their ids they count once.
    pub async fn accept<'a>(&self, events: Events<'a>) -> Result<Accepted<'a>, AppendError> {
        self.accept_in_turn(events, ()).await
    }

    /// The same for one of several appends whose order matters: `turn` is dropped when the log has the
    /// events in its order, so that the next may begin before these are durable.
    pub async fn accept_in_turn<'a>(
        &self,
        events: Events<'a>,
        turn: impl Send,
    ) -> Result<Accepted<'a>, AppendError> {
        let (mut groups, places) = self.group(events);
        self.admission.pace().await;
        let outcomes = self.append(&groups, turn).await;
        let valid: usize = groups.iter().map(Vec::len).sum();
        let mut ranges = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Ok(appended) => ranges.push(appended),
                Err(error) => {
                    self.failed.fetch_add(valid as u64, Relaxed);
                    tracing::warn!(events = valid, %error, "cannot append to the log");
                    return Err(error);
                }
            }
        }
        self.accepted.fetch_add(valid as u64, Relaxed);
        self.rejected.fetch_add((places.len() - valid) as u64, Relaxed);
        Ok(settle(&mut groups, places, &ranges))
    }

    /// Parts the valid events by partition and says for each event of the request where it went.
    fn group<'a>(&self, events: Events<'a>) -> (Vec<Vec<Event<'a>>>, Vec<Place>) {
        let partitions = self.log.partitions().max(1);
        let mut groups: Vec<Vec<Event<'a>>> = (0..partitions).map(|_| Vec::new()).collect();
        if let [only] = groups.as_mut_slice() {
            only.reserve(events.len());
        }
        let mut places = Vec::with_capacity(events.len());
        for event in events {
            places.push(event.map(|event| {
                let partition = partition_of(&event, partitions);
                if let Some(group) = groups.get_mut(partition.0 as usize) {
                    group.push(event);
                }
                partition
            }));
        }
        (groups, places)
    }

    /// Appends every group that has events, all at the same time, and waits for all of them.
    async fn append(
        &self,
        groups: &[Vec<Event<'_>>],
        turn: impl Send,
    ) -> Vec<Result<Appended, AppendError>> {
        let filled = (0..).map(Partition).zip(groups).filter(|(_, group)| !group.is_empty());
        let appends = filled.map(|(partition, group)| self.log.append(partition, group));
        let mut joined = pin!(join_all(appends.collect()));
        // A log puts appends in the order in which they are first polled.
        let first = poll_fn(|context| Poll::Ready(joined.as_mut().poll(context))).await;
        drop(turn);
        match first {
            Poll::Ready(outcomes) => outcomes,
            Poll::Pending => joined.await,
        }
    }
}

/// The partition that a valid event went to, or why it went to none.
type Place = Result<Partition, Rejection>;

/// The items of a request in its order, and the positions above them.
fn settle<'a>(
    groups: &mut [Vec<Event<'a>>],
    places: Vec<Place>,
    ranges: &[Appended],
) -> Accepted<'a> {
    let positions = ranges.iter().map(|range| (range.partition, range.offsets.end())).collect();
    let mut offsets: Vec<_> = groups.iter().map(|_| None).collect();
    for range in ranges {
        if let Some(place) = offsets.get_mut(range.partition.0 as usize) {
            *place = Some(range.offsets.iter());
        }
    }
    let mut events: Vec<_> = groups.iter_mut().map(|group| group.drain(..)).collect();
    let items = places.into_iter().filter_map(|place| match place {
        Err(rejection) => {
            Some(Item { id: EventId::new(rejection.id.clone()), result: Err(rejection) })
        }
        Ok(partition) => {
            let index = partition.0 as usize;
            let offset = offsets.get_mut(index)?.as_mut()?.next()?;
            let position = Position { partition, offset };
            Some(Item { id: events.get_mut(index)?.next()?.id, result: Ok(position) })
        }
    });
    Accepted { items: items.collect(), positions }
}

/// The partition of an event's user. It changes only with the number of partitions.
fn partition_of(event: &Event<'_>, partitions: u32) -> Partition {
    if partitions == 1 {
        return Partition(0);
    }
    let project = xxh3_64(event.project.as_str().as_bytes());
    let hash = xxh3_64_with_seed(event.user.as_str().as_bytes(), project);
    Partition((hash % u64::from(partitions)) as u32)
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Drives futures together and gives their outputs in order.
async fn join_all<T: Unpin>(mut futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    if futures.len() == 1
        && let Some(only) = futures.pop()
    {
        return vec![only.await];
    }
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
