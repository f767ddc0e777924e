//! Settings: what an operator may choose, and where each choice comes from.
//!
//! `gristmill.default.toml` is the manual of every setting and the first layer; then come a preset, a
//! file, the environment and flags. A setting that does not exist is an error in every layer.

mod admin_key;
mod cache;
mod database;
mod gateway;
mod kafka;
mod lowest;
mod presets;
mod roles;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use config::{Config, Environment, File, FileFormat};
use gristmill_model::limits;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use admin_key::AdminKeyText;
pub(crate) use cache::CacheSettings;
pub(crate) use database::{CHOOSE_POSTGRES, DatabaseUrl};
pub(crate) use gateway::{GatewaySettings, Target};
pub(crate) use kafka::KafkaSettings;
pub(crate) use presets::Preset;
pub(crate) use roles::{ProcessSettings, RoleName};
pub(crate) use tls::{GatewayTlsSettings, ServerTlsSettings};

use crate::telemetry::LogFormat;
use crate::units::{ByteSize, Ratio, Span};

/// The manual of all settings, which is also their defaults.
pub(crate) const DEFAULTS: &str = include_str!("../gristmill.default.toml");

/// Where it listens for gRPC.
const GRPC_LISTEN: &str = "server.grpc_listen";
/// The settings that are lists. Variables separate their items by commas; an empty one is the empty list.
const LISTS: [&str; 6] = [
    "server.listen",
    GRPC_LISTEN,
    "server.cors_origins",
    "gateway.ingest",
    "gateway.query",
    "roles",
];

/// What flags say about settings; the last layer.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// A file of settings; it names only what it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Take the defaults of an older system: its topic, group, database and addresses
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) preset: Option<Preset>,
    /// Where the log and the store are kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// An address to listen on; may be given several times [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// What this process does: ingest, process, query or gateway; may be given several times, or
    /// with commas between [default: ingest,process,query]
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    pub(crate) roles: Vec<RoleName>,
    /// An address to listen on for gRPC, where clients call and gateways have this process answer; may be
    /// given several times [default: 127.0.0.1:50051 where clients speak to the process, else none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) grpc_listen: Vec<SocketAddr>,
    /// Listen beyond this machine although there are no API keys: anyone who can reach the
    /// address may read and write everything
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) roles: Vec<RoleName>,
    pub(crate) data_dir: PathBuf,
    pub(crate) server: ServerSettings,
    pub(crate) gateway: GatewaySettings,
    pub(crate) log: LogSettings,
    pub(crate) ingest: IngestSettings,
    pub(crate) process: ProcessSettings,
    pub(crate) store: StoreSettings,
    pub(crate) cache: CacheSettings,
    pub(crate) query: QuerySettings,
    pub(crate) telemetry: TelemetrySettings,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerSettings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) grpc_listen: Vec<SocketAddr>,
    pub(crate) admin_key: AdminKeyText,
    pub(crate) admin_key_file: PathBuf,
    pub(crate) insecure_no_auth: bool,
    pub(crate) max_connections: usize,
    pub(crate) header_timeout: Span,
    pub(crate) keep_alive_timeout: Span,
    pub(crate) body_idle_timeout: Span,
    pub(crate) body_timeout: Span,
    pub(crate) write_timeout: Span,
    pub(crate) request_timeout: Span,
    pub(crate) visible_timeout: Span,
    pub(crate) drain_timeout: Span,
    pub(crate) grpc_reflection: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) tls: ServerTlsSettings,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum LogSettings {
    /// Files in the data directory.
    Embedded(EmbeddedSettings),
    /// A topic of Apache Kafka.
    Kafka(Box<KafkaSettings>),
}

/// `[log]` of kind `embedded`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddedSettings {
    pub(crate) partitions: u32,
    pub(crate) segment_bytes: ByteSize,
    pub(crate) recent_bytes: ByteSize,
}

/// `[ingest]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestSettings {
    pub(crate) max_body_bytes: ByteSize,
    pub(crate) max_inflated_bytes: ByteSize,
    pub(crate) max_in_flight_bytes: ByteSize,
    pub(crate) paced_backlog_records: u64,
    pub(crate) max_backlog_records: u64,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum StoreSettings {
    /// Parquet files in the data directory.
    Columnar(ColumnarSettings),
    /// Tables of a PostgreSQL server.
    Postgres(Box<PostgresSettings>),
}

/// `[store]` of kind `columnar`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnarSettings {
    pub(crate) shards: u32,
    pub(crate) seal_bytes: ByteSize,
    pub(crate) seal_age: Span,
    pub(crate) tidy_after: Span,
    pub(crate) window: Span,
    pub(crate) window_bytes: ByteSize,
    pub(crate) slice_days: u32,
}

