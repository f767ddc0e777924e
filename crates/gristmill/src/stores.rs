//! The store that the settings ask for, and whether it belongs to the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, ensure};
use gristmill_model::{Positions, Timestamp};
use gristmill_server::Role;
use gristmill_store::Store;
use gristmill_store::columnar::{ColumnarConfig, ColumnarStore};
use gristmill_store::postgres::{PostgresConfig, PostgresStore, Windows};

use crate::config::{ColumnarSettings, PostgresSettings, Settings, StoreSettings};
use crate::logs::{Origin, StartedLog, claim};
use crate::roles::Ambient;
use crate::supervisor::Part;

/// A store that may have to find its server before events can be settled in it.
pub(crate) struct Started {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) part: Part,
    /// Ends when the positions are known and go together with those of the log.
    pub(crate) ready: Later<anyhow::Result<()>>,
    /// Ends when the server cannot be reached; never, if there is none.
    pub(crate) out_of_reach: Later<()>,
}

pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Starts the store. Must be called within a tokio runtime.
pub(crate) fn start(
    settings: &Settings,
    ambient: &Ambient,
    log: &StartedLog,
) -> anyhow::Result<Started> {
    match &settings.store {
        StoreSettings::Columnar(columnar) => start_columnar(settings, columnar, ambient, log),
        StoreSettings::Postgres(postgres) => start_postgres(settings, postgres, ambient, log),
    }
}

fn start_columnar(
    settings: &Settings,
    columnar: &ColumnarSettings,
    ambient: &Ambient,
    log: &StartedLog,
) -> anyhow::Result<Started> {
    let config = ColumnarConfig {
        dir: settings.store_dir(),
        shards: columnar.shards,
        slice: i64::from(columnar.slice_days).saturating_mul(Timestamp::DAY),
        seal_bytes: columnar.seal_bytes.bytes(),
        seal_age: columnar.seal_age.micros(),
        tidy_after: columnar.tidy_after.micros(),
        window: columnar.window.micros(),
        window_bytes: columnar.window_bytes.bytes(),
        // The rest is for what questions under way hold, and what is lost between allocations.
        cache_bytes: settings.query.memory_bytes.bytes() / 8 * 5,
    };
    let opened = ColumnarStore::open(config, Arc::clone(&ambient.clock), ambient.entropy.as_ref());
    let (store, sealer, merger) = opened
        .with_context(|| format!("cannot open the store in {}", settings.store_dir().display()))?;
    let ready = columnar_ready(settings, log, Arc::clone(&store) as _)?;
    let closing = Arc::clone(&store);
    let mut part = Part::new("store", async move { closing.close() });
    part.thread("store-sealer", move || Ok(sealer.run()?))?;
    part.thread("store-merger", move || Ok(merger.run()?))?;
    Ok(Started { store, part, ready, out_of_reach: Box::pin(std::future::pending()) })
}

fn start_postgres(
    settings: &Settings,
    postgres: &PostgresSettings,
    ambient: &Ambient,
    log: &StartedLog,
) -> anyhow::Result<Started> {
    let address = &postgres.url.0;
    let windows = Windows { interval: postgres.flush_interval.0, events: postgres.flush_events };
    let config = PostgresConfig {
        address: address.clone(),
        connections: postgres.connections,
        statement_timeout: settings.query.deadline.0,
        log: log.name(&settings.data_dir, ambient.entropy.as_ref())?,
        committers: settings.process.workers,
        windows: settings.roles().contains(&Role::Process).then_some(windows),
        // Before a server is reached, nothing is known of where it begins.
        log_start: log.log.start(),
    };
    let (store, keeper) = PostgresStore::new(config);
    let closing = Arc::clone(&store);
    let stop = async move {
        closing.finish().await;
        closing.close();
    };
    let mut part = Part::new("store", stop);
    part.task("store-keeper", async move { Ok(keeper.run().await?) });
    let (origin, address, reached) = (log.origin.clone(), address.clone(), Arc::clone(&store));
    let ready = async move {
        if origin.reached().await {
            reached.reached().await?;
            let held = reached.progress().durable;
            if origin.looked_since(&held).await {
                belong_together(&origin, &address, &held)?;
            }
        }
        Ok(())
    };
    let waiting = Arc::clone(&store);
    let out_of_reach = Box::pin(async move { waiting.out_of_reach().await });
    Ok(Started { store, part, ready: Box::pin(ready), out_of_reach })
}

/// Files belong to the log that they were first filled from. Whether that is this one is known at
/// once, or when the log's server is reached.
fn columnar_ready(
    settings: &Settings,
    log: &StartedLog,
    store: Arc<dyn Store>,
) -> anyhow::Result<Later<anyhow::Result<()>>> {
    let (data_dir, place) = (settings.data_dir.clone(), settings.store_dir());
    let origin = log.origin.clone();
    if let Origin::Embedded { .. } = &origin {
        claim(&data_dir, None, &*store)?;
        belong_together(&origin, &place.display(), &store.progress().durable)?;
        return Ok(Box::pin(std::future::ready(Ok(()))));
    }
    Ok(Box::pin(async move {
        if origin.reached().await {
            claim(&data_dir, origin.topic_name().as_deref(), &*store)?;
            belong_together(&origin, &place.display(), &store.progress().durable)?;
        }
        Ok(())
    }))
}

/// Makes sure that the log reaches as far as what a store held, and back to it.
fn belong_together(
    origin: &Origin,
    place: &dyn std::fmt::Display,
    held: &Positions,
) -> anyhow::Result<()> {
    let log = origin.log();
    ensure!(
        log.durable().covers(held),
        "{origin} does not reach as far as the store in {place}: they do not belong together, or \
         one of them was lost; {}",
        origin.advice()
    );
    // Whoever comes to a topic for the first time finds it as others left it.
    let is_first = |next: u64| next == 0 && !matches!(origin, Origin::Embedded { .. });
    let missing = log
        .start()
        .iter()
        .any(|(partition, start)| held.next(partition) < start && !is_first(held.next(partition)));
    ensure!(
        !missing,
        "{origin} begins behind what the store in {place} holds, so the events between are missing: \
         restore the store from a backup",
    );
    Ok(())
}
