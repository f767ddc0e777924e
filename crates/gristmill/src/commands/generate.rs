//! `gristmill generate`: a believable load, to a file or to a server.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use gristmill_client::{BatchFormat, Client, ClientConfig, Receipt, WaitFor};
use gristmill_model::{Clock, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ambient;
use crate::commands::tls::TlsArgs;
use crate::console::{remark, say, thousands};
use crate::generate::{World, WorldConfig};
use crate::load::{Latencies, Schedule};

/// The start of a world that is written to a file, so that the same seed gives the same file.
const START: &str = "2025-01-01T00:00:00Z";

/// Make up a believable load: people with sessions who look around and sometimes buy.
///
/// Users and products are skewed by Zipf's law, sessions interleave, nights are quiet, and the way
/// page_view, add_to_cart, checkout, purchase narrows. About 350 bytes per event.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill generate --events 1000000 --users 50000 --days 30 --output events.ndjson
  gristmill generate --events 10000 | gristmill import --format ndjson -
  gristmill generate --url http://127.0.0.1:8080 --rate 5000 --seconds 60

With --url, events carry the time of sending and go out at an even rate whether or not the server
keeps up; latencies are measured from when an event was due, so that a stall is not hidden.")]
pub(crate) struct GenerateArgs {
    /// Write NDJSON to this file; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-", conflicts_with = "url")]
    output: PathBuf,
    /// Send to this server instead
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    /// How many events
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// How many users
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    users: u64,
    /// Over how many days the events of a file are spread, from 2025-01-01
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// The same seed makes the same events, so that a second sending of it counts once
    /// [default: 1 for a file, random for a server]
    #[arg(long)]
    seed: Option<u64>,
    /// With --url: events per second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// With --url: for how many seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// With --url: events per request
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// With --url: requests at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
}

/// Runs the command.
pub(crate) async fn run(args: GenerateArgs) -> anyhow::Result<ExitCode> {
    match &args.url {
        Some(url) => send(url, &args).await,
        None => write(&args),
    }
}

fn write(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    let start: jiff::Timestamp = START.parse()?;
    let mut world = World::new(WorldConfig {
        seed: args.seed.unwrap_or(1),
        users: args.users,
        events: args.events,
        start: Timestamp(start.as_microsecond()),
        days: args.days,
    });
    let stdout = args.output.as_os_str() == "-";
    let context = || format!("--output: cannot write {}", args.output.display());
    let mut file: Box<dyn Write> = if stdout {
        Box::new(BufWriter::with_capacity(256 * 1024, std::io::stdout().lock()))
    } else {
        let file = std::fs::File::create(&args.output).with_context(context)?;
        Box::new(BufWriter::with_capacity(256 * 1024, file))
    };
    let mut line = Vec::with_capacity(1024);
    for _ in 0..args.events {
        line.clear();
        world.write_next(None, &mut line);
        line.push(b'\n');
        match file.write_all(&line) {
            Err(error) if stdout && error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written.with_context(context)?,
        }
    }
    match file.flush() {
        Err(error) if stdout && error.kind() == std::io::ErrorKind::BrokenPipe => {}
        flushed => flushed.with_context(context)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of the requests so far.
#[derive(Default)]
struct Sent {
    accepted: u64,
    rejected: u64,
    failed: u64,
    retries: u64,
    latencies: Latencies,
    last_error: Option<String>,
}

type Answer = (Duration, Result<Receipt, gristmill_client::ClientError>);

async fn send(url: &str, args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    let connections = usize::from(args.connections);
    let api_key = ambient::api_key()?;
    let tls = args.tls.clone().into_client();
    let config = ClientConfig { connections, api_key, tls, ..ClientConfig::default() };
    let client = Arc::new(Client::new(url, config, ambient::entropy())?);
    let clock = ambient::clock();
    let mut world = World::new(WorldConfig {
        seed: args.seed.unwrap_or_else(|| ambient::entropy().next_u128() as u64),
        users: args.users,
        events: args.rate * 86_400,
        start: clock.now(),
        days: 1,
    });
    let schedule = Schedule::start(args.rate as f64 / args.batch as f64);
    let requests = (args.rate * args.seconds).div_ceil(args.batch);
    let mut sent = Sent::default();
    let mut in_flight = JoinSet::new();
    for request in 0..requests {
        let due = schedule.due(request);
        // Late is not lost: whatever the wait for a free connection takes is part of the latency.
        while in_flight.len() >= connections {
            sent.note(in_flight.join_next().await.context("nothing is in flight")??);
        }
        tokio::time::sleep_until(due).await;
        let batch = batch(&mut world, args.batch, clock.as_ref());
        in_flight.spawn(post(Arc::clone(&client), batch, due));
        while let Some(answer) = in_flight.try_join_next() {
            sent.note(answer?);
        }
    }
    while let Some(answer) = in_flight.join_next().await {
        sent.note(answer?);
    }
    sent.tell(schedule.elapsed())
}

fn batch(world: &mut World, events: u64, clock: &dyn Clock) -> Vec<u8> {
    let mut body = Vec::with_capacity(events as usize * 400);
    for _ in 0..events {
        world.write_next(Some(clock.now()), &mut body);
        body.push(b'\n');
    }
    body
}

async fn post(client: Arc<Client>, batch: Vec<u8>, due: Instant) -> Answer {
    let receipt = client.ingest(batch.into(), BatchFormat::Ndjson, WaitFor::Durable).await;
    (due.elapsed(), receipt)
}

impl Sent {
    fn note(&mut self, (latency, receipt): Answer) {
        match receipt {
            Ok(receipt) => {
                self.accepted += receipt.accepted;
                self.rejected += receipt.rejected;
                self.retries += u64::from(receipt.retries);
                self.latencies.add(latency);
            }
            Err(error) => {
                self.failed += 1;
                self.last_error = Some(error.to_string());
            }
        }
    }

    fn tell(self, elapsed: Duration) -> anyhow::Result<ExitCode> {
        let rate = self.accepted as f64 / elapsed.as_secs_f64();
        say(format!(
            "accepted {} events in {:.1} s ({}/s), rejected {}, requests sent again {}",
            thousands(self.accepted),
            elapsed.as_secs_f64(),
            thousands(rate as u64),
            thousands(self.rejected),
            thousands(self.retries),
        ));
        say(format!("latency from when it was due: {}", self.latencies));
        if self.failed > 0 {
            remark(format!("{} requests failed", thousands(self.failed)));
            bail!(self.last_error.unwrap_or_default());
        }
        Ok(if self.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
