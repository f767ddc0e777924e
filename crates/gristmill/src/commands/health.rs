//! `gristmill health`: is a server alive, is it ready? For container health checks.

use std::process::ExitCode;
use std::time::Duration;

use gristmill_client::{Client, ClientConfig};

use crate::ambient;
use crate::commands::tls::TlsArgs;
use crate::console::say;

/// Ask a server how it is; exits with 0 if it is well and 1 if not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gristmill health                          is the local server ready?
  gristmill health --url https://10.0.0.7:8443 --ca ca.pem
  gristmill health --live                   does it answer at all?
  HEALTHCHECK CMD [\"gristmill\", \"health\"]   in a Dockerfile")]
pub(crate) struct HealthArgs {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// Ask only whether it is alive, not whether every acknowledged event can be queried
    #[arg(long)]
    live: bool,
    /// How many seconds to wait for the answer
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    timeout: u16,
}

/// Runs the command.
pub(crate) async fn run(args: HealthArgs) -> anyhow::Result<ExitCode> {
    let timeout = Duration::from_secs(args.timeout.into());
    let config = ClientConfig { timeout, tls: args.tls.into_client(), ..ClientConfig::default() };
    let client = Client::new(&args.url, config, ambient::entropy())?;
    let reply = client.get(if args.live { "/livez" } else { "/readyz" }).await?;
    let well = reply.status == 200;
    say(if well { "ok".to_owned() } else { format!("not ok: status {}", reply.status) });
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
