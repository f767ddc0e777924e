//! Driving gRPC with single events: over one stream, and by unary calls. The same for a real server and
//! for a bare one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gristmill_client::proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_client::proto::analytics::v1::stream_events_request::Request as Sent;
use gristmill_client::proto::analytics::v1::stream_events_response::Response as Heard;
use gristmill_client::proto::analytics::v1::{
    Event, EventType, IngestEventRequest, StreamEventsRequest,
};
use gristmill_client::{Channel, StreamTarget};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::Latencies;
use crate::generate::Random;

/// Single events under way on a stream, as many as a server lets be.
pub(crate) const EVENTS_UNDER_WAY: usize = 4_000;
/// How long a server may take until it listens, and to answer what is under way at the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Clone, Default)]
pub(crate) struct GrpcDriven {
    /// Events that were answered with success.
    pub(crate) events: u64,
    /// Events that were answered otherwise.
    pub(crate) failed: u64,
    /// Of calls; nothing for a stream.
    pub(crate) latencies: Latencies,
    pub(crate) seconds: f64,
}

impl GrpcDriven {
    /// Answered events per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.events as f64 / self.seconds } else { 0.0 }
    }
}

/// Sends single events over one stream, with an answer for each.
pub(crate) async fn drive_single(
    url: &str,
    duration: Duration,
    seed: u64,
) -> anyhow::Result<GrpcDriven> {
    let mut client = EventIngestionServiceClient::new(connect(url).await?);
    let (events, waiting) = mpsc::channel(64);
    let under_way = Arc::new(Semaphore::new(EVENTS_UNDER_WAY));
    let mut answers = client.stream_events(ReceiverStream::new(waiting)).await?.into_inner();
    let started = Instant::now();
    let mut sending = JoinSet::new();
    let places = Arc::clone(&under_way);
    sending.spawn(async move {
        let mut random = Random::new(seed);
        while started.elapsed() < duration {
            let Ok(place) = places.acquire().await else { return };
            place.forget();
            let request = Some(Sent::Event(event(&mut random)));
            if events.send(StreamEventsRequest { request }).await.is_err() {
                return;
            }
        }
    });
    let mut driven = GrpcDriven::default();
    loop {
        // The stream ends when all is answered after the last event.
        let answer = timeout(duration + PATIENCE, answers.message()).await;
        let Some(answer) = answer.context("the stream stands still")?? else { break };
        if let Some(Heard::EventResponse(response)) = answer.response {
            under_way.add_permits(1);
            driven.events += u64::from(response.success);
            driven.failed += u64::from(!response.success);
        }
    }
    driven.seconds = started.elapsed().as_secs_f64();
    Ok(driven)
}

/// Sends single events by unary calls over one connection, so many at a time.
pub(crate) async fn drive_unary(
    url: &str,
    duration: Duration,
    calls: usize,
    seed: u64,
) -> anyhow::Result<GrpcDriven> {
    let channel = connect(url).await?;
    let started = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..calls {
        let random = Random::new(seed ^ Random::new(lane as u64).next());
        lanes.spawn(call(channel.clone(), random, started + duration));
    }
    let mut all = GrpcDriven::default();
    while let Some(driven) = lanes.join_next().await {
        let driven = driven??;
        all.events += driven.events;
        all.failed += driven.failed;
        all.latencies.add_all(&driven.latencies);
    }
    all.seconds = started.elapsed().as_secs_f64();
    Ok(all)
}

async fn call(channel: Channel, mut random: Random, end: Instant) -> anyhow::Result<GrpcDriven> {
    let mut client = EventIngestionServiceClient::new(channel);
    let mut driven = GrpcDriven::default();
    while Instant::now() < end {
        let sent = Instant::now();
        let request = IngestEventRequest { event: Some(event(&mut random)), options: None };
        match client.ingest_event(request).await {
            Ok(response) if response.get_ref().success => driven.events += 1,
            _ => driven.failed += 1,
        }
        driven.latencies.add(sent.elapsed());
    }
    Ok(driven)
}

/// Connects as soon as somebody listens.
async fn connect(url: &str) -> anyhow::Result<Channel> {
    let target = StreamTarget::at(url)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match target.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) if Instant::now() >= end => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn event(random: &mut Random) -> Event {
    let id = format!("{:016x}{:016x}", random.next(), random.next());
    Event {
        id,
        user_id: format!("u{:07}", random.below(1_000_000)),
        session_id: "s000000001".to_owned(),
        event_type: EventType::User.into(),
        source: "bench".to_owned(),
        page_url: format!("https://shop.example.com/p/{:05}", random.below(20_000)),
        r#type: "page_view".to_owned(),
        ..Event::default()
    }
}
