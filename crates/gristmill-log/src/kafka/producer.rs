//! The way into the topic: an idempotent producer, made anew when it has failed for good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gristmill_model::{Event, Partition, limits};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext};
use rdkafka::producer::{PurgeConfig, ThreadedProducer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::KafkaConfig;
use super::messages::{FORMAT, FORMAT_HEADER};
use super::record;
use crate::{AppendError, Appended, Offsets};

/// How much may be on its way to the broker; further appends wait for room.
const IN_FLIGHT_BYTES: usize = 64 << 20;
/// What a record takes beside its value.
const RECORD_BYTES: usize = 256;
/// How much longer than the broker's time an answer may take before it is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Appends to a topic.
pub(super) struct Producer {
    topic: String,
    client_id: String,
    traceparent: fn() -> Option<String>,
    delivery_timeout: Duration,
    config: ClientConfig,
    /// Held while the records of an append are queued, so that they are contiguous.
    current: Mutex<Option<Native>>,
    room: Arc<Semaphore>,
}

type Native = Arc<ThreadedProducer<Deliveries>>;
type Answer = oneshot::Receiver<Result<Appended, AppendError>>;

impl Producer {
    pub(super) fn new(config: &KafkaConfig) -> Self {
        let mut client = config.client();
        let timeout = config.delivery_timeout.as_millis().max(1).to_string();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", timeout)
            // A single event waits this long for company.
            .set("linger.ms", "1")
            .set("compression.codec", "lz4")
            .set("batch.size", "1000000")
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", (limits::FRAME_BYTES + (1 << 20)).to_string())
            // What is in flight is bounded here, by bytes, well below this.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", (IN_FLIGHT_BYTES >> 8).to_string());
        Self {
            topic: config.topic.clone(),
            client_id: config.client_id.clone(),
            traceparent: config.traceparent,
            delivery_timeout: config.delivery_timeout,
            config: client,
            current: Mutex::new(None),
            room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)),
        }
    }

    /// Introduces itself to the brokers, so that the first append need not wait for that.
    pub(super) fn prepare(&self) {
        if let Err(error) = self.native(&mut self.lock()) {
            tracing::warn!(%error, "cannot prepare the producer");
        }
    }

    /// Appends the events and answers when the broker has all of them.
    pub(super) async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        let values = Values::of(events)?;
        let bytes = values.bytes.len() + events.len() * RECORD_BYTES;
        let (pending, answer) = self.begin(partition, events.len(), bytes).await?;
        self.queue(&pending, events, &values);
        self.wait_for(answer).await
    }

    /// Sends keys and values to a topic, and answers when the broker has all of them.
    pub(super) async fn send(
        &self,
        topic: &str,
        records: &[(&[u8], Vec<u8>)],
    ) -> Result<(), AppendError> {
        let largest = records.iter().map(|(_, value)| value.len()).max().unwrap_or_default();
        let bytes = records.iter().map(|(_, value)| value.len() + RECORD_BYTES).sum();
        let (pending, answer) = self.begin(Partition(0), records.len(), bytes).await?;
        for (index, (key, value)) in records.iter().enumerate() {
            let delivery = Box::new(Delivery { pending: Arc::clone(&pending), index });
            let record = BaseRecord::with_opaque_to(topic, delivery).key(*key).payload(value);
            let sent = match self.native(&mut self.lock()) {
                Ok(native) => {
                    native.send(record).map_err(|(error, _)| append_error(&error, largest))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                pending.fail(1, error);
            }
        }
        self.wait_for(answer).await.map(drop)
    }

    /// Waits for room.
    async fn begin(
        &self,
        partition: Partition,
        count: usize,
        bytes: usize,
    ) -> Result<(Arc<Pending>, Answer), AppendError> {
        if bytes > IN_FLIGHT_BYTES {
            return Err(AppendError::TooLarge { bytes, limit: IN_FLIGHT_BYTES });
        }
        let room = Arc::clone(&self.room).acquire_many_owned(bytes as u32).await;
        let room = room.map_err(|_| AppendError::Closed)?;
        let (answer, answered) = oneshot::channel();
        Ok((Arc::new(Pending::new(partition, count, answer, room)), answered))
    }

    async fn wait_for(&self, answer: Answer) -> Result<Appended, AppendError> {
        match timeout(self.delivery_timeout + GRACE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                Err(AppendError::Unavailable("no answer came for some records".to_owned()))
            }
        }
    }

    /// Takes no more appends, and gives up what has not been answered.
    pub(super) fn close(&self) {
        self.room.close();
        let native = self.lock().take();
        drop(native);
    }

    /// Hands the records over. What cannot be handed over has failed.
    fn queue(&self, pending: &Arc<Pending>, events: &[Event<'_>], values: &Values) {
        let mut current = self.lock();
        let native = match self.native(&mut current) {
            Ok(native) => native,
            Err(error) => return pending.fail(events.len(), error),
        };
        // An append is of one request, whose task this is.
        let traceparent = (self.traceparent)();
        for (index, event) in events.iter().enumerate() {
            let record = BaseRecord::with_opaque_to(
                self.topic.as_str(),
                Box::new(Delivery { pending: Arc::clone(pending), index }),
            );
            let record = record
                .partition(pending.partition.0 as i32)
                .key(event.user.as_str())
                .payload(values.get(index))
                .timestamp(event.received.0.div_euclid(1_000))
                .headers(self.headers(event, traceparent.as_deref()));
            if let Err((error, _)) = native.send(record) {
                return pending.fail(events.len() - index, append_error(&error, values.largest));
            }
        }
    }

    /// Where a record comes from. The names of the last two are those of an older system.
    fn headers(&self, event: &Event<'_>, traceparent: Option<&str>) -> OwnedHeaders {
        let received = event.received.to_string();
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: FORMAT_HEADER, value: Some(FORMAT) })
            .insert(Header { key: "producer_id", value: Some(self.client_id.as_str()) })
            .insert(Header { key: "timestamp", value: Some(received.as_str()) });
        match traceparent {
            Some(_) => headers.insert(Header { key: "traceparent", value: traceparent }),
            None => headers,
        }
    }

    /// The producer, made if there is none or the last one has failed for good.
    fn native<'a>(&self, current: &'a mut Option<Native>) -> Result<&'a Native, AppendError> {
        if let Some(failed) = current.take_if(|native| native.client().fatal_error().is_some()) {
            let error = failed.client().fatal_error().map(|(code, text)| format!("{code}: {text}"));
            tracing::warn!(error, "the producer has failed for good, making another");
            retire(failed);
        }
        match current {
            Some(native) => Ok(native),
            None => {
                let made = self.config.create_with_context(Deliveries);
                let made = made.map_err(|error| AppendError::Unavailable(error.to_string()))?;
                Ok(current.insert(Arc::new(made)))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Native>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a producer where waiting holds nobody up.
fn retire(native: Native) {
    native.purge(PurgeConfig::default().queue().inflight());
    let end = || drop(native);
    if let Err(error) = std::thread::Builder::new().name("kafka-retire".to_owned()).spawn(end) {
        tracing::warn!(%error, "cannot start a thread to end a producer");
    }
}

/// The values of an append's records, one after the other.
struct Values {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    largest: usize,
}

impl Values {
    fn of(events: &[Event<'_>]) -> Result<Self, AppendError> {
        if events.is_empty() {
            return Err(AppendError::Failed("an append needs at least one event".to_owned()));
        }
        let (mut bytes, mut ends, mut largest) = (Vec::new(), Vec::with_capacity(events.len()), 0);
        for event in events {
            let start = bytes.len();
            record::write(event, &mut bytes);
            largest = largest.max(bytes.len() - start);
            ends.push(bytes.len());
        }
        if largest > limits::FRAME_BYTES {
            return Err(AppendError::TooLarge { bytes: largest, limit: limits::FRAME_BYTES });
        }
        Ok(Self { bytes, ends, largest })
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(index).copied().unwrap_or_default();
        self.bytes.get(start.unwrap_or(0)..end).unwrap_or_default()
    }
}

/// An append whose records are under way.
struct Pending {
    partition: Partition,
    state: Mutex<PendingState>,
    /// Gives the room back when all reports are in.
    _room: OwnedSemaphorePermit,
}

struct PendingState {
    missing: usize,
    offsets: Vec<u64>,
    error: Option<AppendError>,
    answer: Option<oneshot::Sender<Result<Appended, AppendError>>>,
}

impl Pending {
    fn new(
        partition: Partition,
        count: usize,
        answer: oneshot::Sender<Result<Appended, AppendError>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        let answer = Some(answer);
        let state = PendingState { missing: count, offsets: vec![0; count], error: None, answer };
        Self { partition, state: Mutex::new(state), _room: room }
    }

    /// Notes that so many records are not even under way.
    fn fail(&self, count: usize, error: AppendError) {
        self.note(count, |state| state.error = state.error.take().or(Some(error)));
    }

    fn note(&self, count: usize, change: impl FnOnce(&mut PendingState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        state.missing -= count;
        if state.missing > 0 {
            return;
        }
        let outcome = match state.error.take() {
            Some(error) => Err(error),
            None => {
                let offsets: Offsets = state.offsets.drain(..).collect();
                Ok(Appended { partition: self.partition, offsets })
            }
        };
        if let Some(answer) = state.answer.take() {
            // Nobody may wait any more.
            let _ = answer.send(outcome);
        }
    }
}

/// A record that is under way.
pub(super) struct Delivery {
    pending: Arc<Pending>,
    index: usize,
}

/// Hears what became of records.
pub(super) struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "kafka producer");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer");
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let Delivery { pending, index } = *delivery;
        pending.note(1, |state| match result {
            Ok(message) => {
                if let Some(offset) = state.offsets.get_mut(index) {
                    *offset = message.offset().max(0) as u64;
                }
            }
            Err((error, message)) => {
                let bytes = message.payload().map_or(0, <[u8]>::len);
                state.error.get_or_insert_with(|| append_error(error, bytes));
            }
        });
    }
}

fn append_error(error: &KafkaError, bytes: usize) -> AppendError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => AppendError::TooLarge {
            bytes,
            // The broker does not say how much it takes.
            limit: bytes.saturating_sub(1),
        },
        _ => AppendError::Unavailable(format!("Kafka has not taken the events: {error}")),
    }
}
