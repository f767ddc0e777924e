//! Topics of the Kafka broker that `scripts/services` starts, and brokers that are one test's own.

use std::collections::BTreeMap;
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::outside::services;
use crate::setting;

/// Names the broker.
const BROKER: &str = "GRISTMILL_TEST_KAFKA";
/// Names the folder of Kafka's own programs.
const JARS: &str = "GRISTMILL_TEST_KAFKA_JARS";
/// How long the broker may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A topic that nobody else has, and a group to read it.
#[derive(Debug)]
pub struct TestTopic {
    brokers: String,
    name: String,
}

/// A record as any consumer finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// The key, as text.
    pub key: String,
    /// The value, as text.
    pub value: String,
    /// The headers by name, as text.
    pub headers: BTreeMap<String, String>,
}

impl TestTopic {
    /// A name that no topic has. Without a broker this is an error that says how to start one.
    pub fn unmade() -> anyhow::Result<Self> {
        Ok(Self::on(setting(BROKER).context(
            "GRISTMILL_TEST_KAFKA is not set, so there is no Kafka to test with: run \
             `eval \"$(scripts/services start)\"` first, or `make test`, which does",
        )?))
    }

    /// A topic of so many partitions, with settings of its own.
    pub fn create(partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let topic = Self::unmade()?;
        topic.make(partitions, settings)?;
        Ok(topic)
    }

