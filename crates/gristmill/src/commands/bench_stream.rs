//! `gristmill bench stream`: how fast one gRPC stream takes events in, and what that costs beside bare
//! calls.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::bench::{client_of, new_seed, total_events, wait_until_ready};
use crate::ambient;
use crate::console::{say, thousands};
use crate::load::{
    EVENTS_UNDER_WAY, GrpcDriven, LEAST_EVENT_BYTES, MOST_USERS, PayloadShape, ServerProcess,
    drive_single, drive_stream, drive_unary, free_address, memory,
};

/// Send events over one gRPC stream as fast as they are acknowledged, with the client library.
///
/// Starts a server in a fresh directory for each measurement. An acknowledged event is on stable storage.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill bench stream                           batches over one stream, for 20 seconds
  gristmill bench stream --baseline --seconds 10   single events too, beside a bare echo

The exit status is 1 if an acknowledged event is missing or one is counted twice.")]
pub(crate) struct StreamArgs {
    /// Events per batch
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// For how long, each measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Bytes of an event's JSON
    #[arg(long, default_value_t = 350, value_parser = clap::value_parser!(u16).range(i64::from(LEAST_EVENT_BYTES)..=800))]
    event_bytes: u16,
    /// How many users there are
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=MOST_USERS))]
    users: u64,
    /// Measure single events over a stream and by unary calls too, each beside a bare tonic echo
    #[arg(long)]
    baseline: bool,
    /// Unary calls at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    calls: u16,
    /// Where the server's fresh directory is made; must be on the disk that is meant
    #[arg(long, value_name = "DIR", default_value = "./data")]
    dir: PathBuf,
}

/// Runs the command.
pub(crate) async fn run(args: &StreamArgs) -> anyhow::Result<ExitCode> {
    let context = || format!("--dir: cannot make a directory in {}", args.dir.display());
    std::fs::create_dir_all(&args.dir).with_context(context)?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&args.dir);
    let dir = dir.with_context(context)?;
    let mut is_sound = batches(args, dir.path()).await?;
    if args.baseline {
        is_sound &= beside_echoes(args, dir.path()).await?;
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures batches, and tells whether all is well.
async fn batches(args: &StreamArgs, dir: &Path) -> anyhow::Result<bool> {
    let (batch, event_bytes) = (usize::from(args.batch), usize::from(args.event_bytes));
    let shape = PayloadShape { batch, event_bytes, users: args.users };
    let duration = Duration::from_secs(args.seconds);
    let mut server = GrpcServer::start(dir, "batches").await?;
    let streamed = drive_stream(&server.url, shape, duration, new_seed(), ambient::clock()).await?;
    line(
        "batches over a stream",
        format!(
            "{} events/s durable ({} events of {event_bytes} bytes in {:.1} s, {batch} in a batch), \
             {} not delivered",
            thousands(streamed.rate() as u64),
            thousands(streamed.delivered),
            streamed.seconds,
            thousands(streamed.undelivered),
        ),
    );
    Ok(server.has(streamed.delivered).await? && streamed.undelivered == 0)
}

/// Measures single events, and tells whether all is well.
async fn beside_echoes(args: &StreamArgs, dir: &Path) -> anyhow::Result<bool> {
    let duration = Duration::from_secs(args.seconds);
    let calls = usize::from(args.calls);
    let echo = ["bench", "grpc-baseline", "--listen", "{address}"];
    let echo = ServerProcess::start(&echo, &dir.join("echo.log"))?;
    let echo_url = format!("http://{}", echo.address());

    line(
        "single events over a stream",
        format!("{} under way", thousands(EVENTS_UNDER_WAY as u64)),
    );
    let mut server = GrpcServer::start(dir, "stream").await?;
    let single = drive_single(&server.url, duration, new_seed()).await?;
    let mut is_sound = server.has(single.events).await?;
    drop(server);
    let bare = drive_single(&echo_url, duration, new_seed()).await?;
    compare(&single, &bare);

    line("single events by unary calls", format!("{calls} under way"));
    let mut server = GrpcServer::start(dir, "unary").await?;
    let unary = drive_unary(&server.url, duration, calls, new_seed()).await?;
    is_sound &= server.has(unary.events).await?;
    drop(server);
    let bare = drive_unary(&echo_url, duration, calls, new_seed()).await?;
    compare(&unary, &bare);
    line("  latency", format!("{}, bare {}", unary.latencies, bare.latencies));
    Ok(is_sound)
}

/// A server in a fresh directory, so that no measurement pays for what another has left to merge.
struct GrpcServer {
    process: ServerProcess,
    /// Where it speaks gRPC.
    url: String,
}

impl GrpcServer {
    async fn start(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let data_dir = dir.join(name);
        let data_dir = data_dir.to_str().context("--dir: the path is not valid UTF-8")?;
        let grpc = free_address()?.to_string();
        let arguments =
            ["serve", "--listen", "{address}", "--grpc-listen", &grpc, "--data-dir", data_dir];
        let mut process = ServerProcess::start(&arguments, &dir.join(format!("{name}.log")))?;
        process.wait_for("/ready").await?;
        Ok(Self { process, url: format!("http://{grpc}") })
    }

    /// Whether it counts as many events as were acknowledged.
    async fn has(&mut self, known: u64) -> anyhow::Result<bool> {
        let client = client_of(self.process.address())?;
        wait_until_ready(&client).await?;
        let found = total_events(&client).await?;
        if let Some(memory) = memory(self.process.id()) {
            line("  memory of the server", format!("{} MiB at most", memory.peak >> 20));
        }
        if found != known {
            line("MISCOUNTED", format!("{found} events are counted, {known} were acknowledged"));
        }
        Ok(found == known)
    }
}

fn compare(real: &GrpcDriven, bare: &GrpcDriven) {
    line(
        "  beside a bare echo",
        format!(
            "{} events/s durable, {} failed; {} by a bare echo; this is {:.2}x of it",
            thousands(real.rate() as u64),
            thousands(real.failed),
            thousands(bare.rate() as u64),
            real.rate() / bare.rate().max(1.0),
        ),
    );
}

fn line(name: &str, value: impl std::fmt::Display) {
    say(format!("{name:<28} {value}"));
}
