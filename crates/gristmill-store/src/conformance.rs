//! What every adapter of [`Store`] is held to.
//!
//! An adapter implements [`Subject`] in its tests and calls [`check`]. Between the steps of every
//! test the subject is asked to [`settle`](Subject::settle), where it does whatever must not
//! change an answer: seal, merge, throw caches away. The last test compares the adapter with
//! [`MemoryStore`](crate::MemoryStore) on random histories.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod documents;
mod history;
mod pieces;
mod versions;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::ops::Range;

use gristmill_model::{
    Event, EventId, Field, Origin, Outcome, Partition, Position, Positions, ProjectId, SessionId,
    TimeRange, Timestamp, UserId,
};

use crate::{Commit, Quarantined, Row, Scan, Store};
use view::{everything, view};

/// A store under test.
pub trait Subject: Send + Sync {
    /// The store. It is empty when the subject is made.
    fn store(&self) -> &dyn Store;

    /// The same as another process has it that commits nothing, if there can be one.
    fn onlooker(&self) -> Option<&dyn Store> {
        None
    }

    /// Rearranges what the store holds without changing any answer. Snapshots taken before stay
    /// as they are.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;
}

/// Checks the whole contract, each part with a store of its own. Panics where it is broken.
pub async fn check<S: Subject>(make: impl AsyncFn() -> S) {
    the_first_of_an_identity_is_stored(make().await).await;
    a_commit_becomes_visible_as_a_whole(make().await).await;
    records_below_committed_are_ignored(make().await).await;
    snapshots_do_not_change(make().await).await;
    a_walk_gives_each_user_once_and_in_order(make().await).await;
    fields_are_given_as_they_came(make().await).await;
    walks_keep_to_project_user_and_range(make().await).await;
    pieces::pieces_change_with_commits(make().await).await;
    quarantine_is_kept(make().await).await;
    empty_commits_move_positions_only(make().await).await;
    versions::counts_and_versions_go_together(make().await).await;
    documents::change_from_a_known_version_only(make().await).await;
    documents::are_bounded(make().await).await;
    for seed in 0..20 {
        history::agrees_with_memory(make().await, seed).await;
    }
}

const FEED: Partition = Partition(0);

/// An event of the default project that differs from others in what is given.
fn event(user: &'static str, id: &'static str, time: i64) -> Event<'static> {
    Event {
        project: ProjectId::new("default"),
        id: EventId::new(id),
        user: UserId::new(user),
        session: None,
        event_type: "view".into(),
        time: Timestamp(time),
        received: Timestamp(1_000_000),
        source: "".into(),
        page_url: "".into(),
        origin: Origin::Native,
        properties: Event::NO_PROPERTIES.into(),
    }
}

