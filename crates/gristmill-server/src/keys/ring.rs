//! All keys in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use gristmill_model::{Clock, ErrorCode, ProjectId, Scope, Scopes, Timestamp, key_id};
use gristmill_store::{Document, Store, StoreError};
use http::HeaderMap;
use subtle::ConstantTimeEq;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Need;
use super::credentials::{Given, given};
use super::meter::Meter;
use super::record::{self, Hash, KIND, PROJECT, Record, Status};
use super::usage::{self, Usage};
use crate::caller::{Caller, Who};
use crate::config::Access;
use crate::problem::Problem;

/// How often the keys are read anew.
const PAUSE: Duration = Duration::from_secs(2);
/// After how many of these pauses amounts are told that count against a quota, and after how many it is
/// told when a key was last used.
const PAUSES_UNTIL_AMOUNTS: u64 = 2;
const PAUSES_UNTIL_USES: u64 = 30;
/// How often that is tried until it has worked once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What a caller is told whose key was valid.
pub(super) const NO_LONGER_VALID: Refusal = Refusal::Wrong("the API key is not valid any more");
/// How long a process that ends waits for the store to take what it has counted.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A key of the ring.
pub(crate) struct Held {
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) record: Record,
    pub(super) usage: Arc<Usage>,
    hash: Hash,
    scopes: Scopes,
    /// Copied for each request, and so of a form that costs nothing to copy where it can be.
    project: ProjectId<'static>,
}

impl Held {
    fn new(document: &Document, usage: Option<Arc<Usage>>) -> Option<Self> {
        let record = Record::read(document)?;
        let limits = record.limits;
        let meter = (!limits.is_none()).then(|| Meter::new(limits));
        Some(Self {
            id: document.id.clone(),
            version: document.version,
            hash: record.hash()?,
            scopes: record.scopes(),
            project: Caller::project_named(&record.project),
            usage: usage.unwrap_or_else(|| Arc::new(Usage::new(meter))),
            record,
        })
    }

    /// The key is used for something. Says whether its limits leave any room for that.
    pub(super) fn note(&self, now: Timestamp, need: Need) -> Result<(), Problem> {
        self.usage.note(now);
        match (need, self.meter()) {
            (Need::Scope(Scope::Write), Some(meter)) => meter.check(now),
            _ => Ok(()),
        }
    }

    /// Its meter, if it has limits.
    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.usage.meter.as_ref()
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "key {}", self.id)
    }
}

type Keys = HashMap<String, Arc<Held>>;

/// All keys of the store, and the one of the settings.
pub(crate) struct Ring {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    access: Access,
    /// `None` until they have been read for the first time.
    keys: RwLock<Option<Arc<Keys>>>,
    /// Whether the store answered when it was asked last.
    is_current: AtomicBool,
    /// Whether there are any in the store.
    has_keys: watch::Sender<bool>,
    /// Whether requests need keys.
    is_in_force: AtomicBool,
    /// So that no older state of the store takes the place of a newer one.
    reading: Mutex<()>,
}

/// What is to be told to the store.
#[derive(Clone, Copy, Debug)]
enum Due {
    Nothing,
    /// What counts against a quota.
    Amounts,
    /// That, and when keys were last used.
    Everything,
}

impl Due {
    fn in_round(round: u64) -> Self {
        if round.is_multiple_of(PAUSES_UNTIL_USES) {
            Self::Everything
        } else if round.is_multiple_of(PAUSES_UNTIL_AMOUNTS) {
            Self::Amounts
        } else {
            Self::Nothing
        }
    }
}

/// What a request is refused for that shows no valid key.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It has none.
    Missing,
    /// The key is wrong, or not valid any more.
    Wrong(&'static str),
    /// Nobody knows, because the store is away.
    Unknown,
    /// It contradicts itself.
    Malformed(Problem),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => {
                Problem::new(ErrorCode::Unauthenticated, "missing authentication credentials")
            }
            Refusal::Wrong(detail) => Problem::new(ErrorCode::Unauthenticated, detail),
            Refusal::Unknown => {
                let detail = "the store is away, and without it nobody knows this API key: send \
                    the same again";
                Problem::new(ErrorCode::NotReady, detail)
            }
            Refusal::Malformed(problem) => problem,
        }
    }
}

