//! The gateway: clients speak HTTP and gRPC to it, and it has processes of other roles answer over gRPC.
//!
//! ```text
//!   client ──HTTP──▶ gateway ──Relay/Handle──▶ gRPC listener of a role ──▶ its router
//! ```
//!
//! A request is read whole, under limits, and then tried until a role has answered it, whatever the
//! answer is. What the other process has not seen is tried again; so is what it may have seen, where
//! doing it twice is doing it once. That includes every ingestion: events are told apart by their
//! ids, and those that would be random follow from what the gateway sends along.
//!
//! A call of a client is passed on piece by piece, and tried again only if nobody has seen it (`pass.rs`).

mod call;
mod ops;
mod pass;
mod target;
mod vouch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use gristmill_model::{Entropy, ErrorCode};
use gristmill_proto::internal::Header;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, request};
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ServerConfig;
use crate::background::Background;
use crate::body::{self, collect};
use crate::front::Ambience;
use crate::grpc::frames::{RequestHead, to_frame};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::role::Role;
use crate::tls::{self, GatewayTls};
use crate::trace::{self, Attribute, SpanKind, Started, TRACEPARENT};
use call::{Answering, Failure};
use target::Group;

pub(crate) use ops::routes;
pub use target::TargetAddress;
pub(crate) use vouch::{leave_to_others, name_of};

/// The pause after the first try, and how much longer each further one is.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_GROWTH: u32 = 3;

/// What a gateway is told.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Processes that take events in.
    pub ingest: Vec<TargetAddress>,
    /// Processes that answer questions.
    pub query: Vec<TargetAddress>,
    /// How often a request is tried.
    pub tries: u32,
    /// How long a request is tried. An answer that has begun within that may take as long as it would
    /// without a gateway.
    pub deadline: Duration,
    /// How many requests may be under way, streams included.
    pub max_in_flight_requests: usize,
    /// The bytes that the bodies of these may have together.
    pub max_in_flight_bytes: usize,
    /// The largest body.
    pub max_body_bytes: usize,
    /// For targets that are reached under TLS.
    pub tls: Option<Arc<GatewayTls>>,
}

/// What a gateway shares with the rest of its process.
pub(crate) struct Outside {
    pub(crate) server: ServerConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ambience: Ambience,
    pub(crate) draining: CancellationToken,
}

/// Has processes of other roles answer.
pub(crate) struct Gateway {
    config: GatewayConfig,
    outside: Outside,
    ingest: Group,
    query: Group,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    heard: vouch::Heard,
    /// Answers that nobody reads any more.
    unread: Arc<Background>,
}

/// How a route's requests go through a gateway.
#[derive(Clone, Copy)]
pub(crate) struct Relaying {
    /// Who answers.
    pub(crate) role: Role,
    /// How long the whole may take.
    pub(crate) patience: Patience,
    /// What the client is told.
    pub(crate) tell: fn(Result<Response, Problem>) -> Response,
}

/// How long the whole of a relayed request may take.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// As long as a request may take, once a role has it.
    Request,
    /// No longer than it is tried.
    Deadline,
}

/// A body that has been read.
struct Content {
    bytes: Bytes,
    /// How long it was said to be, if it was too large to be read.
    length: u64,
    /// Whether the rest of it makes the client's connection useless.
    closes: bool,
    _held: Option<OwnedSemaphorePermit>,
}

impl Gateway {
    /// A gateway that has reached nobody yet; [`run`](Self::run) must run.
    pub(crate) fn new(config: GatewayConfig, outside: Outside) -> Self {
        let bound = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self {
            ingest: Group::new(&config.ingest, config.tls.as_ref()),
            query: Group::new(&config.query, config.tls.as_ref()),
            requests: bound(config.max_in_flight_requests),
            bytes: bound(config.max_in_flight_bytes),
            heard: vouch::Heard::default(),
            unread: Arc::default(),
            config,
            outside,
        }
    }

