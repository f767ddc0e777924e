//! What the server does not take.

use super::super::commit::FEW_ROWS;
use super::*;
use crate::Quarantined;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_cannot_hold_is_named() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let mut with_nul = records(0, 50);
    with_nul.rows[7].event.user = UserId::new("u\0");
    with_nul.rows[30].event.page_url = "/\0".into();
    let Err(StoreError::Unacceptable(events)) = open.store.commit(with_nul).await else {
        panic!("a NUL was taken");
    };
    let offsets: Vec<u64> = events.iter().map(|event| event.position.offset).collect();
    assert_eq!(offsets, [7, 30]);
    assert!(events[0].reason.contains("user_id"), "{}", events[0].reason);

    let nobody = open.store.page_count(&ProjectId::new("default"), "u\0", "/").await;
    assert_eq!(nobody.unwrap().unwrap().events, 0);

    // Ingestion lets no such properties in; another producer might.
    let mut broken = records(0, 50);
    broken.rows[33].event.properties = "{not json".into();
    let Err(StoreError::Unacceptable(events)) = open.store.commit(broken.clone()).await else {
        panic!("no JSON was taken");
    };
    assert_eq!((events.len(), events[0].position.offset), (1, 33));
    assert!(events[0].reason.contains("json"), "{}", events[0].reason);
    assert_eq!(counted(&database), [0; 3], "nothing has changed");

    broken.rows.remove(33);
    assert_eq!(commit(&open.store, &broken).await, [Outcome::Stored; 49]);
    assert_eq!(counted(&database), [49; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_among_repeats_is_named() {
    let few = FEW_ROWS as u64 / 4;
    for size in [few, few * 10] {
        let database = TestDatabase::create().unwrap();
        let open = Open::at(&database).await;
        commit(&open.store, &records(0, size)).await;
        // The first half is there; the last event is one of those before it.
        let mut events: Vec<_> = (size / 2..size * 2).chain([size]).map(event).collect();
        let bad = size as usize;
        events[bad].properties = "{not json".into();
        let broken = batch(size, events);
        let Err(StoreError::Unacceptable(refused)) = open.store.commit(broken.clone()).await else {
            panic!("no JSON was taken");
        };
        let offsets: Vec<u64> = refused.iter().map(|event| event.position.offset).collect();
        assert_eq!(offsets, [size + bad as u64]);
        let mut rest = broken;
        rest.rows.remove(bad);
        let outcomes = commit(&open.store, &rest).await;
        let repeats = outcomes.iter().filter(|outcome| **outcome == Outcome::Duplicate).count();
        assert_eq!(repeats as u64, size - size / 2 + 1);
        assert_eq!(counted(&database), [size * 2 - 1; 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_counts_refuse_is_named_too() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                      IF new.page_url = '/bad' THEN \
                          RAISE EXCEPTION 'bad' USING ERRCODE = 'data_exception'; \
                      END IF; \
                      RETURN new; \
                  END $$; \
                  CREATE TRIGGER refuse BEFORE INSERT ON gristmill.page_counts \
                  FOR EACH ROW EXECUTE FUNCTION refuse()";
    database.run(refuse).unwrap();
    let mut broken = records(0, 20);
    broken.rows[13].event.page_url = "/bad".into();
    let Err(StoreError::Unacceptable(events)) = open.store.commit(broken).await else {
        panic!("it was taken");
    };
    assert_eq!((events.len(), events[0].position.offset), (1, 13));
    assert_eq!(counted(&database), [0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_refused_records_are_kept_at_once() {
    const RECORDS: u64 = 30_000;
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let aside = |offset: u64| Quarantined {
        position: Position { partition: FEED, offset },
        reason: format!("no event \0 {offset}"),
        bytes: offset.to_le_bytes().to_vec(),
    };
    let quarantine: Vec<_> = (0..RECORDS).map(aside).collect();
    let next = [(FEED, RECORDS)].into_iter().collect();
    let rows = Vec::new();
    open.store.commit(Commit { rows, quarantine, next }).await.unwrap();
    assert_eq!(totals(&open.store), [0, 0, RECORDS]);
    let last = open.store.quarantined(1).await.unwrap().remove(0);
    assert_eq!(
        last,
        Quarantined { reason: format!("no event \u{fffd} {}", RECORDS - 1), ..aside(RECORDS - 1) }
    );
}
