//! What every [`EventLog`] must do. [`suite`] runs each case on a log of its own.

#![expect(clippy::expect_used, reason = "a broken contract is told by a panic")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{
    Event, EventId, Origin, Partition, Positions, ProjectId, SessionId, Timestamp, UserId, limits,
};
use tokio::time::timeout;

use crate::{AppendError, EventLog, LogBatch, LogReader, Payload, ReadError};

/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for what must not happen.
const INSTANT: Duration = Duration::from_millis(20);

/// Runs every case. `make` gives an empty log each time; its number of partitions is up to it.
///
/// # Panics
///
/// When the log breaks its contract.
pub async fn suite<Made: Future<Output = Arc<dyn EventLog>>>(make: impl Fn() -> Made) {
    an_empty_log_stands_at_its_start(make().await).await;
    offsets_have_no_gaps_and_records_read_back(make().await).await;
    partitions_are_independent(make().await).await;
    a_reader_waits_for_what_is_appended(make().await).await;
    a_reader_may_start_anywhere(make().await).await;
    a_reader_outside_the_log_is_refused(make().await).await;
    reads_are_bounded(make().await).await;
    a_cancelled_read_loses_nothing(make().await).await;
    appends_at_once_are_whole_and_in_order(make().await).await;
    a_dropped_append_does_no_harm(make().await).await;
    what_is_too_large_is_refused(make().await).await;
    trimming_forgets_nothing_at_or_above(make().await).await;
}

/// A distinct event with every field filled, for tests.
pub fn sample(number: u64) -> Event<'static> {
    Event {
        project: ProjectId::new("default"),
        id: EventId::new(format!("event-{number}")),
        user: UserId::new(format!("user-{}", number % 7)),
        session: number.is_multiple_of(2).then(|| SessionId::new(format!("session-{number}"))),
        event_type: ["view", "click"][(number % 2) as usize].into(),
        time: Timestamp(1_700_000_000_000_000 + number as i64),
        received: Timestamp(1_700_000_000_500_000),
        source: "conformance".into(),
        page_url: format!("https://example.com/{}", number % 5).into(),
        origin: Origin::ALL[(number % 5) as usize],
        properties: format!(r#"{{"number":{number}}}"#).into(),
    }
}

/// Several [`sample`]s.
pub fn samples(numbers: std::ops::Range<u64>) -> Vec<Event<'static>> {
    numbers.map(sample).collect()
}

/// The events of a batch by offset.
pub fn events_of(batch: &LogBatch) -> Vec<(u64, Event<'static>)> {
    let owned: Vec<_> = batch
        .records()
        .map(|record| match record.payload {
            Ok(Payload::Event(event)) => (record.offset, event.into_owned()),
            Err(bad) => panic!("record {} cannot be read: {bad}", record.offset),
        })
        .collect();
    assert_eq!(owned.len(), batch.count as usize);
    owned
}

/// Reads from `from` to the durable end: the events of every partition, checked to be contiguous.
pub async fn read_all(
    log: &dyn EventLog,
    from: &Positions,
) -> Result<BTreeMap<Partition, Vec<Event<'static>>>, ReadError> {
    let durable = log.durable();
    let mut at = from.clone();
    let mut reader = log.read_from(from).await?;
    let mut found: BTreeMap<Partition, Vec<Event<'static>>> = BTreeMap::new();
    while !at.covers(&durable) {
        let batches = reader_next(&mut *reader, 64 << 10).await?;
        for batch in &batches {
            assert_eq!(batch.first_offset, at.next(batch.partition), "offsets are contiguous");
            at.set(batch.partition, batch.next_offset);
            let events = events_of(batch).into_iter().map(|(_, event)| event);
            found.entry(batch.partition).or_default().extend(events);
        }
        assert!(log.durable().covers(&at), "only durable records are read");
    }
    Ok(found)
}

async fn reader_next(
    reader: &mut dyn LogReader,
    max_bytes: usize,
) -> Result<Vec<LogBatch>, ReadError> {
    let batches = timeout(PATIENCE, reader.next(max_bytes)).await.expect("records in time")?;
    assert!(!batches.is_empty(), "a read gives at least one batch");
    Ok(batches)
}

