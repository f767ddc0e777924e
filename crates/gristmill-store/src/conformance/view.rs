//! Everything that a walk gives, as texts, with the promises of the walk checked on the way.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::Timestamp;

use super::pieces::check_pieces;
use crate::{Events, HourRows, Precision, Scan, Snapshot, Store, Ties, Wanted};

/// One event as a walk gave it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(super) time: i64,
    pub(super) texts: Vec<Option<String>>,
    /// The bits of numbers.
    pub(super) numbers: Vec<Option<u64>>,
}

/// Walks through all shards of new snapshots, again and again, for a store may keep what is asked for
/// again.
pub(super) async fn everything(store: &dyn Store, scan: &Scan) -> BTreeMap<String, Vec<Seen>> {
    let first = view(store.snapshot().await.unwrap().as_ref(), scan);
    for _ in 0..2 {
        assert_eq!(view(store.snapshot().await.unwrap().as_ref(), scan), first);
    }
    first
}

/// Walks through all shards: each user is met once, in its own shard, in order of time.
pub(crate) fn view(snapshot: &dyn Snapshot, scan: &Scan) -> BTreeMap<String, Vec<Seen>> {
    let mut users = BTreeMap::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, scan).unwrap();
        let mut codes = Vec::new();
        while let Some(batch) = cursor.next_users().unwrap() {
            assert_eq!(batch.rows().last().map_or(0, |rows| rows.end), batch.events.times.len());
            for run in batch.runs() {
                assert_eq!(snapshot.shard_of(&scan.project, run.user), shard);
                assert!(!run.events.times.is_empty() && run.events.times.is_sorted());
                let rows = seen(&run.events, scan);
                let columns: Vec<_> = run.events.columns.iter().map(|c| c.to_vec()).collect();
                codes.push((columns, rows.clone()));
                assert!(users.insert(run.user.to_owned(), rows).is_none(), "{} twice", run.user);
            }
        }
        // A code stands for the same text until the cursor is dropped.
        for (columns, rows) in codes {
            for (field, column) in columns.iter().enumerate() {
                let texts = column.iter().map(|code| cursor.dictionaries()[field].text(*code));
                assert!(texts.eq(rows.iter().map(|row| row.texts[field].as_deref())));
            }
        }
    }
    check_pieces(snapshot, scan, &users);
    check_events(snapshot, scan, &users);
    check_hours(snapshot, scan);
    check_with_text(snapshot, scan, &users);
    users
}

/// With their hours the same users and events come.
fn check_hours(snapshot: &dyn Snapshot, scan: &Scan) {
    let hour = |time: Timestamp| time.0.div_euclid(Timestamp::HOUR) * Timestamp::HOUR;
    let by_times = Scan { precision: Precision::Times, ..scan.clone() };
    let by_hours = Scan { precision: Precision::Hours, ..by_times.clone() };
    let (mut told, mut expected) = (Vec::new(), Vec::new());
    let (mut all_told, mut all_expected) = (Vec::new(), Vec::new());
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, &by_times).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            for run in batch.runs() {
                let in_hours = |seen: Seen| Seen { time: hour(Timestamp(seen.time)), ..seen };
                let mut rows: Vec<Seen> =
                    seen(&run.events, scan).into_iter().map(in_hours).collect();
                rows.sort();
                all_expected.extend(rows.iter().cloned());
                expected.push(rows);
            }
        }
        let mut cursor = snapshot.scan(shard, &by_hours).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            let events = &batch.events;
            assert!(events.times.is_empty());
            assert_eq!(batch.rows().last().map_or(0, |rows| rows.end), events.rows);
            for (rows, own) in batch.rows().zip(batch.moments()) {
                let hours = &events.hours[own];
                assert!(hours.is_sorted_by_key(|hour| hour.hour));
                assert!(hours.iter().all(|of| rows.start <= of.rows().start));
                let of_hours = hours.iter().map(|of| of.rows().len()).sum::<usize>();
                assert_eq!(of_hours, rows.len(), "each row has an hour");
                let mut rows = seen_by_hours(events, hours, scan);
                rows.sort();
                told.push(rows);
            }
        }
        let mut cursor = snapshot.scan_events(shard, &by_hours).unwrap();
        while let Some(events) = cursor.next_events().unwrap() {
            assert!(events.times.is_empty());
            all_told.extend(seen_by_hours(&events, events.hours, scan));
        }
    }
    // With their hours users have no names.
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    all_told.sort();
    all_expected.sort();
    assert_eq!(all_told, all_expected);
    check_untold(snapshot, scan, expected);
    check_spans(snapshot, &by_hours, &all_expected);
}