    /// Keeps the connections to the other processes for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut keeping = JoinSet::new();
        for link in self.ingest.links().chain(self.query.links()) {
            let (link, entropy) = (Arc::clone(link), Arc::clone(&self.outside.ambience.entropy));
            keeping.spawn(async move { link.keep(entropy.as_ref()).await });
        }
        while let Some(Err(error)) = keeping.join_next().await {
            tracing::error!(%error, "what keeps a connection failed");
        }
    }

    /// Has a process of the route's role answer.
    pub(crate) async fn relay(&self, relaying: Relaying, request: Request<Body>) -> Response {
        let relayed = self.answer(relaying.role, request);
        let relayed = match relaying.patience {
            Patience::Request => relayed.await,
            Patience::Deadline => {
                timeout(self.config.deadline, relayed).await.unwrap_or_else(|_| {
                    let detail = format!("no {} answered in time", relaying.role);
                    Err(Problem::new(ErrorCode::DeadlineExceeded, detail))
                })
            }
        };
        (relaying.tell)(relayed)
    }

    async fn answer(&self, role: Role, request: Request<Body>) -> Result<Response, Problem> {
        let place = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| overloaded())?;
        let received = self.outside.ambience.clock.now();
        let (parts, body) = request.into_parts();
        let content = self.read(&parts.headers, body).await?;
        let head = RequestHead {
            method: parts.method.as_str().to_owned(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            headers: to_frame(end_to_end(&parts.headers)),
            content_length: content.length,
            received_us: received.0,
            seed: self.outside.ambience.entropy.next_u128().to_le_bytes().to_vec().into(),
        };
        let answering = self.try_all(role, &parts, &head, &content.bytes).await?;
        let draining = &self.outside.draining;
        let mut response = answering.into_response(place, draining).map_err(|failure| {
            tracing::warn!(%role, %failure, "cannot read an answer");
            Problem::new(ErrorCode::Internal, "the server failed; its log says why")
        })?;
        if content.closes {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// Reads a body. One that is too large is left to its route to refuse.
    async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Content, Problem> {
        let announced = body.size_hint().exact();
        let limit = self.config.max_body_bytes;
        let (mut held, mut held_bytes) = (None::<OwnedSemaphorePermit>, 0);
        let bytes = collect(&self.outside.server, &mut body, limit, |length| {
            let more = self.hold(length - held_bytes)?;
            held_bytes = length;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            Ok(())
        });
        match bytes.await {
            Ok(bytes) => {
                let length = bytes.len() as u64;
                Ok(Content { bytes, length, closes: false, _held: held })
            }
            Err(problem) => {
                let is_too_large = problem.code() == ErrorCode::TooLarge;
                let problem = body::refuse(headers, body, problem).await;
                if !is_too_large {
                    return Err(problem);
                }
                let length = announced.unwrap_or(0).max(limit as u64 + 1);
                let closes = problem.closes();
                Ok(Content { bytes: Bytes::new(), length, closes, _held: None })
            }
        }
    }

    fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(|_| overloaded())
    }

    /// Tries until a process has answered, or it makes no sense to try again.
    async fn try_all(
        &self,
        role: Role,
        request: &request::Parts,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<Answering, Problem> {
        let deadline = Instant::now() + self.config.deadline;
        let metrics = &self.outside.metrics;
        let is_repeatable = is_repeatable(&request.method, request.uri.path());
        let (mut was_sent, mut pause) = (false, FIRST_PAUSE);
        for number in 1.. {
            match self.try_each(role, head, body).await {
                Ok(answering) => return Ok(answering),
                Err(failure) => {
                    was_sent |= !failure.is_unsent;
                    tracing::debug!(%role, number, %failure, "a try came to nothing");
                }
            }
            let wait = jittered(pause, self.outside.ambience.entropy.as_ref());
            let is_over = number >= self.config.tries || Instant::now() + wait >= deadline;
            if is_over || (was_sent && !is_repeatable) {
                break;
            }
            metrics.relay_retries.add(1);
            sleep(wait).await;
            pause *= PAUSE_GROWTH;
        }
        metrics.relay_failures.add(1);
        let outcome = match was_sent && !request.method.is_safe() {
            true => Outcome::Unknown,
            false => Outcome::Nothing,
        };
        Err(unanswered(role, outcome))
    }

    /// Offers a request to the processes in turn, until one of them may have seen it.
    async fn try_each(
        &self,
        role: Role,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<Answering, Failure> {
        let mut last = Failure::unsent(format!("no {role} can be reached"));
        for sender in self.group(role).in_turn() {
            let (span, head) = traced(role, head.clone());
            match sent(span, call::send(sender, head, body.clone())).await {
                Err(failure) if failure.is_unsent => last = failure,
                answered_or_unknown => return answered_or_unknown,
            }
        }
        Err(last)
    }

    fn group(&self, role: Role) -> &Group {
        match role {
            Role::Ingest => &self.ingest,
            Role::Process | Role::Query | Role::Gateway => &self.query,
        }
    }

    /// Whether somebody can be reached of a role; none, if it was told of nobody.
    pub(crate) fn reaches(&self, role: Role) -> Option<bool> {
        let addresses = match role {
            Role::Ingest => &self.config.ingest,
            Role::Process | Role::Query | Role::Gateway => &self.config.query,
        };
        (!addresses.is_empty()).then(|| self.group(role).is_reachable())
    }

    /// What it shares with the rest of its process.
    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    /// What became of the certificates for targets under TLS.
    pub(crate) fn tls_status(&self) -> Option<tls::Status> {
        self.config.tls.as_ref().map(|tls| tls.status())
    }

    /// Whether somebody can be reached of each role that this process relays to.
    pub(crate) fn is_ready(&self) -> bool {
        [Role::Ingest, Role::Query].into_iter().all(|role| self.reaches(role).unwrap_or(true))
    }
}

/// A try as a span of its own, if the request is recorded.
fn told(role: Role) -> Option<Started> {
    let mut span = trace::child("relay", SpanKind::Client)?;
    span.add("gristmill.role", Attribute::Text(role.name().to_owned()));
    Some(span)
}

/// Tells of a try, and the other process of what it is a part of.
fn traced(role: Role, mut head: RequestHead) -> (Option<Started>, RequestHead) {
    let span = told(role);
    if let Some(span) = &span {
        let context = span.context().to_string();
        head.headers.retain(|header| header.name != TRACEPARENT.as_str());
        head.headers.push(Header { name: TRACEPARENT.as_str().to_owned(), value: context.into() });
    }
    (span, head)
}

/// Waits for a try and ends its span.
async fn sent<T, E>(
    span: Option<Started>,
    sending: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let sent = sending.await;
    if let (Some(mut span), Err(_)) = (span, &sent) {
        span.fail();
    }
    sent
}

/// Between half of a pause and all of it.
fn jittered(pause: Duration, entropy: &dyn Entropy) -> Duration {
    let share = (entropy.next_u128() as u32) as f64 / f64::from(u32::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}

/// Whether doing it twice is doing it once. Changing a document names the version that is changed, so
/// the second time would be told of a conflict.
fn is_repeatable(method: &Method, path: &str) -> bool {
    let is_of_documents = ["/v1/cohorts", "/v1/keys"].iter().any(|start| path.starts_with(start));
    method.is_safe() || !is_of_documents
}

/// The headers that are for the other end, not for the next one.
fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    const HOP_BY_HOP: [HeaderName; 8] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let named = headers.get_all(header::CONNECTION).into_iter();
    let named = named.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named: HashSet<String> = named.map(|name| name.trim().to_ascii_lowercase()).collect();
    headers
        .iter()
        .filter(move |(name, _)| !HOP_BY_HOP.contains(name) && !named.contains(name.as_str()))
}

fn overloaded() -> Problem {
    Problem::new(ErrorCode::Overloaded, "the gateway has as much in flight as it may hold")
}

/// What became of a request that nobody answered.
#[derive(Clone, Copy)]
enum Outcome {
    Nothing,
    Unknown,
}

fn unanswered(role: Role, outcome: Outcome) -> Problem {
    match outcome {
        Outcome::Nothing => {
            let detail = format!("no process with the role `{role}` answers now: send it again");
            Problem::new(ErrorCode::NotReady, detail)
        }
        Outcome::Unknown => {
            let detail = format!(
                "the process with the role `{role}` went away; whether it did what was asked is \
                 unknown: send the same again"
            );
            Problem::new(ErrorCode::DeadlineExceeded, detail)
        }
    }
}
