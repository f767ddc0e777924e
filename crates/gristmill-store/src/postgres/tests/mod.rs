//! The store on a real server, which `scripts/services` starts.

mod faults;
mod others;
mod parallel;
mod proxy;
mod refused;
mod repeats;
mod silent;
mod start;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{
    Event, EventId, Origin, Outcome, Partition, Position, Positions, ProjectId, Timestamp, UserId,
};
use gristmill_testkit::TestDatabase;
use tokio::task::JoinSet;

use super::{Address, PostgresConfig, PostgresStore, Windows};
use crate::conformance::{self, Subject};
use crate::{Commit, Row, Store, StoreError, StoreStats};

const FEED: Partition = Partition(0);

/// A store and its keeper.
struct Open {
    store: Arc<PostgresStore>,
    keeper: JoinSet<Result<(), StoreError>>,
}

impl Open {
    /// A store that has not reached the server.
    fn begin(url: &str, log: &str) -> Self {
        Self::with(config(url, log))
    }

    fn with_windows(url: &str, log: &str, windows: Windows) -> Self {
        Self::with(PostgresConfig { windows: Some(windows), ..config(url, log) })
    }

    fn with(config: PostgresConfig) -> Self {
        let (store, run) = PostgresStore::new(config);
        let mut keeper = JoinSet::new();
        keeper.spawn(run.run());
        Self { store, keeper }
    }

    async fn at(database: &TestDatabase) -> Self {
        let mut open = Self::begin(&database.url(), "log");
        open.reached().await.unwrap();
        open
    }

    /// Waits until the server is reached, or tells why it never will be.
    async fn reached(&mut self) -> Result<(), StoreError> {
        tokio::select! {
            reached = self.store.reached() => reached,
            ended = self.keeper.join_next() => ended.unwrap().unwrap(),
        }
    }

    /// Waits until it knows of everything below an offset of the feed.
    async fn knows_of(&self, next: u64) {
        let mut progress = self.store.watch();
        let knows = progress.wait_for(|progress| progress.committed.next(FEED) >= next);
        tokio::time::timeout(Duration::from_secs(30), knows).await.unwrap().unwrap();
    }
}

fn config(url: &str, log: &str) -> PostgresConfig {
    PostgresConfig {
        address: Address::parse(url).unwrap(),
        connections: 8,
        statement_timeout: Duration::from_secs(30),
        log: tokio::sync::watch::channel(Some(log.to_owned())).1,
        committers: 1,
        windows: None,
        log_start: Positions::start(),
    }
}

/// A store in a database of its own.
struct Own {
    open: Open,
    other: Open,
    database: TestDatabase,
    settled: usize,
}

impl Subject for Own {
    fn store(&self) -> &dyn Store {
        &*self.open.store
    }

    fn onlooker(&self) -> Option<&dyn Store> {
        Some(&*self.other.store)
    }

    /// Starts again every other time, for that is all that could make a difference.
    async fn settle(&mut self) {
        self.settled += 1;
        if self.settled.is_multiple_of(2) {
            self.open.store.close();
            self.open = Open::at(&self.database).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    conformance::check(async || {
        let database = TestDatabase::create().unwrap();
        let (open, other) = (Open::at(&database).await, Open::at(&database).await);
        Own { open, other, database, settled: 0 }
    })
    .await;
}

/// An event whose id is its place in the feed.
fn event(number: u64) -> Event<'static> {
    Event {
        project: ProjectId::new("default"),
        id: EventId::new(format!("e{number}")),
        user: UserId::new(format!("u{}", number % 3)),
        session: None,
        event_type: "view".into(),
        time: Timestamp(1_700_000_000_000_000 + number as i64),
        received: Timestamp(1_700_000_001_000_000),
        source: "".into(),
        page_url: format!("/p{}", number % 2).into(),
        origin: Origin::Native,
        properties: Event::NO_PROPERTIES.into(),
    }
}

/// These events as the next records of the feed.
fn batch(first: u64, events: Vec<Event<'static>>) -> Commit<'static> {
    let next = first + events.len() as u64;
    let position = |offset| Position { partition: FEED, offset };
    let rows = (first..).zip(events).map(|(o, event)| Row { position: position(o), event });
    let next = [(FEED, next)].into_iter().collect();
    Commit { rows: rows.collect(), quarantine: Vec::new(), next }
}

/// The records of the feed between two offsets.
fn records(first: u64, next: u64) -> Commit<'static> {
    batch(first, (first..next).map(event).collect())
}

/// How many rows the tables have: events, different ones (the hash of a user is in their key too), page
/// counts added up.
fn counted(database: &TestDatabase) -> [u64; 3] {
    let question = "SELECT (SELECT count(*) FROM gristmill.events), \
                    (SELECT count(DISTINCT (project, user_id, event_id)) FROM gristmill.events), \
                    (SELECT coalesce(sum(click_count), 0) FROM page_clicks)";
    let rows = database.run(question).unwrap();
    let numbers: Vec<u64> = rows[0].iter().map(|text| text.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

fn totals(store: &PostgresStore) -> [u64; 3] {
    let StoreStats { stored, duplicate, quarantined, .. } = store.stats();
    [stored, duplicate, quarantined]
}

/// Offers a batch again and again, as the processor does, until it is taken.
async fn commit(store: &PostgresStore, records: &Commit<'static>) -> Vec<Outcome> {
    for _ in 0..1_000 {
        match store.commit(records.clone()).await {
            Ok(outcomes) => return outcomes,
            Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the server does not come back");
}
