//! From a log to a store, with records that cannot be processed among them.

use bytes::Bytes;
use gristmill_log::MemoryLog;
use gristmill_model::{EventId, Origin, Outcome, Partition, ProjectId, Timestamp, UserId};
use gristmill_store::MemoryStore;

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
    let processor = Processor::new(Arc::clone(log) as _, Arc::clone(&store) as _);
    let mut progress = store.watch();
    let end = log.durable();
    tokio::select! {
        outcome = processor.run() => panic!("ended early: {outcome:?}"),
        seen = progress.wait_for(|progress| progress.committed.covers(&end)) => {
            assert!(seen.is_ok());
        }
    }
    store
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_and_the_rest_goes_on() {
    let log = Arc::new(MemoryLog::new(1));
    log.append(Partition(0), &[event("a", 0)]).await.unwrap();
    let poison = Bytes::from_static(b"\x07no block");
    log.append_raw(Partition(0), poison.clone(), 1).unwrap();
    log.append(Partition(0), &[event("a", 0), event("b", 0)]).await.unwrap();
    let store = settled(&log).await;
    let outcomes: Vec<_> = store.outcomes(Partition(0), 0..4).into_iter().flatten().collect();
    use Outcome::{Duplicate, Quarantined as SetAside, Stored};
    assert_eq!(outcomes, [Stored, SetAside, Duplicate, Stored]);
    let kept = store.quarantined(10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].position.offset, &kept[0].bytes[..]), (1, &poison[..]));
    assert!(!kept[0].reason.is_empty());
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
