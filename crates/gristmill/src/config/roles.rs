//! Which parts of the platform a process runs, and which of them may be apart.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use gristmill_server::{Role, Roles};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::database::value;
use super::{LogSettings, Settings, StoreSettings};

/// The variable of older systems that says how many workers a process has.
const NUM_WORKERS: &str = "NUM_WORKERS";
/// How many workers a process may have.
const WORKERS: usize = 64;

/// `[process]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessSettings {
    pub(crate) workers: usize,
}

/// A role as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleName(pub(crate) Role);

impl FromStr for RoleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|reason| D::Error::custom(format!("roles: {reason}")))
    }
}

/// What older systems' environments say of `[process]`, as a section of settings.
pub(super) fn of_older_systems(
    environment: &HashMap<String, String>,
) -> anyhow::Result<Option<toml::Table>> {
    let Some(text) = value(environment, NUM_WORKERS) else { return Ok(None) };
    let workers: Option<u32> = text.parse().ok().filter(|workers| *workers > 0);
    let wrong = || format!("{NUM_WORKERS}: {text:?} is not a number from 1 on");
    let workers = workers.with_context(wrong)?;
    Ok(Some(toml::Table::from_iter([("workers".to_owned(), workers.into())])))
}

impl Settings {
    /// The roles of the process.
    pub(crate) fn roles(&self) -> Roles {
        self.roles.iter().map(|name| name.0).collect()
    }

    /// Makes sure that what is apart can be apart.
    pub(super) fn check_roles(&self) -> anyhow::Result<()> {
        let roles = self.roles();
        ensure!(!roles.is_empty(), "roles: at least one is needed");
        self.gateway.check(&roles)?;
        let own: Roles = roles.iter().copied().filter(|role| *role != Role::Gateway).collect();
        let is_split = !own.is_empty() && own != Role::all_in_one();
        let names = own.iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
        if is_split {
            let apart = format!("roles: `{names}` without the others needs");
            self.ensure_shared(&apart)?;
        }
        let workers = self.process.workers;
        ensure!(
            (1..=WORKERS).contains(&workers),
            "process.workers: {workers} is not between 1 and {WORKERS}"
        );
        if workers > 1 {
            let more = format!("process.workers ({NUM_WORKERS}): {workers} workers need");
            self.ensure_shared(&more)?;
        }
        Ok(())
    }

    /// Log and store must be servers for this.
    fn ensure_shared(&self, what: &str) -> anyhow::Result<()> {
        let has_shared_log = matches!(self.log, LogSettings::Kafka(_));
        let has_shared_store = matches!(self.store, StoreSettings::Postgres(_));
        for (is_shared, needed, name, kind, other) in [
            (has_shared_log, "a log that several can read", "log", "embedded", "kafka"),
            (has_shared_store, "a store that several can use", "store", "columnar", "postgres"),
        ] {
            ensure!(
                is_shared,
                "{what} {needed}, and {name}.kind is {kind:?}, which one process has to itself: \
                 set {name}.kind = {other:?}, or have one process with one worker do ingest, \
                 process and query"
            );
        }
        Ok(())
    }
}
