//! The store as simply as it can be said: everything in a list, and every question a walk over
//! all of it. It is what the other adapters are compared with, so nothing here is clever. What
//! is committed counts as durable, and nothing is ever forgotten.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use gristmill_model::{
    Event, Field, Outcome, Partition, Position, Positions, ProjectId, Timestamp,
};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::document::Documents;
use crate::property::finite_number;
use crate::version::{Changes, Visits};
use crate::walk::Told;
use crate::{
    ABSENT, BatchUsers, Commit, Dictionaries, Dictionary, Document, DocumentKey, Events, Feed,
    PageCount, Precision, Present, Progress, Quarantined, Row, Scan, Snapshot, Store, StoreError,
    StoreStats, UserBatch, UserCursor, Version, property,
};

/// Keeps events in memory only.
pub struct MemoryStore {
    state: Mutex<Arc<State>>,
    documents: Mutex<Documents>,
    progress: watch::Sender<Progress>,
}

#[derive(Clone)]
struct State {
    shards: u32,
    rows: Vec<Arc<Row<'static>>>,
    identities: HashSet<[String; 3]>,
    quarantine: Vec<Quarantined>,
    outcomes: HashMap<Position, Outcome>,
    committed: Positions,
    stats: StoreStats,
}

impl MemoryStore {
    /// An empty store of at least one shard.
    pub fn new(shards: u32) -> Self {
        let state = State {
            shards: shards.max(1),
            rows: Vec::new(),
            identities: HashSet::new(),
            quarantine: Vec::new(),
            outcomes: HashMap::new(),
            committed: Positions::start(),
            stats: StoreStats::default(),
        };
        Self {
            state: Mutex::new(Arc::new(state)),
            documents: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, Arc<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn documents(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        let mut shared = self.state();
        // Snapshots hold the old state; it is copied only if there is one.
        let state = Arc::make_mut(&mut shared);
        let outcomes = commit.rows.into_iter().map(|row| state.take_row(row)).collect();
        for record in commit.quarantine {
            state.set_aside(record);
        }
        state.committed.advance_all(&commit.next);
        let committed = state.committed.clone();
        self.progress.send_replace(Progress { durable: committed.clone(), committed });
        Ok(outcomes)
    }

    fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let state = Arc::clone(&self.state());
        let version = version(&state.committed);
        Ok(Box::new(MemorySnapshot { state, version }))
    }

    async fn present(&self) -> Result<Option<Present>, StoreError> {
        let state = self.state();
        let mut changes = Changes::default();
        changes.begin(version(&Positions::start()));
        let change = |row: &Arc<Row<'_>>| {
            let Position { partition, offset } = row.position;
            (Visits::of(row.event.user.as_str(), &row.event.page_url), feed(partition), offset)
        };
        let now = version(&state.committed);
        changes.note(state.rows.iter().map(change), now.clone());
        Ok(Some(Present::new(now, Arc::new(Mutex::new(changes)))))
    }

    async fn page_count(
        &self,
        project: &ProjectId<'_>,
        user: &str,
        page_url: &str,
    ) -> Result<Option<PageCount>, StoreError> {
        let state = self.state();
        let is_meant = |row: &&Arc<Row<'_>>| {
            let event = &row.event;
            event.project == *project && event.user.as_str() == user && event.page_url == page_url
        };
        let events = state.rows.iter().filter(is_meant).count() as u64;
        Ok(Some(PageCount { events, version: version(&state.committed) }))
    }

    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let state = self.state();
        let outcome = |offset| state.outcomes.get(&Position { partition, offset }).copied();
        Ok(offsets.map(outcome).collect())
    }

    fn stats(&self) -> StoreStats {
        self.state().stats.clone()
    }

    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError> {
        Ok(self.state().quarantine.iter().rev().take(limit).cloned().collect())
    }

    async fn put_document(
        &self,
        key: DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError> {
        let mut documents = self.documents();
        let document = documents.next(&key, expected, body)?;
        let version = document.version;
        documents.put(document);
        Ok(version)
    }

    async fn remove_document(&self, key: DocumentKey<'_>, expected: u64) -> Result<(), StoreError> {
        let mut documents = self.documents();
        documents.expect(&key, Some(expected))?;
        documents.remove(&key);
        Ok(())
    }

    async fn document(&self, key: DocumentKey<'_>) -> Result<Option<Document>, StoreError> {
        Ok(self.documents().get(&key).cloned())
    }

    async fn documents(
        &self,
        project: &ProjectId<'_>,
        kind: &str,
    ) -> Result<Vec<Document>, StoreError> {
        Ok(self.documents().of_kind(project, kind))
    }
}

impl State {
    fn take_row(&mut self, row: Row<'_>) -> Outcome {
        if self.committed.includes(row.position) {
            return self.outcomes.get(&row.position).copied().unwrap_or(Outcome::Duplicate);
        }
        let event = &row.event;
        let identity = [event.project.as_str(), event.user.as_str(), event.id.as_str()];
        let outcome = if self.identities.insert(identity.map(str::to_owned)) {
            let received = event.received;
            let oldest = self.stats.window_start.map_or(received, |oldest| oldest.min(received));
            self.stats.window_start = Some(oldest);
            self.stats.window_identities += 1;
            self.stats.stored += 1;
            let event = row.event.into_owned();
            self.rows.push(Arc::new(Row { position: row.position, event }));
            Outcome::Stored
        } else {
            self.stats.duplicate += 1;
            Outcome::Duplicate
        };
        self.outcomes.insert(row.position, outcome);
        outcome
    }

