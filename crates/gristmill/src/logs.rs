//! The log that the settings ask for, and what names it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use gristmill_ingest::dialect;
use gristmill_log::EventLog;
use gristmill_log::embedded::{Disk as _, EmbeddedConfig, EmbeddedLog, RealDisk};
use gristmill_log::kafka::{ForeignRecord, ForeignRecords, KafkaConfig, KafkaLog};
use gristmill_model::{Clock, Entropy, Event, Positions, ProjectId};
use gristmill_store::Store;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{EmbeddedSettings, KafkaSettings, LogSettings, Settings};
use crate::roles::Ambient;
use crate::supervisor::Part;

/// The file in the data directory that names the log.
const LOG_ID: &str = "log-id";
/// How the name of a topic begins.
const KAFKA: &str = "kafka:";

/// A log that runs.
pub(crate) struct StartedLog {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) part: Part,
    pub(crate) origin: Origin,
}

/// Where a log comes from; printed for operators.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Files in the data directory.
    Embedded { log: Arc<EmbeddedLog>, place: String },
    /// A topic.
    Kafka { log: Arc<KafkaLog>, topic: String, brokers: String },
}

/// Starts the log. Must be called within a tokio runtime.
pub(crate) fn start(settings: &Settings, ambient: &Ambient) -> anyhow::Result<StartedLog> {
    match &settings.log {
        LogSettings::Embedded(embedded) => start_embedded(settings, embedded, ambient),
        LogSettings::Kafka(kafka) => start_kafka(kafka, Arc::clone(&ambient.clock)),
    }
}

fn start_embedded(
    settings: &Settings,
    embedded: &EmbeddedSettings,
    ambient: &Ambient,
) -> anyhow::Result<StartedLog> {
    let config = EmbeddedConfig {
        dir: settings.log_dir(),
        segment_bytes: embedded.segment_bytes.0,
        partitions: embedded.partitions,
        recent_bytes: embedded.recent_bytes.bytes(),
    };
    let place = settings.log_dir().display().to_string();
    let entropy = Arc::clone(&ambient.entropy);
    let (log, writer) = EmbeddedLog::open(config, Arc::new(RealDisk), entropy)
        .with_context(|| format!("cannot open the log in {place}"))?;
    let closing = Arc::clone(&log);
    let mut part = Part::new("log", async move { closing.close() });
    part.thread("log-writer", move || Ok(writer.run()?))?;
    let origin = Origin::Embedded { log: Arc::clone(&log), place };
    Ok(StartedLog { log, part, origin })
}

fn start_kafka(kafka: &KafkaSettings, clock: Arc<dyn Clock>) -> anyhow::Result<StartedLog> {
    let config = KafkaConfig {
        brokers: kafka.brokers.clone(),
        topic: kafka.topic.clone(),
        group: kafka.group.clone(),
        client_id: kafka.client_id.clone(),
        partitions: kafka.partitions,
        replication: kafka.replication,
        delivery_timeout: kafka.delivery_timeout.0,
        session_timeout: kafka.session_timeout.0,
        dead_letters: Some(kafka.dead_letters.clone()).filter(|topic| !topic.is_empty()),
        clock,
        traceparent: gristmill_server::current_traceparent,
        foreign: Arc::new(Dialects),
    };
    let (log, keeper) = KafkaLog::new(config);
    let closing = Arc::clone(&log);
    let mut part = Part::new("log", async move { closing.close() });
    part.thread("log-keeper", move || Ok(keeper.run()?))?;
    let (topic, brokers) = (kafka.topic.clone(), kafka.brokers.clone());
    let origin = Origin::Kafka { log: Arc::clone(&log), topic, brokers };
    Ok(StartedLog { log, part, origin })
}

impl StartedLog {
    /// What names the log to stores elsewhere, once it is known: cluster and topic, or a text that
    /// is made up when it is first asked for.
    pub(crate) fn name(
        &self,
        data_dir: &Path,
        entropy: &dyn Entropy,
    ) -> anyhow::Result<watch::Receiver<Option<String>>> {
        match &self.origin {
            Origin::Embedded { .. } => {
                Ok(watch::channel(Some(embedded_name(data_dir, entropy)?)).1)
            }
            Origin::Kafka { log, .. } => Ok(log.name()),
        }
    }
}

impl Origin {
    pub(crate) fn log(&self) -> &dyn EventLog {
        match self {
            Origin::Embedded { log, .. } => &**log,
            Origin::Kafka { log, .. } => &**log,
        }
    }

