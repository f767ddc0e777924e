//! The log in a Kafka topic, which others may write to and read as well.
//!
//! Records are events as JSON (`record`); those of other producers are understood by whoever
//! [`ForeignRecords`] says. [`Keeper::run`] stays in contact with the brokers: it finds or makes
//! the topic, and looks how far its partitions reach. Appends go through one idempotent producer
//! (`producer`). A reader is a thread that polls the broker (`poller`) and a bounded queue.
//!
//! Where to read from is never asked of the broker: positions are the store's. Those that the group
//! commits are for tools that show its lag.

mod dead_letters;
mod foreign;
mod keeper;
mod messages;
mod poller;
mod producer;
mod queue;
mod reader;
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gristmill_model::{Clock, Event, Micros, Partition, Positions, Timestamp};
use rdkafka::ClientConfig;
use thiserror::Error;
use tokio::sync::watch;

pub use foreign::{ForeignRecord, ForeignRecords, NoForeignRecords};
pub use keeper::Keeper;
pub use messages::Messages;

use self::messages::Source;
use self::producer::Producer;
use self::reader::KafkaReader;
use crate::{
    AppendError, Appended, Committed, EventLog, LogPlace, LogReader, ReadError, SetAside, TrimError,
};

/// The event that the value of a record of ours tells of.
#[cfg(feature = "testing")]
pub fn read_value(value: &[u8]) -> Result<Event<'_>, String> {
    record::read(value)
}

/// Appends the value of an event's record.
#[cfg(feature = "testing")]
pub fn write_value(event: &Event<'_>, out: &mut Vec<u8>) {
    record::write(event, out);
}

/// Where the topic is, and who reads and writes it.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port` separated by commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The group whose members share the partitions.
    pub group: String,
    /// What this process is called in the brokers' logs and in its records' headers.
    pub client_id: String,
    /// How many partitions a topic gets that is not there. Of one that is there, its own count.
    pub partitions: u32,
    /// How many brokers hold each partition of such a topic; -1 is what the brokers have set.
    pub replication: i32,
    /// How long the brokers may take to confirm a record.
    pub delivery_timeout: Duration,
    /// How long a member of the group may be silent before its partitions go to others.
    pub session_timeout: Duration,
    /// A topic that gets copies of records that were set aside, if there is to be one.
    pub dead_letters: Option<String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The `traceparent` of what is being appended by the task that asks, if it has one.
    pub traceparent: fn() -> Option<String>,
    /// Understands records of other producers.
    pub foreign: Arc<dyn ForeignRecords>,
}

impl KafkaConfig {
    /// What all clients have in common.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            // A broker that comes back is found soon.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        config
    }

    fn source(&self) -> Source {
        Source { topic: self.topic.as_str().into(), foreign: Arc::clone(&self.foreign) }
    }
}

/// Why the log's contact with the brokers is broken off.
#[derive(Debug, Error)]
pub enum KafkaError {
    /// A setting makes no sense to the client library.
    #[error("the Kafka client cannot be set up: {0}")]
    Setup(String),
    /// Another cluster answers than before.
    #[error(
        "the brokers at {brokers} lead to {now} now, and did to {before}: if that is meant, start \
         again"
    )]
    OtherCluster {
        /// Where.
        brokers: String,
        /// Cluster and topic before.
        before: String,
        /// Cluster and topic now.
        now: String,
    },
}

/// How long a processor waits for dead letters to be taken, and for how long it writes none after that
/// was in vain, in microseconds.
const LETTERS_MAY_TAKE: Duration = Duration::from_secs(1);
const LETTERS_REST: Micros = 30 * Timestamp::SECOND;

/// The Kafka adapter of [`EventLog`].
pub struct KafkaLog {
    shared: Arc<Shared>,
    producer: Producer,
    /// Until then no dead letters are written.
    letters_rest_until: Mutex<Timestamp>,
}

/// What the log, its keeper and its readers share.
struct Shared {
    config: KafkaConfig,
    contact: watch::Sender<Contact>,
    /// Cluster and topic, once they were reached.
    name: watch::Sender<Option<String>>,
    reach: Mutex<Reach>,
    /// What may be committed for the group: see [`EventLog::trim`].
    settled: Mutex<Positions>,
}

/// How the contact to the brokers is.
#[derive(Clone, Copy, Debug, Default)]
struct Contact {
    is_known: bool,
    is_available: bool,
    is_closed: bool,
    /// How often the brokers have been asked how far the partitions reach, and told it.
    looks: u64,
}

/// How far the partitions reach, as last seen.
#[derive(Clone, Debug)]
struct Reach {
    partitions: u32,
    start: Positions,
    durable: Positions,
}

