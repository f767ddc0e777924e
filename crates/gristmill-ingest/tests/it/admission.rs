use std::sync::Arc;

use gristmill_ingest::AdmitError;
use gristmill_ingest::dialect::native;
use gristmill_model::{Coded, Partition, Positions, ProjectId};

use crate::accept::ingest;
use crate::log::ScriptedLog;

#[test]
fn what_is_in_flight_is_bounded_and_given_back() {
    let log = Arc::new(ScriptedLog::new(1, 1));
    let ingest = ingest(&log, Positions::start());
    let first = ingest.admit(40 * 1024).unwrap();
    let mut second = ingest.admit(20 * 1024).unwrap();
    let busy = ingest.admit(5 * 1024).unwrap_err();
    assert!(matches!(busy, AdmitError::Busy { .. }));
    assert!(busy.retry_after_seconds() >= 1);
    assert_eq!(busy.code().status(), 503);
    assert_eq!(second.grow(5 * 1024), Err(busy));
    assert_eq!(second.grow(4 * 1024), Ok(()));
    assert_eq!(ingest.stats().admission.in_flight_bytes, 64 * 1024);
    assert!(ingest.admit(0).is_err(), "even an empty request costs something");
    drop(first);
    assert!(second.grow(40 * 1024).is_ok());
    drop(second);
    let stats = ingest.stats().admission;
    assert_eq!((stats.in_flight_bytes, stats.requests, stats.refused_busy), (0, 2, 3));
    assert_eq!(stats.bytes, (40 + 20 + 4 + 40) * 1024);
    assert!(ingest.admit(usize::MAX).is_err());
    assert!(ingest.admit(64 * 1024).is_ok());
}

#[test]
fn small_growth_costs_only_when_it_fills_the_next_step() {
    let log = Arc::new(ScriptedLog::new(1, 1));
    let ingest = ingest(&log, Positions::start());
    let mut permit = ingest.admit(1).unwrap();
    for (more, steps) in [(1_000, 1), (23, 1), (1, 2), (0, 2), (1_023, 2), (1, 3)] {
        permit.grow(more).unwrap();
        assert_eq!(ingest.stats().admission.in_flight_bytes, steps * 1024);
    }
}

#[tokio::test]
async fn a_store_that_is_behind_closes_the_door() {
    let log = Arc::new(ScriptedLog::new(1, 1));
    let behind = ingest(&log, Positions::start());
    let body = format!("[{}]", [r#"{"event_type":"t"}"#; 11].join(","));
    let ctx = behind.context(ProjectId::new("default"), None);
    let events = native::batch(body.as_bytes(), &ctx, native::Format::Json).unwrap().events;
    assert!(behind.admit(1).is_ok());
    behind.accept(events).await.unwrap();
    let error = behind.admit(1).unwrap_err();
    assert!(matches!(error, AdmitError::Behind { .. }) && error.retry_after_seconds() >= 1);
    assert_eq!(behind.stats().admission.refused_behind, 1);
    assert_eq!(behind.stats().admission.in_flight_bytes, 0);
    let one_taken = [(Partition(0), 1)].into_iter().collect();
    assert!(ingest(&log, one_taken).admit(1).is_ok());
}