/// Without moments the same users and events come.
fn check_untold(snapshot: &dyn Snapshot, scan: &Scan, mut expected: Vec<Vec<Seen>>) {
    let untold = Scan { precision: Precision::Untold, ..scan.clone() };
    let mut told = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan(shard, &untold).unwrap();
        while let Some(batch) = cursor.next_users().unwrap() {
            let events = &batch.events;
            assert!(events.times.is_empty() && events.hours.is_empty());
            assert_eq!(batch.rows().last().map_or(0, |rows| rows.end), events.rows);
            for rows in batch.rows() {
                let mut rows: Vec<Seen> =
                    rows.flat_map(|row| all_seen_at(events, scan, row, 0)).collect();
                rows.sort();
                told.push(rows);
            }
        }
    }
    for rows in &mut expected {
        rows.iter_mut().for_each(|row| row.time = 0);
        rows.sort();
    }
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

/// The span holds all events, and no more than their hours.
fn check_spans(snapshot: &dyn Snapshot, by_hours: &Scan, expected: &[Seen]) {
    let mut spans = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, by_hours).unwrap();
        while let Some(span) = cursor.next_span().unwrap() {
            spans.extend(span);
        }
    }
    let hour = |time: i64| time.div_euclid(Timestamp::HOUR) * Timestamp::HOUR;
    let first = spans.iter().map(|span| hour(span.0)).min();
    let last = spans.iter().map(|span| hour(span.1)).max();
    let hours = || expected.iter().map(|seen| seen.time);
    assert_eq!((first, last), (hours().min(), hours().max()));
}

fn seen_by_hours(events: &Events<'_>, hours: &[HourRows], scan: &Scan) -> Vec<Seen> {
    let rows = hours.iter().flat_map(|hour| hour.rows().map(move |row| (row, hour.begins())));
    rows.flat_map(|(row, time)| all_seen_at(events, scan, row, time)).collect()
}

/// The events that a row is.
fn all_seen_at(events: &Events<'_>, scan: &Scan, row: usize, time: i64) -> Vec<Seen> {
    assert!(events.counts.is_empty() || events.counts.len() == events.rows);
    let count = events.counts.get(row).copied().unwrap_or(1);
    assert!(count > 0);
    vec![seen_at(events, scan, row, time); count as usize]
}

/// The same events come in no order.
fn check_events(snapshot: &dyn Snapshot, scan: &Scan, users: &BTreeMap<String, Vec<Seen>>) {
    let (mut rows, mut spans) = (Vec::new(), Vec::new());
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, scan).unwrap();
        while let Some(span) = cursor.next_span().unwrap() {
            spans.extend(span.map(<[i64; 2]>::from));
        }
        let mut cursor = snapshot.scan_events(shard, scan).unwrap();
        while let Some(events) = cursor.next_events().unwrap() {
            rows.extend(seen(&events, scan));
        }
        assert_eq!(cursor.dictionaries().len(), scan.fields.len());
    }
    let mut expected: Vec<Seen> = users.values().flatten().cloned().collect();
    expected.sort();
    rows.sort();
    assert_eq!(rows, expected);
    check_only_numbers(snapshot, scan, &expected);
    check_passed_over(snapshot, scan, &expected);
    let by_hours = Scan { precision: Precision::Hours, ..scan.clone() };
    check_passed_over(snapshot, &by_hours, &expected);
    let (told, times) = (|| spans.iter().flatten(), || expected.iter().map(|row| &row.time));
    assert_eq!((told().min(), told().max()), (times().min(), times().max()));
}

