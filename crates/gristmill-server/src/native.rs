//! The native interface: `POST /v1/events` and `POST /v1/events/batch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::Accepted;
use gristmill_ingest::dialect::native::{self, Format};
use gristmill_ingest::dialect::{BodyError, Context, Events};
use gristmill_model::{ErrorCode, Outcome, Partition, Position};
use http::{HeaderMap, Request, StatusCode, Uri};
use tokio::time::Instant;

use crate::accept::{accept, context, wait_until_visible};
use crate::app::App;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, json, media};

/// What one result of an answer takes, roughly, in bytes.
const RESULT_BYTES: usize = 80;

/// One event, bare or wrapped.
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    ingest(&app, request, |body, context, format| match format {
        Format::Json => native::one(body, context),
        Format::Ndjson => native::batch(body, context, format),
    })
    .await
}

/// A batch of events.
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    ingest(&app, request, native::batch).await
}

async fn ingest(
    app: &Arc<App>,
    request: Request<Body>,
    decode: impl for<'a> Fn(&'a [u8], &Context<'a>, Format) -> Result<Events<'a>, BodyError>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let checked = check(&parts.uri, &parts.headers).and_then(|(format, wait)| {
        let context = context(app, &parts.headers)?;
        Ok((format, wait, context))
    });
    let (format, wait, context) = match checked {
        Ok(checked) => checked,
        Err(problem) => return Err(body::refuse(&parts.headers, body, problem).await),
    };
    let received = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let events = decode(&received.bytes, &context, format)?;
    let accepted = accept(app, events, since).await?;
    let outcomes = match wait {
        Wait::UntilVisible => outcomes(app, &accepted).await?,
        Wait::UntilDurable => BTreeMap::new(),
    };
    respond(&accepted, &outcomes)
}

/// What an answer waits for.
enum Wait {
    UntilDurable,
    UntilVisible,
}

/// What the head of a request says: how its body is written, and what to wait for.
fn check(uri: &Uri, headers: &HeaderMap) -> Result<(Format, Wait), Problem> {
    let mut parameters = Parameters::of(uri)?;
    let wait = match parameters.take("wait")?.as_deref() {
        None => Wait::UntilDurable,
        Some("visible") => Wait::UntilVisible,
        Some(_) => return Err(Problem::argument("`wait` may only be `visible`")),
    };
    parameters.finish()?;
    Ok((media::format(headers)?, wait))
}

/// Waits until all that was acknowledged can be queried, then tells what became of each event.
async fn outcomes(
    app: &App,
    accepted: &Accepted<'_>,
) -> Result<BTreeMap<Position, Outcome>, Problem> {
    wait_until_visible(app, &app.services.ingest.durable()).await?;
    let mut ranges: BTreeMap<Partition, (u64, u64)> = BTreeMap::new();
    for position in accepted.items.iter().filter_map(|item| item.result.as_ref().ok()) {
        let range = ranges.entry(position.partition).or_insert((position.offset, position.offset));
        *range = (range.0.min(position.offset), range.1.max(position.offset));
    }
    let mut found = BTreeMap::new();
    for (partition, (first, last)) in ranges {
        // A request's events lie together, so the range is about as long as the request.
        let outcomes = app.services.store.outcomes(partition, first..last + 1);
        for (offset, outcome) in (first..).zip(outcomes) {
            if let Some(outcome) = outcome {
                found.insert(Position { partition, offset }, outcome);
            }
        }
    }
    Ok(found)
}

/// The answer, written in one go: it is the hot path's second largest cost after decoding.
fn respond(
    accepted: &Accepted<'_>,
    outcomes: &BTreeMap<Position, Outcome>,
) -> Result<Response, Problem> {
    let total = accepted.items.len();
    let taken = accepted.items.iter().filter(|item| item.result.is_ok()).count();
    let mut members = Vec::with_capacity(96 + total * RESULT_BYTES);
    members.push(b'{');
    members.extend_from_slice(b"\"accepted\":");
    json::number(&mut members, taken as u64);
    members.extend_from_slice(b",\"rejected\":");
    json::number(&mut members, (total - taken) as u64);
    members.extend_from_slice(b",\"position\":");
    json::string(&mut members, &accepted.positions.to_string());
    members.extend_from_slice(b",\"results\":[");
    for (index, item) in accepted.items.iter().enumerate() {
        members.extend_from_slice(if index == 0 { b"{\"index\":" } else { b",{\"index\":" });
        json::number(&mut members, index as u64);
        members.extend_from_slice(b",\"id\":");
        json::string(&mut members, item.id.as_str());
        match &item.result {
            Ok(position) => {
                let outcome = outcomes.get(position).map_or("accepted", |o| o.as_str());
                members.extend_from_slice(b",\"status\":\"");
                members.extend_from_slice(outcome.as_bytes());
                members.extend_from_slice(b"\"}");
            }
            Err(rejection) => {
                members.extend_from_slice(b",\"status\":\"rejected\",\"code\":");
                json::string(&mut members, rejection.code.name());
                members.extend_from_slice(b",\"pointer\":");
                json::string(&mut members, rejection.pointer);
                members.extend_from_slice(b",\"message\":");
                json::string(&mut members, &rejection.message);
                members.push(b'}');
            }
        }
    }
    members.push(b']');
    if taken > 0 || total == 0 {
        members.push(b'}');
        return Ok(json::answer(StatusCode::OK, members));
    }
    members.remove(0);
    let reason = accepted.items.iter().find_map(|item| item.result.as_ref().err());
    let reason = reason.map_or("", |rejection| rejection.message.as_str());
    let detail = match total {
        1 => reason.to_owned(),
        _ => format!("none of the {total} events was accepted; the first: {reason}"),
    };
    Err(Problem::new(ErrorCode::InvalidEvent, detail).with_members(members))
}