async fn append(log: &dyn EventLog, partition: u32, events: &[Event<'_>]) -> u64 {
    let appended = log.append(Partition(partition), events).await.expect("append");
    assert_eq!(appended.partition, Partition(partition));
    assert_eq!(appended.offsets.count(), events.len() as u64);
    assert_eq!(appended.offsets.iter().next(), Some(appended.offsets.first()));
    assert!(log.durable().next(Partition(partition)) >= appended.offsets.end());
    appended.offsets.first()
}

fn at(partition: u32, offset: u64) -> Positions {
    [(Partition(partition), offset)].into_iter().collect()
}

async fn an_empty_log_stands_at_its_start(log: Arc<dyn EventLog>) {
    assert!(log.partitions() >= 1);
    for partition in (0..log.partitions()).map(Partition) {
        assert_eq!(log.start().next(partition), 0);
        assert_eq!(log.durable().next(partition), 0);
    }
    let mut reader = log.read_from(&Positions::start()).await.expect("read");
    assert!(timeout(INSTANT, reader.next(1 << 20)).await.is_err(), "there is nothing to read");
}

async fn offsets_have_no_gaps_and_records_read_back(log: Arc<dyn EventLog>) {
    let mut next = 0;
    for size in [1_u64, 2, 50, 1, 300, 7] {
        assert_eq!(append(&*log, 0, &samples(next..next + size)).await, next);
        next += size;
    }
    let found = read_all(&*log, &Positions::start()).await.expect("read");
    assert_eq!(found.get(&Partition(0)), Some(&samples(0..next)));
}

async fn partitions_are_independent(log: Arc<dyn EventLog>) {
    let partitions = u64::from(log.partitions());
    for round in 0..20_u64 {
        for partition in 0..partitions {
            let first = partition * 1_000 + round * 3;
            assert_eq!(
                append(&*log, partition as u32, &samples(first..first + 3)).await,
                round * 3
            );
        }
    }
    let found = read_all(&*log, &Positions::start()).await.expect("read");
    for partition in 0..partitions {
        let first = partition * 1_000;
        assert_eq!(found[&Partition(partition as u32)], samples(first..first + 60));
    }
}

async fn a_reader_waits_for_what_is_appended(log: Arc<dyn EventLog>) {
    let mut reader = log.read_from(&Positions::start()).await.expect("read");
    for number in 0..50 {
        let events = samples(number..number + 1);
        let (first, batches) =
            tokio::join!(append(&*log, 0, &events), reader_next(&mut *reader, 1 << 20));
        let batches = batches.expect("read");
        assert_eq!(first, number);
        assert_eq!(events_of(&batches[0]), [(number, sample(number))]);
    }
}

async fn a_reader_may_start_anywhere(log: Arc<dyn EventLog>) {
    for first in [0, 5, 6, 9] {
        let last = [5, 6, 9, 20][[0, 5, 6, 9].iter().position(|n| *n == first).expect("listed")];
        append(&*log, 0, &samples(first..last)).await;
    }
    for from in 0..=20 {
        let found = read_all(&*log, &at(0, from)).await.expect("read");
        let expected = samples(from..20);
        assert_eq!(found.get(&Partition(0)).unwrap_or(&Vec::new()), &expected, "from {from}");
    }
    let mut reader = log.read_from(&log.durable()).await.expect("read");
    append(&*log, 0, &samples(20..21)).await;
    let batches = reader_next(&mut *reader, 1 << 20).await.expect("read");
    assert_eq!(events_of(&batches[0]), [(20, sample(20))]);
}

async fn a_reader_outside_the_log_is_refused(log: Arc<dyn EventLog>) {
    append(&*log, 0, &samples(0..3)).await;
    let refused = log.read_from(&at(0, 4)).await.err();
    let Some(ReadError::OutOfRange { partition: Partition(0), wanted: 4, held }) = refused else {
        panic!("expected a refusal, not {refused:?}");
    };
    assert_eq!(held, 0..3);
}

async fn reads_are_bounded(log: Arc<dyn EventLog>) {
    let mut largest = 0;
    for number in 0..200 {
        append(&*log, 0, &samples(number * 10..number * 10 + 10)).await;
    }
    for max_bytes in [1, 1_000, 10_000] {
        let mut reader = log.read_from(&Positions::start()).await.expect("read");
        let mut next = 0;
        while next < 2_000 {
            let batches = reader_next(&mut *reader, max_bytes).await.expect("read");
            let sizes: Vec<usize> = batches.iter().map(|batch| batch.block.bytes()).collect();
            largest = sizes.iter().copied().max().unwrap_or(0).max(largest);
            assert!(sizes.iter().sum::<usize>() <= max_bytes.max(largest));
            next = batches.last().expect("a batch").next_offset;
        }
    }
}

async fn a_cancelled_read_loses_nothing(log: Arc<dyn EventLog>) {
    let mut reader = log.read_from(&Positions::start()).await.expect("read");
    let mut next = 0;
    for number in 0..100_u64 {
        // Polled once and dropped, before and after there is something to read.
        assert!(timeout(Duration::ZERO, reader.next(1)).await.is_err());
        append(&*log, 0, &samples(number..number + 1)).await;
        if let Ok(batches) = timeout(Duration::ZERO, reader.next(1)).await {
            for batch in batches.expect("read") {
                assert_eq!(batch.first_offset, next);
                next = batch.next_offset;
            }
        }
        while next <= number {
            for batch in reader_next(&mut *reader, 1 << 20).await.expect("read") {
                assert_eq!(batch.first_offset, next);
                next = batch.next_offset;
            }
        }
    }
}

async fn appends_at_once_are_whole_and_in_order(log: Arc<dyn EventLog>) {
    let partitions = u64::from(log.partitions());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            let mut offsets = Vec::new();
            for round in 0..25 {
                let first = writer * 1_000 + round * 4;
                let partition = (writer % partitions) as u32;
                offsets.push(append(&*log, partition, &samples(first..first + 4)).await);
            }
            assert!(offsets.is_sorted(), "one after the other keeps its order");
            (writer, offsets)
        });
    }
    let written = writers.join_all().await;
    let found = read_all(&*log, &Positions::start()).await.expect("read");
    for (writer, offsets) in written {
        let events = &found[&Partition((writer % partitions) as u32)];
        for (round, offset) in (0..).zip(offsets) {
            let first = writer * 1_000 + round * 4;
            let offset = offset as usize;
            assert_eq!(events[offset..offset + 4], samples(first..first + 4));
        }
    }
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 8 * 25 * 4);
}

