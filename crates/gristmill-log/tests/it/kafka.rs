//! The log in a topic of a real broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gristmill_log::conformance::{sample, samples, suite};
use gristmill_log::kafka::{KafkaConfig, KafkaLog, NoForeignRecords};
use gristmill_log::{AppendError, Committed, EventLog, LogBatch, LogReader, ReadError};
use gristmill_model::{Partition, Positions, Timestamp};
use gristmill_testkit::{ManualClock, TestTopic};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(brokers: &str, topic: &str, partitions: u32) -> KafkaConfig {
    KafkaConfig {
        dead_letters: None,
        clock: Arc::new(ManualClock::at(Timestamp(0))),
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        group: format!("{topic}-readers"),
        client_id: "gristmill-test".to_owned(),
        partitions,
        replication: -1,
        delivery_timeout: Duration::from_secs(5),
        session_timeout: Duration::from_secs(3),
        traceparent: || None,
        foreign: Arc::new(NoForeignRecords),
    }
}

/// A log whose keeper runs until it is dropped.
struct Running {
    log: Arc<KafkaLog>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn of(topic: &TestTopic) -> Self {
        Self::start(config(topic.brokers(), topic.name(), 3))
    }

    fn start(config: KafkaConfig) -> Self {
        let (log, keeper) = KafkaLog::new(config);
        let run = || keeper.run().unwrap();
        let keeper = std::thread::Builder::new().name("keeper".to_owned()).spawn(run).unwrap();
        Self { log, keeper: Some(keeper) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.log.close();
        self.keeper.take().unwrap().join().unwrap();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(future)
}

#[test]
fn kafka_log_keeps_the_contract() {
    for partitions in [1, 3] {
        let running = Mutex::new(Vec::new());
        let make = || async {
            // Records as large as the contract allows.
            let settings = [("max.message.bytes", "18000000")];
            let topic = std::thread::scope(|scope| {
                scope.spawn(|| TestTopic::create(partitions, &settings).unwrap()).join().unwrap()
            });
            let started = Running::of(&topic);
            let log: Arc<dyn EventLog> = Arc::clone(&started.log) as _;
            assert!(started.log.reached().await);
            running.lock().unwrap().push(started);
            log
        };
        block_on(suite(make));
    }
}

#[test]
fn a_second_look_finds_what_others_appended() {
    let topic = TestTopic::create(1, &[]).unwrap();
    block_on(async {
        let running = Running::of(&topic);
        assert!(running.log.reached().await);
        tokio::task::block_in_place(|| topic.write(0, &[("k", Some("v"))]).unwrap());
        assert!(timeout(PATIENCE, running.log.looked_again()).await.unwrap());
        assert_eq!(running.log.durable().next(Partition(0)), 1);
    });
}

/// The next records, which must come in time.
async fn next(reader: &mut dyn LogReader) -> Result<Vec<LogBatch>, ReadError> {
    timeout(PATIENCE, reader.next(1 << 20)).await.unwrap()
}

/// What two readers of a group have taken in, as a store would.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Positions>>);

impl Ledger {
    fn committed(&self) -> Committed {
        let positions = Arc::clone(&self.0);
        Arc::new(move || positions.lock().unwrap().clone())
    }

    /// Takes records in; none of them may have been left out before.
    fn commit(&self, batches: &[LogBatch]) {
        let mut positions = self.0.lock().unwrap();
        for batch in batches {
            let next = positions.next(batch.partition);
            assert!(batch.first_offset <= next, "{batch:?} comes before {next}");
            positions.advance(batch.partition, batch.next_offset);
        }
    }
}

/// Takes in what comes until the ledger reaches `end`, and says of which partitions it came.
async fn settle(reader: &mut dyn LogReader, ledger: &Ledger, end: &Positions) -> Vec<u32> {
    let mut partitions = Vec::new();
    while !ledger.committed()().covers(end) {
        // The other one may have had the last records.
        if let Ok(batches) = timeout(Duration::from_millis(100), reader.next(1 << 20)).await {
            let batches = batches.unwrap();
            partitions.extend(batches.iter().map(|batch| batch.partition.0));
            ledger.commit(&batches);
        }
    }
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}

async fn fill(log: &KafkaLog, first: u64) -> Positions {
    for partition in 0..6 {
        let first = first + u64::from(partition) * 100;
        log.append(Partition(partition), &samples(first..first + 50)).await.unwrap();
    }
    log.durable()
}

#[test]
fn readers_share_the_partitions_and_leave_none_out() {
    let topic = TestTopic::create(6, &[]).unwrap();
    let (one, two) = (Running::of(&topic), Running::of(&topic));
    let ledger = Ledger::default();
    block_on(async {
        assert!(one.log.reached().await && two.log.reached().await);
        let end = fill(&one.log, 0).await;
        let mut first = one.log.share(ledger.committed()).await.unwrap();
        assert_eq!(settle(&mut *first, &ledger, &end).await, [0, 1, 2, 3, 4, 5]);

        let mut second = two.log.share(ledger.committed()).await.unwrap();
        let mut seen: [Vec<u32>; 2] = Default::default();
        // Until both have some, for it takes a moment until the group has decided.
        for round in 1..100 {
            let end = fill(&two.log, round * 1_000).await;
            let (mine, other) = tokio::join!(
                settle(&mut *first, &ledger, &end),
                settle(&mut *second, &ledger, &end)
            );
            seen = [mine, other];
            if seen.iter().all(|seen| seen.len() == 3) {
                break;
            }
        }
        assert_eq!(seen.each_ref().map(Vec::len), [3, 3], "{seen:?}");
        drop(first);
        let end = fill(&two.log, 200_000).await;
        assert_eq!(settle(&mut *second, &ledger, &end).await, [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_position_that_the_broker_does_not_have_is_an_error() {
    let topic = TestTopic::create(1, &[]).unwrap();
    let values: Vec<_> = (0..10).map(|_| ("key", Some("{}"))).collect();
    topic.write(0, &values).unwrap();
    topic.forget_below(0, 5).unwrap();
    let running = Running::of(&topic);
    let at = |next: u64| -> Positions { [(Partition(0), next)].into_iter().collect() };
    block_on(async {
        assert!(running.log.reached().await);
        for wanted in [3, 12] {
            let mut reader = running.log.share(Arc::new(move || at(wanted))).await.unwrap();
            let refused = next(&mut *reader).await.unwrap_err();
            let ReadError::OutOfRange { wanted: told, held, .. } = refused else {
                panic!("{refused:?}");
            };
            assert_eq!((told, held), (wanted, 5..10));
        }
        // Of a partition that nothing was taken in of, the first record is the first that is there.
        let mut reader = running.log.share(Arc::new(Positions::start)).await.unwrap();
        assert_eq!(next(&mut *reader).await.unwrap()[0].first_offset, 5);
    });
}

#[test]
fn records_that_make_no_sense_keep_their_bytes() {
    let topic = TestTopic::create(1, &[]).unwrap();
    topic.write(0, &[("key", Some("not ours")), ("key", None)]).unwrap();
    let running = Running::of(&topic);
    block_on(async {
        assert!(running.log.reached().await);
        running.log.append(Partition(0), &[sample(1)]).await.unwrap();
        let mut reader = running.log.read_from(&Positions::start()).await.unwrap();
        let mut found = BTreeMap::new();
        while found.len() < 3 {
            for batch in next(&mut *reader).await.unwrap() {
                for record in batch.records() {
                    let bytes = record.payload.map_err(|bad| bad.bytes.to_vec()).map(drop);
                    found.insert(record.offset, bytes);
                }
            }
        }
        let expected = [(0, Err(b"not ours".to_vec())), (1, Err(Vec::new())), (2, Ok(()))];
        assert_eq!(found, expected.into_iter().collect());
    });
}

/// The broker refuses the first producer for good; the next one is taken.
#[test]
fn a_producer_that_failed_for_good_is_replaced() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("topic", 1, 1).unwrap();
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[forbidden]);
    let running = Running::start(config(&cluster.bootstrap_servers(), "topic", 1));
    block_on(async {
        assert!(running.log.reached().await);
        let failed = running.log.append(Partition(0), &[sample(0)]).await;
        assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
        let appended = running.log.append(Partition(0), &[sample(1)]).await.unwrap();
        assert_eq!(appended.offsets.count(), 1);
    });
}

#[test]
fn a_record_names_the_trace_of_what_was_appended_if_there_is_one() {
    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    for (topic, traceparent) in [("traced", Some(TRACEPARENT)), ("untraced", None)] {
        cluster.create_topic(topic, 1, 1).unwrap();
        let told: fn() -> Option<String> = match traceparent {
            Some(_) => || Some(TRACEPARENT.to_owned()),
            None => || None,
        };
        let config = KafkaConfig { traceparent: told, ..config(&brokers, topic, 1) };
        let running = Running::start(config);
        block_on(async {
            assert!(running.log.reached().await);
            running.log.append(Partition(0), &[sample(0)]).await.unwrap();
        });
        let mut reader = rdkafka::ClientConfig::new();
        reader.set("bootstrap.servers", &brokers).set("group.id", "somebody");
        let reader: BaseConsumer = reader.create().unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        reader.assign(&partitions).unwrap();
        let record = reader.poll(PATIENCE).expect("a record").unwrap();
        let headers = record.headers().unwrap();
        let found = headers.iter().find(|header| header.key == "traceparent");
        let found = found.and_then(|header| header.value);
        assert_eq!(found, traceparent.map(str::as_bytes), "{topic}");
    }
}
