//! Where a topic is, as an operator writes it, and as older systems' environments say it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use gristmill_model::limits;
use serde::{Deserialize, Serialize};

use super::database::value;
use crate::units::Span;

/// The variables of older systems that choose a log in Kafka, the first that is set winning.
const CHOOSE_KAFKA: [&str; 2] = ["KAFKA_BROKERS", "KAFKA_BROKER"];
/// The longest name of a topic.
const TOPIC_BYTES: usize = 249;

/// `[log]` of kind `kafka`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KafkaSettings {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) client_id: String,
    pub(crate) partitions: u32,
    pub(crate) replication: i32,
    pub(crate) delivery_timeout: Span,
    pub(crate) session_timeout: Span,
    /// Empty: there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) dead_letters: String,
}

/// The manual's section is about the other kind of log, so these defaults stand here too.
impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topic: "gristmill-events".to_owned(),
            group: "gristmill".to_owned(),
            client_id: "gristmill".to_owned(),
            partitions: 3,
            replication: -1,
            delivery_timeout: Span(Duration::from_secs(5)),
            session_timeout: Span(Duration::from_secs(10)),
            dead_letters: String::new(),
        }
    }
}

impl KafkaSettings {
    /// What no type can say.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let is_named = |text: &str| !text.trim().is_empty();
        ensure!(
            self.brokers.split(',').all(is_named),
            "log.brokers: {:?} is no list of host:port, separated by commas",
            self.brokers
        );
        check_topic("log.topic", &self.topic)?;
        if !self.dead_letters.is_empty() {
            check_topic("log.dead_letters", &self.dead_letters)?;
            ensure!(
                self.dead_letters != self.topic,
                "log.dead_letters: {:?} is the topic of the events: take another one",
                self.dead_letters
            );
        }
        ensure!(is_named(&self.group), "log.group: a name is needed");
        ensure!(
            (1..=limits::PARTITIONS).contains(&self.partitions),
            "log.partitions: {} is not between 1 and {}",
            self.partitions,
            limits::PARTITIONS
        );
        ensure!(
            self.replication == -1 || self.replication > 0,
            "log.replication: {} is neither -1, which is what the brokers have set, nor a number of \
             brokers",
            self.replication
        );
        let second = Span(Duration::from_secs(1));
        for (name, span) in [
            ("delivery_timeout", &self.delivery_timeout),
            ("session_timeout", &self.session_timeout),
        ] {
            ensure!(span.0 >= second.0, "log.{name}: {span} is less than {second}");
        }
        Ok(())
    }
}

fn check_topic(setting: &str, topic: &str) -> anyhow::Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ensure!(
        (1..=TOPIC_BYTES).contains(&topic.len())
            && topic.bytes().all(is_plain)
            && ![".", ".."].contains(&topic),
        "{setting}: {topic:?} cannot name a topic: letters, digits, '.', '_' and '-' can"
    );
    Ok(())
}

/// Whether an older system's environment chooses a log in Kafka.
pub(super) fn is_chosen_by_older_systems(environment: &HashMap<String, String>) -> bool {
    CHOOSE_KAFKA.iter().any(|name| value(environment, name).is_some())
}

/// What older systems' environments say of a log in Kafka, as a section of settings without those
/// that are set elsewhere.
pub(super) fn of_older_systems(
    environment: &HashMap<String, String>,
    is_set: &dyn Fn(&str) -> bool,
) -> anyhow::Result<toml::Table> {
    let value = |name| value(environment, name);
    let brokers = CHOOSE_KAFKA.into_iter().find_map(value);
    let settings =
        [("brokers", brokers), ("topic", value("KAFKA_TOPIC")), ("group", value("KAFKA_GROUP_ID"))];
    let settings = settings.into_iter().filter(|(name, _)| !is_set(name));
    Ok(settings.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect())
}
