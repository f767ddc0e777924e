//! Bodies, read under limits of size and time.
//!
//! Memory is taken from the admission budget as bytes arrive, never for what a client merely
//! announces: otherwise a few clients that announce much and send little would use it up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use gristmill_ingest::{AdmitError, Encoding, InflateError, Permit, inflate};
use gristmill_model::ErrorCode;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use crate::ServerConfig;
use crate::app::App;
use crate::openapi::{Parameter, Term};
use crate::problem::Problem;

/// What is taken from the budget before the first byte is read.
const FIRST_BYTES: usize = 16 * 1024;
/// The largest buffer that is made on the strength of a `Content-Length` alone.
const CAPACITY_BYTES: usize = 64 * 1024;
/// How much of a refused body is read and thrown away before the answer, for how long, and how
/// long the client may pause in it: what is there already, so that its connection can be used
/// again. Nobody waits for more; the answer comes at once, and the connection ends with it.
const DISCARD_BYTES: usize = 32 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(100);
const DISCARD_IDLE: Duration = Duration::from_millis(10);

/// A body with its content encoding undone, and the share of the budget that it holds.
pub(crate) struct Received {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// Held until the answer is known.
    pub(crate) permit: Permit,
}

/// Reads the body of an ingestion request.
pub(crate) async fn receive(
    app: &Arc<App>,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Received, Problem> {
    let config = app.services.ingest.config();
    let read = async {
        let encoding = Encoding::from_header(encoding(headers)?.as_deref())?;
        let (bytes, permit) = read(app, &mut body, config.max_body_bytes).await?;
        Ok::<_, Problem>((encoding, bytes, permit))
    };
    let (encoding, bytes, mut permit) = match read.await {
        Ok(read) => read,
        Err(problem) => return Err(discard(headers, &mut body, problem).await),
    };
    if encoding == Encoding::Identity {
        app.metrics.received_bytes.add(bytes.len() as u64);
        return Ok(Received { bytes, permit });
    }
    // Inflating runs to its end on this thread, so that at most as many bodies as there are
    // threads hold memory that is not yet counted.
    let inflated = inflate(encoding, bytes, config.max_inflated_bytes)?;
    permit.grow(inflated.len()).map_err(refused)?;
    app.metrics.received_bytes.add(inflated.len() as u64);
    Ok(Received { bytes: inflated, permit })
}

/// Refuses a request before its body is read.
pub(crate) async fn refuse(headers: &HeaderMap, mut body: Body, problem: Problem) -> Problem {
    discard(headers, &mut body, problem).await
}

/// Reads the small body of a question and undoes its encoding; it is at most `limit` long before
/// and after, and not counted against the budget of ingestion.
pub(crate) async fn receive_question(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<Bytes, Problem> {
    let read = async {
        let encoding = Encoding::from_header(encoding(headers)?.as_deref())?;
        Ok::<_, Problem>((encoding, collect(&app.config, &mut body, limit, |_| Ok(())).await?))
    };
    match read.await {
        Ok((encoding, bytes)) => inflate(encoding, bytes, limit).map_err(|error| match error {
            InflateError::TooLarge { limit } => too_large(limit),
            InflateError::Unsupported(_) | InflateError::Corrupt(_) => error.into(),
        }),
        Err(problem) => Err(discard(headers, &mut body, problem).await),
    }
}

async fn read(app: &App, body: &mut Body, limit: usize) -> Result<(Bytes, Permit), Problem> {
    let announced = body.size_hint().exact().unwrap_or(0) as usize;
    let mut held = announced.clamp(1, FIRST_BYTES);
    let mut permit = app.services.ingest.admit(held).map_err(refused)?;
    let bytes = collect(&app.config, body, limit, |length| {
        if length > held {
            // Doubling, so that a long body asks seldom; never more than was announced.
            let wanted = length.max((held * 2).min(announced));
            permit.grow(wanted - held).map_err(refused)?;
            held = wanted;
        }
        Ok(())
    });
    let bytes = bytes.await?;
    Ok((bytes, permit))
}

/// Reads a body to its end; `grow` is told each new length before the bytes are kept.
pub(crate) async fn collect(
    config: &ServerConfig,
    body: &mut Body,
    limit: usize,
    mut grow: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let capacity = announced.map_or(0, |length| (length as usize).min(CAPACITY_BYTES));
    let end = Instant::now() + config.body_timeout;
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    loop {
        let pause = Instant::now() + config.body_idle_timeout;
        let frame = match timeout_at(pause.min(end), body.frame()).await {
            Err(_) => {
                let detail = "the body did not come in time";
                return Err(Problem::new(ErrorCode::RequestTimeout, detail).closing());
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                let detail = "the body ended early or is not chunked as it says";
                return Err(Problem::new(ErrorCode::InvalidBody, detail).closing());
            }
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers are not used for anything.
        let Ok(data) = frame.into_data() else { continue };
        let length = whole.len() + pieces.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        grow(length)?;
        if whole.is_empty() && pieces.is_empty() {
            // Most bodies come in one piece, which is then not copied.
            whole = data;
        } else {
            if pieces.is_empty() {
                pieces.reserve(capacity.max(length));
                pieces.extend_from_slice(&whole);
                whole = Bytes::new();
            }
            pieces.extend_from_slice(&data);
        }
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// How bodies may be compressed.
pub(crate) fn describe_encoding() -> Parameter {
    let encodings = ["gzip", "zstd", "identity"];
    Term::name("Content-Encoding", "how the body is compressed", encodings).in_head().shared()
}

/// The content encodings of a request in one text, however many headers name them.
fn encoding(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| {
            Problem::new(ErrorCode::UnsupportedMedia, "content-encoding is not ASCII")
        })?;
        all.push(text);
    }
    Ok(if all.is_empty() { None } else { Some(all.join(", ")) })
}

/// Reads what has come of a refused body. If that is not all of it, the connection ends with the
/// refusal. A client that waits for `100 Continue` sends none, and must not be told to.
async fn discard(headers: &HeaderMap, body: &mut Body, problem: Problem) -> Problem {
    if problem.closes() || body.is_end_stream() {
        return problem;
    }
    let announced = body.size_hint().lower();
    if headers.contains_key(header::EXPECT) || announced > DISCARD_BYTES as u64 {
        return problem.closing();
    }
    let end = Instant::now() + DISCARD_TIME;
    let mut left = DISCARD_BYTES;
    loop {
        let pause = Instant::now() + DISCARD_IDLE;
        let length = match timeout_at(pause.min(end), body.frame()).await {
            Ok(None) => return problem,
            Ok(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            Ok(Some(Err(_))) | Err(_) => return problem.closing(),
        };
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return problem.closing(),
        }
    }
}

/// The problem of a request that was not admitted.
pub(crate) fn refused(error: AdmitError) -> Problem {
    let seconds = error.retry_after_seconds();
    Problem::from(error).retry_after(seconds)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ErrorCode::TooLarge, format!("the body is larger than {limit} bytes"))
}
