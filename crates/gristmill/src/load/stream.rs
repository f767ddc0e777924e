//! Driving one gRPC stream with the client library: as many events as are acknowledged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use gristmill_client::{Sender, SenderConfig, StreamTarget};
use gristmill_model::Clock;
use tokio::time::Instant;

use super::payload::{Payload, PayloadShape};

/// What may be under way and wait, in bytes: enough to keep a stream busy.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streamed {
    /// Events that were acknowledged as durable.
    pub(crate) delivered: u64,
    /// Events that were not.
    pub(crate) undelivered: u64,
    /// From the first event to the last acknowledgement.
    pub(crate) seconds: f64,
}

impl Streamed {
    /// Acknowledged events per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.delivered as f64 / self.seconds } else { 0.0 }
    }
}

/// Sends batches over one stream and waits for the last acknowledgement.
pub(crate) async fn drive_stream(
    url: &str,
    shape: PayloadShape,
    duration: Duration,
    seed: u64,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Streamed> {
    let config = SenderConfig {
        batch_events: shape.batch,
        batch_bytes: shape.batch * (shape.event_bytes + 1),
        linger: Duration::ZERO,
        buffer_bytes: BUFFER_BYTES,
        buffer_events: usize::MAX >> 33,
        ..SenderConfig::default()
    };
    let sender = Sender::stream(&StreamTarget::at(url)?, config).await?;
    let mut payload = Payload::lines(shape, seed);
    let started = Instant::now();
    while started.elapsed() < duration {
        let lines = Bytes::copy_from_slice(payload.next(clock.now()));
        sender.send_ndjson(lines).await?;
    }
    let report = sender.flush().await;
    let seconds = started.elapsed().as_secs_f64();
    let undelivered = report.undelivered.len() as u64 + report.forgotten;
    let why = sender.stats().last_error;
    ensure!(report.delivered > 0, "no event was acknowledged: {why}");
    Ok(Streamed { delivered: report.delivered, undelivered, seconds })
}
