//! Keeps events on disk while the server is away, and sends them when it is back.
//!
//! `cargo run -p gristmill-client --example offline -- http://127.0.0.1:8080`

use std::path::Path;
use std::time::Duration;

use gristmill_client::{Client, Event, Sender, SenderConfig, SpillConfig};

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    run(&url).await
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
/// Runs the example against the server at `url`.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let name = format!("gristmill-offline-{}", gristmill_client::random_id());
    let dir = std::env::temp_dir().join(name);

    // A program that runs while its server is away, and ends.
    let sender = Sender::start(&Client::at(NOWHERE)?, keeping(&dir)).await?;
    for number in 0..100 {
        sender.send(&Event::new("kept").user("ann").property("number", number)).await?;
    }
    let report = sender.close().await;
    println!("{} events are on disk", report.on_disk);

    // The next run finds them there.
    let sender = Sender::start(&Client::with_key(url, "your-api-key")?, keeping(&dir)).await?;
    sender.caught_up().await;
    let report = sender.close().await;
    println!("{} events are on stable storage, {} on disk", report.delivered, report.on_disk);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn keeping(dir: &Path) -> SenderConfig {
    let spill = SpillConfig { after: Duration::from_millis(100), ..SpillConfig::in_dir(dir) };
    SenderConfig { spill: Some(spill), ..SenderConfig::default() }
}
