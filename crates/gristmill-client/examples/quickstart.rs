//! Sends an event, and asks a question whose answer includes it.
//!
//! `cargo run -p gristmill-client --example quickstart -- http://127.0.0.1:8080`

use gristmill_client::questions::{Selection, Summary};
use gristmill_client::{Client, Event, WaitFor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    run(&url).await
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
/// Runs the example against the server at `url`.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let client = Client::with_key(url, "your-api-key")?;
    let event = Event::new("page_view").user("ann").page("/home").property("plan", "pro");
    let receipt = client.send(&event, WaitFor::Durable).await?;
    println!("{} event is on stable storage", receipt.accepted);

    let select = Selection::of("page_view").at_least(receipt.position);
    let summary = client.ask(&Summary { select, ..Summary::default() }).await?;
    println!("{} page views by {} users", summary.total_events, summary.unique_users);
    Ok(())
}
