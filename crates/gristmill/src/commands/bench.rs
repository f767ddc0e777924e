//! `gristmill bench`: how fast a server takes events in, and whether it keeps what it said.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gristmill_client::{Client, ClientConfig};
use serde::Deserialize;
use tokio::runtime::Builder;
use tokio::time::Instant;

use super::bench_stream::StreamArgs;
use crate::ambient;
use crate::console::{remark, say};
use crate::load::{
    Driven, Freshness, KillReport, LEAST_EVENT_BYTES, MOST_USERS, PayloadShape, Report,
    ServerProcess, Workload, drive, is_memory_only, measure_freshness, memory, probe_sync,
    serve_baseline, serve_grpc_baseline, sizes, store_totals, watch_store,
};

/// Measure a server.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Ingest(IngestArgs),
    Stream(StreamArgs),
    /// A bare server that answers 200 to everything, to compare with
    #[command(hide = true)]
    Baseline {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A bare server that echoes events over gRPC, to compare with
    #[command(hide = true)]
    GrpcBaseline {
        #[arg(long)]
        listen: SocketAddr,
    },
}

/// Send events as fast as they are taken, or at a rate, and report what came of it.
///
/// Starts a server of its own in a fresh directory unless --url names one. Users, times and ids
/// are new in every request. A connection rests 10 ms after a refusal.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill bench ingest                                  the most, for a minute
  gristmill bench ingest --kill --seconds 20              then kill -9, restart and recount
  gristmill bench ingest --single --baseline              single events against a bare server
  gristmill bench ingest --rate 200000 --json half.json   latencies at a given load
  gristmill bench ingest --uncounted --url http://a:8080  a process with the role ingest only

The exit status is 1 if an acknowledged event is missing or one is counted twice.")]
struct IngestArgs {
    /// A running server, instead of one that is started for this
    #[arg(long, conflicts_with_all = ["kill", "dir", "config"])]
    url: Option<String>,
    /// Ask nothing of the server, neither how soon events can be queried nor how many there are: for one
    /// that only takes events in
    #[arg(long, requires = "url")]
    uncounted: bool,
    /// Connections at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Events per request
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// One event per request: the same as --batch 1
    #[arg(long, conflicts_with = "batch")]
    single: bool,
    /// For how long
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Bytes of an event's JSON
    #[arg(long, default_value_t = 350, value_parser = clap::value_parser!(u16).range(i64::from(LEAST_EVENT_BYTES)..=60_000))]
    event_bytes: u16,
    /// How many users there are
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=MOST_USERS))]
    users: u64,
    /// Events per second, evenly; latencies are then measured from when a request was due
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// At the end kill the server under load, restart it and compare with what was acknowledged
    #[arg(long)]
    kill: bool,
    /// Measure a bare server with the same load first
    #[arg(long)]
    baseline: bool,
    /// Where the server's fresh directory is made; must be on the disk that is meant
    #[arg(long, value_name = "DIR", default_value = "./data")]
    dir: PathBuf,
    /// Settings of the server that is started
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl BenchArgs {
    /// The runtime to run on. The bare server has the one that the real server has; the load
    /// generator makes do with one thread, to leave the machine to the server.
    pub(crate) fn runtime(&self) -> Builder {
        match self.what {
            What::Ingest(_) | What::Stream(_) => Builder::new_current_thread(),
            What::Baseline { .. } | What::GrpcBaseline { .. } => Builder::new_multi_thread(),
        }
    }
}