/// `[store]` of kind `postgres`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresSettings {
    pub(crate) url: DatabaseUrl,
    #[serde(default = "default_connections")]
    pub(crate) connections: usize,
    #[serde(default = "default_flush_interval")]
    pub(crate) flush_interval: Span,
    #[serde(default = "default_flush_events")]
    pub(crate) flush_events: u64,
}

/// The manual's section is about the other kind of store, so these defaults stand here too.
fn default_connections() -> usize {
    8
}

fn default_flush_interval() -> Span {
    Span(Duration::from_secs(30))
}

fn default_flush_events() -> u64 {
    100
}

/// `[query]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuerySettings {
    pub(crate) threads: usize,
    pub(crate) deadline: Span,
    pub(crate) memory_bytes: ByteSize,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetrySettings {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
    pub(crate) otlp_endpoint: String,
    pub(crate) otlp_service_name: String,
    pub(crate) otlp_sample_ratio: Ratio,
}

impl Settings {
    /// Lays the layers over each other and checks what comes out. Errors name the setting.
    pub(crate) fn load(
        flags: &Flags,
        environment: &HashMap<String, String>,
    ) -> anyhow::Result<Self> {
        let lowest = lowest::layers(flags, environment)?;
        let layers = Self::layers(&lowest, flags, environment)?;
        let settings: Settings = layers
            .try_deserialize()
            .context("the settings cannot be used (`gristmill config --defaults` explains them)")?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether the addresses for gRPC are nobody's wish: they are only the default's.
    pub(crate) fn listens_for_grpc_by_default(
        flags: &Flags,
        environment: &HashMap<String, String>,
    ) -> anyhow::Result<bool> {
        let above = Self::layers(&[], flags, environment)?;
        Ok(above.get_array(GRPC_LISTEN).is_err() && flags.preset.is_none())
    }

    /// Lays a file, the environment and flags over some texts.
    fn layers(
        lowest: &[String],
        flags: &Flags,
        environment: &HashMap<String, String>,
    ) -> anyhow::Result<Config> {
        let mut layers = Config::builder();
        for text in lowest {
            layers = layers.add_source(File::from_str(text, FileFormat::Toml));
        }
        if let Some(path) = &flags.config {
            let name = path.to_str().context("--config: the path is not valid UTF-8")?;
            layers = layers.add_source(File::new(name, FileFormat::Toml));
        }
        layers = layers.add_source(Self::of_environment(environment)?);
        if let Some(data_dir) = &flags.data_dir {
            let text = data_dir.to_str().context("--data-dir: the path is not valid UTF-8")?;
            layers = layers.set_override("data_dir", text)?;
        }
        let texts = |flags: &[SocketAddr]| flags.iter().map(ToString::to_string).collect();
        let roles: Vec<String> = flags.roles.iter().map(ToString::to_string).collect();
        for (name, texts) in [
            ("server.listen", texts(&flags.listen)),
            (GRPC_LISTEN, texts(&flags.grpc_listen)),
            ("roles", roles),
        ] {
            if !texts.is_empty() {
                layers = layers.set_override(name, texts)?;
            }
        }
        if flags.insecure_no_auth {
            layers = layers.set_override("server.insecure_no_auth", true)?;
        }
        layers
            .build()
            .context("the settings cannot be used (`gristmill config --defaults` explains them)")
    }

    /// What the environment says. All of it is text, which is read as a number only where a number is
    /// expected: a name or a password may be of digits.
    fn of_environment(environment: &HashMap<String, String>) -> anyhow::Result<Config> {
        let (mut texts, mut lists) = (HashMap::new(), Vec::new());
        for (name, text) in environment {
            let name_of_setting = name.to_lowercase();
            let setting = name_of_setting.strip_prefix("gristmill__").unwrap_or_default();
            let setting = setting.replace("__", ".");
            match LISTS.iter().find(|list| **list == setting) {
                Some(list) => lists.push((*list, text)),
                None => drop(texts.insert(name.clone(), text.clone())),
            }
        }
        let environment = Environment::with_prefix("GRISTMILL")
            .prefix_separator("__")
            .separator("__")
            .source(Some(texts.into_iter().collect()));
        let mut layer = Config::builder().add_source(environment);
        for (list, text) in lists {
            let items: Vec<&str> = text.split(',').filter(|_| !text.is_empty()).collect();
            layer = layer.set_override(list, items)?;
        }
        layer.build().context("the environment's settings cannot be used")
    }

    /// The log's directory.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// The store's directory.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// All settings as a file that `--config` takes, but for passwords, which it leaves out.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("the settings cannot be written")
    }

