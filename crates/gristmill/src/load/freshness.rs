//! Freshness: how long after it was sent a single event can be queried, while others send too.

use std::sync::Arc;
use std::time::Duration;

use gristmill_client::{BatchFormat, Client, ClientError, WaitFor};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Latencies;

/// The pause between two samples.
const PAUSE: Duration = Duration::from_millis(50);

/// What the samples say.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Freshness {
    /// From before an event is sent until the server says that it can be queried. The time to
    /// the acknowledgement is part of it, so that the true figure is a little better.
    pub(crate) latencies: Latencies,
    /// Events that the server said could be queried, and then could not be. Must be 0.
    pub(crate) unfulfilled: u64,
    /// Samples without an answer.
    pub(crate) failed: u64,
    /// Events that were accepted for samples.
    pub(crate) accepted: u64,
}

#[derive(Deserialize)]
struct UserAnswer {
    user_profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    total_events: u64,
}

/// Samples until `end`. `run` makes the users of the samples new.
pub(crate) async fn measure_freshness(client: Arc<Client>, run: u64, end: Instant) -> Freshness {
    let mut freshness = Freshness::default();
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        match sample(&client, run, number).await {
            Ok(Sample { latency, found }) => {
                freshness.accepted += 1;
                freshness.latencies.add(latency);
                freshness.unfulfilled += u64::from(!found);
            }
            Err(_) => freshness.failed += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
    freshness
}

struct Sample {
    latency: Duration,
    found: bool,
}

/// Every event has a user of its own, whose profile then must know exactly this event.
async fn sample(client: &Client, run: u64, number: u64) -> Result<Sample, ClientError> {
    let user = format!("freshness-{run:016x}-{number}");
    let event = serde_json::json!([{"id": user, "user_id": user, "event_type": "freshness"}]);
    let started = Instant::now();
    let body = event.to_string().into();
    let receipt = client.ingest(body, BatchFormat::Json, WaitFor::Visible).await?;
    let latency = started.elapsed();
    let answer: UserAnswer = client.get_json(&format!("/v1/analytics/users/{user}")).await?;
    let found = answer.user_profile.is_some_and(|profile| profile.total_events == receipt.accepted);
    Ok(Sample { latency, found })
}
