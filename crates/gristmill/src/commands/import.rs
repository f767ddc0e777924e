//! `gristmill import`: files of events into a running server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use gristmill_client::{BatchFormat, Client, ClientConfig, ClientError, Receipt, WaitFor};
use gristmill_model::ndjson;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ambient;
use crate::commands::tls::TlsArgs;
use crate::console::{remark, say, thousands};
use crate::import::{
    Batch, BatchLimits, Checkpoint, Input, InputFormat, MappingFlags, Place, Progress, Tally,
    per_second, read_batches,
};

/// How many mapped events `--dry-run` shows.
const EVENTS_SHOWN: usize = 3;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 4;
/// The largest batch, in bytes of events; well below what servers take.
const BATCH_BYTES: usize = 1024 * 1024;
/// How often progress is shown and kept.
const TICK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  Look at what would be sent, without sending it:
    gristmill import --dry-run events.ndjson.gz

  JSON lines, with names of their own and a page made of a field:
    gristmill import activity.ndjson.gz --time dt --user actor \\
      --page-url 'https://github.com/{repo}'

  CSV without event ids (each row becomes an event, however often it is imported):
    gristmill import interactions.csv.gz --time timestamp --type eventType \\
      --user personId --session sessionId

  JSON lines without an event type:
    gristmill import edits.ndjson.gz --type =edit --page-url page

  A web server's log:
    gristmill import access.log.gz

Importing twice is harmless: a row becomes the same event each time, and an event counts once.
The exit status is 0 if every row became an event, 1 if not.";

/// Send files of events to a running server.
///
/// Reads NDJSON, CSV, TSV and access logs, plain or compressed by gzip or zstd. Fields are found by
/// their usual names or named by flags; what is left over becomes properties.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// What to read; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// How the files are written [default: by name, else by content]
    #[arg(long)]
    format: Option<InputFormat>,
    /// Map the rows, show the first events and count; send nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep in this file how far the import has come, and continue there if it exists
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Requests at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Events per request
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    #[command(flatten)]
    mapping: MappingFlags,
}

