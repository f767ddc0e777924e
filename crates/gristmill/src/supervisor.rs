//! The supervisor: everything that runs, runs under it.
//!
//! A *part* is something that `serve` starts: its threads and tasks, and how it is asked to stop.
//! Nothing may end while the server serves: the first exit wins, and the process ends with an
//! error that names it. On SIGTERM or SIGINT the parts are stopped one after the other, in the
//! order they were added, under one deadline; a second signal ends the process at once.
//!
//! This is the one module that may spawn.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{error, info};

/// How long the server may go on answering after another part has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that is stopped as one: threads, tasks and the way to ask them to end.
pub(crate) struct Part {
    name: &'static str,
    stop: Stop,
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Part {
    /// A part that is asked to end by running `stop`; what it runs must then end by itself.
    pub(crate) fn new(name: &'static str, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name, stop: Box::pin(stop), running: JoinSet::new() }
    }

    /// Runs a future until it ends.
    pub(crate) fn task(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, task.await) });
    }

    /// Runs a function that blocks on a thread of its own.
    pub(crate) fn thread(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (tell, ended) = oneshot::channel();
        let body = move || {
            let _ = tell.send(run());
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .with_context(|| format!("cannot start thread {name}"))?;
        let panicked = || Err(anyhow!("its thread panicked"));
        self.task(name, async move { ended.await.unwrap_or_else(|_| panicked()) });
        Ok(())
    }

    /// The next thread or task to end, with what it left behind; never, if nothing runs.
    async fn next_exit(&mut self) -> (&'static str, anyhow::Result<()>) {
        match self.running.join_next().await {
            Some(Ok(exit)) => exit,
            Some(Err(panic)) => (self.name, Err(anyhow!(panic))),
            None => std::future::pending().await,
        }
    }

    /// Asks the part to end and waits until all of it has.
    async fn drain(mut self) -> anyhow::Result<()> {
        self.stop.await;
        while let Some(joined) = self.running.join_next().await {
            let (name, result) = joined.context(self.name)?;
            result.with_context(|| format!("{name} failed while stopping"))?;
        }
        info!(part = self.name, "stopped");
        Ok(())
    }
}

/// The signals that ask the process to stop.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens for them. Until then they end the process without order, so this comes before anything
    /// is started.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Runs the parts until a signal comes or one of them ends, whichever is first. `parts` are in the
/// order of stopping, the one that speaks to clients first.
pub(crate) async fn run(
    parts: Vec<Part>,
    drain_timeout: Duration,
    mut signals: StopSignals,
) -> anyhow::Result<()> {
    supervise(parts, drain_timeout, async || signals.next().await).await
}

async fn supervise(
    mut parts: Vec<Part>,
    drain_timeout: Duration,
    mut next_signal: impl AsyncFnMut() -> &'static str,
) -> anyhow::Result<()> {
    tokio::select! {
        (name, result) = first_exit(&mut parts) => {
            let reason = result.err().unwrap_or_else(|| anyhow!("it ended without being asked"));
            error!(part = name, reason = format!("{reason:#}"), "a part failed: the process ends");
            // Clients that wait for an answer get their error before the process is gone.
            if let Some(server) = parts.into_iter().next() {
                let _ = tokio::time::timeout(LAST_ANSWERS, server.drain()).await;
            }
            return Err(reason.context(format!("{name} failed")));
        }
        name = next_signal() => info!(signal = name, "stopping in order; again ends at once"),
    }
    tokio::select! {
        drained = drain_all(parts, drain_timeout) => drained,
        name = next_signal() => bail!("ended by a second {name} before everything was stopped"),
    }
}

async fn drain_all(parts: Vec<Part>, timeout: Duration) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    for part in parts {
        let name = part.name;
        let late = || format!("{name} did not stop within {} s", timeout.as_secs_f64());
        tokio::time::timeout_at(deadline, part.drain()).await.with_context(late)??;
    }
    Ok(())
}

/// Waits until anything of any part ends.
async fn first_exit(parts: &mut [Part]) -> (&'static str, anyhow::Result<()>) {
    let mut exits: Vec<_> = parts.iter_mut().map(|part| Box::pin(part.next_exit())).collect();
    std::future::poll_fn(|context| {
        let ready = exits.iter_mut().find_map(|exit| match exit.as_mut().poll(context) {
            std::task::Poll::Ready(exit) => Some(exit),
            std::task::Poll::Pending => None,
        });
        ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

#[cfg(test)]
mod tests;
