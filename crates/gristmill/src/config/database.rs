//! Where a database is, as an operator writes it, and as older systems' environments say it.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow};
use gristmill_store::postgres::Address;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The variables of older systems that choose a store in PostgreSQL.
pub(crate) const CHOOSE_POSTGRES: [&str; 2] = ["DATABASE_URL", "DB_HOST"];

/// Whether an older system's environment chooses a store in PostgreSQL.
pub(crate) fn is_chosen_by_older_systems(environment: &HashMap<String, String>) -> bool {
    CHOOSE_POSTGRES.iter().any(|name| value(environment, name).is_some())
}

/// What older systems' environments say of a store in PostgreSQL, as a section of settings without
/// those that are set elsewhere. Errors name the variable.
pub(crate) fn of_older_systems(
    environment: &HashMap<String, String>,
    is_set: &dyn Fn(&str) -> bool,
) -> anyhow::Result<toml::Table> {
    let value = |name| value(environment, name);
    let mut section = toml::Table::new();
    if let Some((names, url)) = url(environment).filter(|_| !is_set("url")) {
        Address::parse(&url).map_err(|reason| anyhow!("{names}: {reason}"))?;
        section.insert("url".to_owned(), url.into());
    }
    if let Some(seconds) = value("FLUSH_INTERVAL_SEC").filter(|_| !is_set("flush_interval")) {
        let seconds = counted("FLUSH_INTERVAL_SEC", seconds)?;
        section.insert("flush_interval".to_owned(), format!("{seconds}s").into());
    }
    if let Some(events) = value("BATCH_SIZE").filter(|_| !is_set("flush_events")) {
        let events = counted("BATCH_SIZE", events)?;
        section.insert("flush_events".to_owned(), events.to_string().into());
    }
    Ok(section)
}

/// Where a database is. Printed without its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(pub(crate) Address);

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Address::parse(&String::deserialize(deserializer)?) {
            Ok(address) => Ok(Self(address)),
            Err(reason) => Err(D::Error::custom(format!("store.url: {reason}"))),
        }
    }
}

/// `DATABASE_URL`, or `DB_HOST` and the variables beside it; and which of them it is.
fn url(environment: &HashMap<String, String>) -> Option<(&'static str, String)> {
    let value = |name| value(environment, name);
    let [whole, host] = CHOOSE_POSTGRES;
    if let Some(url) = value(whole) {
        return Some((whole, url.to_owned()));
    }
    let host = value(host)?;
    let or = |name, default| quoted(value(name).unwrap_or(default));
    let url = format!(
        "host={} port={} user={} dbname={} password={}",
        quoted(host),
        or("DB_PORT", "5432"),
        or("DB_USER", "postgres"),
        or("DB_NAME", "analytics"),
        or("DB_PASSWORD", "postgres"),
    );
    Some(("DB_HOST, DB_PORT, DB_USER, DB_NAME, DB_PASSWORD", url))
}

/// A variable that says something.
pub(super) fn value<'a>(environment: &'a HashMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn counted(name: &str, text: &str) -> anyhow::Result<u64> {
    let number = text.parse().ok().filter(|number| (1..1 << 31).contains(number));
    number.with_context(|| format!("{name}: {text:?} is not a number from 1 on"))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
