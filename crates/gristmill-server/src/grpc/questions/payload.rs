//! Payloads of typed events, which are kept as properties of their names: members by the names of
//! the proto files, enums by name. What reads otherwise is no payload and stays a property.

use std::collections::BTreeMap;

use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::event::EventData;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The payload that a property is, with the kind of its event.
pub(super) fn payload(name: &str, json: &str) -> Option<(v1::EventType, EventData)> {
    Some(match name {
        "user_event" => (v1::EventType::User, EventData::UserEvent(user(read(json)?))),
        "transaction_event" => {
            let event = transaction(read(json)?)?;
            (v1::EventType::Transaction, EventData::TransactionEvent(event))
        }
        "system_event" => (v1::EventType::System, EventData::SystemEvent(system(read(json)?)?)),
        "custom_event" => (v1::EventType::Custom, EventData::CustomEvent(custom(read(json)?))),
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(json: &str) -> Option<T> {
    serde_json::from_str(json).ok()
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct User {
    action: String,
    page_url: String,
    referrer: String,
    user_agent: String,
    ip_address: String,
    metadata: BTreeMap<String, String>,
    user_context: Option<Context>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Context {
    device_type: String,
    browser: String,
    os: String,
    country: String,
    city: String,
    is_new_user: bool,
}

fn user(event: User) -> v1::UserEvent {
    let context = |context: Context| {
        let Context { device_type, browser, os, country, city, is_new_user } = context;
        v1::UserContext { device_type, browser, os, country, city, is_new_user }
    };
    let User { action, page_url, referrer, user_agent, ip_address, metadata, user_context } = event;
    let user_context = user_context.map(context);
    v1::UserEvent { action, page_url, referrer, user_agent, ip_address, metadata, user_context }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Transaction {
    transaction_id: String,
    r#type: Value,
    amount: f64,
    currency: String,
    status: Value,
    payment_method: String,
    items: Vec<Item>,
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Item {
    item_id: String,
    name: String,
    category: String,
    price: f64,
    quantity: i32,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    merchant_id: String,
    store_id: String,
    campaign_id: String,
    custom_fields: BTreeMap<String, String>,
}

fn transaction(event: Transaction) -> Option<v1::TransactionEvent> {
    let item = |item: Item| {
        let Item { item_id, name, category, price, quantity } = item;
        v1::TransactionItem { item_id, name, category, price, quantity }
    };
    let metadata = |metadata: Metadata| {
        let Metadata { merchant_id, store_id, campaign_id, custom_fields } = metadata;
        v1::TransactionMetadata { merchant_id, store_id, campaign_id, custom_fields }
    };
    let kind = |name: &str| v1::TransactionType::from_str_name(name).map(i32::from);
    let status = |name: &str| v1::TransactionStatus::from_str_name(name).map(i32::from);
    Some(v1::TransactionEvent {
        transaction_id: event.transaction_id,
        r#type: number(&event.r#type, kind)?,
        amount: event.amount,
        currency: event.currency,
        status: number(&event.status, status)?,
        payment_method: event.payment_method,
        items: event.items.into_iter().map(item).collect(),
        metadata: event.metadata.map(metadata),
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct System {
    component: String,
    r#type: Value,
    severity: Value,
    message: String,
    tags: BTreeMap<String, String>,
    metrics: Option<Usage>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Usage {
    cpu_usage: f64,
    memory_usage: f64,
    disk_usage: f64,
    active_connections: i32,
    response_time: f64,
}

fn system(event: System) -> Option<v1::SystemEvent> {
    let usage = |usage: Usage| {
        let Usage { cpu_usage, memory_usage, disk_usage, active_connections, response_time } =
            usage;
        v1::SystemMetrics { cpu_usage, memory_usage, disk_usage, active_connections, response_time }
    };
    let kind = |name: &str| v1::SystemEventType::from_str_name(name).map(i32::from);
    let severity = |name: &str| v1::SystemSeverity::from_str_name(name).map(i32::from);
    Some(v1::SystemEvent {
        component: event.component,
        r#type: number(&event.r#type, kind)?,
        severity: number(&event.severity, severity)?,
        message: event.message,
        tags: event.tags,
        metrics: event.metrics.map(usage),
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Custom {
    name: String,
    category: String,
    attributes: BTreeMap<String, String>,
    metrics: Vec<Metric>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metric {
    name: String,
    value: f64,
    unit: String,
}

fn custom(event: Custom) -> v1::CustomEvent {
    let metric = |metric: Metric| {
        let Metric { name, value, unit } = metric;
        v1::CustomMetric { name, value, unit }
    };
    let Custom { name, category, attributes, metrics } = event;
    let metrics = metrics.into_iter().map(metric).collect();
    v1::CustomEvent { name, category, attributes, metrics }
}

/// The number of an enum's value: 0 if there is none, else that of its name, or the number itself.
fn number(value: &Value, known: impl Fn(&str) -> Option<i32>) -> Option<i32> {
    match value {
        Value::Null => Some(0),
        Value::String(name) => known(name),
        other => i32::try_from(other.as_i64()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_and_anything_else_is_none() {
        let json = r#"{"transaction_id":"t","type":"TRANSACTION_TYPE_REFUND","amount":12.5,
            "status":9,"items":[{"name":"x","quantity":2}],"metadata":{"custom_fields":{"a":"b"}}}"#;
        let (kind, data) = payload("transaction_event", json).unwrap();
        let EventData::TransactionEvent(event) = data else { panic!("another payload") };
        assert_eq!(
            (kind, event.r#type(), event.status, event.amount.to_bits()),
            (v1::EventType::Transaction, v1::TransactionType::Refund, 9, 12.5_f64.to_bits(),)
        );
        assert_eq!((event.items[0].name.as_str(), event.items[0].quantity), ("x", 2));
        assert_eq!(event.metadata.unwrap().custom_fields["a"], "b");
        for (name, json) in [
            ("user_event", r#"{"action":"a","user_context":{"is_new_user":true}}"#),
            ("system_event", r#"{"severity":"SYSTEM_SEVERITY_HIGH","metrics":{"cpu_usage":1}}"#),
            ("custom_event", r#"{"name":"n","metrics":[{"name":"m","value":0}]}"#),
        ] {
            assert!(payload(name, json).is_some(), "{name}");
        }
        for (name, json) in [
            ("event", "{}"),
            ("user_event", "1"),
            ("user_event", r#"{"action":5}"#),
            ("user_event", r#"{"unknown":"x"}"#),
            ("system_event", r#"{"severity":"HIGH"}"#),
            ("transaction_event", r#"{"status":1.5}"#),
            ("custom_event", r#"{"metrics":{}}"#),
        ] {
            assert!(payload(name, json).is_none(), "{name} {json}");
        }
    }
}