    /// Waits until it is known how far the log reaches; false if it was closed first.
    pub(crate) async fn reached(&self) -> bool {
        match self {
            Origin::Embedded { .. } => true,
            Origin::Kafka { log, .. } => log.reached().await,
        }
    }

    /// Waits until what is known of the log is no older than these positions of a store, which others
    /// may have settled since the log was last looked at; false if it was closed first.
    pub(crate) async fn looked_since(&self, held: &Positions) -> bool {
        match self {
            Origin::Embedded { .. } => true,
            Origin::Kafka { log, .. } => log.durable().covers(held) || log.looked_again().await,
        }
    }

    /// What names the topic among all there are, if this is one that has been reached.
    pub(crate) fn topic_name(&self) -> Option<String> {
        match self {
            Origin::Embedded { .. } => None,
            Origin::Kafka { log, .. } => log.name().borrow().clone(),
        }
    }

    /// What to do when the store is ahead.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Origin::Embedded { .. } => "restore both from the same backup",
            Origin::Kafka { .. } => {
                "if the topic was deleted and made anew, take another name for it in log.topic"
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Embedded { place, .. } => write!(f, "the log in {place}"),
            Origin::Kafka { topic, brokers, .. } => write!(f, "the topic {topic} at {brokers}"),
        }
    }
}

/// Makes sure that the files of a store are filled from no other log: from the topic of that name,
/// or from the log in the same data directory.
pub(crate) fn claim(data_dir: &Path, topic: Option<&str>, store: &dyn Store) -> anyhow::Result<()> {
    let held = read_name(data_dir)?;
    let held = held.as_deref().filter(|name| name.starts_with(KAFKA));
    let is_empty = store.progress().durable == Positions::start();
    let place = data_dir.display();
    match (held, topic) {
        (Some(held), Some(topic)) if held == topic => Ok(()),
        (None, None) => Ok(()),
        (None, Some(topic)) if is_empty => write_name(data_dir, topic),
        (held, topic) => {
            let own = "the log beside it";
            anyhow::bail!(
                "the store in {place} was filled from {}, and log.kind says {}: take another \
                 data_dir, or the log that it belongs to",
                held.unwrap_or(own),
                topic.unwrap_or(own)
            )
        }
    }
}

/// What names the log of a data directory. The log's lock must be held.
fn embedded_name(data_dir: &Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    if let Some(name) = read_name(data_dir)? {
        ensure!(
            !name.starts_with(KAFKA),
            "data_dir: {} belongs to {name}: take another for a log of its own",
            data_dir.display()
        );
        return Ok(name);
    }
    let name = format!("{:032x}", entropy.next_u128());
    write_name(data_dir, &name)?;
    Ok(name)
}

fn read_name(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let path = data_dir.join(LOG_ID);
    match std::fs::read_to_string(&path) {
        Ok(name) => Ok(Some(name.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| cannot(&path)),
    }
}

fn write_name(data_dir: &Path, name: &str) -> anyhow::Result<()> {
    let path = data_dir.join(LOG_ID);
    let new_path = path.with_extension("tmp");
    let write = || {
        let file = RealDisk.create(&new_path)?;
        file.write_at(name.as_bytes(), 0)?;
        file.sync_all()?;
        RealDisk.rename(&new_path, &path)?;
        RealDisk.sync_dir(data_dir)
    };
    write().with_context(|| cannot(&path))
}

fn cannot(path: &Path) -> String {
    format!("data_dir: cannot read or write {}", path.display())
}

/// Reads what other producers write to a topic: events of every dialect.
struct Dialects;

impl ForeignRecords for Dialects {
    fn read(&self, record: &ForeignRecord<'_>) -> Result<Event<'static>, String> {
        let place = Place(place_of(record));
        let context = dialect::Context {
            project: ProjectId::new("default"),
            received: record.time,
            idempotency_key: None,
            entropy: &place,
        };
        dialect::foreign(record.value, &context).map(Event::into_owned)
    }
}

/// What would be random in the id of an event follows from where its record lies, so that it is the
/// same whenever it is read.
struct Place(u128);

impl Entropy for Place {
    fn next_u128(&self) -> u128 {
        self.0
    }
}

fn place_of(record: &ForeignRecord<'_>) -> u128 {
    let text = format!("{}/{}/{}", record.topic, record.partition, record.offset);
    xxh3_128(text.as_bytes())
}

#[cfg(test)]
mod tests;