/// Events outside a span come though others are passed over, also with their hours.
fn check_passed_over(snapshot: &dyn Snapshot, scan: &Scan, expected: &[Seen]) {
    let Some(middle) = expected.get(expected.len() / 2) else { return };
    let hour = |time: i64| time.div_euclid(Timestamp::HOUR) * Timestamp::HOUR;
    let time_of = |row: &Seen| match scan.precision {
        Precision::Times => row.time,
        Precision::Hours | Precision::Untold => hour(row.time),
    };
    let known = (expected[0].time, hour(middle.time) + Timestamp::HOUR - 1);
    let outside = |rows: &[Seen]| {
        let rows = rows.iter().filter(|row| row.time > known.1);
        let mut rows: Vec<Seen> =
            rows.map(|row| Seen { time: time_of(row), ..row.clone() }).collect();
        rows.sort();
        rows
    };
    let mut rows = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, scan).unwrap();
        loop {
            if cursor.pass_over(known).unwrap() {
                continue;
            }
            let Some(events) = cursor.next_events().unwrap() else { break };
            rows.extend(match scan.precision {
                Precision::Times => seen(&events, scan),
                Precision::Hours | Precision::Untold => seen_by_hours(&events, events.hours, scan),
            });
        }
    }
    assert_eq!(outside(&rows), outside(expected));
}

/// Events with a number come once as well if others may be left out.
fn check_only_numbers(snapshot: &dyn Snapshot, scan: &Scan, expected: &[Seen]) {
    let has_number = |row: &&Seen| row.numbers.iter().any(Option::is_some);
    let scan = Scan { wanted: Wanted::WithNumber, ..scan.clone() };
    let mut rows = Vec::new();
    for shard in 0..snapshot.shards() {
        let mut cursor = snapshot.scan_events(shard, &scan).unwrap();
        while let Some(events) = cursor.next_events().unwrap() {
            rows.extend(seen(&events, &scan));
        }
    }
    rows.sort();
    assert!(rows.iter().filter(has_number).eq(expected.iter().filter(has_number)));
}

/// Events with one of some texts come, user by user, if others may be left out.
fn check_with_text(snapshot: &dyn Snapshot, scan: &Scan, users: &BTreeMap<String, Vec<Seen>>) {
    for field in 0..scan.fields.len() {
        let texts = users.values().flatten().filter_map(|row| row.texts[field].clone());
        let texts: BTreeSet<String> = texts.step_by(3).take(2).collect();
        let is_wanted =
            |row: &&Seen| row.texts[field].as_ref().is_some_and(|text| texts.contains(text));
        let wanted = |rows: &[Seen]| {
            let mut rows: Vec<Seen> = rows.iter().filter(is_wanted).cloned().collect();
            rows.sort();
            rows
        };
        let scan = Scan {
            wanted: Wanted::WithText(field, texts.iter().cloned().collect()),
            ties: Ties::InAnyOrder,
            ..scan.clone()
        };
        let mut told = BTreeMap::new();
        for shard in 0..snapshot.shards() {
            let mut cursor = snapshot.scan(shard, &scan).unwrap();
            while let Some(batch) = cursor.next_users().unwrap() {
                for run in batch.runs() {
                    assert!(run.events.times.is_sorted());
                    told.insert(run.user.to_owned(), wanted(&seen(&run.events, &scan)));
                }
            }
        }
        told.retain(|_, rows| !rows.is_empty());
        let expected = users.iter().map(|(user, rows)| (user.clone(), wanted(rows)));
        assert_eq!(told, expected.filter(|(_, rows)| !rows.is_empty()).collect());
    }
}

pub(super) fn seen(events: &Events<'_>, scan: &Scan) -> Vec<Seen> {
    assert_eq!(events.times.len(), events.rows);
    let times = events.times.iter().enumerate();
    times.map(|(row, time)| seen_at(events, scan, row, *time)).collect()
}

fn seen_at(events: &Events<'_>, scan: &Scan, row: usize, time: i64) -> Seen {
    assert_eq!(events.columns.len(), scan.fields.len());
    assert!(events.columns.iter().all(|column| column.len() == events.rows));
    assert_eq!(events.numbers.len(), scan.numbers.len());
    assert!(events.numbers.iter().all(|numbers| numbers.len() == events.rows));
    Seen {
        time,
        texts: (events.columns.iter().enumerate())
            .map(|(field, column)| events.dictionaries[field].text(column[row]).map(str::to_owned))
            .collect(),
        numbers: (events.numbers.iter())
            .map(|numbers| Some(numbers[row]).filter(|number| !number.is_nan()).map(f64::to_bits))
            .collect(),
    }
}
