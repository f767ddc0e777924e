//! Listening, accepting, draining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::connection::Speech;
use crate::front::Front;
use crate::{connection, visibility};

/// How many connections the kernel holds for us before it refuses.
const BACKLOG: u32 = 1024;
/// How long to wait after the system refused to accept, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many refused connections are given the time to read their answer.
const REFUSALS: usize = 64;
/// How long a client may take to read what is said last.
const PARTING: Duration = Duration::from_secs(1);
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// Where a server listens.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// For HTTP.
    pub http: Vec<SocketAddr>,
    /// For gRPC.
    pub grpc: Vec<SocketAddr>,
}

/// A server that listens and does not serve yet.
pub struct Server {
    listeners: Vec<(TcpListener, Speech)>,
    front: Front,
}

impl Server {
    /// Listens on all addresses. Must be called within a tokio runtime.
    ///
    /// `SO_REUSEADDR` is set, so that a restart need not wait for old connections to be forgotten.
    pub fn bind(addresses: &Listeners, front: Front) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (addresses, speech) in
            [(&addresses.http, Speech::Http), (&addresses.grpc, Speech::Grpc)]
        {
            for address in addresses {
                listeners.push((listen(*address)?, speech));
            }
        }
        Ok(Self { listeners, front })
    }

    /// The addresses it listens on, in the order given to `bind`, with real port numbers.
    pub fn local_addrs(&self) -> Listeners {
        let of = |wanted| {
            let listeners = self.listeners.iter().filter(move |(_, speech)| *speech == wanted);
            listeners.filter_map(|(listener, _)| listener.local_addr().ok()).collect()
        };
        Listeners { http: of(Speech::Http), grpc: of(Speech::Grpc) }
    }

    /// Serves until `shutdown` is set, then finishes what is in flight and returns.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let front = self.front;
        let slots = Arc::new(Semaphore::new(front.config().max_connections));
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some(app) = front.app() {
            tasks.spawn(visibility::measure(Arc::clone(app), stopping.clone()));
        }
        // Requests that are under way when the server stops still need their relays.
        let mut relays = JoinSet::new();
        if let Some(gateway) = front.gateway().cloned() {
            relays.spawn(async move { gateway.run().await });
        }
        let mut keeping = JoinSet::new();
        keeping.spawn(front.keep_keys(stopping.clone()));
        for (listener, speech) in self.listeners {
            let (front, slots, stopping) = (front.clone(), Arc::clone(&slots), stopping.clone());
            tasks.spawn(accept(listener, speech, front, slots, stopping));
        }
        tokio::select! {
            // The parts end with the shutdown too; that is no failure of theirs.
            biased;
            () = shutdown.cancelled() => {}
            Some(kept) = keeping.join_next() => {
                let reason = match kept {
                    Ok(Err(reason)) => reason,
                    ended => format!("what keeps the API keys ended: {ended:?}"),
                };
                return Err(io::Error::other(reason));
            }
            ended = tasks.join_next() => {
                return Err(io::Error::other(format!("a part of the server ended: {ended:?}")));
            }
        }
        let deadline = Instant::now() + front.config().drain_timeout;
        // Who watches our health hears of it before connections are asked to end.
        front.draining().cancel();
        stopping.cancel();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                return Err(io::Error::other(error));
            }
        }
        if let Some(app) = front.app() {
            // Nobody adds to it any more.
            let events = app.background.finish(deadline).await;
            if events > 0 {
                app.metrics.queued_lost.add(events);
                tracing::error!(
                    events,
                    "gave up events that were queued: the log did not take them in time"
                );
            }
        }
        // What cannot be told in time counts against limits only.
        let _ = timeout_at(deadline, front.finish_keys()).await;
        Ok(())
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    let listener = socket.bind(address).and_then(|()| socket.listen(BACKLOG));
    listener.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Accepts connections until `stopping` is set, then waits for those that are left.
async fn accept(
    listener: TcpListener,
    speech: Speech,
    front: Front,
    slots: Arc<Semaphore>,
    stopping: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    let metrics = front.metrics();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            Some(_) = refusals.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    metrics.connections_accepted.add(1);
                    match Arc::clone(&slots).try_acquire_owned() {
                        Ok(slot) => {
                            let open = metrics.connections_open.enter();
                            let (front, stopping) = (front.clone(), stopping.clone());
                            connections.spawn(async move {
                                let _held = (slot, open);
                                connection::serve(stream, speech, front, stopping).await;
                            });
                        }
                        Err(_) => {
                            metrics.connections_refused.add(1);
                            // Under TLS only a handshake could tell why, and that is what there is no room for.
                            let is_told = front.config().tls.is_none();
                            if is_told && refusals.len() < REFUSALS {
                                refusals.spawn(part(stream, REFUSAL));
                            }
                        }
                    }
                }
                Err(error) => {
                    metrics.accept_errors.add(1);
                    tracing::warn!(%error, "cannot accept a connection");
                    // Without a pause this would spin for as long as descriptors are short.
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let finished = timeout(front.config().drain_timeout, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if finished.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cut connections that did not finish in time"
        );
        connections.shutdown().await;
    }
}

/// Says something last to a client and closes. Closing at once would throw it away if the client
/// has sent something, so what it sends is read for a moment.
pub(crate) async fn part(mut stream: TcpStream, last: &[u8]) {
    let _ = timeout(PARTING, async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}
