//! What `serve` starts, part by part, and the order in which the parts are stopped.
//!
//! ```text
//!   server ──▶ ingest ──▶ log ──▶ processor ──▶ store ◀── query ◀── server
//! ```
//!
//! They are stopped along this way: the server first, so that nothing new comes in; the log, which
//! answers who still waits; the processor, which ends when it has settled all of the log, or cannot
//! because the store is not available; and the store last.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, bail};
use gristmill_ingest::{Ingest, IngestConfig};
use gristmill_log::EventLog;
use gristmill_log::embedded::RealDisk;
use gristmill_model::{Clock, Entropy, Timestamp};
use gristmill_process::{OnSettled, Processor, Settled};
use gristmill_query::{Query, QueryConfig};
use gristmill_server::{
    Access, Ambience, Attribute, Front, GatewayConfig, Listeners, Parts, Role, Roles, SavedCohorts,
    Server, ServerConfig, Services, Tracer,
};
use gristmill_store::Store;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::caches;
use crate::certificates::Certificates;
use crate::config::{ServerSettings, Settings, Target};
use crate::logs;
use crate::stores::{self, Started};
use crate::supervisor::Part;
use crate::telemetry;
use crate::units::Span;

/// A file of the data directory that says that there are API keys in the store.
const HAS_KEYS: &str = "has-keys";

/// Everything of one process, running.
pub(crate) struct Running {
    /// The parts in the order of stopping.
    pub(crate) parts: Vec<Part>,
    /// Where it listens.
    pub(crate) addresses: Listeners,
}

/// What several parts have in common.
struct Shared {
    certificates: Certificates,
    tracer: Option<Arc<Tracer>>,
}

/// What comes from outside of the process.
#[derive(Clone)]
pub(crate) struct Ambient {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// Whether somebody wants the addresses for gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcPort {
    /// They were set: without them nothing starts.
    Wanted,
    /// They are the default: it does without if they are taken.
    Default,
}

/// Starts everything. Must be called within a tokio runtime.
pub(crate) async fn start_all(
    settings: &Settings,
    grpc_port: GrpcPort,
    ambient: &Ambient,
) -> anyhow::Result<Running> {
    let started = ambient.clock.now();
    raise_open_files_limit();
    let roles = settings.roles();
    let certificates = Certificates::load(settings, &ambient.clock)?;
    let names = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
    let (tracer, otlp) = telemetry::start_otlp(&settings.telemetry, ambient, &names)?.unzip();
    let shared = Shared { certificates, tracer };
    // What is still told when all else has stopped.
    let last = std::iter::once(shared.certificates.clone().watch()?).chain(otlp);
    if roles == Roles::from([Role::Gateway]) {
        let (addresses, part) =
            start_gateway(settings, grpc_port, ambient, &shared, started).await?;
        return Ok(Running { parts: std::iter::once(part).chain(last).collect(), addresses });
    }
    gristmill_log::embedded::Disk::create_dir(&RealDisk, &settings.data_dir)
        .with_context(|| format!("data_dir: cannot create {}", settings.data_dir.display()))?;
    let log = logs::start(settings, ambient)?;
    let Started { store, part: store_part, ready, out_of_reach } =
        stores::start(settings, ambient, &log)?;
    let (log, log_part) = (log.log, log.part);
    let settles = Arc::new(AtomicBool::new(false));
    let mut parts = vec![log_part];
    if roles.contains(&Role::Process) {
        let tracer = shared.tracer.clone();
        let (log, store) = (Arc::clone(&log), Arc::clone(&store));
        let workers = settings.process.workers;
        let processor = move || {
            let (log, store) = (Arc::clone(&log), Arc::clone(&store));
            Processor::new(log, store).telling(tracer.clone().map(telling))
        };
        let begun = Arc::clone(&settles);
        let ready = async move {
            ready.await?;
            begun.store(true, Relaxed);
            Ok(())
        };
        parts.push(start_processor(workers, processor, ready, out_of_reach)?);
    }
    parts.push(store_part);
    let services = services(settings, ambient, log, store, settles, started)?;
    let gateway = roles.contains(&Role::Gateway).then(|| gateway_config(settings, &shared));
    let behind = Parts::Services(services, roles, gateway);
    let access = access(settings)?;
    let (addresses, server_part) =
        start_server(settings, grpc_port, access, &shared, behind).await?;
    parts.insert(0, server_part);
    parts.extend(last);
    Ok(Running { parts, addresses })
}