    /// What no type can say.
    fn check(&self) -> anyhow::Result<()> {
        self.check_server()?;
        self.check_roles()?;
        self.check_tls()?;
        self.log.check()?;
        let ingest = &self.ingest;
        ensure!(
            ingest.max_in_flight_bytes.0
                >= ingest.max_body_bytes.0.saturating_add(ingest.max_inflated_bytes.0),
            "ingest.max_in_flight_bytes: {} is less than ingest.max_body_bytes and \
             ingest.max_inflated_bytes together, so the largest request would never be admitted",
            ingest.max_in_flight_bytes
        );
        self.store.check()?;
        self.cache.check()?;
        ensure!(!self.query.deadline.0.is_zero(), "query.deadline: must be longer than 0s");
        Ok(())
    }

    fn check_server(&self) -> anyhow::Result<()> {
        let server = &self.server;
        ensure!(!server.listen.is_empty(), "server.listen: at least one address is needed");
        ensure!(server.max_connections > 0, "server.max_connections: must be at least 1");
        ensure!(
            server.cors_origins.len() <= limits::CORS_ORIGINS,
            "server.cors_origins: at most {} origins",
            limits::CORS_ORIGINS
        );
        for origin in &server.cors_origins {
            let is_origin = ["http://", "https://"].iter().any(|scheme| {
                origin.strip_prefix(scheme).is_some_and(|host| {
                    !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
                })
            });
            ensure!(
                is_origin && !origin.contains('*'),
                "server.cors_origins: {origin:?} is no origin: write it like https://example.com, \
                 without a path and without *"
            );
        }
        server.admin_key().map(drop)
    }
}

impl ServerSettings {
    /// An address, with the setting that names it, at which other machines reach this process, which so
    /// may not serve without API keys, unless that is asked for by name.
    pub(crate) fn demands_keys(&self) -> Option<String> {
        let all = [("server.listen", &self.listen), ("server.grpc_listen", &self.grpc_listen)];
        let mut all = all.iter().flat_map(|(name, list)| list.iter().map(move |it| (name, it)));
        let (name, address) = all.find(|(_, address)| !address.ip().is_loopback())?;
        (!self.insecure_no_auth).then(|| format!("{name}: {address}"))
    }
}

impl LogSettings {
    fn check(&self) -> anyhow::Result<()> {
        let log = match self {
            LogSettings::Embedded(log) => log,
            LogSettings::Kafka(log) => return log.check(),
        };
        ensure!(
            (1..=limits::PARTITIONS).contains(&log.partitions),
            "log.partitions: {} is not between 1 and {}",
            log.partitions,
            limits::PARTITIONS
        );
        let least = ByteSize(2 * limits::FRAME_BYTES as u64);
        ensure!(
            log.segment_bytes >= least,
            "log.segment_bytes: {} is less than {least}, room for two of the largest batches",
            log.segment_bytes
        );
        Ok(())
    }
}

impl StoreSettings {
    fn check(&self) -> anyhow::Result<()> {
        match self {
            StoreSettings::Columnar(store) => {
                ensure!(
                    (1..=limits::SHARDS).contains(&store.shards),
                    "store.shards: {} is not between 1 and {}",
                    store.shards,
                    limits::SHARDS
                );
                ensure!(store.seal_bytes.0 > 0, "store.seal_bytes: must be at least 1 B");
                ensure!(store.slice_days > 0, "store.slice_days: must be at least 1");
            }
            StoreSettings::Postgres(store) => {
                ensure!(
                    (1..=1_000).contains(&store.connections),
                    "store.connections: {} is not between 1 and 1000",
                    store.connections
                );
                let shortest = Span(Duration::from_secs(1));
                ensure!(
                    store.flush_interval.0 >= shortest.0,
                    "store.flush_interval: {} is less than {shortest}",
                    store.flush_interval
                );
                ensure!(store.flush_events > 0, "store.flush_events: must be at least 1");
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for LogSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Section::deserialize(deserializer)?;
        match section.kind.as_str() {
            "embedded" => section.read().map(LogSettings::Embedded),
            "kafka" => section.read().map(LogSettings::Kafka),
            other => Err(D::Error::unknown_variant(other, &["embedded", "kafka"])),
        }
    }
}

impl<'de> Deserialize<'de> for StoreSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Section::deserialize(deserializer)?;
        match section.kind.as_str() {
            "columnar" => section.read().map(StoreSettings::Columnar),
            "postgres" => section.read().map(StoreSettings::Postgres),
            other => Err(D::Error::unknown_variant(other, &["columnar", "postgres"])),
        }
    }
}

/// A section whose `kind` says what else it may hold. Serde's own tagged enums would do, but their
/// errors do not name the key.
#[derive(Deserialize)]
struct Section {
    kind: String,
    #[serde(flatten)]
    rest: config::Map<String, config::Value>,
}

impl Section {
    fn read<T: serde::de::DeserializeOwned, E: de::Error>(self) -> Result<T, E> {
        T::deserialize(config::Value::from(self.rest)).map_err(E::custom)
    }
}

#[cfg(test)]
mod roles_tests;
#[cfg(test)]
mod tests;
