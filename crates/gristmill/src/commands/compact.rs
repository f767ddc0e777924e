//! `gristmill compact`: have a server put its store into as few files as there can be.

use std::process::ExitCode;
use std::time::Duration;

use gristmill_client::{Client, ClientConfig};
use serde::Deserialize;

use crate::ambient;
use crate::commands::tls::TlsArgs;
use crate::console::{say, thousands};

/// Write everything that is in memory to files and merge the files, and wait until that is done.
///
/// Nothing needs this: files are merged all the time. It helps before a backup, and before a long
/// time of many questions and few new events. A store in PostgreSQL has nothing to do.
#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// How many seconds to wait for it; the server goes on after that
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u16,
}

#[derive(Deserialize)]
struct Answer {
    parts: u64,
    part_bytes: u64,
}

/// Runs the command.
pub(crate) async fn run(args: CompactArgs) -> anyhow::Result<ExitCode> {
    let timeout = Duration::from_secs(args.timeout.into());
    let api_key = ambient::api_key()?;
    let tls = args.tls.into_client();
    let config = ClientConfig { timeout, api_key, tls, ..ClientConfig::default() };
    let client = Client::new(&args.url, config, ambient::entropy())?;
    let answer: Answer = client.post_json("/v1/store/compact", &serde_json::json!({})).await?;
    let mib = answer.part_bytes.div_ceil(1 << 20);
    say(match answer.parts {
        0 => "the store has no files of its own to merge".to_owned(),
        parts => format!("{} files of {} MiB together", thousands(parts), thousands(mib)),
    });
    Ok(ExitCode::SUCCESS)
}
