//! What every route may use.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gristmill_ingest::Ingest;
use gristmill_model::{Clock, Entropy, Micros, ProjectId, Timestamp};
use gristmill_query::Query;
use gristmill_store::Store;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::ServerConfig;
use crate::analytics::live::Hub;
use crate::metrics::Metrics;
use crate::request_id::RequestIds;
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
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// For request ids.
    pub entropy: Arc<dyn Entropy>,
    /// When the process started.
    pub started: Timestamp,
    /// The program's version.
    pub version: &'static str,
}

/// The state behind all routes.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) services: Services,
    pub(crate) metrics: Metrics,
    pub(crate) request_ids: RequestIds,
    pub(crate) visibility: Sample,
    /// The questions that are being answered live.
    pub(crate) live: Hub,
    /// Whether everything acknowledged could be queried at least once since the start.
    pub(crate) has_caught_up: AtomicBool,
    /// Set when the server stops: streams end, and readiness is denied.
    pub(crate) draining: CancellationToken,
}

impl App {
    /// The state of a server that has served nothing yet.
    pub(crate) fn new(config: ServerConfig, services: Services, routes: &[&'static str]) -> Self {
        let request_ids = RequestIds::new(services.entropy.as_ref());
        let metrics = Metrics::new(routes);
        let (visibility, draining) = (Sample::default(), CancellationToken::new());
        let has_caught_up = AtomicBool::new(false);
        let live = Hub::default();
        Self { config, services, metrics, request_ids, visibility, live, has_caught_up, draining }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// How long the process has been up.
    pub(crate) fn uptime(&self) -> Micros {
        self.now().since(self.services.started).max(0)
    }

    /// How many acknowledged records cannot be queried yet.
    pub(crate) fn backlog(&self) -> u64 {
        let committed = self.services.store.progress().committed;
        self.services.ingest.durable().records_since(&committed)
    }
}

/// The project that a request belongs to. There is one until keys name others; nothing in a body
/// or a query can choose it.
pub(crate) fn project_of(_headers: &HeaderMap) -> ProjectId<'static> {
    ProjectId::new("default")
}
