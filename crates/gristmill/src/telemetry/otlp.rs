//! Spans to an OpenTelemetry collector, as OTLP over HTTP in JSON.
//!
//! Written by hand on the client library, because the few messages that are needed are smaller than the
//! libraries that would bring a second client of HTTP with them. Requests never wait for the collector: while
//! it is away or slow, spans find no room and are counted as dropped.

use std::sync::Arc;
use std::time::Duration;

use gristmill_client::{Client, ClientConfig, ClientError};
use gristmill_model::Timestamp;
use gristmill_server::{Attribute, FinishedSpan, SpanKind, Tracer};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::TelemetrySettings;
use crate::roles::Ambient;
use crate::supervisor::Part;

/// How many spans wait to be sent at most.
const ROOM: usize = 8192;
/// How many are sent together, and how long they are gathered.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is left may take when the process stops.
const LAST: Duration = Duration::from_secs(2);

/// What takes spans, and what sends them on; nothing if no collector is named.
pub(crate) fn start(
    settings: &TelemetrySettings,
    ambient: &Ambient,
    roles: &str,
) -> anyhow::Result<Option<(Arc<Tracer>, Part)>> {
    if settings.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let config =
        ClientConfig { connections: 1, timeout: TIMEOUT, retries: 2, ..ClientConfig::default() };
    let client = Client::new(&settings.otlp_endpoint, config, Arc::clone(&ambient.entropy));
    let client = client.map_err(|error| anyhow::anyhow!("telemetry.otlp_endpoint: {error}"))?;
    let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
    let (tracer, spans) = Tracer::new(settings.otlp_sample_ratio.0, ROOM, clock, entropy);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut part = Part::new("otlp", async move { stop.cancel() });
    let exporter = Exporter {
        client,
        resource: resource(&settings.otlp_service_name, roles),
        tracer: Arc::clone(&tracer),
        is_told: false,
        told_drops: 0,
    };
    part.task("otlp", async move {
        exporter.run(spans, &stopping).await;
        Ok(())
    });
    Ok(Some((tracer, part)))
}

struct Exporter {
    client: Client,
    resource: Value,
    tracer: Arc<Tracer>,
    /// Whether the log has said that the collector does not take spans.
    is_told: bool,
    told_drops: u64,
}

impl Exporter {
    /// Sends spans until it is stopped, and then those that are left, if the collector is quick.
    async fn run(mut self, mut spans: Receiver<FinishedSpan>, stopping: &CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = gather(&mut spans, &mut batch) => {}
            }
            tokio::select! {
                () = self.send(&batch) => batch.clear(),
                () = too_late(stopping) => return,
            }
        }
        spans.close();
        let last = Instant::now() + LAST;
        while !spans.is_empty() || !batch.is_empty() {
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if timeout_at(last, self.send(&batch)).await.is_err() {
                return;
            }
            batch.clear();
        }
    }

    async fn send(&mut self, batch: &[FinishedSpan]) {
        let spans: Vec<_> = batch.iter().map(span).collect();
        let scope = json!({"scope": {"name": "gristmill"}, "spans": spans});
        let request =
            json!({"resourceSpans": [{"resource": self.resource, "scopeSpans": [scope]}]});
        let sent = self.client.post_json::<serde::de::IgnoredAny>("/v1/traces", &request).await;
        match sent {
            // It has them, whatever it says beside.
            Ok(_) | Err(ClientError::Answer { .. }) => {
                if self.is_told {
                    tracing::info!("the collector takes spans again");
                }
                self.is_told = false;
            }
            Err(error) if self.is_told => tracing::debug!(%error, "spans were given up"),
            Err(error) => {
                tracing::warn!(%error, spans = batch.len(), "spans were given up: the collector does not take them");
                self.is_told = true;
            }
        }
        let dropped = self.tracer.dropped();
        if dropped > self.told_drops {
            let spans = dropped - self.told_drops;
            tracing::warn!(spans, "spans found no room: lower telemetry.otlp_sample_ratio");
            self.told_drops = dropped;
        }
    }
}

/// Waits until the process stops, and then as long as what is left may take.
async fn too_late(stopping: &CancellationToken) {
    stopping.cancelled().await;
    sleep(LAST).await;
}

/// Waits for a span, and a little for more.
async fn gather(spans: &mut Receiver<FinishedSpan>, batch: &mut Vec<FinishedSpan>) {
    if spans.recv_many(batch, BATCH).await == 0 {
        // Nobody can send any more; the process stops soon.
        std::future::pending::<()>().await;
    }
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match timeout_at(until, spans.recv_many(batch, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Who tells of these spans.
fn resource(service: &str, roles: &str) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let version = env!("CARGO_PKG_VERSION");
    json!({"attributes": [
        text("service.name", service),
        text("service.version", version),
        text("gristmill.roles", roles),
    ]})
}

fn span(span: &FinishedSpan) -> Value {
    let attributes: Vec<_> = span.attributes.iter().map(attribute).collect();
    let mut told = json!({
        "traceId": format!("{:032x}", span.trace_id),
        "spanId": format!("{:016x}", span.span_id),
        "name": span.name,
        "kind": match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        told["parentSpanId"] = format!("{parent:016x}").into();
    }
    if span.is_error {
        told["status"] = json!({"code": 2});
    }
    told
}

fn attribute((key, value): &(&'static str, Attribute)) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({"stringValue": text}),
        // 64 bits are texts in protobuf's JSON.
        Attribute::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": key, "value": value})
}

fn nanos(time: Timestamp) -> String {
    (i128::from(time.0) * 1_000).to_string()
}
