//! Sends many events in the background, and asks how far users get.
//!
//! `cargo run -p gristmill-client --example batching -- http://127.0.0.1:8080`

use gristmill_client::questions::{Funnel, FunnelStep, Selection};
use gristmill_client::{Client, Compression, Event, Sender, SenderConfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    run(&url).await
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
/// Runs the example against the server at `url`.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let client = Client::with_key(url, "your-api-key")?;
    let config = SenderConfig { compression: Compression::Gzip, ..SenderConfig::default() };
    let sender = Sender::start(&client, config).await?;
    for number in 0..10_000 {
        let user = format!("user-{}", number % 1_000);
        let event_type = if number % 1_000 < 250 && number > 5_000 { "purchase" } else { "view" };
        // Waits when the buffer is full: memory stays bounded whatever the server does.
        sender.send(&Event::new(event_type).user(user).property("number", number)).await?;
    }
    let report = sender.close().await;
    println!("{} events are on stable storage", report.delivered);
    for event in &report.undelivered {
        println!("{} is not: {}", event.id(), event.reason);
    }

    let steps = vec![FunnelStep::of("view"), FunnelStep::of("purchase")];
    let select = Selection::all().at_least(report.position);
    let funnel = client.ask(&Funnel { steps, select, ..Funnel::default() }).await?;
    for step in &funnel.steps {
        println!("{}: {} users", step.name, step.users);
    }
    Ok(())
}
