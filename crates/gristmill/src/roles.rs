//! What `serve` starts, part by part, and the order in which the parts are stopped.
//!
//! ```text
//!   server ──▶ ingest ──▶ log ──▶ processor ──▶ store ◀── query ◀── server
//! ```
//!
//! They are stopped along this way: the server first, so that nothing new comes in; the log, which
//! answers who still waits; the processor, which ends when it has settled all of the log, or cannot
//! because the store is not available; and the store last.

use std::sync::Arc;

use anyhow::Context;
use gristmill_ingest::{Ingest, IngestConfig};
use gristmill_log::EventLog;
use gristmill_log::embedded::{EmbeddedConfig, EmbeddedLog, RealDisk};
use gristmill_model::{Clock, Entropy, Timestamp};
use gristmill_process::Processor;
use gristmill_query::{Query, QueryConfig};
use gristmill_server::{SavedCohorts, Server, ServerConfig, Services};
use gristmill_store::Store;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use crate::config::{LogSettings, ServerSettings, Settings};
use crate::stores::{self, Started};
use crate::supervisor::Part;
use crate::units::Span;

/// Everything of one process, running.
pub(crate) struct Running {
    /// The parts in the order of stopping.
    pub(crate) parts: Vec<Part>,
    /// Where it listens.
    pub(crate) addresses: Vec<std::net::SocketAddr>,
}

/// What comes from outside of the process.
#[derive(Clone)]
pub(crate) struct Ambient {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// Starts everything. Must be called within a tokio runtime.
pub(crate) fn start_all(settings: &Settings, ambient: &Ambient) -> anyhow::Result<Running> {
    let started = ambient.clock.now();
    raise_open_files_limit();
    gristmill_log::embedded::Disk::create_dir(&RealDisk, &settings.data_dir)
        .with_context(|| format!("data_dir: cannot create {}", settings.data_dir.display()))?;
    let (log, log_part) = start_log(settings, ambient)?;
    let Started { store, part: store_part, ready, out_of_reach } =
        stores::start(settings, ambient, &log)?;
    let process_part = start_processor(Arc::clone(&log), Arc::clone(&store), ready, out_of_reach)?;
    let services = services(settings, ambient, log, store, started);
    let (addresses, server_part) = start_server(&settings.server, services)?;
    Ok(Running { parts: vec![server_part, log_part, process_part, store_part], addresses })
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

fn start_log(settings: &Settings, ambient: &Ambient) -> anyhow::Result<(Arc<dyn EventLog>, Part)> {
    let LogSettings::Embedded(embedded) = &settings.log;
    let config = EmbeddedConfig {
        dir: settings.log_dir(),
        segment_bytes: embedded.segment_bytes.0,
        partitions: embedded.partitions,
        recent_bytes: embedded.recent_bytes.bytes(),
    };
    let entropy = Arc::clone(&ambient.entropy);
    let (log, writer) = EmbeddedLog::open(config, Arc::new(RealDisk), entropy)
        .with_context(|| format!("cannot open the log in {}", settings.log_dir().display()))?;
    let closing = Arc::clone(&log);
    let mut part = Part::new("log", async move { closing.close() });
    part.thread("log-writer", move || Ok(writer.run()?))?;
    Ok((log, part))
}

/// The processor has a thread of its own, because commits compute for milliseconds, which would
/// hold up requests on a shared one. It ends by itself when the log is closed and settled.
fn start_processor(
    log: Arc<dyn EventLog>,
    store: Arc<dyn Store>,
    ready: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    out_of_reach: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<Part> {
    let runtime = tokio::runtime::Handle::current();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut part = Part::new("processor", async move { stop.cancel() });
    let processor = Processor::new(log, store);
    let settle = async move {
        ready.await?;
        Ok(processor.run().await?)
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

fn services(
    settings: &Settings,
    ambient: &Ambient,
    log: Arc<dyn EventLog>,
    store: Arc<dyn Store>,
    started: Timestamp,
) -> Services {
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
    Services {
        ingest: Arc::new(ingest),
        query: Arc::new(Query::new(query, Arc::clone(&store)).with_cohorts(Arc::new(cohorts))),
        store,
        clock,
        entropy,
        started,
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn start_server(
    settings: &ServerSettings,
    services: Services,
) -> anyhow::Result<(Vec<std::net::SocketAddr>, Part)> {
    let config = server_config(settings)?;
    let server = Server::bind(&settings.listen, config, services).context("server.listen")?;
    let addresses = server.local_addrs();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut part = Part::new("server", async move { stop.cancel() });
    part.task("server", async move { Ok(server.run(stopping).await?) });
    Ok((addresses, part))
}

fn server_config(settings: &ServerSettings) -> anyhow::Result<ServerConfig> {
    let origin = settings.dashboard_origin.parse();
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
        dashboard_origin: origin.context("server.dashboard_origin: not a header's value")?,
    })
}
