//! The way into the log that all ingestion routes share.

use std::pin::pin;
use std::sync::Arc;

use gristmill_ingest::Accepted;
use gristmill_ingest::dialect::{Context, Events};
use gristmill_model::{ErrorCode, Event, EventId, Positions};
use http::{Extensions, HeaderMap, request};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::caller::project_of;
use crate::grpc::Arrival;
use crate::openapi::Term;
use crate::problem::Problem;
use crate::{trace, visibility};

/// The header that makes derived event ids the same for a repeated request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest idempotency key.
const KEY_BYTES: usize = 256;

/// The facts of a request that its events need.
pub(crate) fn context<'a>(
    app: &'a App,
    request: &'a request::Parts,
) -> Result<Context<'a>, Problem> {
    context_of(app, &request.headers, &request.extensions)
}

/// The same of a call.
pub(crate) fn context_of<'a>(
    app: &'a App,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
) -> Result<Context<'a>, Problem> {
    let idempotency_key = match headers.get(IDEMPOTENCY_KEY).map(|value| value.to_str()) {
        None => None,
        Some(Ok(key)) if (1..=KEY_BYTES).contains(&key.len()) => Some(key),
        Some(_) => {
            let detail =
                format!("idempotency-key must be 1 to {KEY_BYTES} visible ASCII characters");
            return Err(Problem::argument(detail));
        }
    };
    let project = project_of(extensions);
    Ok(match extensions.get::<Arc<Arrival>>() {
        None => app.services.ingest.context(project, idempotency_key),
        Some(arrival) => {
            let (received, entropy) = (arrival.received, arrival.as_ref());
            Context { project, received, idempotency_key, entropy }
        }
    })
}

/// The header that [`context`] reads.
pub(crate) fn idempotency_key() -> Term {
    let about = "makes the ids of events without one the same for a repeated request";
    Term::text_up_to("Idempotency-Key", about, KEY_BYTES)
}

/// Appends events and answers when they are durable. `since` is when the request was read.
pub(crate) async fn accept<'a>(
    app: &App,
    events: Events<'a>,
    since: Instant,
) -> Result<Accepted<'a>, Problem> {
    accept_in_turn(app, events, since, ()).await
}

/// The same, and `turn` is dropped once the log has the events in its order.
pub(crate) async fn accept_in_turn<'a>(
    app: &App,
    events: Events<'a>,
    since: Instant,
    turn: impl Send,
) -> Result<Accepted<'a>, Problem> {
    let appending = pin!(app.services.ingest.accept_in_turn(events, turn));
    let accepted = trace::step("append", appending).await?;
    if accepted.positions != Positions::start() {
        app.metrics.ack.record(since.elapsed());
        app.metrics.accepted(app.now());
        visibility::watch(app, &accepted.positions, since);
    }
    Ok(accepted)
}

/// Appends one valid event and gives its id once it is durable.
pub(crate) async fn accept_one<'a>(
    app: &App,
    event: Event<'a>,
    since: Instant,
) -> Result<EventId<'a>, Problem> {
    let accepted = accept(app, vec![Ok(event)], since).await?;
    let item = accepted.items.into_iter().next();
    let item = item.ok_or_else(|| Problem::new(ErrorCode::Internal, "the event has no result"))?;
    match item.result {
        Ok(_) => Ok(item.id),
        Err(rejection) => Err(Problem::new(rejection.code, rejection.message)),
    }
}

/// Counts one event that its dialect refused.
pub(crate) fn count_refused(app: &App) {
    app.metrics.refused.add(1);
}

/// Waits until everything below `positions` can be queried.
pub(crate) async fn wait_until_visible(app: &App, positions: &Positions) -> Result<(), Problem> {
    let waiting = app.services.query.wait_for(positions);
    match timeout(app.config.visible_timeout, waiting).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if gristmill_model::Coded::code(&error) != ErrorCode::DeadlineExceeded => {
            Err(error.into())
        }
        Ok(Err(_)) | Err(_) => Err(Problem::new(
            ErrorCode::DeadlineExceeded,
            "the events are durable and could not be queried in time: ask again",
        )),
    }
}
