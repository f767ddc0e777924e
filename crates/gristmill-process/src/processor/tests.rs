//! From a log to a store, with records that cannot be processed among them.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_log::{MemoryLog, codec};
use gristmill_model::{EventId, Origin, Outcome, Partition, ProjectId, Timestamp, UserId};
use gristmill_store::{
    Document, DocumentKey, MemoryStore, Progress, Snapshot, StoreStats, Unacceptable,
};

use super::*;

fn event(id: &str, page_bytes: usize) -> Event<'static> {
    Event {
        project: ProjectId::new("default"),
        id: EventId::new(id.to_owned()),
        user: UserId::new("u"),
        session: None,
        event_type: "view".into(),
        time: Timestamp(1),
        received: Timestamp(2),
        source: "".into(),
        page_url: "p".repeat(page_bytes).into(),
        origin: Origin::Native,
        properties: Event::NO_PROPERTIES.into(),
    }
}

/// Runs a processor until the store has come as far as the log.
async fn settled(log: &Arc<MemoryLog>) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new(2));
    settle_in(log, Arc::clone(&store) as _).await;
    store
}

async fn settle_in(log: &Arc<MemoryLog>, store: Arc<dyn Store>) {
    let processor = Processor::new(Arc::clone(log) as _, Arc::clone(&store));
    let mut progress = store.watch();
    let end = log.durable();
    tokio::select! {
        outcome = processor.run() => panic!("ended early: {outcome:?}"),
        seen = progress.wait_for(|progress| progress.committed.covers(&end)) => {
            assert!(seen.is_ok());
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_and_the_rest_goes_on() {
    let log = Arc::new(MemoryLog::new(1));
    log.append(Partition(0), &[event("a", 0)]).await.unwrap();
    let poison = Bytes::from_static(b"\x07no block");
    log.append_raw(Partition(0), poison.clone(), 1).unwrap();
    log.append(Partition(0), &[event("a", 0), event("b", 0)]).await.unwrap();
    let store = settled(&log).await;
    let outcomes: Vec<_> =
        store.outcomes(Partition(0), 0..4).await.unwrap().into_iter().flatten().collect();
    use Outcome::{Duplicate, Quarantined as SetAside, Stored};
    assert_eq!(outcomes, [Stored, SetAside, Duplicate, Stored]);
    let kept = store.quarantined(10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].position.offset, &kept[0].bytes[..]), (1, &poison[..]));
    assert!(!kept[0].reason.is_empty());
}

#[tokio::test]
async fn an_event_of_an_impossible_time_is_set_aside() {
    let log = Arc::new(MemoryLog::new(1));
    let times = [i64::MIN, Timestamp::MIN.0, Timestamp::MAX.0 - 1, Timestamp::MAX.0];
    let at = |time: i64| Event { time: Timestamp(time), ..event(&time.to_string(), 0) };
    let events = times.map(at);
    log.append(Partition(0), &events).await.unwrap();
    let store = settled(&log).await;
    assert_eq!(store.stats().stored, 2);
    let kept = store.quarantined(10).await.unwrap();
    assert_eq!(kept.iter().map(|record| record.position.offset).collect::<Vec<_>>(), [3, 0]);
    let mut original = Vec::new();
    codec::encode(&events[3..], &mut original);
    assert_eq!(kept[0].bytes, original);
    assert!(kept[0].reason.contains("time"), "{}", kept[0].reason);
}

/// A text that the log writes once must not make a commit of any size.
#[tokio::test]
async fn large_commits_are_cut_and_nothing_is_left_out() {
    let log = Arc::new(MemoryLog::new(1));
    let events: Vec<_> = (0..5_000).map(|n| event(&n.to_string(), 8_000)).collect();
    log.append(Partition(0), &events).await.unwrap();
    let mut reader = log.read_from(&Positions::start()).await.unwrap();
    let batches = reader.next(usize::MAX).await.unwrap();
    let (first, next) = commit_from(&batches, Place::default(), &BTreeMap::new());
    assert!(first.rows.len() * 8_000 < COMMIT_TEXT_BYTES + 16_000, "{} rows", first.rows.len());
    assert_eq!((next.batch, next.record), (0, first.rows.len()));
    assert_eq!(first.next.next(Partition(0)), first.rows.len() as u64);
    assert_eq!(settled(&log).await.stats().stored, 5_000);
}

#[tokio::test]
async fn what_the_store_refuses_is_set_aside_and_what_it_cannot_do_is_tried_again() {
    let log = Arc::new(MemoryLog::new(1));
    let events: Vec<_> = (0..9).map(|n| event(&n.to_string(), 0)).collect();
    log.append(Partition(0), &events).await.unwrap();
    let store = Arc::new(Picky { store: MemoryStore::new(2), away: AtomicUsize::new(3) });
    settle_in(&log, Arc::clone(&store) as _).await;
    assert_eq!(store.away.load(Relaxed), 0);
    let kept = store.quarantined(10).await.unwrap();
    let told: Vec<_> =
        kept.iter().map(|record| (record.position.offset, record.reason.as_str())).collect();
    assert_eq!(told, [(7, "not 7"), (2, "not 2")]);
    let mut original = Vec::new();
    codec::encode(&events[7..8], &mut original);
    assert_eq!(kept[0].bytes, original);
    assert_eq!(store.stats().stored, 7);
}

/// A store that is away for some commits, and takes neither event 2 nor event 7.
struct Picky {
    store: MemoryStore,
    away: AtomicUsize,
}

#[async_trait]
impl Store for Picky {
    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        if self.away.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        let refused = commit.rows.iter().filter(|row| ["2", "7"].contains(&row.event.id.as_str()));
        let refused: Vec<_> = refused
            .map(|row| Unacceptable {
                position: row.position,
                reason: format!("not {}", row.event.id),
            })
            .collect();
        match refused.is_empty() {
            true => self.store.commit(commit).await,
            false => Err(StoreError::Unacceptable(refused)),
        }
    }

    fn progress(&self) -> Progress {
        self.store.progress()
    }

    fn watch(&self) -> tokio::sync::watch::Receiver<Progress> {
        self.store.watch()
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot().await
    }

    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.store.outcomes(partition, offsets).await
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError> {
        self.store.quarantined(limit).await
    }

    async fn put_document(
        &self,
        _: DocumentKey<'_>,
        _: Option<u64>,
        _: String,
    ) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }

    async fn remove_document(&self, _: DocumentKey<'_>, _: u64) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn document(&self, _: DocumentKey<'_>) -> Result<Option<Document>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn documents(&self, _: &ProjectId<'_>, _: &str) -> Result<Vec<Document>, StoreError> {
        Err(StoreError::Closed)
    }
}

#[test]
fn commits_are_gathered_while_they_are_small_and_would_have_room() {
    assert_eq!(gathering(1, 300), Some(GATHER_TIME));
    assert_eq!(gathering(BUSY_RECORDS, 100_000), Some(BUSY_GATHER_TIME));
    assert_eq!(gathering(GATHER_RECORDS - 1, COMMIT_BYTES / 2 - 1), Some(BUSY_GATHER_TIME));
    assert_eq!(gathering(GATHER_RECORDS, 1 << 19), None);
    assert_eq!(gathering(500, COMMIT_BYTES), None);
}
