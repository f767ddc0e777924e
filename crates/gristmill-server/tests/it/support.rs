//! A whole platform in memory behind the server under test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use gristmill_ingest::{Ingest, IngestConfig};
use gristmill_log::{EventLog, MemoryLog};
use gristmill_model::Timestamp;
use gristmill_process::Processor;
use gristmill_query::{Query, QueryConfig};
use gristmill_server::{
    Access, AdminKey, Front, Listeners, SavedCohorts, Server, ServerConfig, Services,
};
use gristmill_store::cache::MemoryCache;
use gristmill_store::{MemoryStore, Store};
use gristmill_testkit::{ManualClock, SeededEntropy};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::held_log::HeldLog;
use crate::openapi;

/// 2026-01-01T00:00:00Z, the time of every test.
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Limits small enough for tests.
pub(crate) fn ingest_config() -> IngestConfig {
    IngestConfig {
        max_body_bytes: 1 << 20,
        max_inflated_bytes: 2 << 20,
        max_in_flight_bytes: 16 << 20,
        paced_backlog_records: 1_000_000,
        max_backlog_records: 1_000_000,
    }
}

/// The services over memory, and whether something carries events from the log to the store.
pub(crate) struct Platform {
    pub(crate) services: Services,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) clock: Arc<ManualClock>,
    tasks: JoinSet<()>,
}

impl Platform {
    /// A platform that settles what it takes in.
    pub(crate) fn new(config: IngestConfig) -> Self {
        let mut platform = Self::stalled(config);
        platform.resume();
        platform
    }

    /// A platform whose events stay in the log.
    pub(crate) fn stalled(config: IngestConfig) -> Self {
        let log = Arc::new(MemoryLog::new(2));
        Self::appending_to(log.clone(), log, config)
    }

    /// A platform of which as many appends run at a time as the gate lets through.
    pub(crate) fn held(config: IngestConfig, gate: &Arc<Semaphore>) -> Self {
        let log = Arc::new(MemoryLog::new(2));
        let held = HeldLog { log: Arc::clone(&log), gate: Arc::clone(gate) };
        Self::appending_to(Arc::new(held), log, config)
    }

    fn appending_to(to: Arc<dyn EventLog>, log: Arc<MemoryLog>, config: IngestConfig) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(4));
        let clock = Arc::new(ManualClock::at(NOW));
        let entropy = Arc::new(SeededEntropy::new(7));
        let progress = Arc::clone(&store);
        let committed = Box::new(move || progress.progress().committed);
        let ingest = Ingest::new(config, to, clock.clone(), entropy.clone(), committed);
        let cohorts = SavedCohorts::new(Arc::clone(&store), clock.clone());
        let query_config = QueryConfig { threads: 2, deadline: PATIENCE };
        let services = Services {
            ingest: Arc::new(ingest),
            query: Arc::new(
                Query::new(query_config, Arc::clone(&store)).with_cohorts(Arc::new(cohorts)),
            ),
            store,
            settles: Arc::new(true.into()),
            clock: clock.clone(),
            entropy,
            started: NOW,
            version: "0.0.0",
        };
        Self { services, log, clock, tasks: JoinSet::new() }
    }

    /// The same, which keeps answers.
    pub(crate) fn with_cache(mut self) -> Self {
        let Services { store, clock, .. } = &self.services;
        let cohorts = SavedCohorts::new(Arc::clone(store), Arc::clone(clock));
        let query_config = QueryConfig { threads: 2, deadline: PATIENCE };
        let query = Query::new(query_config, Arc::clone(store)).with_cohorts(Arc::new(cohorts));
        let cache = MemoryCache::new(1 << 20, PATIENCE);
        self.services.query = Arc::new(query.with_cache(Arc::new(cache)));
        self
    }

    /// Starts to settle.
    pub(crate) fn resume(&mut self) {
        let log: Arc<dyn EventLog> = self.log.clone();
        let processor = Processor::new(log, Arc::clone(&self.services.store));
        self.tasks.spawn(async move {
            processor.run().await.unwrap();
        });
    }

    /// The routes without sockets.
    pub(crate) fn front(&self) -> Front {
        Front::new(ServerConfig::default(), self.services.clone())
    }
}

/// Routes over a platform of their own.
pub(crate) struct Api {
    front: Front,
    /// The key that requests carry, if they need one.
    key: Option<&'static str>,
    _platform: Option<Platform>,
}

