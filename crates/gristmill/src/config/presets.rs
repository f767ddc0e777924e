//! Presets: the defaults of four older systems whose place this takes.

use anyhow::Context;

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
    /// Its settings.
    pub(super) fn settings(self) -> anyhow::Result<toml::Table> {
        let name = match self {
            Preset::Clicks => "clicks",
            Preset::Platform => "platform",
            Preset::Activity => "activity",
            Preset::Sessions => "sessions",
        };
        let mut presets: toml::Table = PRESETS.parse().context("the presets cannot be read")?;
        match presets.remove(name) {
            Some(toml::Value::Table(settings)) => Ok(settings),
            _ => anyhow::bail!("the preset {name} cannot be read"),
        }
    }
}
