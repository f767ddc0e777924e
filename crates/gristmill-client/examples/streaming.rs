//! Sends events over one gRPC stream.
//!
//! `cargo run -p gristmill-client --example streaming -- http://127.0.0.1:50051`

use std::time::Duration;

use gristmill_client::{Event, Sender, SenderConfig, StreamTarget};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    run(&url).await
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
/// Runs the example against the server at `url`.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let target = StreamTarget::at(url)?.key("your-api-key")?;
    let config = SenderConfig { linger: Duration::from_millis(5), ..SenderConfig::default() };
    let sender = Sender::stream(&target, config).await?;
    for number in 0..10_000 {
        let user = format!("user-{}", number % 100);
        sender.send(&Event::new("streamed").user(user).property("number", number)).await?;
    }
    let report = sender.close().await;
    println!("{} events are acknowledged, up to {}", report.delivered, report.position);
    anyhow::ensure!(report.is_complete(), "{} were not delivered", report.undelivered.len());
    Ok(())
}
