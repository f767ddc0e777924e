//! The store that the settings ask for, and whether it belongs to the log.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, ensure};
use gristmill_log::EventLog;
use gristmill_log::embedded::{Disk as _, RealDisk};
use gristmill_model::{Entropy, Timestamp};
use gristmill_store::Store;
use gristmill_store::columnar::{ColumnarConfig, ColumnarStore};
use gristmill_store::postgres::{PostgresConfig, PostgresStore, Windows};

use crate::config::{ColumnarSettings, PostgresSettings, Settings, StoreSettings};
use crate::roles::Ambient;
use crate::supervisor::Part;

/// The file in the data directory that names the log.
const LOG_ID: &str = "log-id";

/// A store that may have to find its server before events can be settled in it.
pub(crate) struct Started {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) part: Part,
    /// Ends when the positions are known and go together with those of the log.
    pub(crate) ready: Later<anyhow::Result<()>>,
    /// Ends when the server cannot be reached; never, if there is none.
    pub(crate) out_of_reach: Later<()>,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Starts the store. Must be called within a tokio runtime.
pub(crate) fn start(
    settings: &Settings,
    ambient: &Ambient,
    log: &Arc<dyn EventLog>,
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
    log: &Arc<dyn EventLog>,
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
    belong_together(&settings.log_dir(), &**log, &settings.store_dir().display(), &*store)?;
    let closing = Arc::clone(&store);
    let mut part = Part::new("store", async move { closing.close() });
    part.thread("store-sealer", move || Ok(sealer.run()?))?;
    part.thread("store-merger", move || Ok(merger.run()?))?;
    let ready = Box::pin(std::future::ready(Ok(())));
    Ok(Started { store, part, ready, out_of_reach: Box::pin(std::future::pending()) })
}

fn start_postgres(
    settings: &Settings,
    postgres: &PostgresSettings,
    ambient: &Ambient,
    log: &Arc<dyn EventLog>,
) -> anyhow::Result<Started> {
    let address = &postgres.url.0;
    let config = PostgresConfig {
        address: address.clone(),
        connections: postgres.connections,
        statement_timeout: settings.query.deadline.0,
        log: log_id(&settings.data_dir, ambient.entropy.as_ref())?,
        windows: Windows { interval: postgres.flush_interval.0, events: postgres.flush_events },
        log_start: log.start(),
    };
    let (store, keeper) = PostgresStore::new(config);
    let closing = Arc::clone(&store);
    let stop = async move {
        closing.finish().await;
        closing.close();
    };
    let mut part = Part::new("store", stop);
    part.task("store-keeper", async move { Ok(keeper.run().await?) });
    let (log, log_dir) = (Arc::clone(log), settings.log_dir());
    let (address, reached) = (address.clone(), Arc::clone(&store));
    let ready = async move {
        reached.reached().await?;
        belong_together(&log_dir, &*log, &address, &*reached)
    };
    let waiting = Arc::clone(&store);
    let out_of_reach = Box::pin(async move { waiting.out_of_reach().await });
    Ok(Started { store, part, ready: Box::pin(ready), out_of_reach })
}

/// Makes sure that the log reaches as far as the store, and back to it.
fn belong_together(
    log_dir: &Path,
    log: &dyn EventLog,
    place: &dyn std::fmt::Display,
    store: &dyn Store,
) -> anyhow::Result<()> {
    let held = store.progress().durable;
    let log_dir = log_dir.display();
    ensure!(
        log.durable().covers(&held),
        "the log in {log_dir} does not reach as far as the store in {place}: they do not belong \
         together, or one of them was lost; restore both from the same backup",
    );
    ensure!(
        held.covers(&log.start()),
        "the log in {log_dir} begins behind what the store in {place} holds, so the events between \
         are missing: restore the store from a backup",
    );
    Ok(())
}

/// What names the log of a data directory to stores elsewhere, made up when it is first asked for.
/// The log's lock must be held.
fn log_id(data_dir: &Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    let (path, new_path) = (data_dir.join(LOG_ID), data_dir.join(LOG_ID).with_extension("tmp"));
    let cannot = || format!("data_dir: cannot read or write {}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(id) => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(cannot),
    }
    let id = format!("{:032x}", entropy.next_u128());
    let write = || {
        let file = RealDisk.create(&new_path)?;
        file.write_at(id.as_bytes(), 0)?;
        file.sync_all()?;
        RealDisk.rename(&new_path, &path)?;
        RealDisk.sync_dir(data_dir)
    };
    write().with_context(cannot)?;
    Ok(id)
}