/// Runs the command.
pub(crate) async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let inputs =
        args.files.iter().map(|path| Input::new(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let stdin = inputs.iter().filter(|input| input.bytes().is_none()).count();
    ensure!(stdin <= 1, "standard input can be read once only");
    let checkpoint = Checkpoint::open(args.resume.as_deref(), &inputs)?;
    let import = Import {
        names: if inputs.len() == 1 {
            vec![String::new()]
        } else {
            inputs.iter().map(|input| format!("{}: ", input.name())).collect()
        },
        tally: Tally::default(),
        checkpoint,
        args,
        inputs,
    };
    import.run().await
}

struct Import {
    args: ImportArgs,
    inputs: Vec<Input>,
    /// What stands before a line number, per input.
    names: Vec<String>,
    tally: Tally,
    checkpoint: Checkpoint,
}

type Sent = (Batch, Result<Receipt, ClientError>);

impl Import {
    async fn run(mut self) -> anyhow::Result<ExitCode> {
        let from = if self.args.dry_run { Place::default() } else { self.checkpoint.done() };
        if from != Place::default() {
            remark(format!(
                "continuing after row {} of {}",
                from.rows,
                self.inputs[from.file].name()
            ));
        }
        let (batches, received) = mpsc::channel(BATCHES_AHEAD);
        let bytes_read = Arc::new(AtomicU64::new(0));
        let reading = self.start_reading(from, batches, Arc::clone(&bytes_read));
        let total = self.inputs.iter().map(Input::bytes).sum::<Option<u64>>();
        let mut progress = Progress::start(total);
        let passed = if self.args.dry_run {
            self.show(received, &bytes_read, &mut progress).await;
            Ok(())
        } else {
            self.send(received, &bytes_read, &mut progress).await
        };
        let elapsed = progress.finish();
        if !self.args.dry_run {
            self.checkpoint.save()?;
        }
        for line in self.tally.error_lines() {
            remark(line);
        }
        passed?;
        reading.await.context("the reader stopped")??;
        if self.args.dry_run {
            let sendable = self.tally.read - self.tally.rejected;
            say(format!(
                "read {}, would send {}, rejected {}",
                thousands(self.tally.read),
                thousands(sendable),
                thousands(self.tally.rejected)
            ));
        } else {
            let rate = per_second(self.tally.read, elapsed);
            let seconds = elapsed.as_secs_f64();
            say(format!("{} in {seconds:.1} s ({}/s)", self.tally.summary(), thousands(rate)));
            if self.tally.repeated > 0 {
                remark(format!(
                    "{} batches were sent more than once: some of their events count as duplicates \
                     above although this import brought them in",
                    self.tally.repeated
                ));
            }
        }
        Ok(if self.tally.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn start_reading(
        &self,
        from: Place,
        batches: mpsc::Sender<Batch>,
        bytes_read: Arc<AtomicU64>,
    ) -> tokio::task::JoinHandle<anyhow::Result<()>> {
        let inputs = self.inputs.clone();
        let flags = self.args.mapping.clone();
        let format = self.args.format;
        let limits = BatchLimits { rows: usize::from(self.args.batch), bytes: BATCH_BYTES };
        tokio::task::spawn_blocking(move || {
            read_batches(&inputs, format, &flags, limits, from, &bytes_read, &batches)
        })
    }

    /// Takes all batches, prints the first events and counts the rest.
    async fn show(
        &mut self,
        mut batches: mpsc::Receiver<Batch>,
        bytes_read: &AtomicU64,
        progress: &mut Progress,
    ) {
        let mut shown = 0;
        while let Some(batch) = batches.recv().await {
            for event in ndjson::lines(&batch.body).take(EVENTS_SHOWN - shown) {
                say(pretty(event));
                shown += 1;
            }
            self.tally.add_rows(&batch, &self.names[batch.end.file]);
            progress.update(bytes_read.load(Ordering::Relaxed), self.tally.read);
        }
    }

    /// Posts all batches over a few connections and notes what becomes of them.
    async fn send(
        &mut self,
        mut batches: mpsc::Receiver<Batch>,
        bytes_read: &AtomicU64,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let connections = usize::from(self.args.connections);
        let api_key = ambient::api_key()?;
        let tls = self.args.tls.clone().into_client();
        let config = ClientConfig { connections, api_key, tls, ..ClientConfig::default() };
        let client = Arc::new(Client::new(&self.args.url, config, ambient::entropy())?);
        let mut in_flight: JoinSet<Sent> = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        let mut more = true;
        while more || !in_flight.is_empty() {
            tokio::select! {
                batch = batches.recv(), if more && in_flight.len() < connections => match batch {
                    Some(batch) => {
                        in_flight.spawn(post(Arc::clone(&client), batch));
                    }
                    None => more = false,
                },
                Some(sent) = in_flight.join_next() => self.note(sent?)?,
                _ = tick.tick() => {
                    progress.update(bytes_read.load(Ordering::Relaxed), self.tally.read);
                    self.checkpoint.save()?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, (batch, receipt): Sent) -> anyhow::Result<()> {
        let file = &self.names[batch.end.file];
        let receipt = receipt.with_context(|| {
            let at = batch.lines.first().copied().unwrap_or_default();
            format!("{file}stopped near line {at}; what is in stays in, run the same command again")
        })?;
        self.tally.add_rows(&batch, file);
        self.tally.add_receipt(&batch, &receipt, file);
        self.checkpoint.finish(batch.sequence, batch.end);
        Ok(())
    }
}

async fn post(client: Arc<Client>, batch: Batch) -> Sent {
    if batch.lines.is_empty() {
        return (batch, Ok(Receipt::default()));
    }
    let receipt = client.ingest(batch.body.clone(), BatchFormat::Ndjson, WaitFor::Visible).await;
    (batch, receipt)
}

fn pretty(event: &[u8]) -> String {
    let parsed = serde_json::from_slice::<serde_json::Value>(event);
    let text = parsed.and_then(|event| serde_json::to_string_pretty(&event));
    text.unwrap_or_else(|_| String::from_utf8_lossy(event).into_owned())
}
