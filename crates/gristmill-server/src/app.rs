//! What every route may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use gristmill_ingest::Ingest;
use gristmill_model::{Clock, Entropy, Micros, Timestamp};
use gristmill_query::Query;
use gristmill_store::Store;
use tokio_util::sync::CancellationToken;

use crate::ServerConfig;
use crate::analytics::live::Hub;
use crate::background::Background;
use crate::front::Ambience;
use crate::gateway::Gateway;
use crate::keys::Ring;
use crate::metrics::Metrics;
use crate::role::{Role, Roles};
use crate::visibility::Sample;

/// The parts of the platform that the server speaks for.
#[derive(Clone)]
pub struct Services {
    /// Takes in events.
    pub ingest: Arc<Ingest>,
    /// Answers questions.
    pub query: Arc<Query>,
    /// Tells outcomes and sizes, and keeps documents. The server only reads events.
    pub store: Arc<dyn Store>,
    /// Set once log and store are known to belong together, from when on the log is settled.
    pub settles: Arc<AtomicBool>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// For request ids.
    pub entropy: Arc<dyn Entropy>,
    /// When the process started.
    pub started: Timestamp,
    /// The program's version.
    pub version: &'static str,
}

impl Services {
    /// What they take from their surroundings.
    pub(crate) fn ambience(&self) -> Ambience {
        let Self { started, version, .. } = *self;
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Ambience { clock, entropy, started, version }
    }
}

/// The state behind all routes.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) services: Services,
    pub(crate) roles: Roles,
    /// For what other processes answer.
    pub(crate) gateway: Option<Arc<Gateway>>,
    /// All API keys.
    pub(crate) ring: Arc<Ring>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) visibility: Sample,
    /// The questions that are being answered live.
    pub(crate) live: Hub,
    /// Events that were queued and are appended after the answer.
    pub(crate) background: Background,
    /// Whether everything acknowledged could be queried at least once since the start.
    pub(crate) has_caught_up: AtomicBool,
    /// Set when the server stops: streams end, and readiness is denied.
    pub(crate) draining: CancellationToken,
}

impl App {
    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// How long the process has been up.
    pub(crate) fn uptime(&self) -> Micros {
        self.now().since(self.services.started).max(0)
    }

    /// Whether it can do what its roles ask of it. A process that only takes events in
    /// needs no store.
    pub(crate) fn is_ready(&self) -> bool {
        let has_settled = || self.services.settles.load(Relaxed) && self.backlog() == 0;
        (!self.roles.contains(&Role::Process) || has_settled()) && self.reaches_all()
    }

    /// Whether it should get calls: it was ready once, and reaches what its roles need. That new events
    /// are being settled is no reason against it.
    pub(crate) fn is_serving(&self) -> bool {
        if self.is_ready() {
            self.has_caught_up.store(true, Relaxed);
        }
        self.has_caught_up.load(Relaxed) && self.reaches_all()
    }

    /// Whether it can answer calls to services of a role; none, if it does not have the role.
    pub(crate) fn serves(&self, role: Role) -> Option<bool> {
        self.roles.contains(&role).then(|| match role {
            Role::Ingest => self.services.ingest.is_available(),
            Role::Process | Role::Query | Role::Gateway => self.services.store.is_available(),
        })
    }

    fn reaches_all(&self) -> bool {
        let has = |role| self.roles.contains(&role);
        let reaches_log = self.services.ingest.is_available();
        let reaches_store = self.services.store.is_available();
        let reaches_others = self.gateway.as_ref().is_none_or(|gateway| gateway.is_ready());
        (reaches_log || !(has(Role::Ingest) || has(Role::Process)))
            && (reaches_store || !(has(Role::Process) || has(Role::Query)))
            && reaches_others
    }

    /// Whether it appends to the log, and so knows where that ends. Otherwise others append, and it
    /// hears of that a little later.
    pub(crate) fn appends(&self) -> bool {
        self.roles.contains(&Role::Ingest)
    }

    /// How many acknowledged records cannot be queried yet.
    pub(crate) fn backlog(&self) -> u64 {
        let committed = self.services.store.progress().committed;
        self.services.ingest.durable().records_since(&committed)
    }
}
