//! The thread that polls the broker for a reader.
//!
//! It also serves the group: partitions come and go while it polls, so it never stops to, not even
//! while nobody takes what it has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gristmill_model::{Partition, Positions};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::keeper::watermarks;
use super::messages::{Gathering, gap};
use super::queue::Queue;
use super::{KafkaConfig, Shared, locked};
use crate::{Committed, LogBatch, ReadError};

/// How long a poll waits for something.
const POLL: Duration = Duration::from_millis(100);
/// How much of one partition a batch has before another is begun.
const BATCH_BYTES: usize = 64 << 10;
/// How many messages are taken in before they are handed on.
const GATHER_MESSAGES: usize = 10_000;
/// How long the reader may take nothing before the broker is asked for no more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two positions that are committed for the group.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a partition may be silent short of its end before it is asked why.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(3);

type GroupConsumer = BaseConsumer<Group>;

/// Polls for one reader.
pub(super) struct Poller {
    consumer: GroupConsumer,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    /// What was last committed for the group, and when.
    told: (Positions, Instant),
    /// When something last came.
    heard: Instant,
    /// Partitions that were asked for what lies below an offset, after which they must tell their
    /// end, and there is nothing but a gap.
    asked: BTreeMap<Partition, u64>,
}

/// A poller that reads all partitions from positions.
pub(super) fn of_all(
    shared: &Arc<Shared>,
    queue: Arc<Queue>,
    from: &Positions,
) -> Result<Poller, ReadError> {
    let consumer = consumer(&shared.config, Group::new(None, Arc::clone(&queue)))?;
    let topic = shared.config.topic.as_str();
    let mut assignment = TopicPartitionList::new();
    let partitions = locked(&shared.reach).partitions;
    for partition in (0..partitions).map(Partition) {
        let wanted = from.next(partition);
        let (low, high) = watermarks(&consumer, topic, partition).map_err(std::io::Error::other)?;
        shared.has_reached(partition, high);
        if wanted > high || (wanted < low && wanted > 0) {
            return Err(ReadError::OutOfRange { partition, wanted, held: low..high });
        }
        let added = assignment.add_partition_offset(topic, partition.0 as i32, offset(wanted));
        added.map_err(std::io::Error::other)?;
        consumer.context().give(partition, wanted);
    }
    consumer.assign(&assignment).map_err(std::io::Error::other)?;
    Ok(Poller::new(consumer, shared, queue))
}

/// A poller that is given partitions by the group.
pub(super) fn of_share(
    shared: &Arc<Shared>,
    queue: Arc<Queue>,
    committed: Committed,
) -> Result<Poller, ReadError> {
    let consumer = consumer(&shared.config, Group::new(Some(committed), Arc::clone(&queue)))?;
    consumer.subscribe(&[&shared.config.topic]).map_err(std::io::Error::other)?;
    Ok(Poller::new(consumer, shared, queue))
}

fn consumer(config: &KafkaConfig, group: Group) -> Result<GroupConsumer, ReadError> {
    let session = config.session_timeout.as_millis();
    let mut client = config.client();
    client
        .set("group.id", &config.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session.to_string())
        .set("heartbeat.interval.ms", (session / 4).clamp(100, 3_000).to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Every position is given; one that is not there is an error, never another one.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "250")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.max.bytes", "8388608")
        .set("receive.message.max.bytes", "67108864")
        .set("queued.max.messages.kbytes", "8192");
    client.create_with_context(group).map_err(|error| ReadError::Refused(error.to_string()))
}

impl Poller {
    fn new(consumer: GroupConsumer, shared: &Arc<Shared>, queue: Arc<Queue>) -> Self {
        let now = Instant::now();
        let told = (Positions::start(), now);
        Self {
            consumer,
            shared: Arc::clone(shared),
            queue,
            told,
            heard: now,
            asked: BTreeMap::new(),
        }
    }

    /// Polls until the reader is gone, the log is closed, or something fails for good.
    pub(super) fn run(mut self) {
        while !self.queue.is_abandoned() {
            if self.shared.is_closed() {
                return self.queue.end(ReadError::Closed);
            }
            if let Err(error) = self.step() {
                return self.queue.end(error);
            }
            self.tell();
        }
    }