/// For how long the load goes on before the server is killed, and the baseline is measured.
const KILL_AFTER: Duration = Duration::from_secs(2);
const BASELINE_LASTS: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Ingest(args) => ingest(&args).await,
        What::Stream(args) => super::bench_stream::run(&args).await,
        What::Baseline { listen } => serve_baseline(listen).await.map(|()| ExitCode::SUCCESS),
        What::GrpcBaseline { listen } => {
            serve_grpc_baseline(listen).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn ingest(args: &IngestArgs) -> anyhow::Result<ExitCode> {
    let report = match &args.url {
        Some(url) => measure_running(url, args).await?,
        None => measure_own(args).await?,
    };
    say(report.to_string().trim_end());
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text)
            .with_context(|| format!("--json: cannot write {}", path.display()))?;
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl IngestArgs {
    fn workload(&self) -> Workload {
        let batch = if self.single { 1 } else { usize::from(self.batch) };
        let event_bytes = usize::from(self.event_bytes);
        Workload {
            shape: PayloadShape { batch, event_bytes, users: self.users },
            connections: usize::from(self.connections),
            duration: Duration::from_secs(self.seconds),
            rate: self.rate,
            seed: new_seed(),
        }
    }

    fn describe(&self, workload: &Workload) -> String {
        let rate = self.rate.map_or_else(String::new, |rate| format!(", {rate} events/s offered"));
        format!(
            "{} connections, {} events of {} bytes per request, {} users{rate}",
            workload.connections, workload.shape.batch, workload.shape.event_bytes, self.users
        )
    }
}

pub(super) fn new_seed() -> u64 {
    ambient::entropy().next_u128() as u64
}

async fn measure_running(url: &str, args: &IngestArgs) -> anyhow::Result<Report> {
    let address = address_of(url)?;
    let workload = args.workload();
    let baseline = match args.baseline {
        true => Some(measure_baseline(workload, tempfile::tempdir()?.path()).await?),
        false => None,
    };
    let mut report = match args.uncounted {
        true => measure_uncounted(address, workload, args).await?,
        false => measure(address, workload, args, None).await?,
    };
    report.baseline = baseline;
    Ok(report)
}

async fn measure_own(args: &IngestArgs) -> anyhow::Result<Report> {
    let workload = args.workload();
    let context = || format!("--dir: cannot make a directory in {}", args.dir.display());
    std::fs::create_dir_all(&args.dir).with_context(context)?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&args.dir);
    let dir = dir.with_context(context)?;
    if is_memory_only(dir.path()) {
        remark(format!("{} lies in memory: nothing there is durable", args.dir.display()));
    }
    let baseline = match args.baseline {
        true => Some(measure_baseline(workload, dir.path()).await?),
        false => None,
    };
    let sync_before = probe_sync(dir.path())?;
    let data_dir = dir.path().join("data");
    let mut server = start_server(&data_dir, dir.path(), args.config.as_deref())?;
    let start = server.wait_for("/ready").await?;
    let idle = memory(server.id());
    let mut report = measure(server.address(), workload, args, Some(server.id())).await?;
    report.sizes = Some(sizes(&data_dir)?);
    report.idle_memory_bytes = idle.map(|memory| memory.now);
    report.peak_memory_bytes = memory(server.id()).map(|memory| memory.peak);
    if args.kill {
        report.kill = Some(kill(&mut server, workload, &report).await?);
    }
    drop(server);
    report.sync_before = Some(sync_before);
    report.sync_after = Some(probe_sync(dir.path())?);
    report.start_seconds = Some(start.as_secs_f64());
    report.baseline = baseline;
    report.durability = if is_memory_only(dir.path()) {
        "none: the data directory lies in memory"
    } else {
        "fdatasync before every acknowledgement, one disk"
    };
    Ok(report)
}

fn start_server(
    data_dir: &Path,
    outputs: &Path,
    config: Option<&Path>,
) -> anyhow::Result<ServerProcess> {
    let data_dir = data_dir.to_str().context("--dir: the path is not valid UTF-8")?;
    let mut arguments = vec!["serve", "--listen", "{address}", "--data-dir", data_dir];
    if let Some(config) = config {
        arguments.extend(["--config", config.to_str().context("--config: not valid UTF-8")?]);
    }
    ServerProcess::start(&arguments, &outputs.join("server.log"))
}

async fn measure_baseline(workload: Workload, outputs: &Path) -> anyhow::Result<Driven> {
    let arguments = ["bench", "baseline", "--listen", "{address}"];
    let mut server = ServerProcess::start(&arguments, &outputs.join("baseline.log"))?;
    server.wait_for("/").await?;
    let duration = workload.duration.min(BASELINE_LASTS);
    // The most that a server can do is asked, whatever rate the real one is offered.
    let workload = Workload { duration, rate: None, ..workload };
    drive(server.address(), workload, ambient::clock()).await
}