/// The key of the settings, where a test sets one.
pub(crate) const ADMIN_KEY: &str = "an-admin-key-of-tests-0123456789abcdef";

/// Settings with a key.
pub(crate) fn with_admin_key() -> ServerConfig {
    let access = Access { admin_key: Some(AdminKey::new(ADMIN_KEY)), ..Access::default() };
    ServerConfig { access, ..ServerConfig::default() }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// Reads an answer to its end.
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Self { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{} {error}: {}", self.status, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::over(Platform::new(ingest_config()))
    }

    pub(crate) fn over(platform: Platform) -> Self {
        Self { front: platform.front(), key: None, _platform: Some(platform) }
    }

    /// A platform whose settings have a key, which every request carries.
    pub(crate) fn with_key() -> Self {
        let platform = Platform::new(ingest_config());
        let front = Front::new(with_admin_key(), platform.services.clone());
        Self { front, key: Some(ADMIN_KEY), _platform: Some(platform) }
    }

    /// Sends a request with a host and gives the answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::read(self.open(request).await).await
    }

    /// Sends a request with a host and gives the answer before its body is read.
    pub(crate) async fn open(&self, mut request: Request<Body>) -> Response<Body> {
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        if let Some(key) = self.key {
            request.headers_mut().insert("x-api-key", key.parse().unwrap());
        }
        self.front.answer(request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        let answer = self.send(Request::get(target).body(Body::empty()).unwrap()).await;
        openapi::hold(&Method::GET, target, b"", &answer);
        answer
    }

    pub(crate) async fn get_csv(&self, target: &str) -> Answer {
        let request = Request::get(target).header("accept", "text/csv");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, target: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(target).header("content-type", "application/json");
        let body = body.into().collect().await.unwrap().to_bytes();
        let answer = self.send(request.body(Body::from(body.clone())).unwrap()).await;
        openapi::hold(&Method::POST, target, &body, &answer);
        answer
    }

    /// Posts events, waits until they can be queried, and fails if one is not taken.
    pub(crate) async fn fill(&self, events: &Value) {
        let answer = self.post("/v1/events/batch?wait=visible", events.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["rejected"], 0, "{}", answer.text);
    }

    pub(crate) async fn total_events(&self) -> u64 {
        self.get("/v1/analytics/summary").await.json()["total_events"].as_u64().unwrap()
    }
}

/// A server with a socket over a platform of its own.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) grpc_address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinSet<std::io::Result<()>>,
    /// Gone where the test keeps it.
    pub(crate) platform: Option<Platform>,
}

impl Listening {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self::over(config, Platform::new(ingest_config()))
    }

    pub(crate) fn over(config: ServerConfig, platform: Platform) -> Self {
        let front = Front::new(config, platform.services.clone());
        Self { platform: Some(platform), ..Self::serving(front) }
    }

    /// A server over what the test keeps.
    pub(crate) fn serving(front: Front) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners { http: vec![any], grpc: vec![any] };
        let server = Server::bind(&listeners, front).unwrap();
        let addresses = server.local_addrs();
        let (address, grpc_address) = (addresses.http[0], addresses.grpc[0]);
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(server.run(shutdown.clone()));
        Self { address, grpc_address, shutdown, running, platform: None }
    }

    /// The routes without sockets, over the same platform.
    pub(crate) fn api(&self) -> Api {
        let platform = self.platform.as_ref().expect("the test keeps the platform");
        Api { front: platform.front(), key: None, _platform: None }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, says that no more will come, and gives all that comes back.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        self.exchange_at(self.address, bytes).await
    }

    /// The same at one of its addresses.
    pub(crate) async fn exchange_at(&self, address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        read_all(&mut stream).await
    }

    /// The answer to a `GET`, as it came.
    pub(crate) async fn get(&self, target: &str) -> String {
        self.exchange(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await
    }
}

/// Everything until the other side closes.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..length]);
        }
    });
    read.await.expect("the server neither answers nor closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything until a text has come.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = String::new();
    let read = timeout(PATIENCE, async {
        let mut buffer = [0; 4096];
        while !all.contains(text) {
            let length = stream.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it closed after {all:?}");
            all.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    });
    read.await.expect("it does not come");
    all
}

/// The status of the first answer in a text; 0 if there is none.
pub(crate) fn status_of(text: &str) -> u16 {
    text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or(0)
}

/// A `POST` of a body as JSON, with more header lines.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}
