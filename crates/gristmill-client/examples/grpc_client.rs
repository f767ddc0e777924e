//! Sends one event with the generated gRPC client, as a program of the older platform does: create a
//! client, make an event of the type user, ingest it, print its id.
//!
//! `cargo run -p gristmill-client --example grpc_client -- http://127.0.0.1:50051`

use gristmill_client::proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_client::proto::analytics::v1::{Event, EventType, IngestEventRequest};
use gristmill_client::{StreamTarget, random_id};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    run(&url).await
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
/// Runs the example against the server at `url`.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let channel = StreamTarget::at(url)?.key("your-api-key")?.connect().await?;
    let mut client = EventIngestionServiceClient::new(channel);

    // Without a time the event happens when the server takes it in.
    let event = Event {
        id: random_id(),
        user_id: "user-123".to_owned(),
        event_type: EventType::User.into(),
        source: "web-app".to_owned(),
        ..Event::default()
    };
    let request = IngestEventRequest { event: Some(event), options: None };
    let response = client.ingest_event(request).await?.into_inner();
    println!("Event ingested: {}", response.event_id);
    Ok(())
}
