//! Random events, and what is selected of them.

use std::collections::BTreeMap;

use gristmill_proto::analytics::v1::{EventMatch, TimeRange};
use gristmill_testkit::SeededEntropy;
use serde_json::{Map, Value, json};

/// 2025-03-01T00:00:00Z, when the random events begin, in seconds.
pub(super) const START: i64 = 1_740_787_200;
const DAY: i64 = 86_400;
const DAYS: u64 = 12;

const TYPES: [&str; 4] = ["view", "cart", "buy", "purchase"];

/// Some hundred events of a dozen users.
pub(super) fn random(seed: u64) -> Vec<Value> {
    let random = SeededEntropy::new(seed);
    let event = |id: usize| {
        let user = random.below(12);
        let second = START + random.below(DAYS * DAY as u64) as i64;
        let plan = ["free", "pro", "team"][random.below(3) as usize];
        let mut properties = json!({"plan": plan, "price": random.below(5_000) as f64 / 100.0});
        if random.below(3) == 0 {
            properties["nested"] = json!({"deep": [id, true]});
        }
        let mut event = json!({
            "id": format!("e{id}"),
            "user_id": format!("u{user}"),
            "event_type": TYPES[random.below(4) as usize],
            "timestamp": second,
            "page_url": format!("/{}", random.below(6)),
            "source": "test",
            "properties": properties,
        });
        if random.below(4) > 0 {
            event["session_id"] = json!(format!("s{user}-{}", second / DAY));
        }
        event
    };
    (0..400).map(event).collect()
}

/// Which events a question is about, as both ways have it.
pub(super) struct Selected {
    pub(super) range: Option<TimeRange>,
    pub(super) event_types: Vec<String>,
    pub(super) filters: BTreeMap<String, String>,
    pub(super) filter: String,
}

/// Some selections: all events, and less and less.
pub(super) fn selections(seed: u64) -> Vec<Selected> {
    let random = SeededEntropy::new(seed);
    let from = START + random.below(4 * DAY as u64) as i64;
    let to = from + DAY + random.below(6 * DAY as u64) as i64;
    let time = |seconds| prost_types::Timestamp { seconds, nanos: 250_000_000 };
    let range = TimeRange { start: Some(time(from)), end: Some(time(to)) };
    let half = TimeRange { start: None, end: Some(time(to)) };
    let types = || vec!["view".to_owned(), "buy".to_owned()];
    let filters = BTreeMap::from([("plan".to_owned(), "pro".to_owned())]);
    let filter = json!({"or": [{"field": "price", "op": ">", "value": 12.5},
        {"not": {"field": "page_url", "op": "in", "value": ["/1", "/2"]}}]});
    vec![
        Selected::of(None, Vec::new(), BTreeMap::new(), ""),
        Selected::of(Some(range), Vec::new(), BTreeMap::new(), ""),
        Selected::of(Some(half), types(), BTreeMap::new(), ""),
        Selected::of(Some(range), types(), filters, &filter.to_string()),
    ]
}

impl Selected {
    fn of(
        range: Option<TimeRange>,
        event_types: Vec<String>,
        filters: BTreeMap<String, String>,
        filter: &str,
    ) -> Self {
        Self { range, event_types, filters, filter: filter.to_owned() }
    }

    pub(super) fn events(&self) -> EventMatch {
        let Self { event_types, filters, filter, .. } = self;
        let (event_types, filters) = (event_types.clone(), filters.clone());
        EventMatch { event_types, filters, r#where: filter.clone() }
    }

    /// A target that asks with more parameters.
    pub(super) fn target(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let mut all: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        for (name, value) in self.body(json!({})).as_object().unwrap() {
            match value {
                Value::Array(values) => {
                    all.extend(values.iter().map(|one| (name.clone(), text(one))));
                }
                Value::Object(map) if name == "filters" => {
                    all.extend(map.iter().map(|(key, one)| (format!("{name}.{key}"), text(one))));
                }
                value => all.push((name.clone(), text(value))),
            }
        }
        let pairs: Vec<_> =
            all.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        format!("{path}?{}", pairs.join("&"))
    }

    /// A body with more members.
    pub(super) fn body(&self, more: Value) -> Value {
        let Value::Object(mut body) = more else { panic!("no object") };
        let mut range = Map::new();
        if let Some(TimeRange { start, end }) = self.range {
            for (name, time) in [("start", start), ("end", end)] {
                range.extend(time.map(|time| (name.to_owned(), json!(super::shapes::time(&time)))));
            }
        }
        body.extend(range);
        if !self.event_types.is_empty() {
            body.insert("event_types".to_owned(), json!(self.event_types));
        }
        if !self.filters.is_empty() {
            body.insert("filters".to_owned(), json!(self.filters));
        }
        if !self.filter.is_empty() {
            body.insert("where".to_owned(), serde_json::from_str(&self.filter).unwrap());
        }
        Value::Object(body)
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
