//! Upkeep: how the store keeps up while events come in. What is not merged yet makes questions
//! slower, so a rate is good for ever only if this debt does not grow.

use std::sync::Arc;
use std::time::Duration;

use gristmill_client::Client;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// The store at one time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct StoreTotals {
    /// Events that count.
    pub(crate) stored: u64,
    /// Of these, events that are in memory and not in files yet.
    pub(crate) hot_rows: u64,
    /// Files of events.
    pub(crate) parts: u64,
    /// Events in files that wait to be merged.
    pub(crate) merge_debt_rows: u64,
}

/// A look at the store.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Look {
    /// When, from the start of the load.
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) totals: StoreTotals,
}

#[derive(Deserialize)]
struct Stats {
    store: StoreTotals,
}

/// What the store says of itself now.
pub(crate) async fn store_totals(client: &Client) -> anyhow::Result<StoreTotals> {
    Ok(client.get_json::<Stats>("/stats").await?.store)
}

/// Looks at the store now and then until `end`. A look that fails is left out.
pub(crate) async fn watch_store(client: Arc<Client>, end: Instant) -> Vec<Look> {
    let started = Instant::now();
    let mut looks = Vec::new();
    loop {
        tokio::time::sleep_until((Instant::now() + PAUSE).min(end)).await;
        if let Ok(totals) = store_totals(&client).await {
            looks.push(Look { seconds: started.elapsed().as_secs_f64(), totals });
        }
        if Instant::now() >= end {
            return looks;
        }
    }
}
