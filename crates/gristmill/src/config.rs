//! Settings: what an operator may choose, and where each choice comes from.
//!
//! `gristmill.default.toml` is the manual of every setting and the first layer; then come a file,
//! the environment and flags. A setting that does not exist is an error in every layer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use config::{Config, Environment, File, FileFormat};
use gristmill_model::limits;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::telemetry::LogFormat;
use crate::units::{ByteSize, Span};

/// The manual of all settings, which is also their defaults.
pub(crate) const DEFAULTS: &str = include_str!("../gristmill.default.toml");

/// What flags say about settings; the last layer.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// A file of settings; it names only what it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the log and the store are kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// An address to listen on; may be given several times [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Listen beyond this machine although there are no API keys: anyone who can reach the
    /// address may read and write everything
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) server: ServerSettings,
    pub(crate) log: LogSettings,
    pub(crate) ingest: IngestSettings,
    pub(crate) store: StoreSettings,
    pub(crate) query: QuerySettings,
    pub(crate) telemetry: TelemetrySettings,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerSettings {
    pub(crate) listen: Vec<SocketAddr>,
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
    pub(crate) dashboard_origin: String,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum LogSettings {
    /// Files in the data directory.
    Embedded(EmbeddedSettings),
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
}

impl Settings {
    /// Lays the layers over each other and checks what comes out. Errors name the setting.
    pub(crate) fn load(
        flags: &Flags,
        environment: HashMap<String, String>,
    ) -> anyhow::Result<Self> {
        let mut layers = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = &flags.config {
            let name = path.to_str().context("--config: the path is not valid UTF-8")?;
            layers = layers.add_source(File::new(name, FileFormat::Toml));
        }
        let environment = Environment::with_prefix("GRISTMILL")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("server.listen")
            .source(Some(environment.into_iter().collect()));
        layers = layers.add_source(environment);
        if let Some(data_dir) = &flags.data_dir {
            let text = data_dir.to_str().context("--data-dir: the path is not valid UTF-8")?;
            layers = layers.set_override("data_dir", text)?;
        }
        if !flags.listen.is_empty() {
            let addresses: Vec<String> = flags.listen.iter().map(ToString::to_string).collect();
            layers = layers.set_override("server.listen", addresses)?;
        }
        if flags.insecure_no_auth {
            layers = layers.set_override("server.insecure_no_auth", true)?;
        }
        let settings: Settings = layers
            .build()
            .and_then(Config::try_deserialize)
            .context("the settings cannot be used (`gristmill config --defaults` explains them)")?;
        settings.check()?;
        Ok(settings)
    }

    /// The log's directory.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// The store's directory.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// All settings as a file that `--config` takes.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("the settings cannot be written")
    }

    /// What no type can say.
    fn check(&self) -> anyhow::Result<()> {
        self.check_addresses()?;
        ensure!(self.server.max_connections > 0, "server.max_connections: must be at least 1");
        let LogSettings::Embedded(log) = &self.log;
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
        let ingest = &self.ingest;
        ensure!(
            ingest.max_in_flight_bytes.0
                >= ingest.max_body_bytes.0.saturating_add(ingest.max_inflated_bytes.0),
            "ingest.max_in_flight_bytes: {} is less than ingest.max_body_bytes and \
             ingest.max_inflated_bytes together, so the largest request would never be admitted",
            ingest.max_in_flight_bytes
        );
        let StoreSettings::Columnar(store) = &self.store;
        ensure!(
            (1..=256).contains(&store.shards),
            "store.shards: {} is not between 1 and 256",
            store.shards
        );
        ensure!(store.seal_bytes.0 > 0, "store.seal_bytes: must be at least 1 B");
        ensure!(store.slice_days > 0, "store.slice_days: must be at least 1");
        ensure!(!self.query.deadline.0.is_zero(), "query.deadline: must be longer than 0s");
        Ok(())
    }

    /// Without API keys only this machine may come in, unless that is asked for by name.
    fn check_addresses(&self) -> anyhow::Result<()> {
        ensure!(!self.server.listen.is_empty(), "server.listen: at least one address is needed");
        let open = self.server.listen.iter().find(|address| !address.ip().is_loopback());
        match open {
            Some(address) if !self.server.insecure_no_auth => bail!(
                "server.listen: {address} can be reached from other machines and there are no API \
                 keys: listen on 127.0.0.1, or allow it with --insecure-no-auth"
            ),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for LogSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Section::deserialize(deserializer)?;
        match section.kind.as_str() {
            "embedded" => section.read().map(LogSettings::Embedded),
            other => Err(D::Error::unknown_variant(other, &["embedded"])),
        }
    }
}

impl<'de> Deserialize<'de> for StoreSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Section::deserialize(deserializer)?;
        match section.kind.as_str() {
            "columnar" => section.read().map(StoreSettings::Columnar),
            other => Err(D::Error::unknown_variant(other, &["columnar"])),
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
mod tests {
    use std::time::Duration;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn from_file(text: &str) -> (tempfile::TempDir, Flags) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gristmill.toml");
        std::fs::write(&path, text).unwrap();
        (dir, Flags { config: Some(path), ..Flags::default() })
    }

    fn error_of(file: &str, variables: &[(&str, &str)]) -> String {
        let (_dir, flags) = from_file(file);
        format!("{:#}", Settings::load(&flags, environment(variables)).unwrap_err())
    }

    #[test]
    fn the_defaults_are_whole_and_print_as_they_are_read() {
        let settings = Settings::load(&Flags::default(), HashMap::new()).unwrap();
        assert_eq!(settings.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(settings.log_dir(), PathBuf::from("./data/log"));
        let (_dir, flags) = from_file(&settings.to_toml().unwrap());
        assert_eq!(Settings::load(&flags, HashMap::new()).unwrap(), settings);
    }

    #[test]
    fn a_later_layer_wins() {
        let (_dir, mut flags) = from_file(
            "data_dir = \"/file\"\n[store]\nshards = 2\nseal_age = \"1m\"\nslice_days = 3\n",
        );
        let variables = environment(&[
            ("GRISTMILL__STORE__SHARDS", "4"),
            ("GRISTMILL__STORE__SEAL_BYTES", "1 MiB"),
            ("GRISTMILL__LOG__SEGMENT_BYTES", "134217728"),
            ("GRISTMILL__DATA_DIR", "/environment"),
            ("GRISTMILL__SERVER__LISTEN", "127.0.0.1:1,[::1]:2"),
            ("GRISTMILL_DATA_DIR", "not a setting"),
        ]);
        let settings = Settings::load(&flags, variables.clone()).unwrap();
        let StoreSettings::Columnar(store) = &settings.store;
        assert_eq!((store.shards, store.slice_days), (4, 3));
        assert_eq!(store.seal_age, Span(Duration::from_secs(60)));
        assert_eq!(store.seal_bytes, ByteSize(1 << 20));
        let LogSettings::Embedded(log) = &settings.log;
        assert_eq!(log.segment_bytes, ByteSize(128 << 20));
        assert_eq!(settings.data_dir, PathBuf::from("/environment"));
        assert_eq!(settings.server.listen.len(), 2);

        flags.data_dir = Some("/flag".into());
        flags.listen = vec!["127.0.0.1:9".parse().unwrap()];
        let settings = Settings::load(&flags, variables).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("/flag"));
        assert_eq!(settings.server.listen, flags.listen);
    }

    #[test]
    fn errors_name_the_setting() {
        for (file, names) in [
            ("[server]\nlisten = [\"localhost\"]", "server.listen"),
            ("[store]\nseal_bytes = \"lots\"", "seal_bytes"),
            ("[query]\ndeadline = 30", "query.deadline"),
            ("[query]\nthreads = \"many\"", "query.threads"),
            ("[ingest]\nmax_body = \"1 MiB\"", "max_body"),
            ("[sever]\nlisten = []", "sever"),
            ("[log]\nkind = \"floppy\"", "floppy"),
            ("[log]\npartitions = 0", "log.partitions"),
            ("[store]\nshards = 1000", "store.shards"),
            ("[server]\nlisten = []", "server.listen"),
            ("[telemetry]\nformat = \"xml\"", "telemetry.format"),
            ("[ingest]\nmax_in_flight_bytes = \"1 KiB\"", "ingest.max_in_flight_bytes"),
        ] {
            let error = error_of(file, &[]);
            assert!(error.contains(names), "{file}: {error}");
        }
        let error = error_of("", &[("GRISTMILL__STORE__SHARDS", "x")]);
        assert!(error.contains("store"), "{error}");
        let error = error_of("", &[("GRISTMILL__STOER__SHARDS", "1")]);
        assert!(error.contains("stoer"), "{error}");
    }

    #[test]
    fn other_machines_are_kept_out_unless_let_in_by_name() {
        let mut flags = Flags { listen: vec!["0.0.0.0:8080".parse().unwrap()], ..Flags::default() };
        let error = Settings::load(&flags, HashMap::new()).unwrap_err().to_string();
        assert!(error.contains("--insecure-no-auth"), "{error}");
        flags.insecure_no_auth = true;
        assert!(Settings::load(&flags, HashMap::new()).is_ok());
    }
}
