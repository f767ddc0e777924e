//! The contact to the brokers: finds or makes the topic, and looks how far its partitions reach.

use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Partition, Positions, limits};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::{KafkaError, Shared, locked};

/// Between two looks at the brokers.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks whether the log was closed.
const STEP: Duration = Duration::from_millis(50);

/// Stays in contact with the brokers.
pub struct Keeper {
    shared: Arc<Shared>,
}

/// What a look at the brokers told.
struct Seen {
    /// Cluster and topic.
    name: String,
    start: Positions,
    durable: Positions,
    partitions: u32,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Keeps in contact until the log is closed. It blocks, and belongs on a thread of its own.
    pub fn run(self) -> Result<(), KafkaError> {
        let mut config = self.shared.config.client();
        config.set("socket.timeout.ms", PATIENCE.as_millis().to_string());
        let consumer: BaseConsumer<Quiet> = config
            .create_with_context(Quiet)
            .map_err(|error| KafkaError::Setup(error.to_string()))?;
        while !self.shared.is_closed() {
            match self.look(&consumer) {
                Ok(seen) => self.note(seen)?,
                Err(reason) => self.lose(&reason),
            }
            let mut waited = Duration::ZERO;
            while waited < INTERVAL && !self.shared.is_closed() {
                consumer.poll(STEP);
                waited += STEP;
            }
        }
        Ok(())
    }

    fn look(&self, consumer: &BaseConsumer<Quiet>) -> Result<Seen, String> {
        let topic = self.shared.config.topic.as_str();
        let partitions = match count_partitions(consumer, topic)? {
            0 if !self.shared.contact.borrow().is_known => self.create(consumer, topic)?,
            0 => return Err(format!("topic {topic} is gone, and with it what was not settled")),
            partitions => partitions,
        };
        if !self.shared.contact.borrow().is_known {
            self.find_dead_letters(consumer);
        }
        let cluster = consumer.client().fetch_cluster_id(PATIENCE);
        let cluster = cluster.ok_or("the brokers do not tell their cluster's id")?;
        let (mut start, mut durable) = (Positions::start(), Positions::start());
        for partition in 0..partitions {
            let (low, high) = watermarks(consumer, topic, Partition(partition))?;
            start.set(Partition(partition), low);
            durable.set(Partition(partition), high);
        }
        let name = format!("kafka:{cluster}/{topic}");
        Ok(Seen { name, start, durable, partitions })
    }

    /// Makes the topic of dead letters if it is not there. The log does without it if need be.
    fn find_dead_letters(&self, consumer: &BaseConsumer<Quiet>) {
        let Some(topic) = self.shared.config.dead_letters.as_deref() else { return };
        let found = match count_partitions(consumer, topic) {
            Ok(0) => self.create(consumer, topic),
            found => found,
        };
        if let Err(reason) = found {
            tracing::warn!(reason, topic, "cannot find the topic of dead letters");
        }
    }

    /// Makes a topic, unless another process is quicker.
    fn create(&self, consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<u32, String> {
        let config = &self.shared.config;
        let admin: AdminClient<Quiet> =
            config.client().create_with_context(Quiet).map_err(|error| error.to_string())?;
        let replication = TopicReplication::Fixed(config.replication);
        let new = NewTopic::new(topic, config.partitions as i32, replication);
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let made = runtime.block_on(admin.create_topics([&new], &options));
        let made = made.map_err(|error| error.to_string())?;
        for outcome in made {
            match outcome {
                Ok(topic) => {
                    tracing::info!(topic, partitions = config.partitions, "made the topic");
                }
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(format!("topic {topic} cannot be made: {code}")),
            }
        }
        match count_partitions(consumer, topic)? {
            0 => Err(format!("topic {topic} is being made")),
            partitions => Ok(partitions),
        }
    }

    fn note(&self, seen: Seen) -> Result<(), KafkaError> {
        let before = self.shared.name.borrow().clone();
        if let Some(before) = before.filter(|before| *before != seen.name) {
            let brokers = self.shared.config.brokers.clone();
            return Err(KafkaError::OtherCluster { brokers, before, now: seen.name });
        }
        {
            let mut reach = locked(&self.shared.reach);
            reach.partitions = seen.partitions;
            reach.start = seen.start;
            reach.durable.advance_all(&seen.durable);
        }
        if !self.shared.contact.borrow().is_available {
            tracing::info!(name = seen.name, partitions = seen.partitions, "reached Kafka");
            self.shared.name.send_replace(Some(seen.name));
            self.shared.contact.send_modify(|contact| {
                contact.is_known = true;
                contact.is_available = true;
            });
        }
        self.shared.contact.send_modify(|contact| contact.looks += 1);
        Ok(())
    }

    fn lose(&self, reason: &str) {
        let contact = *self.shared.contact.borrow();
        let brokers = &self.shared.config.brokers;
        if contact.is_available {
            tracing::warn!(
                brokers,
                reason,
                "Kafka does not answer, looking for it again and again"
            );
            self.shared.contact.send_modify(|contact| contact.is_available = false);
        } else if !contact.is_known {
            tracing::warn!(brokers, reason, "Kafka has not been reached yet");
        }
    }
}

/// The first offset of a partition that can be read, and the one after the last.
pub(super) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: Partition,
) -> Result<(u64, u64), String> {
    let (low, high) = consumer
        .fetch_watermarks(topic, partition.0 as i32, PATIENCE)
        .map_err(|error| error.to_string())?;
    Ok((low.max(0) as u64, high.max(0) as u64))
}

/// How many partitions a topic has; 0 if it is not there.
fn count_partitions(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<u32, String> {
    let metadata =
        consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|error| error.to_string())?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(0);
    };
    match found.error() {
        None => {}
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return Ok(0),
        Some(error) => return Err(format!("topic {topic}: {}", RDKafkaErrorCode::from(error))),
    }
    let partitions = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
    match partitions > limits::PARTITIONS {
        true => Err(format!("topic {topic} has more than {} partitions", limits::PARTITIONS)),
        false => Ok(partitions),
    }
}

/// Leaves it to the keeper to tell what is worth telling.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "kafka keeper");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "kafka keeper");
    }
}

impl ConsumerContext for Quiet {}