    fn set_aside(&mut self, record: Quarantined) {
        if self.committed.includes(record.position) {
            return;
        }
        self.stats.quarantined += 1;
        self.outcomes.insert(record.position, Outcome::Quarantined);
        self.quarantine.push(record);
    }
}

/// There is one log.
fn feed(partition: Partition) -> Feed {
    Feed { log: 0, partition }
}

fn version(committed: &Positions) -> Version {
    Version::new(0, committed.iter().map(|(partition, next)| (feed(partition), next)))
}

struct MemorySnapshot {
    state: Arc<State>,
    version: Version,
}

impl Snapshot for MemorySnapshot {
    fn committed(&self) -> &Positions {
        &self.state.committed
    }

    fn version(&self) -> Option<&Version> {
        Some(&self.version)
    }

    fn shards(&self) -> u32 {
        self.state.shards
    }

    fn scan(&self, shard: u32, scan: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError> {
        let mut users: BTreeMap<&str, Vec<&Row<'static>>> = BTreeMap::new();
        for row in &self.state.rows {
            let Event { project, user, time, .. } = &row.event;
            if *project == scan.project
                && scan.range.contains(*time)
                && scan.user.as_ref().is_none_or(|wanted| wanted == user.as_str())
                && self.shard_of(project, user.as_str()) == shard
            {
                users.entry(user.as_str()).or_default().push(row);
            }
        }
        for rows in users.values_mut() {
            rows.sort_by_key(|row| (row.event.time, row.position));
        }
        Ok(Box::new(MemoryCursor {
            users: users.into_iter().collect::<Vec<_>>().into_iter(),
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            fields: scan.fields.clone(),
            numeric: scan.numbers.clone(),
            numbers: Vec::new(),
            precision: scan.precision,
            told: Told::default(),
            batch: BatchUsers::default(),
            times: Vec::new(),
            columns: Vec::new(),
        }))
    }

    fn shard_of(&self, project: &ProjectId<'_>, user: &str) -> u32 {
        let project = xxh3_64_with_seed(project.as_str().as_bytes(), 0);
        let hash = xxh3_64_with_seed(user.as_bytes(), project);
        (hash % u64::from(self.state.shards)) as u32
    }
}

struct MemoryCursor<'a> {
    users: std::vec::IntoIter<(&'a str, Vec<&'a Row<'static>>)>,
    fields: Vec<Field>,
    numeric: Vec<Field>,
    numbers: Vec<Vec<f64>>,
    precision: Precision,
    told: Told,
    dictionaries: Vec<Dictionary>,
    batch: BatchUsers,
    times: Vec<i64>,
    columns: Vec<Vec<u32>>,
}

impl UserCursor for MemoryCursor<'_> {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        let Some((user, rows)) = self.users.next() else {
            return Ok(None);
        };
        self.batch.clear();
        self.batch.push(user, rows.len());
        self.times = rows.iter().map(|row| row.event.time).map(|Timestamp(time)| time).collect();
        self.columns.clear();
        for (field, dictionary) in self.fields.iter().zip(&mut self.dictionaries) {
            let code = |row: &&Row<'_>| {
                text(&row.event, field).map_or(ABSENT, |text| dictionary.code(&text))
            };
            self.columns.push(rows.iter().map(code).collect());
        }
        let of_field = |field: &Field| {
            let value = |row: &&Row<'_>| finite_number(text(&row.event, field).as_deref());
            rows.iter().map(value).collect()
        };
        self.numbers = self.numeric.iter().map(of_field).collect();
        let users = std::iter::once(0..rows.len());
        let (times, hours) = self.told.tell(self.precision, &self.times, users);
        let events = Events {
            rows: rows.len(),
            times,
            hours,
            counts: &[],
            columns: self.columns.iter().map(Vec::as_slice).collect(),
            numbers: self.numbers.iter().map(Vec::as_slice).collect(),
            dictionaries: Dictionaries::of(&self.dictionaries),
        };
        Ok(Some(UserBatch::new(&self.batch, events)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}

/// What an event has in a field.
fn text<'a>(event: &'a Event<'_>, field: &Field) -> Option<Cow<'a, str>> {
    let text = match field {
        Field::EventType => &event.event_type,
        Field::UserId => event.user.as_str(),
        Field::SessionId | Field::SessionWithinUser => event.session.as_ref()?.as_str(),
        Field::Source => &event.source,
        Field::PageUrl => &event.page_url,
        Field::Origin => event.origin.as_str(),
        Field::EventId => event.id.as_str(),
        Field::Properties => &event.properties,
        Field::Property(path) => return property(&event.properties, path),
    };
    Some(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Subject};

    impl Subject for MemoryStore {
        fn store(&self) -> &dyn Store {
            self
        }

        async fn settle(&mut self) {}
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        conformance::check(async || MemoryStore::new(3)).await;
    }
}