    /// Takes in what there is and hands it on.
    fn step(&mut self) -> Result<(), ReadError> {
        let mut ready = Vec::new();
        let mut gathering: BTreeMap<Partition, Gathering> = BTreeMap::new();
        let mut patience = POLL;
        for _ in 0..GATHER_MESSAGES {
            match self.consumer.poll(patience) {
                None => break,
                Some(Ok(message)) => self.gather(&message, &mut gathering, &mut ready),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.pass_gap(Partition(partition as u32), &mut ready);
                }
                Some(Err(error)) => self.judge(&error)?,
            }
            patience = Duration::ZERO;
        }
        let source = self.shared.config.source();
        ready.extend(gathering.into_values().filter_map(|gathering| gathering.finish(&source)));
        match ready.is_empty() {
            true if self.heard.elapsed() > SILENCE => self.ask_silent(),
            true => {}
            false => self.heard = Instant::now(),
        }
        ready.into_iter().for_each(|batch| self.hand_on(batch));
        Ok(())
    }

    fn gather(
        &self,
        message: &BorrowedMessage<'_>,
        gathering: &mut BTreeMap<Partition, Gathering>,
        ready: &mut Vec<LogBatch>,
    ) {
        let partition = Partition(message.partition().max(0) as u32);
        let offset = message.offset().max(0) as u64;
        // What was under way of a partition that has gone, or has been set back.
        if !self.consumer.context().take(partition, offset) {
            return;
        }
        let entry = gathering.entry(partition).or_insert_with(|| Gathering::new(partition));
        entry.push(offset, message);
        if entry.bytes() >= BATCH_BYTES {
            let full = std::mem::replace(entry, Gathering::new(partition));
            ready.extend(full.finish(&self.shared.config.source()));
        }
    }

    /// Hands a batch on. While nobody takes it, the broker is asked for no more, and the group is
    /// served.
    fn hand_on(&mut self, batch: LogBatch) {
        self.shared.has_reached(batch.partition, batch.next_offset);
        let mut waiting = batch;
        let mut is_paused = false;
        while let Err(back) = self.queue.push(waiting, if is_paused { POLL } else { PATIENCE }) {
            waiting = back;
            if !is_paused {
                tracing::debug!("what was read is not taken: reading pauses");
                self.on_assignment(Consumer::pause);
                is_paused = true;
            }
            // Nothing comes of partitions that pause; if it does, it is asked for again.
            if let Some(Ok(message)) = self.consumer.poll(Duration::ZERO) {
                self.seek(Partition(message.partition().max(0) as u32));
            }
            if self.shared.is_closed() {
                return;
            }
        }
        if is_paused {
            self.on_assignment(Consumer::resume);
        }
    }

    fn on_assignment(
        &self,
        change: impl FnOnce(&GroupConsumer, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let changed = self.consumer.assignment().and_then(|held| change(&self.consumer, &held));
        if let Err(error) = changed {
            tracing::warn!(%error, "cannot pause or resume reading from Kafka");
        }
    }

    /// Whether an error can be lived with.
    fn judge(&mut self, error: &KafkaError) -> Result<(), ReadError> {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Err(ReadError::Refused(format!("Kafka: {code}")));
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.check_reach()
            }
            _ => {
                tracing::debug!(%error, "kafka reader");
                Ok(())
            }
        }
    }

    /// The broker does not have what was asked for: finds out of which partition. If it has all of
    /// them after all, they are asked for again.
    fn check_reach(&mut self) -> Result<(), ReadError> {
        let topic = self.shared.config.topic.as_str();
        for (partition, wanted) in self.consumer.context().given() {
            match watermarks(&self.consumer, topic, partition) {
                Ok((low, high)) if wanted > high || (wanted < low && wanted > 0) => {
                    return Err(ReadError::OutOfRange { partition, wanted, held: low..high });
                }
                Ok(_) => {}
                Err(reason) => tracing::debug!(reason, "kafka reader"),
            }
            self.seek(partition);
        }
        Ok(())
    }

    fn seek(&self, partition: Partition) {
        let Some(next) = self.consumer.context().next(partition) else { return };
        let topic = self.shared.config.topic.as_str();
        let sought = self.consumer.seek(topic, partition.0 as i32, offset(next), SEEK);
        if let Err(error) = sought {
            tracing::debug!(%error, partition = partition.0, "kafka reader: cannot seek");
        }
    }

    /// Asks partitions again that do not reach their known end: there may be nothing below it but
    /// what transactions and tidying leave behind. Whatever comes of the partition now was asked for
    /// after that end was known.
    fn ask_silent(&mut self) {
        self.heard = Instant::now();
        let durable = locked(&self.shared.reach).durable.clone();
        for (partition, next) in self.consumer.context().given() {
            let end = durable.next(partition);
            if next < end {
                self.seek(partition);
                self.asked.insert(partition, end);
            }
        }
    }

    /// The partition has no more: if it was asked, what lies below is a gap.
    fn pass_gap(&mut self, partition: Partition, ready: &mut Vec<LogBatch>) {
        let Some(end) = self.asked.remove(&partition) else { return };
        let Some(next) = self.consumer.context().next(partition) else { return };
        if next < end && self.consumer.context().take(partition, end - 1) {
            ready.push(gap(partition, next..end, &self.shared.config.source()));
        }
    }

    /// Commits for the group how far its partitions are settled, now and then.
    fn tell(&mut self) {
        let (told, at) = &mut self.told;
        if self.consumer.context().committed.is_none() || at.elapsed() < COMMIT_INTERVAL {
            return;
        }
        *at = Instant::now();
        let settled = locked(&self.shared.settled).clone();
        let mut offsets = TopicPartitionList::new();
        for (partition, _) in self.consumer.context().given() {
            let next = settled.next(partition);
            if next > told.next(partition) {
                let topic = self.shared.config.topic.as_str();
                let offset = Offset::Offset(next as i64);
                if offsets.add_partition_offset(topic, partition.0 as i32, offset).is_ok() {
                    told.set(partition, next);
                }
            }
        }
        if offsets.count() > 0
            && let Err(error) = self.consumer.commit(&offsets, CommitMode::Async)
        {
            tracing::debug!(%error, "kafka reader: cannot commit for the group");
        }
    }
}