    fn on(brokers: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test.{}.{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { brokers, name }
    }

    /// Where the broker is.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A group for it.
    pub fn group(&self) -> String {
        format!("{}-readers", self.name)
    }

    /// Makes it.
    pub fn make(&self, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        topic.config.extend(settings);
        self.administer(async |admin, options| {
            let made = admin.create_topics([&topic], options).await?;
            made.into_iter()
                .try_for_each(|made| made.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
        })
    }

    /// Deletes it with all its records.
    pub fn delete(&self) -> anyhow::Result<()> {
        self.administer(async |admin, options| {
            let gone = admin.delete_topics(&[&self.name], options).await?;
            gone.into_iter()
                .try_for_each(|gone| gone.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
        })
    }

    /// Deletes the records of a partition below an offset, as retention would.
    pub fn forget_below(&self, partition: i32, offset: i64) -> anyhow::Result<()> {
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(&self.name, partition, Offset::Offset(offset))?;
        self.administer(async |admin, options| {
            admin.delete_records(&below, options).await?;
            Ok(())
        })
    }

    /// Writes records to a partition: keys with values, `None` being a tombstone.
    pub fn write(&self, partition: i32, records: &[(&str, Option<&str>)]) -> anyhow::Result<()> {
        let producer: BaseProducer = self.client().set("linger.ms", "0").create()?;
        self.send(&producer, partition, records)?;
        Ok(producer.flush(PATIENCE)?)
    }

    /// Writes records once more as they are, as a producer does that has not heard of the first time.
    pub fn write_again(&self, records: &[KafkaRecord]) -> anyhow::Result<()> {
        let producer: BaseProducer = self.client().create()?;
        for KafkaRecord { partition, key, value, headers, .. } in records {
            let header = |all: OwnedHeaders, (key, value): (&String, &String)| {
                all.insert(Header { key, value: Some(value) })
            };
            let headers = headers.iter().fold(OwnedHeaders::new(), header);
            let record = BaseRecord::to(&self.name).partition(*partition).key(key).payload(value);
            producer.send(record.headers(headers)).map_err(|(error, _)| error)?;
            producer.poll(Duration::ZERO);
        }
        Ok(producer.flush(PATIENCE)?)
    }

    /// Writes records in a transaction, whose end takes an offset of its own.
    pub fn write_in_transaction(
        &self,
        partition: i32,
        records: &[(&str, Option<&str>)],
    ) -> anyhow::Result<()> {
        let producer: BaseProducer =
            self.client().set("transactional.id", self.group()).create()?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        self.send(&producer, partition, records)?;
        Ok(producer.commit_transaction(PATIENCE)?)
    }

    fn send(
        &self,
        producer: &BaseProducer,
        partition: i32,
        records: &[(&str, Option<&str>)],
    ) -> anyhow::Result<()> {
        for (key, value) in records {
            let mut record = BaseRecord::to(&self.name).partition(partition).key(*key);
            record.payload = *value;
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// All its records, by partition and offset.
    pub fn read(&self) -> anyhow::Result<Vec<KafkaRecord>> {
        let consumer: BaseConsumer = self.client().set("group.id", "test-reader").create()?;
        let mut from = TopicPartitionList::new();
        let mut missing = 0;
        for partition in 0..self.partitions(&consumer)? {
            let (low, high) = consumer.fetch_watermarks(&self.name, partition, PATIENCE)?;
            missing += high - low;
            from.add_partition_offset(&self.name, partition, Offset::Beginning)?;
        }
        consumer.assign(&from)?;
        let mut records = Vec::new();
        while (records.len() as i64) < missing {
            let message = consumer.poll(PATIENCE).context("a record is missing")??;
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
            };
            let headers = message.headers().into_iter().flat_map(Headers::iter);
            records.push(KafkaRecord {
                partition: message.partition(),
                offset: message.offset(),
                key: text(message.key()),
                value: text(message.payload()),
                headers: headers.map(|it| (it.key.to_owned(), text(it.value))).collect(),
            });
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// How far its group has committed each partition, as tools show it.
    pub fn committed(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = self.client().set("group.id", self.group()).create()?;
        let mut asked = TopicPartitionList::new();
        (0..self.partitions(&consumer)?).for_each(|partition| {
            asked.add_partition(&self.name, partition);
        });
        let told = consumer.committed_offsets(asked, PATIENCE)?;
        let told = told.elements().into_iter().filter_map(|told| match told.offset() {
            Offset::Offset(offset) => Some((told.partition(), offset)),
            _ => None,
        });
        Ok(told.collect())
    }

    /// What Kafka's own `kafka-consumer-groups --describe` tells of its group, a row for each partition
    /// or, with `--members`, for each member, by the names of the columns.
    pub fn describe_group(&self, more: &[&str]) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
        let jars =
            setting(JARS).context("GRISTMILL_TEST_KAFKA_JARS is not set: run scripts/services")?;
        let mut tool = Command::new("java");
        tool.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{jars}/*")]);
        tool.arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        tool.args(["--bootstrap-server", &self.brokers, "--group", &self.group(), "--describe"]);
        let done = tool.args(more).output().context("cannot start java")?;
        let said = String::from_utf8_lossy(&done.stdout);
        let complaint = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "kafka-consumer-groups: {said}{complaint}");
        let mut lines = said.lines().filter(|line| !line.trim().is_empty());
        let names = lines.find(|line| line.starts_with("GROUP ")).context("no table")?;
        let row = |line: &str| {
            let names = names.split_whitespace().map(str::to_owned);
            names.zip(line.split_whitespace().map(str::to_owned)).collect()
        };
        Ok(lines.map(row).collect())
    }

    fn partitions(&self, consumer: &BaseConsumer) -> anyhow::Result<i32> {
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE)?;
        let topic = metadata.topics().first().context("no topic")?;
        Ok(i32::try_from(topic.partitions().len())?)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn administer(
        &self,
        work: impl AsyncFnOnce(
            &AdminClient<DefaultClientContext>,
            &AdminOptions,
        ) -> Result<(), KafkaError>,
    ) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let work = async { work(&admin, &options).await };
        Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(work)?)
    }
}

/// A broker of its own, which a test may crash.
#[derive(Debug)]
pub struct TestKafka {
    dir: tempfile::TempDir,
    brokers: String,
}

impl TestKafka {
    /// Starts one, which takes some seconds.
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let said = services(dir.path(), "start", "kafka")?;
        let brokers = said.lines().find_map(|line| line.split_once(BROKER)?.1.strip_prefix('='));
        let brokers = brokers.context("scripts/services does not say where it is")?.to_owned();
        Ok(Self { dir, brokers })
    }

    /// A topic's name on it.
    pub fn topic(&self) -> TestTopic {
        TestTopic::on(self.brokers.clone())
    }

    /// Ends it in the middle of what it does, so that it must recover when it starts again.
    pub fn crash(&self) -> anyhow::Result<()> {
        services(self.dir.path(), "crash", "kafka").map(drop)
    }

    /// Stops it in order.
    pub fn halt(&self) -> anyhow::Result<()> {
        services(self.dir.path(), "halt", "kafka").map(drop)
    }

    /// Starts it again where it was.
    pub fn restart(&self) -> anyhow::Result<()> {
        services(self.dir.path(), "start", "kafka").map(drop)
    }
}

impl Drop for TestKafka {
    fn drop(&mut self) {
        // What cannot be stopped here is left to whoever looks at the machine.
        let _ = services(self.dir.path(), "stop", "kafka");
    }
}