/// A commit of these events as the next records of one partition.
fn batch(first: u64, events: Vec<Event<'static>>) -> Commit<'static> {
    let next = first + events.len() as u64;
    let position = |offset| Position { partition: FEED, offset };
    let rows = (first..).zip(events).map(|(o, event)| Row { position: position(o), event });
    Commit { rows: rows.collect(), quarantine: Vec::new(), next: up_to(next) }
}

/// What became of some records, which everybody tells alike.
async fn told(
    subject: &impl Subject,
    partition: Partition,
    offsets: Range<u64>,
) -> Vec<Option<Outcome>> {
    let told = subject.store().outcomes(partition, offsets.clone()).await.unwrap();
    if let Some(onlooker) = subject.onlooker() {
        assert_eq!(onlooker.outcomes(partition, offsets).await.unwrap(), told);
    }
    told
}

fn up_to(next: u64) -> Positions {
    [(FEED, next)].into_iter().collect()
}

fn scan(fields: Vec<Field>) -> Scan {
    Scan { fields, ..Scan::of(ProjectId::new("default")) }
}

async fn the_first_of_an_identity_is_stored(mut subject: impl Subject) {
    use Outcome::{Duplicate, Stored};
    let first = batch(0, vec![event("a", "1", 10), event("a", "1", 10), event("b", "1", 10)]);
    assert_eq!(subject.store().commit(first).await.unwrap(), [Stored, Duplicate, Stored]);
    assert_eq!(told(&subject, FEED, 1..3).await, [Duplicate, Stored].map(Some));
    subject.settle().await;
    let mut elsewhere = event("a", "1", 10);
    elsewhere.project = ProjectId::new("other");
    // The same identity with another time is still the same event.
    let second = batch(3, vec![event("b", "1", 99), elsewhere, event("a", "2", 10)]);
    assert_eq!(subject.store().commit(second).await.unwrap(), [Duplicate, Stored, Stored]);
    let recent = told(&subject, FEED, 3..7).await;
    assert_eq!(recent[..3], [Duplicate, Stored, Stored].map(Some));
    assert_eq!(recent[3], None, "nothing is known of a record that was not committed");
    assert_eq!(told(&subject, Partition(7), 0..1).await, [None]);
    subject.settle().await;
    let stats = subject.store().stats();
    assert_eq!((stats.stored, stats.duplicate, stats.quarantined), (4, 2, 0));
    let rows = everything(subject.store(), &scan(vec![Field::EventId])).await;
    let ids = |user: &str| rows[user].iter().map(|row| row.texts[0].clone().unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!((ids("a"), ids("b")), (vec!["1".to_owned(), "2".to_owned()], vec!["1".to_owned()]));
}

async fn a_commit_becomes_visible_as_a_whole(mut subject: impl Subject) {
    let mut watch = subject.store().watch();
    assert_eq!(watch.borrow_and_update().committed, Positions::start());
    assert!(everything(subject.store(), &scan(Vec::new())).await.is_empty());
    subject.store().commit(batch(0, vec![event("a", "1", 1), event("b", "2", 2)])).await.unwrap();
    watch.wait_for(|progress| progress.committed == up_to(2)).await.unwrap();
    let progress = subject.store().progress();
    assert_eq!(progress.committed, up_to(2));
    assert!(progress.committed.covers(&progress.durable));
    let snapshot = subject.store().snapshot().await.unwrap();
    assert_eq!(*snapshot.committed(), up_to(2));
    assert_eq!(view(snapshot.as_ref(), &scan(Vec::new())).len(), 2);
    drop((snapshot, watch));
    subject.settle().await;
    let progress = subject.store().progress();
    assert_eq!(progress.committed, up_to(2));
    assert!(progress.committed.covers(&progress.durable));
}

async fn records_below_committed_are_ignored(mut subject: impl Subject) {
    let events = || vec![event("a", "1", 1), event("a", "1", 1), event("b", "2", 2)];
    subject.store().commit(batch(0, events())).await.unwrap();
    subject.settle().await;
    let before = everything(subject.store(), &scan(vec![Field::EventId])).await;
    let mut again = batch(0, events());
    again.rows.extend(batch(3, vec![event("c", "3", 3)]).rows);
    again.next = up_to(4);
    again.quarantine.push(Quarantined {
        position: Position { partition: FEED, offset: 1 },
        reason: "offered again".to_owned(),
        bytes: Vec::new(),
    });
    let outcomes = subject.store().commit(again).await.unwrap();
    assert_eq!((outcomes.len(), outcomes[3]), (4, Outcome::Stored));
    subject.store().commit(batch(0, events())).await.unwrap();
    subject.settle().await;
    let mut after = everything(subject.store(), &scan(vec![Field::EventId])).await;
    assert!(after.remove("c").is_some());
    assert_eq!(after, before);
    assert_eq!(subject.store().progress().committed, up_to(4), "positions never move back");
    let stats = subject.store().stats();
    assert_eq!((stats.stored, stats.duplicate, stats.quarantined), (3, 1, 0));
}

async fn snapshots_do_not_change(mut subject: impl Subject) {
    let wanted = scan(vec![Field::EventId]);
    let mut taken = Vec::new();
    for round in 0..6_u64 {
        let ids = ["0", "1", "2", "3", "4", "5"];
        let events =
            ["a", "b", "c"].map(|user| event(user, ids[round as usize], 50 - round as i64));
        subject.store().commit(batch(round * 3, events.into())).await.unwrap();
        let snapshot = subject.store().snapshot().await.unwrap();
        let seen = view(snapshot.as_ref(), &wanted);
        assert!(seen.values().all(|rows| rows.len() as u64 == round + 1));
        taken.push((snapshot, seen));
        subject.settle().await;
    }
    for (round, (snapshot, seen)) in (0..).zip(taken) {
        assert_eq!(*snapshot.committed(), up_to((round + 1) * 3));
        assert_eq!(view(snapshot.as_ref(), &wanted), seen);
    }
}

async fn a_walk_gives_each_user_once_and_in_order(mut subject: impl Subject) {
    // Late events and ties, spread over commits: ties are ordered by position.
    let commits = [
        vec![event("a", "a1", 30), event("b", "b1", 20), event("a", "a2", 10)],
        vec![event("a", "a3", 30), event("", "n1", -5), event("b", "b2", i64::MIN / 4)],
        vec![event("a", "a4", 10), event("Ünï 😀", "u1", 20), event("b", "b3", 20)],
    ];
    let mut first = 0;
    for events in commits {
        let count = events.len() as u64;
        subject.store().commit(batch(first, events)).await.unwrap();
        first += count;
        subject.settle().await;
    }
    let rows = everything(subject.store(), &scan(vec![Field::EventId])).await;
    let ids: BTreeMap<&str, String> = rows
        .iter()
        .map(|(user, rows)| {
            let ids: Vec<&str> = rows.iter().map(|row| row.texts[0].as_deref().unwrap()).collect();
            (user.as_str(), ids.join(" "))
        })
        .collect();
    let expected = [("", "n1"), ("a", "a2 a4 a1 a3"), ("b", "b2 b1 b3"), ("Ünï 😀", "u1")];
    assert_eq!(ids, expected.map(|(user, ids)| (user, ids.to_owned())).into());
}

async fn fields_are_given_as_they_came(mut subject: impl Subject) {
    let full = Event {
        session: Some(SessionId::new("s")),
        event_type: "buy now".into(),
        source: "web".into(),
        page_url: "https://x/ü?a=b".into(),
        origin: Origin::Clicks,
        properties: r#"{"plan":"p\u00e9\n","n":1.50,"o":{"k":[1, 2]},"z":null,"e":""}"#.into(),
        ..event("a", "1", 1)
    };
    let empty_session = Event { session: Some(SessionId::new("")), ..event("a", "3", 3) };
    let bare = event("a", "2", 2);
    subject.store().commit(batch(0, vec![full.clone(), bare, empty_session])).await.unwrap();
    let property = |path: &str| Field::Property(path.to_owned());
    let expected: [(Field, [Option<&str>; 3]); 15] = [
        (Field::EventType, [Some("buy now"), Some("view"), Some("view")]),
        (Field::UserId, [Some("a"); 3]),
        (Field::SessionId, [Some("s"), None, Some("")]),
        (Field::Source, [Some("web"), Some(""), Some("")]),
        (Field::PageUrl, [Some("https://x/ü?a=b"), Some(""), Some("")]),
        (Field::Origin, [Some("clicks"), Some("native"), Some("native")]),
        (Field::EventId, [Some("1"), Some("2"), Some("3")]),
        (Field::Properties, [Some(full.properties.as_ref()), Some("{}"), Some("{}")]),
        (property("plan"), [Some("pé\n"), None, None]),
        (property("n"), [Some("1.50"), None, None]),
        (property("o"), [Some(r#"{"k":[1, 2]}"#), None, None]),
        (property("o.k"), [Some("[1, 2]"), None, None]),
        (property("z"), [None; 3]),
        (property("e"), [Some(""), None, None]),
        (property("missing"), [None; 3]),
    ];
    for _ in 0..2 {
        let fields = expected.iter().map(|(field, _)| field.clone()).collect();
        let together = everything(subject.store(), &scan(fields)).await;
        for (index, (field, texts)) in expected.iter().enumerate() {
            let alone = everything(subject.store(), &scan(vec![field.clone()])).await;
            for (row, text) in texts.iter().enumerate() {
                assert_eq!(together["a"][row].texts[index].as_deref(), *text, "{field:?}");
                assert_eq!(alone["a"][row].texts[0].as_deref(), *text, "{field:?}");
            }
        }
        subject.settle().await;
    }
}

async fn walks_keep_to_project_user_and_range(mut subject: impl Subject) {
    let elsewhere =
        |user, id, time| Event { project: ProjectId::new("other"), ..event(user, id, time) };
    let events = vec![
        event("a", "1", 10),
        event("a", "2", 20),
        event("b", "3", 15),
        event("a", "4", 30),
        elsewhere("a", "1", 10),
        elsewhere("c", "2", 25),
    ];
    subject.store().commit(batch(0, events)).await.unwrap();
    let times = async |store: &dyn Store, project: &'static str, user: Option<&str>, range| {
        let project = ProjectId::new(project);
        let user = user.map(str::to_owned);
        let rows = everything(store, &Scan { project, user, range, ..scan(Vec::new()) }).await;
        let times = |(user, rows): (String, Vec<view::Seen>)| {
            (user, rows.iter().map(|row| row.time).collect::<Vec<_>>())
        };
        rows.into_iter().map(times).collect::<Vec<_>>()
    };
    let range = |start: i64, end: i64| TimeRange {
        start: Some(Timestamp(start)),
        end: Some(Timestamp(end)),
    };
    let row = |user: &str, times: &[i64]| (user.to_owned(), times.to_vec());
    for _ in 0..2 {
        let store = subject.store();
        let all = TimeRange::ALL;
        let both = [row("a", &[10, 20, 30]), row("b", &[15])];
        assert_eq!(times(store, "default", None, all).await, both);
        assert_eq!(times(store, "other", None, all).await, [row("a", &[10]), row("c", &[25])]);
        assert_eq!(times(store, "none", None, all).await, []);
        assert_eq!(times(store, "default", Some("b"), all).await, [row("b", &[15])]);
        assert_eq!(times(store, "default", Some("c"), all).await, []);
        let half_open = [row("a", &[10]), row("b", &[15])];
        assert_eq!(times(store, "default", None, range(10, 20)).await, half_open);
        assert_eq!(times(store, "default", None, range(20, 31)).await, [row("a", &[20, 30])]);
        assert_eq!(times(store, "default", Some("a"), range(11, 12)).await, []);
        let open_end = TimeRange { start: Some(Timestamp(30)), end: None };
        assert_eq!(times(store, "default", None, open_end).await, [row("a", &[30])]);
        subject.settle().await;
    }
}

async fn quarantine_is_kept(mut subject: impl Subject) {
    let record = |offset: u64, bytes: &[u8]| Quarantined {
        position: Position { partition: FEED, offset },
        reason: format!("cannot read record {offset}"),
        bytes: bytes.to_vec(),
    };
    let first = record(1, b"\x00\xff not text");
    let second = record(2, b"");
    let third = record(4, &[b'x'; 100_000]);
    let mut commit = batch(0, vec![event("a", "1", 1)]);
    commit.quarantine = vec![first.clone(), second.clone()];
    commit.next = up_to(3);
    subject.store().commit(commit).await.unwrap();
    let set_aside = Some(Outcome::Quarantined);
    assert_eq!(told(&subject, FEED, 1..3).await, [set_aside, set_aside]);
    subject.settle().await;
    let mut commit = batch(3, vec![event("a", "1", 1)]);
    commit.quarantine = vec![third.clone()];
    commit.next = up_to(5);
    subject.store().commit(commit).await.unwrap();
    assert_eq!(told(&subject, FEED, 3..5).await, [Some(Outcome::Duplicate), set_aside]);
    subject.settle().await;
    let kept = subject.store().quarantined(10).await.unwrap();
    assert_eq!(kept, [third.clone(), second, first]);
    assert_eq!(subject.store().quarantined(1).await.unwrap(), [third]);
    let stats = subject.store().stats();
    let sum = stats.stored + stats.duplicate + stats.quarantined + stats.expired;
    assert_eq!((stats.quarantined, sum), (3, 5), "every record has one outcome");
}

async fn empty_commits_move_positions_only(mut subject: impl Subject) {
    let next: Positions = [(Partition(0), 4), (Partition(9), 2)].into_iter().collect();
    let commit = Commit { next: next.clone(), ..Commit::default() };
    assert_eq!(subject.store().commit(commit).await.unwrap(), []);
    subject.settle().await;
    assert_eq!(subject.store().progress().committed, next);
    assert_eq!(subject.store().stats().stored, 0);
    assert!(everything(subject.store(), &scan(Vec::new())).await.is_empty());
}
