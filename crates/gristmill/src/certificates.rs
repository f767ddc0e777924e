//! Looks after the files of certificates: they are read again when they have changed, or on SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gristmill_model::Clock;
use gristmill_server::{GatewayTls, ServerTls};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::supervisor::Part;

/// How often it is looked whether files have changed.
const EVERY: Duration = Duration::from_secs(1);

/// What was read of certificates, for listeners and for reaching others.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    pub(crate) server: Option<Arc<ServerTls>>,
    pub(crate) gateway: Option<Arc<GatewayTls>>,
}

/// Which files are read again.
#[derive(Clone, Copy)]
enum Which {
    Changed,
    All,
}

impl Certificates {
    /// Reads what the settings name.
    pub(crate) fn load(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let server = settings.server_tls().map(|files| ServerTls::load(files, Arc::clone(clock)));
        let gateway =
            settings.gateway_tls().map(|files| GatewayTls::load(files, Arc::clone(clock)));
        let (server, gateway) = (server.transpose()?, gateway.transpose()?);
        Ok(Self { server: server.map(Arc::new), gateway: gateway.map(Arc::new) })
    }

    /// What keeps them as their files are. Without any it keeps SIGHUP from ending the process.
    pub(crate) fn watch(self) -> anyhow::Result<Part> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        let has_files = self.server.is_some() || self.gateway.is_some();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let mut part = Part::new("certificates", async move { stop.cancel() });
        part.task("certificates", async move {
            loop {
                let which = tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    _ = hangup.recv() => Which::All,
                    () = sleep(EVERY), if has_files => Which::Changed,
                };
                let these = self.clone();
                // A disk may be slow, or on the other side of a network.
                let renewing = tokio::task::spawn_blocking(move || these.renew(which));
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    renewed = renewing => renewed?,
                }
            }
        });
        Ok(part)
    }

    fn renew(&self, which: Which) {
        match which {
            Which::All => {
                self.server.iter().for_each(|tls| tls.renew());
                self.gateway.iter().for_each(|tls| tls.renew());
            }
            Which::Changed => {
                self.server.iter().for_each(|tls| tls.renew_if_changed());
                self.gateway.iter().for_each(|tls| tls.renew_if_changed());
            }
        }
    }
}