/// Starts a process that has nothing of its own.
async fn start_gateway(
    settings: &Settings,
    grpc_port: GrpcPort,
    ambient: &Ambient,
    shared: &Shared,
    started: Timestamp,
) -> anyhow::Result<(Listeners, Part)> {
    let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
    let ambience = Ambience { clock, entropy, started, version: env!("CARGO_PKG_VERSION") };
    let behind = Parts::Gateway(gateway_config(settings, shared), ambience);
    let access = Access { had_keys: false, ..access(settings)? };
    start_server(settings, grpc_port, access, shared, behind).await
}

fn gateway_config(settings: &Settings, shared: &Shared) -> GatewayConfig {
    let gateway = &settings.gateway;
    let addresses = |targets: &[Target]| targets.iter().map(|target| target.0.clone()).collect();
    GatewayConfig {
        ingest: addresses(&gateway.ingest),
        query: addresses(&gateway.query),
        tries: gateway.tries,
        deadline: gateway.deadline.0,
        max_in_flight_requests: gateway.max_in_flight_requests,
        max_in_flight_bytes: gateway.max_in_flight_bytes.bytes(),
        max_body_bytes: settings.ingest.max_body_bytes.bytes(),
        tls: shared.certificates.gateway.clone(),
    }
}

/// Connections and parts are open files, and the usual limit of 1,024 is less than the server's
/// own bounds allow. The hard limit is what the operator decided.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The processor has a thread of its own, because commits compute for milliseconds, which would
/// hold up requests on a shared one. It ends by itself when the log is closed and settled.
fn start_processor(
    workers: usize,
    processor: impl Fn() -> Processor + Send + Sync + 'static,
    ready: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    out_of_reach: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<Part> {
    let runtime = tokio::runtime::Handle::current();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut part = Part::new("processor", async move { stop.cancel() });
    let settle = async move {
        ready.await?;
        match workers {
            1 => Ok(processor().run().await?),
            _ => settle_together(workers, processor).await,
        }
    };
    // A server may be away for any time.
    let give_up = async move {
        stopping.cancelled().await;
        out_of_reach.await;
    };
    let process = async move {
        tokio::select! {
            settled = settle => settled,
            () = give_up => {
                tracing::warn!("the store is not available: the rest is settled after a new start");
                Ok(())
            }
        }
    };
    part.thread("processor", move || runtime.block_on(process))?;
    Ok(part)
}

/// Several processors, of which each has its share of the log. Their commits compute elsewhere, so they
/// need no threads of their own.
async fn settle_together(workers: usize, processor: impl Fn() -> Processor) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(processor().run());
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Tells a tracer of commits.
fn telling(tracer: Arc<Tracer>) -> OnSettled {
    Arc::new(move |Settled { rows, took }| {
        let rows = Attribute::Number(i64::try_from(rows).unwrap_or(i64::MAX));
        tracer.tell("commit", took, vec![("gristmill.rows", rows)]);
    })
}

fn services(
    settings: &Settings,
    ambient: &Ambient,
    log: Arc<dyn EventLog>,
    store: Arc<dyn Store>,
    settles: Arc<AtomicBool>,
    started: Timestamp,
) -> anyhow::Result<Services> {
    let config = IngestConfig {
        max_body_bytes: settings.ingest.max_body_bytes.bytes(),
        max_inflated_bytes: settings.ingest.max_inflated_bytes.bytes(),
        max_in_flight_bytes: settings.ingest.max_in_flight_bytes.bytes(),
        paced_backlog_records: settings.ingest.paced_backlog_records,
        max_backlog_records: settings.ingest.max_backlog_records,
    };
    let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
    let committed = {
        let store = Arc::clone(&store);
        Box::new(move || store.progress().committed)
    };
    let ingest = Ingest::new(config, log, Arc::clone(&clock), Arc::clone(&entropy), committed);
    let threads = match settings.query.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let cohorts = SavedCohorts::new(Arc::clone(&store), Arc::clone(&clock));
    let query = QueryConfig { threads, deadline: settings.query.deadline.0 };
    let query = Query::new(query, Arc::clone(&store)).with_cohorts(Arc::new(cohorts));
    let query = match caches::open(settings)? {
        Some(cache) => query.with_cache(cache),
        None => query,
    };
    Ok(Services {
        ingest: Arc::new(ingest),
        query: Arc::new(query),
        store,
        settles,
        clock,
        entropy,
        started,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Starts the server, if it may serve. A store that cannot be asked yet may say later that it may not.
async fn start_server(
    settings: &Settings,
    grpc_port: GrpcPort,
    access: Access,
    shared: &Shared,
    behind: Parts,
) -> anyhow::Result<(Listeners, Part)> {
    let server = &settings.server;
    let front = Front::of(server_config(server, access, shared)?, behind);
    if let Err(error) = front.refresh_keys().await {
        tracing::info!(%error, "the API keys are read when the store can be reached");
    }
    if let Some(reason) = front.fault() {
        bail!(reason);
    }
    let has_keys = front.has_keys();
    let server = bind(server, grpc_port, front).context("server.listen or server.grpc_listen")?;
    let addresses = server.local_addrs();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut part = Part::new("server", async move { stop.cancel() });
    let remembering = remember_keys(has_keys, settings.data_dir.join(HAS_KEYS), stopping.clone());
    part.task("keys-memory", remembering);
    part.task("server", async move { Ok(server.run(stopping).await?) });
    Ok((addresses, part))
}

fn bind(settings: &ServerSettings, grpc_port: GrpcPort, front: Front) -> io::Result<Server> {
    let listeners = Listeners { http: settings.listen.clone(), grpc: settings.grpc_listen.clone() };
    match Server::bind(&listeners, front.clone()) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && grpc_port == GrpcPort::Default =>
        {
            // If it is the other port that is taken, this fails as well.
            let server = Server::bind(&Listeners { grpc: Vec::new(), ..listeners }, front)?;
            tracing::warn!(%error, "no port for gRPC alone: set server.grpc_listen; the others serve it too");
            Ok(server)
        }
        bound => bound,
    }
}

/// Writes down that there are keys, so that a start without the store does not let everybody in.
async fn remember_keys(
    has_keys: Option<watch::Receiver<bool>>,
    path: PathBuf,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(mut has_keys) = has_keys {
        let written = async {
            if has_keys.wait_for(|there_are| *there_are).await.is_err() {
                return;
            }
            if let Err(error) = std::fs::write(&path, "There are API keys in the store.\n") {
                let path = path.display();
                tracing::error!(%error, %path, "cannot write down that there are API keys");
            }
        };
        tokio::select! {
            () = written => {}
            () = stopping.cancelled() => {}
        }
    }
    stopping.cancelled().await;
    Ok(())
}

fn access(settings: &Settings) -> anyhow::Result<Access> {
    Ok(Access {
        admin_key: settings.server.admin_key()?,
        demands_keys: settings.server.demands_keys(),
        had_keys: settings.data_dir.join(HAS_KEYS).exists(),
    })
}

fn server_config(
    settings: &ServerSettings,
    access: Access,
    shared: &Shared,
) -> anyhow::Result<ServerConfig> {
    let origins = settings.cors_origins.iter().map(|origin| {
        origin.parse().with_context(|| format!("server.cors_origins: {origin:?} is no origin"))
    });
    let Span(drain) = settings.drain_timeout;
    Ok(ServerConfig {
        max_connections: settings.max_connections,
        header_timeout: settings.header_timeout.0,
        keep_alive_timeout: settings.keep_alive_timeout.0,
        body_idle_timeout: settings.body_idle_timeout.0,
        body_timeout: settings.body_timeout.0,
        write_timeout: settings.write_timeout.0,
        request_timeout: settings.request_timeout.0,
        visible_timeout: settings.visible_timeout.0,
        // The rest is for what comes after the requests.
        drain_timeout: drain * 4 / 5,
        grpc_reflection: settings.grpc_reflection,
        cors_origins: origins.collect::<anyhow::Result<_>>()?,
        access,
        tls: shared.certificates.server.clone(),
        tracer: shared.tracer.clone(),
    })
}
