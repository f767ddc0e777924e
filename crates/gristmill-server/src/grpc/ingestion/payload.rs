//! Payloads as JSON: members by the names of the proto files, in the order of their numbers, enums by name,
//! and what is not set left out, so that a question finds a property where the client set one. Only the amount
//! of a transaction and the value of a metric are always there: without them their message says nothing, so 0 is
//! a value.

use std::collections::BTreeMap;

use gristmill_proto::analytics::v1::{
    CustomEvent, CustomMetric, SystemEvent, SystemEventType, SystemMetrics, SystemSeverity,
    TransactionEvent, TransactionItem, TransactionMetadata, TransactionStatus, TransactionType,
    UserContext, UserEvent,
};

use crate::json;

/// The text of a user event.
pub(super) fn user(event: &UserEvent) -> String {
    Object::text(|object| {
        object.string("action", &event.action);
        object.string("page_url", &event.page_url);
        object.string("referrer", &event.referrer);
        object.string("user_agent", &event.user_agent);
        object.string("ip_address", &event.ip_address);
        object.strings("metadata", &event.metadata);
        if let Some(context) = &event.user_context {
            object.member("user_context", |object| user_context(object, context));
        }
    })
}

/// The text of a transaction event.
pub(super) fn transaction(event: &TransactionEvent) -> String {
    Object::text(|object| {
        object.string("transaction_id", &event.transaction_id);
        object
            .name("type", event.r#type, |n| Some(TransactionType::try_from(n).ok()?.as_str_name()));
        object.always("amount", event.amount);
        object.string("currency", &event.currency);
        object.name("status", event.status, |n| {
            Some(TransactionStatus::try_from(n).ok()?.as_str_name())
        });
        object.string("payment_method", &event.payment_method);
        object.members("items", &event.items, item);
        if let Some(metadata) = &event.metadata {
            object.member("metadata", |object| transaction_metadata(object, metadata));
        }
    })
}

/// The text of a system event.
pub(super) fn system(event: &SystemEvent) -> String {
    Object::text(|object| {
        object.string("component", &event.component);
        object
            .name("type", event.r#type, |n| Some(SystemEventType::try_from(n).ok()?.as_str_name()));
        object.name("severity", event.severity, |n| {
            Some(SystemSeverity::try_from(n).ok()?.as_str_name())
        });
        object.string("message", &event.message);
        object.strings("tags", &event.tags);
        if let Some(metrics) = &event.metrics {
            object.member("metrics", |object| system_metrics(object, metrics));
        }
    })
}

/// The text of a custom event.
pub(super) fn custom(event: &CustomEvent) -> String {
    Object::text(|object| {
        object.string("name", &event.name);
        object.string("category", &event.category);
        object.strings("attributes", &event.attributes);
        object.members("metrics", &event.metrics, metric);
    })
}

fn user_context(object: &mut Object, context: &UserContext) {
    object.string("device_type", &context.device_type);
    object.string("browser", &context.browser);
    object.string("os", &context.os);
    object.string("country", &context.country);
    object.string("city", &context.city);
    if context.is_new_user {
        object.raw("is_new_user", "true");
    }
}

fn item(object: &mut Object, item: &TransactionItem) {
    object.string("item_id", &item.item_id);
    object.string("name", &item.name);
    object.string("category", &item.category);
    object.number("price", item.price);
    object.number("quantity", item.quantity.into());
}

fn transaction_metadata(object: &mut Object, metadata: &TransactionMetadata) {
    object.string("merchant_id", &metadata.merchant_id);
    object.string("store_id", &metadata.store_id);
    object.string("campaign_id", &metadata.campaign_id);
    object.strings("custom_fields", &metadata.custom_fields);
}

fn system_metrics(object: &mut Object, metrics: &SystemMetrics) {
    object.number("cpu_usage", metrics.cpu_usage);
    object.number("memory_usage", metrics.memory_usage);
    object.number("disk_usage", metrics.disk_usage);
    object.number("active_connections", metrics.active_connections.into());
    object.number("response_time", metrics.response_time);
}

fn metric(object: &mut Object, metric: &CustomMetric) {
    object.string("name", &metric.name);
    object.always("value", metric.value);
    object.string("unit", &metric.unit);
}

/// An object that is being written.
struct Object(Vec<u8>);

impl Object {
    fn text(write: impl FnOnce(&mut Self)) -> String {
        let mut object = Self(Vec::with_capacity(256));
        object.braced(write);
        // JSON is written here as UTF-8 only.
        String::from_utf8(object.0).unwrap_or_default()
    }

    fn braced(&mut self, write: impl FnOnce(&mut Self)) {
        self.0.push(b'{');
        write(self);
        self.0.push(b'}');
    }

    fn key(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        json::string(&mut self.0, name);
        self.0.push(b':');
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.key(name);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn string(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.key(name);
            json::string(&mut self.0, text);
        }
    }

    fn number(&mut self, name: &str, number: f64) {
        if number != 0.0 {
            self.always(name, number);
        }
    }

    /// A number without which its object says nothing, so that 0 is a value.
    fn always(&mut self, name: &str, number: f64) {
        match number {
            // JSON has no such number. This stands for it, and is refused as the same is over HTTP.
            number if !number.is_finite() => self.raw(name, "1e999"),
            // As clients of JSON write whole numbers: without a fraction.
            number if number.abs() < 1e15 => self.raw(name, &number.to_string()),
            number => self.raw(name, &format!("{number:e}")),
        }
    }

    /// An enum; a number that has no name is kept as it is.
    fn name(&mut self, name: &str, number: i32, known: impl Fn(i32) -> Option<&'static str>) {
        match (number, known(number)) {
            (0, _) => {}
            (_, Some(text)) => self.string(name, text),
            (number, None) => self.raw(name, &number.to_string()),
        }
    }

    fn strings(&mut self, name: &str, texts: &BTreeMap<String, String>) {
        if texts.is_empty() {
            return;
        }
        self.member(name, |object| {
            for (key, text) in texts {
                object.key(key);
                json::string(&mut object.0, text);
            }
        });
    }

    fn member(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.key(name);
        self.braced(write);
    }

    fn members<T>(&mut self, name: &str, values: &[T], write: impl Fn(&mut Self, &T)) {
        if values.is_empty() {
            return;
        }
        self.key(name);
        self.0.push(b'[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.braced(|object| write(object, value));
        }
        self.0.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_left_out_and_what_is_set_is_json() {
        let event = TransactionEvent {
            transaction_id: "t \"1\"".to_owned(),
            r#type: TransactionType::Purchase as i32,
            amount: 100.0,
            status: 99,
            items: vec![
                TransactionItem { price: 0.25, quantity: -2, ..TransactionItem::default() },
                TransactionItem::default(),
            ],
            metadata: Some(TransactionMetadata {
                custom_fields: [("{".to_owned(), String::new()), ("b".to_owned(), "2".to_owned())]
                    .into(),
                ..TransactionMetadata::default()
            }),
            ..TransactionEvent::default()
        };
        assert_eq!(
            transaction(&event),
            r#"{"transaction_id":"t \"1\"","type":"TRANSACTION_TYPE_PURCHASE","amount":100,"status":99,"items":[{"price":0.25,"quantity":-2},{}],"metadata":{"custom_fields":{"b":"2","{":""}}}"#
        );
        assert_eq!(user(&UserEvent::default()), "{}");
        let huge = |value| CustomEvent {
            metrics: vec![CustomMetric { value, ..CustomMetric::default() }],
            ..CustomEvent::default()
        };
        assert_eq!(custom(&huge(1.5e300)), r#"{"metrics":[{"value":1.5e300}]}"#);
        assert_eq!(custom(&huge(f64::NAN)), r#"{"metrics":[{"value":1e999}]}"#);
    }
}