impl KafkaLog {
    /// The log of a topic that has not been reached; its keeper must run. From here on the brokers
    /// are looked for.
    pub fn new(config: KafkaConfig) -> (Arc<Self>, Keeper) {
        let (start, durable) = (Positions::start(), Positions::start());
        let reach = Reach { partitions: config.partitions.max(1), start, durable };
        let producer = Producer::new(&config);
        producer.prepare();
        let shared = Arc::new(Shared {
            config,
            contact: watch::Sender::new(Contact::default()),
            name: watch::Sender::new(None),
            reach: Mutex::new(reach),
            settled: Mutex::default(),
        });
        let keeper = Keeper::new(Arc::clone(&shared));
        (
            Arc::new(Self { shared, producer, letters_rest_until: Mutex::new(Timestamp::MIN) }),
            keeper,
        )
    }

    /// Waits until the topic has been reached; false if the log was closed first.
    pub async fn reached(&self) -> bool {
        self.shared.reached().await.is_ok()
    }

    /// Waits until the brokers have been asked anew how far the topic reaches; false if the log was closed
    /// first.
    pub async fn looked_again(&self) -> bool {
        let mut contact = self.shared.contact.subscribe();
        // One look may have begun already.
        let wanted = contact.borrow().looks + 2;
        let seen = contact.wait_for(|contact| contact.looks >= wanted || contact.is_closed).await;
        seen.is_ok_and(|contact| !contact.is_closed)
    }

    /// What names the topic among all topics, once it has been reached: `kafka:cluster/topic`.
    pub fn name(&self) -> watch::Receiver<Option<String>> {
        self.shared.name.subscribe()
    }

    /// Takes no more appends. Readers give what they have, and then [`ReadError::Closed`].
    pub fn close(&self) {
        self.shared.contact.send_modify(|contact| contact.is_closed = true);
        self.producer.close();
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn partitions(&self) -> u32 {
        locked(&self.shared.reach).partitions
    }

    fn is_available(&self) -> bool {
        self.shared.contact.borrow().is_available
    }

    fn place(&self) -> LogPlace<'_> {
        LogPlace { name: &self.shared.config.topic, address: &self.shared.config.brokers }
    }

    async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        let contact = *self.shared.contact.borrow();
        if contact.is_closed {
            return Err(AppendError::Closed);
        }
        if !contact.is_available {
            return Err(AppendError::Unavailable("no Kafka broker answers".to_owned()));
        }
        let partitions = self.partitions();
        if partition.0 >= partitions {
            let text = format!("there is no partition {} of {partitions}", partition.0);
            return Err(AppendError::Failed(text));
        }
        let appended = self.producer.append(partition, events).await?;
        self.shared.has_reached(partition, appended.offsets.end());
        Ok(appended)
    }

    fn start(&self) -> Positions {
        locked(&self.shared.reach).start.clone()
    }

    fn durable(&self) -> Positions {
        locked(&self.shared.reach).durable.clone()
    }

    async fn read_from(&self, from: &Positions) -> Result<Box<dyn LogReader>, ReadError> {
        self.shared.reached().await?;
        Ok(Box::new(KafkaReader::from(&self.shared, from.clone()).await?))
    }

    async fn share(&self, committed: Committed) -> Result<Box<dyn LogReader>, ReadError> {
        self.shared.reached().await?;
        Ok(Box::new(KafkaReader::share(&self.shared, committed)?))
    }

    /// They go to the topic of dead letters.
    async fn show_set_aside(&self, records: &[SetAside<'_>]) {
        let config = &self.shared.config;
        let Some(letters) = &config.dead_letters else { return };
        let now = config.clock.now();
        if now < *locked(&self.letters_rest_until) {
            return;
        }
        let letter = |record: &SetAside<'_>| dead_letters::letter(record, &config.topic, now);
        let values: Vec<_> = records.iter().map(|record| (record.key, letter(record))).collect();
        let sent = tokio::time::timeout(LETTERS_MAY_TAKE, self.producer.send(letters, &values));
        let reason = match sent.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {LETTERS_MAY_TAKE:?}"),
        };
        *locked(&self.letters_rest_until) = now.plus(LETTERS_REST);
        let topic = letters.as_str();
        tracing::warn!(
            reason,
            topic,
            "dead letters are missing in their topic, and so are the next"
        );
    }

    /// Records stay for as long as the topic's settings say. The group's positions follow, for
    /// tools that show lag.
    async fn trim(&self, below: &Positions) -> Result<(), TrimError> {
        locked(&self.shared.settled).advance_all(below);
        Ok(())
    }
}

impl Shared {
    /// Waits until the topic is known.
    async fn reached(&self) -> Result<(), ReadError> {
        let mut contact = self.contact.subscribe();
        let known = contact.wait_for(|contact| contact.is_known || contact.is_closed).await;
        match known {
            Ok(contact) if !contact.is_closed => Ok(()),
            Ok(_) | Err(_) => Err(ReadError::Closed),
        }
    }

    fn is_closed(&self) -> bool {
        self.contact.borrow().is_closed
    }

    /// Notes that a partition reaches this far at least.
    fn has_reached(&self, partition: Partition, end: u64) {
        locked(&self.reach).durable.advance(partition, end);
    }
}

/// Locks, whatever a panic elsewhere left: every critical section here leaves its data whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
