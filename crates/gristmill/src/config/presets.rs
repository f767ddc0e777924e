//! Presets: the defaults of four older systems whose place this takes.

use anyhow::Context;
use gristmill_server::{Role, Roles};
use toml::{Table, Value};

/// All presets, each a table of settings.
const PRESETS: &str = include_str!("../../gristmill.presets.toml");

/// An older system whose topics, groups, databases and addresses are the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Click events: topic `clicks`, group `click-processor-group`
    Clicks,
    /// Platform events: topic `analytics-events`, group `analytics-consumer-group`
    Platform,
    /// User activities: topic `incoming.user_activity`, group `user-activity-consumer-group`
    Activity,
    /// Session events: topic `events`, group `processor`
    Sessions,
}

impl Preset {
    /// Its settings for a process with these roles.
    pub(super) fn settings(self, roles: &Roles) -> anyhow::Result<Table> {
        let mut settings = self.table()?;
        let addresses = settings.remove("addresses").context("a preset has no addresses")?;
        if *roles != Role::all_in_one() {
            settings.insert("server".to_owned(), addresses_of(roles, &addresses).into());
        }
        Ok(settings)
    }

    fn table(self) -> anyhow::Result<Table> {
        let name = match self {
            Preset::Clicks => "clicks",
            Preset::Platform => "platform",
            Preset::Activity => "activity",
            Preset::Sessions => "sessions",
        };
        let mut presets: Table = PRESETS.parse().context("the presets cannot be read")?;
        match presets.remove(name) {
            Some(Value::Table(settings)) => Ok(settings),
            _ => anyhow::bail!("the preset {name} cannot be read"),
        }
    }
}

/// The addresses of some roles, as a section of settings.
fn addresses_of(roles: &Roles, addresses: &Value) -> Table {
    let of_kind = |kind: &str| -> Vec<Value> {
        let address = |role: &Role| addresses.get(role.name())?.get(kind).cloned();
        roles.iter().filter_map(address).collect()
    };
    let kinds = ["listen", "grpc_listen"].map(|kind| (kind.to_owned(), of_kind(kind).into()));
    Table::from_iter(kinds)
}
