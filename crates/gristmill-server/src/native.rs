//! The native interface: `POST /v1/events` and `POST /v1/events/batch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::Accepted;
use gristmill_ingest::dialect::native::{self, Format};
use gristmill_ingest::dialect::{BodyError, Context, Events};
use gristmill_model::{ErrorCode, Outcome, Partition, Position, limits};
use http::{HeaderMap, Request, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::accept::{accept, context, idempotency_key, wait_until_visible};
use crate::app::App;
use crate::keys::charge;
use crate::openapi::{Answer, Operation, Tag, Term, object, open_object, reference};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, json, media};

/// What one result of an answer takes, roughly, in bytes.
const RESULT_BYTES: usize = 80;

/// What the document says of [`one`].
pub(crate) fn describe_one() -> Operation {
    let wrapped = open_object([Term::new("event", "the event", reference("Event")).required()]);
    let body = json!({"anyOf": [reference("Event"), wrapped]});
    ingestion("Post one event", &body)
}

/// What the document says of [`batch`].
pub(crate) fn describe_batch() -> Operation {
    let most = limits::BATCH_EVENTS;
    let events = || json!({"type": "array", "items": reference("Event"), "maxItems": most});
    let wrapped = open_object([Term::new("events", "the events", events()).required()]);
    let body = json!({"anyOf": [events(), wrapped]});
    ingestion("Post a batch of events", &body)
}

fn ingestion(summary: &'static str, body: &Value) -> Operation {
    let lines = json!({"schema": {"type": "string", "description": "one event per line"}});
    let mut content = json!({"application/json": {"schema": body}});
    for media in media::NDJSON {
        content[media] = lines.clone();
    }
    let wait = Term::name("wait", "answer when the events can be queried", ["visible"]);
    let refused = json!({"allOf": [reference("Problem"), reference("Receipt")]});
    let nothing = "None of the events was accepted.";
    let receipt = "At least one event was accepted, or there was none.";
    Operation::new(Tag::Events, summary)
        .takes([wait.in_target(), idempotency_key().in_head(), body::describe_encoding()])
        .reads_any(&content)
        .answers(StatusCode::OK, Answer::of("Receipt", receipt_schema(), receipt))
        .answers(
            StatusCode::UNPROCESSABLE_ENTITY,
            Answer::empty(nothing).or("application/problem+json", &refused),
        )
        .fails_with(&[ErrorCode::LogUnavailable])
}

/// The schema of an event.
pub(crate) fn event_schema() -> Value {
    let text = |name, about: &str, most: usize| {
        let about = format!("{about}; at most {most} bytes");
        // Schemas count characters, of which there are never more than bytes.
        Term::new(name, about, json!({"type": ["string", "null"], "maxLength": most}))
    };
    let any = |name, about: &str| Term::new(name, about, json!({"type": ["object", "null"]}));
    let time = "when it happened, at most 24 hours ahead; now, if missing";
    let time_schema = json!({"anyOf": [reference("Time"), {"type": "null"}]});
    let payload = "becomes a property of this name; an event has at most one payload";
    let mut schema = open_object([
        Term::text_up_to("event_type", "what happened", limits::EVENT_TYPE_BYTES).required(),
        text("id", "names the event within its user", limits::EVENT_ID_BYTES),
        text("user_id", "who; one user, \"nobody\", if missing", limits::USER_ID_BYTES),
        text("session_id", "the session", limits::USER_ID_BYTES),
        Term::new("timestamp", time, time_schema),
        text("source", "the application that sends", limits::SOURCE_BYTES),
        text("page_url", "the page", limits::PAGE_URL_BYTES),
        any("properties", "kept as it was sent"),
        any("user_event", payload),
        any("transaction_event", payload),
        any("system_event", payload),
        any("custom_event", payload),
    ]);
    schema["description"] =
        "What a user did. Names are understood in camel case too; other members are ignored."
            .into();
    schema
}

/// The schema of what [`respond`] writes.
fn receipt_schema() -> Value {
    let statuses = ["accepted", "rejected"].into_iter().chain(Outcome::ALL.map(Outcome::as_str));
    let codes = ErrorCode::ALL.map(ErrorCode::name);
    let results = object([
        Term::whole("index", "the event's place in the request", 0..=limits::BATCH_EVENTS)
            .required(),
        Term::text("id", "the event's id, also where it was made here").required(),
        Term::name("status", "what became of it", statuses).required(),
        Term::name("code", "why it was rejected", codes),
        Term::text("pointer", "the member at fault, as a JSON pointer"),
        Term::text("message", "what is wrong"),
    ]);
    let most = limits::BATCH_EVENTS;
    let count = |name, about| Term::whole(name, about, 0..=most).required();
    open_object([
        count("accepted", "how many events are on stable storage"),
        count("rejected", "how many are not"),
        Term::text("position", "what a question may give as `at_least`").required(),
        Term::list("results", "one for each event, in order", &results, 0..=most).required(),
    ])
}

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
        let context = context(app, &parts)?;
        Ok((format, wait, context))
    });
    let (format, wait, context) = match checked {
        Ok(checked) => checked,
        Err(problem) => return Err(body::refuse(&parts.headers, body, problem).await),
    };
    let received = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let events = decode(&received.bytes, &context, format)?;
    charge(&parts.extensions, app.now(), events.len(), received.bytes.len())?;
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
        let outcomes = app.services.store.outcomes(partition, first..last + 1).await?;
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
