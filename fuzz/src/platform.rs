//! A whole platform in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use gristmill_ingest::{Ingest, IngestConfig};
use gristmill_log::{EventLog, MemoryLog};
use gristmill_process::Processor;
use gristmill_query::{Query, QueryConfig};
use gristmill_server::{Access, AdminKey, Front, SavedCohorts, ServerConfig, Services};
use gristmill_store::cache::Cache;
use gristmill_store::{MemoryStore, Store};
use gristmill_testkit::{ManualClock, SeededEntropy};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::NOW;

/// The key of the settings, behind the front door that asks for one.
pub const ADMIN_KEY: &str = "an-admin-key-of-fuzzing-0123456789abcdef";

/// How long something that should come at once may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for what may never come.
const SHORT: Duration = Duration::from_millis(2);
/// How many pieces of an answer without end are read.
const PIECES: usize = 3;
/// How many inputs a platform is used for, so that it never holds much.
const INPUTS: u32 = 500;

/// Events to ask about.
const EVENTS: &str = include_str!("events.json");

/// A platform behind two front doors: one for everybody, one that asks for keys.
pub struct Platform {
    pub runtime: Runtime,
    pub store: Arc<dyn Store>,
    open: Front,
    keyed: Front,
    inputs: u32,
    _tasks: JoinSet<()>,
}

/// A runtime that runs in the target's own thread.
pub fn quiet_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Platform {
    /// A platform with some events.
    pub fn new() -> Self {
        let reflecting = ServerConfig { grpc_reflection: true, ..config() };
        let platform = Self::with(reflecting, Arc::new(MemoryStore::new(2)), None);
        platform.post("/v1/events/batch?wait=visible", EVENTS);
        platform.post("/v1/cohorts", r#"{"id":"c","definition":{"event_type":"view"}}"#);
        platform
    }

    /// A platform over a store, which nothing has been sent to.
    pub fn over(store: Arc<dyn Store>, cache: Option<Arc<dyn Cache>>) -> Self {
        Self::with(config(), store, cache)
    }

    fn with(config: ServerConfig, store: Arc<dyn Store>, cache: Option<Arc<dyn Cache>>) -> Self {
        let runtime = quiet_runtime();
        let services = services(&store, cache);
        let mut tasks = JoinSet::new();
        let processor = Processor::new(services.log, Arc::clone(&store));
        let running = async move { drop(processor.run().await) };
        tasks.spawn_on(running, runtime.handle());
        let admin_key = Some(AdminKey::new(ADMIN_KEY));
        let access = Access { admin_key, ..Access::default() };
        let keyed = ServerConfig { access, ..self::config() };
        let keyed = Front::new(keyed, services.services.clone());
        let open = Front::new(config, services.services);
        Self { runtime, store, open, keyed, inputs: 0, _tasks: tasks }
    }

    /// The front door for everybody.
    pub fn front(&self) -> &Front {
        &self.open
    }

    /// The front door that asks for keys.
    pub fn keyed_front(&self) -> &Front {
        &self.keyed
    }

    /// Whether it has been used often enough.
    pub fn is_used_up(&mut self) -> bool {
        self.inputs += 1;
        self.inputs > INPUTS
    }

    /// An answer, as much of it as comes at once.
    pub fn answer(&self, request: Request<Body>) -> Response<Bytes> {
        let has_key =
            ["x-api-key", "authorization"].iter().any(|name| request.headers().contains_key(*name));
        let front = if has_key { &self.keyed } else { &self.open };
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(2 * PATIENCE, front.answer(request)).await;
            begun(answer.expect("no answer")).await
        })
    }

    /// The answer of an address for gRPC, as much of it as comes at once.
    pub fn call(&self, request: Request<Body>) -> Response<Bytes> {
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(2 * PATIENCE, self.open.answer_at_grpc(request));
            begun(answer.await.expect("no answer")).await
        })
    }

    /// Sends what must be taken.
    pub fn post(&self, target: &str, body: &'static str) {
        let request = Request::post(target).header("host", "a");
        let request = request.header("content-type", "application/json");
        let answer = self.answer(request.body(Body::from(body)).expect("a request"));
        assert!(answer.status().is_success(), "{target}: {answer:?}");
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::new()
    }
}

/// Settings under which nothing is waited for. What reflection needs is large.
fn config() -> ServerConfig {
    ServerConfig {
        body_idle_timeout: SHORT,
        request_timeout: PATIENCE,
        visible_timeout: SHORT,
        grpc_reflection: false,
        ..ServerConfig::default()
    }
}

struct Parts {
    services: Services,
    log: Arc<dyn EventLog>,
}

fn services(store: &Arc<dyn Store>, cache: Option<Arc<dyn Cache>>) -> Parts {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(2));
    let clock = Arc::new(ManualClock::at(NOW));
    let entropy = Arc::new(SeededEntropy::new(7));
    let config = IngestConfig {
        max_body_bytes: 1 << 20,
        max_inflated_bytes: 2 << 20,
        max_in_flight_bytes: 16 << 20,
        paced_backlog_records: 1_000_000,
        max_backlog_records: 1_000_000,
    };
    let progress = Arc::clone(store);
    let committed = Box::new(move || progress.progress().committed);
    let ingest = Ingest::new(config, Arc::clone(&log), clock.clone(), entropy.clone(), committed);
    let query = QueryConfig { threads: 1, deadline: PATIENCE };
    let cohorts = SavedCohorts::new(Arc::clone(store), clock.clone());
    let query = Query::new(query, Arc::clone(store)).with_cohorts(Arc::new(cohorts));
    let query = match cache {
        Some(cache) => query.with_cache(cache),
        None => query,
    };
    let services = Services {
        ingest: Arc::new(ingest),
        query: Arc::new(query),
        store: Arc::clone(store),
        settles: Arc::new(true.into()),
        clock,
        entropy,
        started: NOW,
        version: "0.0.0",
    };
    Parts { services, log }
}

/// Reads an answer to its end if it has one soon, else as much as comes at once.
async fn begun(response: Response<Body>) -> Response<Bytes> {
    let (head, mut body) = response.into_parts();
    let is_stream = axum::body::HttpBody::size_hint(&body).exact().is_none();
    let (pieces, patience) = if is_stream { (PIECES, SHORT) } else { (usize::MAX, PATIENCE) };
    let mut all = Vec::new();
    for _ in 0..pieces {
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(Ok(frame))) => all.extend(frame.into_data().unwrap_or_default()),
            Ok(_) => break,
            Err(_) => {
                assert!(is_stream, "the answer does not end");
                break;
            }
        }
    }
    Response::from_parts(head, Bytes::from(all))
}
