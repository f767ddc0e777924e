//! `GET /metrics/stream`: the session system's numbers as server-sent events, at once and then
//! each second.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use hyper::body::Frame;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::app::App;
use crate::json;

const PERIOD: Duration = Duration::from_secs(1);

/// The stream, until the client leaves or the server stops.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut ticks = interval(PERIOD);
    // A client that stopped reading gets the newest numbers, not those it missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopping = Box::pin(app.draining.clone().cancelled_owned());
    let mut response = Response::new(Body::new(Ticker { app, ticks, stopping, received: 0 }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Ticker {
    app: Arc<App>,
    ticks: Interval,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What was last told to have come into the log.
    received: u64,
}

impl hyper::body::Body for Ticker {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.stopping.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        ready!(self.ticks.poll_tick(context));
        // Its parts are not of one moment, and it must not seem to shrink.
        self.received = self.received.max(received(&self.app));
        Poll::Ready(Some(Ok(Frame::data(event(&self.app, self.received)))))
    }
}

/// What has come into the log, whichever process took it in.
fn received(app: &App) -> u64 {
    let stats = app.services.store.stats();
    stats.stored + stats.duplicate + stats.quarantined + stats.expired + app.backlog()
}

fn event(app: &App, received: u64) -> Bytes {
    let data = json!({
        "receivedTotal": received as f64,
        "writtenTotal": app.services.store.stats().stored as f64,
        "avgProcessingMs": app.metrics.visible.mean_millis(),
        "lag": app.backlog(),
        "ts": app.now().to_string(),
    });
    let mut text = b"event:metrics\ndata:".to_vec();
    text.extend_from_slice(&json::text(&data));
    text.extend_from_slice(b"\n\n");
    Bytes::from(text)
}
