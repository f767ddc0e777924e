use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_ingest::dialect::native;
use gristmill_ingest::{Ingest, IngestConfig};
use gristmill_log::{AppendError, EventLog, MemoryLog, Payload};
use gristmill_model::{Clock, Partition, Position, Positions, ProjectId, Timestamp};

use crate::log::ScriptedLog;
use crate::{Counter, NOW};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub(crate) fn config() -> IngestConfig {
    IngestConfig {
        max_body_bytes: 1 << 20,
        max_inflated_bytes: 1 << 20,
        max_in_flight_bytes: 64 * 1024,
        paced_backlog_records: 10,
        max_backlog_records: 10,
    }
}

pub(crate) fn ingest(log: &Arc<ScriptedLog>, committed: Positions) -> Ingest {
    Ingest::new(
        config(),
        Arc::clone(log) as _,
        Arc::new(Fixed),
        Arc::new(Counter(1.into())),
        Box::new(move || committed.clone()),
    )
}

/// A batch of events of `users` users in turn; every seventh is bad.
fn body(events: usize, users: usize) -> String {
    let event = |n: usize| match n % 7 {
        6 => format!(r#"{{"id":"e{n}","event_type":7}}"#),
        _ => format!(r#"{{"id":"e{n}","user_id":"u{}","event_type":"t"}}"#, n % users),
    };
    format!("[{}]", (0..events).map(event).collect::<Vec<_>>().join(","))
}

async fn accept(
    ingest: &Ingest,
    body: &str,
) -> Result<(Vec<(String, String)>, Positions), AppendError> {
    let ctx = ingest.context(ProjectId::new("default"), None);
    let events = native::batch(body.as_bytes(), &ctx, native::Format::Json).unwrap().events;
    let accepted = ingest.accept(events).await?;
    let told = accepted.items.into_iter().map(|item| {
        let place = match item.result {
            Ok(position) => format!("{}:{}", position.partition.0, position.offset),
            Err(rejection) => rejection.pointer.to_owned(),
        };
        (item.id.to_string(), place)
    });
    Ok((told.collect(), accepted.positions))
}

#[tokio::test]
async fn items_stand_in_the_order_of_the_request() {
    let log = Arc::new(ScriptedLog::new(1, 1));
    let ingest = ingest(&log, Positions::start());
    let (items, positions) = accept(&ingest, &body(9, 3)).await.unwrap();
    let expected = [
        ("e0", "0:0"),
        ("e1", "0:1"),
        ("e2", "0:2"),
        ("e3", "0:3"),
        ("e4", "0:4"),
        ("e5", "0:5"),
        ("e6", "/event_type"),
        ("e7", "0:6"),
        ("e8", "0:7"),
    ];
    assert_eq!(items, expected.map(|(id, place)| (id.to_owned(), place.to_owned())));
    assert_eq!(positions.to_string(), "p0-8");
    assert_eq!(ingest.durable(), positions);
    let stats = ingest.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.failed), (8, 1, 0));
}

#[tokio::test]
async fn each_item_tells_where_its_event_lies() {
    let log = Arc::new(ScriptedLog::new(4, 1));
    let ingest = ingest(&log, Positions::start());
    let mut partition_of_user = BTreeMap::new();
    for _ in 0..2 {
        let (items, positions) = accept(&ingest, &body(200, 17)).await.unwrap();
        assert_eq!(items.len(), 200);
        assert_eq!(ingest.durable(), positions);
        for (n, (id, place)) in items.iter().enumerate() {
            assert_eq!(*id, format!("e{n}"));
            let Some((partition, offset)) = place.split_once(':') else { continue };
            let partition = Partition(partition.parse().unwrap());
            let event = &log.events(partition)[offset.parse::<usize>().unwrap()];
            assert_eq!(event.id.as_str(), id);
            let known = partition_of_user.entry(event.user.to_string()).or_insert(partition);
            assert_eq!(*known, partition, "a user has one partition");
        }
    }
    let used: std::collections::BTreeSet<_> = partition_of_user.values().collect();
    assert_eq!(used.len(), 4, "17 users spread over all partitions");
}

#[tokio::test]
async fn partitions_are_appended_to_at_the_same_time() {
    // Each append waits until all four are there: one after the other would wait for ever.
    let log = Arc::new(ScriptedLog::new(4, 4));
    let ingest = ingest(&log, Positions::start());
    let (items, _) = accept(&ingest, &body(200, 17)).await.unwrap();
    assert_eq!(items.len(), 200);
}

#[tokio::test]
async fn an_empty_batch_and_a_batch_of_bad_events_append_nothing() {
    let log = Arc::new(ScriptedLog::new(2, 1));
    let ingest = ingest(&log, Positions::start());
    let (items, positions) = accept(&ingest, "[]").await.unwrap();
    assert_eq!((items.len(), positions), (0, Positions::start()));
    let (items, positions) = accept(&ingest, "[1,{}]").await.unwrap();
    assert_eq!((items.len(), positions), (2, Positions::start()));
    assert_eq!(ingest.stats().rejected, 2);
}

#[tokio::test]
async fn a_failed_partition_fails_the_request() {
    for partitions in [1, 4] {
        let log = Arc::new(ScriptedLog::new(partitions, partitions));
        let last = Partition(partitions as u32 - 1);
        *log.failing.lock().unwrap() = Some((last, AppendError::Full));
        let ingest = ingest(&log, Positions::start());
        assert_eq!(accept(&ingest, &body(200, 17)).await.unwrap_err(), AppendError::Full);
        let stats = ingest.stats();
        assert_eq!((stats.accepted, stats.failed), (0, 172));
    }
}

#[tokio::test]
async fn what_was_accepted_is_read_from_the_log_as_it_was_decoded() {
    let log = Arc::new(MemoryLog::new(3));
    let ingest = Ingest::new(
        config(),
        Arc::clone(&log) as _,
        Arc::new(Fixed),
        Arc::new(Counter(1.into())),
        Box::new(Positions::start),
    );
    let text = body(60, 5);
    let ctx = ingest.context(ProjectId::new("default"), None);
    let events = native::batch(text.as_bytes(), &ctx, native::Format::Json).unwrap().events;
    let sent: Vec<_> = events.iter().flatten().map(|event| event.clone().into_owned()).collect();
    let accepted = ingest.accept(events).await.unwrap();
    let places: Vec<_> = accepted.items.iter().flat_map(|item| item.result.clone()).collect();
    let expected: BTreeMap<_, _> = places.into_iter().zip(sent).collect();

    let mut reader = log.read_from(&Positions::start()).await.unwrap();
    let mut found = BTreeMap::new();
    while found.len() < expected.len() {
        for batch in reader.next(1 << 20).await.unwrap() {
            for record in batch.records() {
                let position = Position { partition: batch.partition, offset: record.offset };
                let Payload::Event(event) = record.payload.unwrap();
                found.insert(position, event.into_owned());
            }
        }
    }
    assert_eq!(found, expected);
}
