//! The native interface: `POST /v1/events` and `POST /v1/events/batch`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_ingest::dialect::native::{self, Format, Posted};
use gristmill_ingest::dialect::{BodyError, Context, Rejection, Until};
use gristmill_model::{ErrorCode, Outcome, limits};
use http::{HeaderMap, Request, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::accept::{context, idempotency_key};
use crate::app::App;
use crate::body::Received;
use crate::keys::charge;
use crate::openapi::{Answer, Operation, Tag, Term, object, open_object, reference};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::receipt::{self, Receipt};
use crate::{body, json, media};

/// What one result of an answer takes, roughly, in bytes.
const RESULT_BYTES: usize = 80;

/// What the document says of [`one`].
pub(crate) fn describe_one() -> Operation {
    let event = Term::new("event", "the event", reference("Event")).required();
    let wrapped = open_object([event, options()]);
    let body = json!({"anyOf": [reference("Event"), wrapped]});
    ingestion("Post one event", &body)
}

/// What the document says of [`batch`].
pub(crate) fn describe_batch() -> Operation {
    let most = limits::BATCH_EVENTS;
    let events = || json!({"type": "array", "items": reference("Event"), "maxItems": most});
    let wrapped = open_object([Term::new("events", "the events", events()).required(), options()]);
    let body = json!({"anyOf": [events(), wrapped]});
    ingestion("Post a batch of events", &body)
}

/// What may stand beside a wrapped event or a batch.
fn options() -> Term {
    let flag = |name, about: &str| Term::new(name, about, json!({"type": ["boolean", "null"]}));
    let seconds = json!({"type": ["integer", "null"], "minimum": 0, "maximum": i32::MAX});
    let options = open_object([
        flag("async", "answer 202 when the events are checked and queued in memory"),
        flag("validate_only", "check the events and keep none"),
        flag("wait_visible", "as `wait=visible`; contradicts `async`"),
        Term::new("timeout_seconds", "how long the answer may take; 0 is no bound", seconds),
    ]);
    Term::new("options", "how the events are taken", json!({"anyOf": [options, {"type": "null"}]}))
}

fn ingestion(summary: &'static str, body: &Value) -> Operation {
    let lines = json!({"schema": {"type": "string", "description": "one event per line"}});
    let mut content = json!({"application/json": {"schema": body}});
    for media in media::NDJSON {
        content[media] = lines.clone();
    }
    let wait = Term::name("wait", "answer when the events can be queried", ["visible"]);
    let refused = json!({"allOf": [reference("Problem"), reference("Receipt")]});
    let queued = "`options.async`: the events are checked, and queued in memory.";
    let nothing = "None of the events was accepted.";
    let receipt = "At least one event was accepted, or there was none.";
    Operation::new(Tag::Events, summary)
        .takes([wait.in_target(), idempotency_key().in_head(), body::describe_encoding()])
        .reads_any(&content)
        .answers(StatusCode::OK, Answer::of("Receipt", receipt_schema(), receipt))
        .answers(StatusCode::ACCEPTED, Answer::of("Receipt", receipt_schema(), queued))
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
    let kind = "what happened, in words of the sender's own; or `EVENT_TYPE_USER` and the like, and the \
        payload says it";
    let mut schema = open_object([
        Term::text_up_to("event_type", kind, limits::EVENT_TYPE_BYTES).required(),
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
    let statuses = ["accepted", "rejected", "queued", "valid"]
        .into_iter()
        .chain(Outcome::ALL.map(Outcome::as_str));
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
        count("rejected", "how many were refused"),
        Term::whole("queued", "with `async`: how many are queued", 0..=most),
        Term::whole("valid", "with `validate_only`: how many would be taken", 0..=most),
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
    decode: impl for<'a> Fn(&'a [u8], &Context<'a>, Format) -> Result<Posted<'a>, BodyError>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let checked = check(&parts.uri, &parts.headers).and_then(|(format, waits)| {
        let context = context(app, &parts)?;
        Ok((format, waits, context))
    });
    let (format, waits, context) = match checked {
        Ok(checked) => checked,
        Err(problem) => return Err(body::refuse(&parts.headers, body, problem).await),
    };
    let Received { bytes, permit } = body::receive(app, &parts.headers, body).await?;
    let since = Instant::now();
    let Posted { events, mut options } = decode(&bytes, &context, format)?;
    options.wait_visible |= waits == Until::Visible;
    if !options.validate_only {
        charge(app, &parts.extensions, events.len(), || bytes.len())?;
    }
    respond(&receipt::take(app, events, &options, since, permit).await?)
}

/// What the head of a request says: how its body is written, and what to wait for.
fn check(uri: &Uri, headers: &HeaderMap) -> Result<(Format, Until), Problem> {
    let mut parameters = Parameters::of(uri)?;
    let wait = match parameters.take("wait")?.as_deref() {
        None => Until::Durable,
        Some("visible") => Until::Visible,
        Some(_) => return Err(Problem::argument("`wait` may only be `visible`")),
    };
    parameters.finish()?;
    Ok((media::format(headers)?, wait))
}

/// The answer, written in one go: it is the hot path's second largest cost after decoding.
fn respond(receipt: &Receipt<'_>) -> Result<Response, Problem> {
    let (total, taken) = (receipt.items.len(), receipt.taken());
    let (accepted, also) = match receipt.until {
        Until::Durable | Until::Visible => (taken, None),
        Until::Queued => (0, Some(",\"queued\":")),
        Until::Checked => (0, Some(",\"valid\":")),
    };
    let mut members = Vec::with_capacity(96 + total * RESULT_BYTES);
    members.push(b'{');
    members.extend_from_slice(b"\"accepted\":");
    json::number(&mut members, accepted as u64);
    members.extend_from_slice(b",\"rejected\":");
    json::number(&mut members, (total - taken) as u64);
    if let Some(name) = also {
        members.extend_from_slice(name.as_bytes());
        json::number(&mut members, taken as u64);
    }
    members.extend_from_slice(b",\"position\":");
    json::string(&mut members, &receipt.positions.to_string());
    members.extend_from_slice(b",\"results\":[");
    for (index, item) in receipt.items.iter().enumerate() {
        members.extend_from_slice(if index == 0 { b"{\"index\":" } else { b",{\"index\":" });
        json::number(&mut members, index as u64);
        members.extend_from_slice(b",\"id\":");
        json::string(&mut members, item.id.as_str());
        write_result(&mut members, &item.result);
    }
    members.push(b']');
    if taken > 0 || total == 0 {
        members.push(b'}');
        let is_queued = receipt.until == Until::Queued;
        let status = if is_queued { StatusCode::ACCEPTED } else { StatusCode::OK };
        return Ok(json::answer(status, members));
    }
    members.remove(0);
    let reason = receipt.first_rejection().map_or("", |rejection| rejection.message.as_str());
    let detail = match total {
        1 => reason.to_owned(),
        _ => format!("none of the {total} events was accepted; the first: {reason}"),
    };
    Err(Problem::new(ErrorCode::InvalidEvent, detail).with_members(members))
}

fn write_result(members: &mut Vec<u8>, result: &Result<&'static str, Rejection>) {
    match result {
        Ok(status) => {
            members.extend_from_slice(b",\"status\":\"");
            members.extend_from_slice(status.as_bytes());
            members.extend_from_slice(b"\"}");
        }
        Err(rejection) => {
            members.extend_from_slice(b",\"status\":\"rejected\",\"code\":");
            json::string(members, rejection.code.name());
            members.extend_from_slice(b",\"pointer\":");
            json::string(members, rejection.pointer);
            members.extend_from_slice(b",\"message\":");
            json::string(members, &rejection.message);
            members.push(b'}');
        }
    }
}