/// The load itself, with samples of freshness beside it, and the count afterwards. `server` is the id of
/// the server's process, if it runs here.
async fn measure(
    address: SocketAddr,
    workload: Workload,
    args: &IngestArgs,
    server: Option<u32>,
) -> anyhow::Result<Report> {
    let client = client_of(address)?;
    let before = total_events(&client).await?;
    let started = Instant::now();
    let run = new_seed();
    let samples = measure_freshness(Arc::clone(&client), run, started + workload.duration);
    let looks = watch_store(Arc::clone(&client), started + workload.duration);
    let load = drive(address, workload, ambient::clock());
    let (driven, freshness, looks) = tokio::join!(load, samples, looks);
    let driven = driven?;
    wait_until_ready(&client).await?;
    let seconds = started.elapsed().as_secs_f64();
    let load_memory = server.and_then(memory);
    let found = total_events(&client).await? - before;
    let known = driven.accepted + freshness.accepted;
    Ok(Report {
        queryable_per_second: Some(known as f64 / seconds),
        miscounted: miscounted(&driven, &freshness, found),
        freshness: Some(freshness),
        store: Some(store_totals(&client).await?),
        looks,
        load_memory_bytes: load_memory.map(|memory| memory.peak),
        ..Report::of(driven, args.describe(&workload))
    })
}

/// The load itself and nothing else.
async fn measure_uncounted(
    address: SocketAddr,
    workload: Workload,
    args: &IngestArgs,
) -> anyhow::Result<Report> {
    let driven = drive(address, workload, ambient::clock()).await?;
    Ok(Report::of(driven, args.describe(&workload)))
}

/// How many events too many (or, negative, too few) there are, beyond what cannot be known.
fn miscounted(driven: &Driven, freshness: &Freshness, found: u64) -> i64 {
    let known = driven.accepted + freshness.accepted;
    let possible = known + driven.unknown + freshness.failed;
    let missing = known.saturating_sub(found);
    found.saturating_sub(possible) as i64 - missing as i64
}

/// Kills the server under load, restarts it and counts.
async fn kill(
    server: &mut ServerProcess,
    workload: Workload,
    report: &Report,
) -> anyhow::Result<KillReport> {
    let duration = KILL_AFTER + Duration::from_millis(500);
    let workload = Workload { duration, seed: new_seed(), ..workload };
    let address = server.address();
    let load = drive(address, workload, ambient::clock());
    let strike = async {
        tokio::time::sleep(KILL_AFTER).await;
        server.kill()
    };
    let (driven, killed) = tokio::join!(load, strike);
    let driven = driven?;
    killed?;
    server.restart()?;
    let restart = server.wait_for("/ready").await?;
    let found = total_events(&*client_of(address)?).await?;
    let freshness = report.freshness.clone().unwrap_or_default();
    let acknowledged = report.driven.accepted + freshness.accepted + driven.accepted;
    let unknown = report.driven.unknown + freshness.failed + driven.unknown;
    Ok(KillReport {
        acknowledged,
        unknown,
        found,
        lost: acknowledged.saturating_sub(found),
        surplus: found.saturating_sub(acknowledged + unknown),
        restart_seconds: restart.as_secs_f64(),
    })
}

pub(super) fn client_of(address: SocketAddr) -> anyhow::Result<Arc<Client>> {
    let timeout = Duration::from_secs(120);
    let api_key = ambient::api_key()?;
    let config = ClientConfig { timeout, api_key, ..ClientConfig::default() };
    Ok(Arc::new(Client::new(&format!("http://{address}"), config, ambient::entropy())?))
}

#[derive(Deserialize)]
struct Summary {
    total_events: u64,
}

pub(super) async fn total_events(client: &Client) -> anyhow::Result<u64> {
    Ok(client.get_json::<Summary>("/v1/analytics/summary").await?.total_events)
}

/// Waits until every acknowledged event can be queried.
pub(super) async fn wait_until_ready(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    while client.get("/ready").await?.status != 200 {
        ensure!(Instant::now() < deadline, "the server was not ready 300 s after the load's end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let uri: http::Uri = url.parse().with_context(|| format!("--url: `{url}` is not a URL"))?;
    ensure!(
        uri.scheme_str() != Some("https"),
        "--url: what is measured speaks http: name a listener without TLS"
    );
    let host = uri.host().with_context(|| format!("--url: `{url}` names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (host, uri.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .with_context(|| format!("--url: cannot find {host}"))?;
    addresses.next().with_context(|| format!("--url: {host} has no address"))
}