/// The place of an offset. Of a partition that nothing was taken in of, the first record that is
/// there is the first one.
fn offset(next: u64) -> Offset {
    match next {
        0 => Offset::Beginning,
        next => Offset::Offset(next as i64),
    }
}

/// What the group has given.
struct Group {
    /// Tells where to begin; `None` for a reader that is no member.
    committed: Option<Committed>,
    queue: Arc<Queue>,
    given: Mutex<BTreeMap<Partition, u64>>,
}

impl Group {
    fn new(committed: Option<Committed>, queue: Arc<Queue>) -> Self {
        Self { committed, queue, given: Mutex::default() }
    }

    /// The partitions with their next offsets.
    fn given(&self) -> Vec<(Partition, u64)> {
        locked(&self.given).iter().map(|(partition, next)| (*partition, *next)).collect()
    }

    fn next(&self, partition: Partition) -> Option<u64> {
        locked(&self.given).get(&partition).copied()
    }

    fn give(&self, partition: Partition, next: u64) {
        locked(&self.given).insert(partition, next);
    }

    /// Moves behind a record; not if it is not the partition's turn.
    fn take(&self, partition: Partition, offset: u64) -> bool {
        match locked(&self.given).get_mut(&partition) {
            Some(next) if *next <= offset => {
                *next = offset + 1;
                true
            }
            _ => false,
        }
    }
}

impl ClientContext for Group {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "kafka reader");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka reader");
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let numbers: Vec<u32> =
            list.elements().iter().map(|element| element.partition().max(0) as u32).collect();
        let changed = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let committed = self.committed.as_ref().map(|committed| committed());
            for element in &mut list.elements() {
                let partition = Partition(element.partition().max(0) as u32);
                let next = committed.as_ref().map_or(0, |committed| committed.next(partition));
                self.give(partition, next);
                if let Err(error) = element.set_offset(offset(next)) {
                    tracing::error!(%error, "cannot set the position of a partition");
                }
            }
            tracing::info!(partitions = ?numbers, "partitions were given to this process");
            consumer.incremental_assign(list)
        } else {
            let partitions: Vec<Partition> = numbers.iter().copied().map(Partition).collect();
            locked(&self.given).retain(|partition, _| !partitions.contains(partition));
            self.queue.forget(&partitions);
            tracing::info!(partitions = ?numbers, "partitions went away from this process");
            consumer.incremental_unassign(list)
        };
        if let Err(error) = changed {
            tracing::warn!(%error, "cannot take over a share of the partitions");
        }
    }
}
