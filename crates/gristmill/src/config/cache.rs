//! Where answers are kept, as an operator writes it, and as older systems' environments say it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use gristmill_store::cache::RedisAddress;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Section;
use super::database::value;
use crate::units::{ByteSize, Span};

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum CacheSettings {
    /// Memory of this process.
    Memory(MemorySettings),
    /// A Redis server.
    Redis(Box<RedisSettings>),
    /// Nowhere.
    None,
}

/// `[cache]` of kind `memory`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemorySettings {
    pub(crate) bytes: ByteSize,
    pub(crate) keep: Span,
}

/// `[cache]` of kind `redis`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisSettings {
    pub(crate) url: RedisUrl,
    #[serde(default = "default_keep")]
    pub(crate) keep: Span,
}

/// `[cache]` of kind `none`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

/// The manual's section is about the other kind of cache, so this default stands here too.
pub(super) fn default_keep() -> Span {
    Span(Duration::from_secs(3600))
}

/// Where a Redis is. Printed without its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisUrl(pub(crate) RedisAddress);

impl CacheSettings {
    /// What no type can say.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let keep = match self {
            CacheSettings::Memory(memory) => memory.keep,
            CacheSettings::Redis(redis) => redis.keep,
            CacheSettings::None => return Ok(()),
        };
        let longest = Span(Duration::from_secs(365 * 24 * 3600));
        ensure!(
            (Duration::from_secs(1)..=longest.0).contains(&keep.0),
            "cache.keep: {keep} is not between 1s and {longest}"
        );
        Ok(())
    }
}

/// The variables of older systems that choose a cache in Redis, the first that is set winning.
const CHOOSE_REDIS: [&str; 2] = ["REDIS_ADDR", "REDIS_HOST"];

/// Whether an older system's environment chooses a cache in Redis.
pub(super) fn is_chosen_by_older_systems(environment: &HashMap<String, String>) -> bool {
    CHOOSE_REDIS.iter().any(|name| value(environment, name).is_some())
}

/// What older systems' environments say of a cache in Redis, as a section of settings without those
/// that are set elsewhere. Errors name the variable.
pub(super) fn of_older_systems(
    environment: &HashMap<String, String>,
    is_set: &dyn Fn(&str) -> bool,
) -> anyhow::Result<toml::Table> {
    let value = |name| value(environment, name);
    let [address, host] = CHOOSE_REDIS.map(value);
    let (names, place) = match (address, host) {
        _ if is_set("url") => return Ok(toml::Table::new()),
        (Some(address), _) => ("REDIS_ADDR", address.to_owned()),
        (None, Some(host)) => {
            let port = value("REDIS_PORT").unwrap_or("6379");
            ("REDIS_HOST, REDIS_PORT", format!("{}:{port}", bracketed(host)))
        }
        (None, None) => return Ok(toml::Table::new()),
    };
    let url = if place.contains("://") { place } else { format!("redis://{place}") };
    RedisAddress::parse(&url).map_err(|reason| anyhow!("{names}: {reason}"))?;
    Ok(toml::Table::from_iter([("url".to_owned(), url.into())]))
}

/// An address of colons goes into brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

impl<'de> Deserialize<'de> for CacheSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Section::deserialize(deserializer)?;
        match section.kind.as_str() {
            "memory" => section.read().map(CacheSettings::Memory),
            "redis" => section.read().map(CacheSettings::Redis),
            "none" => section.read().map(|NoSettings {}| CacheSettings::None),
            other => Err(D::Error::unknown_variant(other, &["memory", "redis", "none"])),
        }
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RedisAddress::parse(&String::deserialize(deserializer)?) {
            Ok(address) => Ok(Self(address)),
            Err(reason) => Err(D::Error::custom(format!("cache.url: {reason}"))),
        }
    }
}

#[cfg(test)]
mod tests;
