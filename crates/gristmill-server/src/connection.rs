//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use gristmill_model::limits;
use http::{HeaderMap, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::ServerConfig;
use crate::front::Front;
use crate::keys::Peer;
use crate::tls::{self, Stream};
use crate::vitals::{Handling, Vitals};
use crate::wire::{Protocol, Wire};

/// The longest head that is read at all. A block of headers over [`limits::HEADER_BYTES`] or a
/// target over [`limits::URI_BYTES`] is answered properly up to here, and curtly above.
const HEAD_BYTES: usize = 32 * 1024;
/// How many requests a client may have open on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 100;
/// The same for gRPC, where one connection carries the requests of all clients of a gateway.
const GRPC_STREAMS: u32 = 4096;
/// How many resets that the server has not yet worked off a client may cause.
const HTTP2_PENDING_RESETS: usize = 20;
const GRPC_PENDING_RESETS: usize = 1024;

/// How often a client must show that it is there, and how long it may take to.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What is spoken on an address. Calls are answered on every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Http,
    Grpc,
}

/// Serves requests until the client closes, misbehaves, falls silent, or `drain` is set and the
/// requests in flight are answered.
pub(crate) async fn serve(
    stream: TcpStream,
    speech: Speech,
    front: Front,
    drain: CancellationToken,
) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
    let vitals = Vitals::new();
    let opened = tokio::select! {
        () = drain.cancelled() => return,
        opened = open(stream, speech, &front, &vitals) => opened,
    };
    let Some(wire) = opened else { return };
    let protocol = wire.protocol();
    let io = TokioIo::new(wire);
    let (requests_front, requests_vitals) = (front.clone(), Arc::clone(&vitals));
    let service = service_fn(move |request: Request<Incoming>| {
        let front = requests_front.clone();
        let vitals = Arc::clone(&requests_vitals);
        async move {
            let handling = Handling::begin(&vitals);
            let mut request = request.map(Body::new);
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            // What hyper makes of this it moves several times, so that is kept small.
            let response = Box::pin(front.answer_on(&vitals, speech, request)).await;
            if protocol == Protocol::Http1 && closes(response.headers()) {
                vitals.linger();
            }
            Ok::<_, Infallible>(response.map(|body| handling.answer(body)))
        }
    });
    match protocol {
        Protocol::Http1 => {
            let connection = http1().serve_connection(io, service);
            drive(connection, http1::Connection::graceful_shutdown, &vitals, &front, &drain).await;
        }
        Protocol::Http2 => {
            let connection = http2(speech, front.config()).serve_connection(io, service);
            drive(connection, http2::Connection::graceful_shutdown, &vitals, &front, &drain).await;
        }
    }
}

/// Agrees on TLS, where it is spoken, and on a protocol; all of it in the time of a head. `None` if nothing
/// can be served.
async fn open(
    stream: TcpStream,
    speech: Speech,
    front: &Front,
    vitals: &Arc<Vitals>,
) -> Option<Wire> {
    let deadline = Instant::now() + front.config().header_timeout;
    let stream = match &front.config().tls {
        None => Stream::Plain(stream),
        Some(tls) => tls::accept(stream, tls.acceptor(speech), deadline, front.metrics()).await?,
    };
    timeout_at(deadline, Wire::open(stream, Arc::clone(vitals))).await.ok()?.ok()?
}

/// Whether an answer ends its connection.
fn closes(headers: &HeaderMap) -> bool {
    headers.get(header::CONNECTION).is_some_and(|value| value == "close")
}

/// Polls a connection to its end, asks it to finish when `drain` is set, and drops it when its
/// vitals say that the client is gone or hostile.
async fn drive<C>(
    connection: C,
    finish: impl Fn(Pin<&mut C>),
    vitals: &Vitals,
    front: &Front,
    drain: &CancellationToken,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let config = front.config();
    let mut connection = pin!(connection);
    let mut is_finishing = false;
    loop {
        // A head may begin at any time and has less time than an idle connection.
        let soon = Instant::now() + config.header_timeout / 4;
        let wake = vitals.deadline(config).map_or(soon, |deadline| deadline.min(soon));
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                return;
            }
            () = drain.cancelled(), if !is_finishing => {
                is_finishing = true;
                finish(connection.as_mut());
            }
            () = sleep_until(wake) => {
                if vitals.deadline(config).is_some_and(|deadline| deadline <= Instant::now()) {
                    front.metrics().connections_timed_out.add(1);
                    return;
                }
            }
        }
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The watcher times heads together with idle connections, hyper's timer cannot tell them
    // apart. The default of 100 headers is kept: setting it costs an allocation a request.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES)
        .half_close(true);
    builder
}

fn http2(speech: Speech, config: &ServerConfig) -> http2::Builder<TokioExecutor> {
    let (streams, resets) = match speech {
        Speech::Http => (HTTP2_STREAMS, HTTP2_PENDING_RESETS),
        Speech::Grpc => (GRPC_STREAMS, GRPC_PENDING_RESETS),
    };
    // Pings are bytes too: a stream on which nothing happens for a while is no reason to give up its
    // connection, whose client answers them if it is alive.
    let ping_every = PING_EVERY.min(config.write_timeout / 2);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(limits::HEADER_BYTES as u32)
        .max_pending_accept_reset_streams(resets)
        .max_local_error_reset_streams(resets)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .keep_alive_interval(ping_every)
        .keep_alive_timeout(PING_EVERY);
    builder
}