async fn a_dropped_append_does_no_harm(log: Arc<dyn EventLog>) {
    for number in 0..20 {
        let dropped = samples(number..number + 1);
        let _ = timeout(Duration::ZERO, log.append(Partition(0), &dropped)).await;
    }
    let first = append(&*log, 0, &samples(100..101)).await;
    let found = read_all(&*log, &Positions::start()).await.expect("read");
    let events = &found[&Partition(0)];
    assert_eq!(events[first as usize], sample(100));
    // Those that happened, happened once and in order.
    let ids: Vec<&Event<'_>> = events[..first as usize].iter().collect();
    assert!(ids.is_sorted_by_key(|event| event.time));
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
}

async fn what_is_too_large_is_refused(log: Arc<dyn EventLog>) {
    let mut large = sample(0);
    large.properties = format!(r#""{}""#, "x".repeat(limits::FRAME_BYTES)).into();
    let refused = log.append(Partition(0), &[large]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(append(&*log, 0, &samples(0..1)).await, 0, "the log goes on");

    let mut fits = sample(1);
    fits.properties = format!(r#""{}""#, "x".repeat(limits::FRAME_BYTES / 2)).into();
    append(&*log, 0, std::slice::from_ref(&fits)).await;
    let found = read_all(&*log, &at(0, 1)).await.expect("read");
    assert_eq!(found[&Partition(0)], [fits]);
}

async fn trimming_forgets_nothing_at_or_above(log: Arc<dyn EventLog>) {
    let mut slow = log.read_from(&Positions::start()).await.expect("read");
    for number in 0..100_u64 {
        append(&*log, 0, &samples(number * 10..number * 10 + 10)).await;
    }
    let mut highest = 0;
    for below in [0, 5, 10, 355, 355, 100, 995] {
        highest = below.max(highest);
        log.trim(&at(0, below)).await.expect("trim");
        let start = log.start().next(Partition(0));
        assert!(start <= highest, "trimmed to {start}, asked for {highest}");
        assert_eq!(log.durable().next(Partition(0)), 1_000);
        let found = read_all(&*log, &at(0, 995)).await.expect("read");
        assert_eq!(found[&Partition(0)], samples(995..1_000));
        if let Some(gone) = start.checked_sub(1) {
            let refused = log.read_from(&at(0, gone)).await.err();
            assert!(matches!(refused, Some(ReadError::OutOfRange { .. })), "{refused:?}");
        }
        let found = read_all(&*log, &at(0, start)).await.expect("read");
        assert_eq!(found[&Partition(0)], samples(start..1_000));
    }
    log.trim(&log.durable()).await.expect("trim");
    assert_eq!(append(&*log, 0, &samples(1_000..1_001)).await, 1_000, "offsets are not reused");
    // A reader that was left behind learns so, or gets what it missed.
    match reader_next(&mut *slow, 1).await {
        Ok(batches) => assert_eq!(batches[0].first_offset, 0),
        Err(refused) => assert!(matches!(refused, ReadError::OutOfRange { .. }), "{refused:?}"),
    }
}