impl Ring {
    /// A ring that has not been read yet.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, access: Access) -> Self {
        let is_in_force = access.asks_for_keys() || access.had_keys;
        Self {
            store,
            clock,
            access,
            keys: RwLock::new(None),
            is_current: AtomicBool::new(false),
            has_keys: watch::Sender::new(false),
            is_in_force: AtomicBool::new(is_in_force),
            reading: Mutex::new(()),
        }
    }

    /// Whether requests need keys. From the first key on they do, also when it is revoked.
    pub(crate) fn is_in_force(&self) -> bool {
        self.is_in_force.load(Relaxed)
    }

    /// Tells when there are keys in the store.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.has_keys.subscribe()
    }

    /// Who sends a request.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        if !self.is_in_force() {
            return Ok(Caller::anyone());
        }
        match given(headers).map_err(Refusal::Malformed)? {
            Given::Nothing => Err(Refusal::Missing),
            Given::Nonsense => Err(Refusal::Wrong("the authorization is not an API key")),
            Given::Text(text) => self.verify(&text),
        }
    }

    fn verify(&self, text: &str) -> Result<Caller, Refusal> {
        const NOT_VALID: Refusal = Refusal::Wrong("the API key is not valid");
        let hash = record::hash(text);
        if self.access.admin_key.as_ref().is_some_and(|admin_key| admin_key.has(&hash)) {
            return Ok(Caller::operator());
        }
        let Some(id) = key_id(text) else { return Err(NOT_VALID) };
        let keys = self.keys();
        let held = keys.as_ref().and_then(|keys| keys.get(id));
        // A key that does not exist takes as long as one whose secret is wrong.
        let expected = held.map_or(Hash::default(), |held| held.hash);
        let is_right = bool::from(hash.ct_eq(&expected));
        let Some(held) = held else {
            let is_known = keys.is_some() && self.is_current.load(Relaxed);
            return Err(if is_known { NOT_VALID } else { Refusal::Unknown });
        };
        if !is_right {
            return Err(NOT_VALID);
        }
        match held.record.status(self.clock.now()) {
            Status::Active => {
                Ok(Caller::with_key(held.project.clone(), held.scopes, Arc::clone(held)))
            }
            Status::Expired => Err(Refusal::Wrong("the API key has expired")),
            Status::Revoked => Err(Refusal::Wrong("the API key has been revoked")),
        }
    }

    /// The keys, if they are known.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a caller who was let in would still be.
    pub(crate) fn still_knows(&self, who: &Who) -> bool {
        match who {
            Who::Anyone => !self.is_in_force(),
            Who::Operator => true,
            Who::Key(key) => {
                let is_active =
                    |held: &Arc<Held>| held.record.status(self.clock.now()) == Status::Active;
                self.keys().is_some_and(|keys| keys.get(&key.id).is_some_and(is_active))
            }
        }
    }

    /// Counts what a caller is about to append against the limits of the key.
    pub(crate) fn charge(
        &self,
        who: &Who,
        events: usize,
        bytes: impl FnOnce() -> usize,
    ) -> Result<(), Problem> {
        if !self.still_knows(who) {
            return Err(match who {
                Who::Anyone => Refusal::Missing.into(),
                _ => NO_LONGER_VALID.into(),
            });
        }
        match who {
            Who::Key(key) => match key.meter() {
                Some(meter) => meter.charge(self.clock.now(), events as u64, bytes() as u64),
                None => Ok(()),
            },
            Who::Anyone | Who::Operator => Ok(()),
        }
    }

    /// Whether somebody can administer keys at a time: with a key of the store or of the settings.
    pub(super) fn has_admin(&self, now: Timestamp) -> bool {
        let is_admin = |held: &Arc<Held>| {
            held.scopes.allow(Scope::Admin) && held.record.status(now) == Status::Active
        };
        self.access.admin_key.is_some()
            || self.keys().is_some_and(|keys| keys.values().any(is_admin))
    }

    /// Reads the keys anew.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let _reading = self.reading.lock().await;
        let read = self.documents(KIND).await;
        self.is_current.store(read.is_ok(), Relaxed);
        let documents = read?;
        let before = self.keys().unwrap_or_default();
        let mut keys = Keys::with_capacity(documents.len());
        for document in &documents {
            let known = before.get(&document.id);
            let held = match known.filter(|held| held.version == document.version) {
                Some(held) => Some(Arc::clone(held)),
                None => {
                    let usage = known.map(|held| Arc::clone(&held.usage));
                    Held::new(document, usage).map(Arc::new)
                }
            };
            match held {
                Some(held) => drop(keys.insert(document.id.clone(), held)),
                None => tracing::warn!(key = document.id, "the document of a key cannot be read"),
            }
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        let are_there = !documents.is_empty();
        self.is_in_force.store(are_there || self.access.asks_for_keys(), Relaxed);
        self.has_keys.send_if_modified(|told| std::mem::replace(told, are_there) != are_there);
        Ok(())
    }

    /// Reads the keys anew, and what was used of them.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        self.reload().await?;
        let Some(keys) = self.keys().filter(|keys| !keys.is_empty()) else { return Ok(()) };
        let now = self.clock.now();
        for document in self.documents(usage::KIND).await? {
            if let Some(held) = keys.get(&document.id) {
                held.usage.hear(&document, now);
            }
        }
        Ok(())
    }

    async fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError> {
        if !self.store.is_available() {
            return Err(StoreError::Unavailable("the store cannot be reached".to_owned()));
        }
        self.store.documents(&ProjectId::new(PROJECT), kind).await
    }

    /// Why the process may not serve: it can be reached by others, and there is not a single key.
    pub(crate) fn fault(&self) -> Option<String> {
        let address = self.access.demands_keys.as_ref()?;
        let is_known_empty = self.keys().is_some_and(|keys| keys.is_empty());
        (is_known_empty && self.access.admin_key.is_none()).then(|| without_keys(address))
    }

    /// Keeps the keys as they are in the store until `stopping` is set, or gives why the process may not
    /// serve.
    pub(crate) async fn keep(&self, stopping: CancellationToken) -> Result<(), String> {
        // Telling may take long where there are many keys, and hearing must not wait for that.
        tokio::select! {
            fault = self.keep_hearing() => Err(fault),
            () = self.keep_telling() => Ok(()),
            () = stopping.cancelled() => Ok(()),
        }
    }

    /// Reads the keys over and over, until the process may not serve any more; gives why.
    async fn keep_hearing(&self) -> String {
        let mut was_current = true;
        loop {
            let read = self.refresh().await;
            if let (Err(error), true) = (&read, was_current) {
                tracing::warn!(%error, "cannot read API keys: those that are known go on");
            }
            was_current = read.is_ok();
            if let Some(fault) = self.fault() {
                return fault;
            }
            sleep(if self.keys().is_some() { PAUSE } else { FIRST_PAUSE }).await;
        }
    }

    async fn keep_telling(&self) {
        for round in 1_u64.. {
            sleep(PAUSE).await;
            if self.is_current.load(Relaxed) {
                self.tell(Due::in_round(round)).await;
            }
        }
    }

    /// Tells the store what was used and is not told yet.
    pub(crate) async fn finish(&self) {
        if self.is_current.load(Relaxed) {
            let _ = timeout(LAST_WORDS, self.tell_all()).await;
        }
    }

    /// Tells everything that was used.
    pub(crate) async fn tell_all(&self) {
        self.tell(Due::Everything).await;
    }

    async fn tell(&self, due: Due) {
        let now = self.clock.now();
        let keys = self.keys().unwrap_or_default();
        for held in keys.values() {
            let usage = &held.usage;
            let is_due = match due {
                Due::Nothing => false,
                Due::Amounts => usage.has_untold_amounts(now),
                Due::Everything => usage.has_untold_amounts(now) || usage.has_untold_use(),
            };
            if !is_due {
                continue;
            }
            match usage.tell(self.store.as_ref(), &held.id, now).await {
                // Another process was quicker: next time.
                Ok(()) | Err(StoreError::Conflict(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot keep what was used of API keys");
                    return;
                }
            }
        }
    }
}

/// Why a process may not serve at an address without keys.
pub(crate) fn without_keys(address: &str) -> String {
    format!(
        "{address} can be reached from other machines and there are no API keys: set \
         server.admin_key (GRISTMILL__SERVER__ADMIN_KEY), make a key on 127.0.0.1 with `gristmill keys \
         create`, listen on 127.0.0.1, or allow it with --insecure-no-auth"
    )
}
