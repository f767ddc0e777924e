//! How long it takes until an acknowledged event can be queried, measured on a sample.
//!
//! One acknowledgement at a time is watched until the store has taken it in, so that measuring
//! costs the same however many events there are.

use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::Positions;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// The acknowledgement that is being watched, if any.
#[derive(Debug, Default)]
pub(crate) struct Sample(Mutex<Option<(Positions, Instant)>>);

/// Watches an acknowledgement unless another one is being watched.
pub(crate) fn watch(app: &App, positions: &Positions, since: Instant) {
    let Ok(mut sample) = app.visibility.0.try_lock() else { return };
    if sample.is_none() {
        *sample = Some((positions.clone(), since));
        drop(sample);
        // The store may have taken it in before it was watched.
        settle(app);
    }
}

/// Looks at the sample at every commit, until `stopping` is set.
pub(crate) async fn measure(app: Arc<App>, stopping: CancellationToken) {
    let mut progress = app.services.store.watch();
    let settling = async {
        while progress.changed().await.is_ok() {
            settle(&app);
        }
        // The store is closed; nothing more becomes visible.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = settling => {}
    }
}

fn settle(app: &App) {
    let committed = app.services.store.progress().committed;
    let mut sample = app.visibility.0.lock().unwrap_or_else(PoisonError::into_inner);
    if sample.as_ref().is_some_and(|(positions, _)| committed.covers(positions))
        && let Some((_, since)) = sample.take()
    {
        app.metrics.visible.record(since.elapsed());
    }
}
