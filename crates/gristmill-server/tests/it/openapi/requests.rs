//! Whatever the document says that a request may have is tried on the server: every parameter and
//! every member of a body, every name of a choice, and the bounds of every number.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::answers::{Asked, all, encoded, filled};
use super::document::{Document, members, one_or_more};
use crate::support::Api;

const FILTER: &str = "#/components/schemas/Filter";

/// A request with one value changed.
struct Change {
    /// What is changed.
    place: String,
    request: Asked,
}

/// What a server should say of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// It knows what the value is for, and has nothing against its kind.
    Known,
    /// It refuses it.
    Wrong,
}

#[tokio::test]
async fn parameters_are_understood_as_described() {
    let api = filled().await;
    let document = Document::of(&api).await;
    let (mut tried, mut faults) = (0, Vec::new());
    for request in first_of_each() {
        for parameter in document.operation(request.id).parameters(&document) {
            if parameter["in"] != "query" {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let of_json = &parameter["content"]["application/json"]["schema"];
            let schema = if of_json.is_null() { &parameter["schema"] } else { of_json };
            let schema = with_description(&document, schema, &parameter["description"]);
            for (verdict, value) in trials(&document, &schema) {
                let query = query(name, &value, of_json);
                let target = with(&request.target, name, &query);
                let request = Asked { id: request.id, target, body: request.body.clone() };
                let place = format!("{} {query}", request.id);
                let change = Change { place, request };
                faults.extend(fault_of(&api, &document, &change, verdict).await);
                tried += 1;
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(tried > 200, "{tried}");
}

#[tokio::test]
async fn members_of_bodies_are_understood_as_described() {
    let api = filled().await;
    let document = Document::of(&api).await;
    let (mut tried, mut faults) = (0, Vec::new());
    for request in first_of_each() {
        let schema = document.operation(request.id).body();
        let is_of_events = request.id.starts_with("postEvents");
        for (place, verdict, body) in changes(&document, schema, &request.body) {
            let target = request.target.clone();
            let request = Asked { id: request.id, target, body };
            let place = format!("{}: {place}", request.id);
            // What is wrong with an event is no mistake of its kind.
            if !is_of_events {
                let change = Change { place, request };
                faults.extend(fault_of(&api, &document, &change, verdict).await);
                tried += 1;
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(tried > 200, "{tried}");
}

#[tokio::test]
async fn every_operator_of_a_filter_is_understood() {
    let api = filled().await;
    let document = Document::of(&api).await;
    let condition = &document.0["components"]["schemas"]["Filter"]["anyOf"][0];
    let operators = condition["properties"]["op"]["enum"].as_array().unwrap();
    assert!(operators.len() > 10, "{condition}");
    for operator in operators {
        let mut filter = json!({"field": "plan", "op": operator, "value": "ann"});
        match operator.as_str().unwrap() {
            "in" | "not_in" => filter["value"] = json!(["ann"]),
            "exists" => filter["value"] = json!(true),
            _ => {}
        }
        let fault = document.fault(&json!({"$ref": FILTER}), &filter);
        assert_eq!(fault, None, "{filter}");
        let target = format!("/v1/analytics/summary?where={}", encoded(&filter.to_string()));
        let answer = api.get(&target).await;
        assert_eq!(answer.status, 200, "{filter}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_member_of_an_event_is_kept() {
    let api = filled().await;
    let document = Document::of(&api).await;
    let schema = &document.0["components"]["schemas"]["Event"];
    let payloads = ["user_event", "transaction_event", "system_event", "custom_event"];
    for (name, member) in members(&schema["properties"]) {
        let mut event = json!({"id": "e", "user_id": name, "event_type": "t"});
        let value = match name.as_str() {
            "timestamp" => json!("2025-01-01T00:00:00Z"),
            "user_id" => json!("user_id"),
            _ if one_or_more(&member["type"]).any(|kind| kind == "object") => json!({"k": 1}),
            _ => json!(format!("{name}-1")),
        };
        event[name] = value.clone();
        api.fill(&json!([event])).await;
        let user = api.get(&format!("/v1/analytics/users/{name}")).await.json();
        let kept = &user["events"][0];
        let kept = if payloads.contains(&name.as_str()) { &kept["properties"] } else { kept };
        assert_eq!(kept[name], value, "{user}");
        let Some(most) = member["maxLength"].as_u64() else { continue };
        event[name] = "x".repeat(most as usize + 1).into();
        let answer = api.post("/v1/events", event.to_string()).await;
        assert_eq!(answer.status, 422, "{name} of more than {most}: {}", answer.text);
    }
}

/// A request of each operation that answers it.
fn first_of_each() -> Vec<Asked> {
    let mut seen = BTreeSet::new();
    let mut requests = all();
    let removes = |id| ["deleteCohortsById", "deleteKeysById"].contains(&id);
    requests.retain(|request| seen.insert(request.id) && !removes(request.id));
    requests
}

/// What is wrong with the answer to a change, if anything.
async fn fault_of(
    api: &Api,
    document: &Document,
    change: &Change,
    verdict: Verdict,
) -> Option<String> {
    let is_of_live = change.place.contains(" last_event_id=");
    let accept = if is_of_live { "text/event-stream" } else { "*/*" };
    let answer = change.request.send(api, document, accept).await;
    let status = answer.status.as_u16();
    let detail = match status {
        400.. => answer.json()["detail"].as_str().unwrap().to_owned(),
        _ => String::new(),
    };
    let place = &change.place;
    // Some values want others beside them; that is no complaint about the value.
    let complaints = [
        "unknown",
        "must be a",
        "must be one",
        "must be true",
        "may only be",
        "is no time",
        "is no length",
    ];
    let is_right = match verdict {
        Verdict::Wrong => status == 400,
        Verdict::Known => !complaints.iter().any(|words| detail.contains(words)) && status < 500,
    };
    (!is_right).then(|| format!("{place}: {verdict:?}, but {status} {detail}"))
}

/// A body with one member changed, for every member of its schema and every trial of it.
fn changes(document: &Document, schema: &Value, body: &Value) -> Vec<(String, Verdict, Value)> {
    let mut all = Vec::new();
    for (name, member) in members(&document.resolve(schema)["properties"]) {
        let mut put = |place: String, verdict: Verdict, value: Value| {
            let mut body = body.clone();
            body[name] = value;
            all.push((place, verdict, body));
        };
        for (verdict, value) in trials(document, member) {
            put(format!("{name}={value}"), verdict, value);
        }
        let own = body.get(name).cloned().unwrap_or_else(|| sample(document, member));
        let inner = document.resolve(member);
        for (place, verdict, value) in changes(document, inner, &own) {
            put(format!("{name}.{place}"), verdict, value);
        }
        let items = &inner["items"];
        let first = own.get(0).cloned().unwrap_or_else(|| match items {
            Value::Null => Value::Null,
            items => sample(document, items),
        });
        for (place, verdict, value) in changes(document, items, &first) {
            let values = own.as_array().into_iter().flatten().skip(1).cloned();
            let values = Vec::from_iter([value].into_iter().chain(values));
            put(format!("{name}[0].{place}"), verdict, values.into());
        }
    }
    all
}

/// Values of a schema, and values that are just not of it.
fn trials(document: &Document, schema: &Value) -> Vec<(Verdict, Value)> {
    use Verdict::{Known, Wrong};
    let schema = document.resolve(schema);
    if let Some(names) = schema["enum"].as_array() {
        let names = names.iter().map(|name| (Known, name.clone()));
        return names.chain([(Wrong, json!("nonsense"))]).collect();
    }
    if let (Some(least), Some(most)) = (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        let (below, above) = (json!(least as i64 - 1), json!(most + 1));
        let wrong = [below, above, json!("x")].map(|value| (Wrong, value));
        return [(Known, json!(least)), (Known, json!(most))].into_iter().chain(wrong).collect();
    }
    if schema["type"] == "boolean" {
        return vec![(Known, json!(true)), (Known, json!(false)), (Wrong, json!("maybe"))];
    }
    let mut trials = vec![(Known, sample(document, schema))];
    if let Some(most) = schema["maxItems"].as_u64() {
        let items = |count: u64| vec![sample(document, &schema["items"]); count as usize].into();
        trials.extend([(Known, items(most)), (Wrong, items(most + 1))]);
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        let text = |length: u64| "x".repeat(length as usize).into();
        trials.extend([(Known, text(most)), (Wrong, text(most + 1))]);
    }
    trials
}

/// A schema with what is said of the parameter that has it.
fn with_description(document: &Document, schema: &Value, about: &Value) -> Value {
    if schema["$ref"] == FILTER {
        return schema.clone();
    }
    let mut schema = document.resolve(schema).clone();
    if schema["description"].is_null() {
        schema["description"] = about.clone();
    }
    schema
}

/// Some value of a schema.
fn sample(document: &Document, schema: &Value) -> Value {
    if schema["$ref"] == FILTER {
        return json!({"field": "plan", "value": "ann"});
    }
    let schema = document.resolve(schema);
    if !schema["default"].is_null() {
        return schema["default"].clone();
    }
    if let Some(name) = schema["enum"].get(0) {
        return name.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return sample(document, first);
    }
    let kind = one_or_more(&schema["type"]).next().and_then(Value::as_str);
    match kind.unwrap_or_else(|| panic!("{schema} has no type")) {
        "integer" => schema["minimum"].clone(),
        "boolean" => json!(true),
        "array" => {
            // Schemas that refer to themselves end here.
            let least = usize::from(schema["items"]["$ref"].is_null());
            let count = schema["minItems"].as_u64().unwrap_or(0) as usize;
            match count.max(least) {
                0 => json!([]),
                count => vec![sample(document, &schema["items"]); count].into(),
            }
        }
        "object" => {
            let required = one_or_more(&schema["required"]).filter_map(Value::as_str);
            let member =
                |name: &str| (name.to_owned(), sample(document, &schema["properties"][name]));
            Map::from_iter(required.map(member)).into()
        }
        // A text that is a time, a length of time, a name and a formula would be all of them.
        _ => {
            let about = schema["description"].as_str().unwrap_or_default();
            let examples = [
                ("`ms`", "1h"),
                ("IANA", "UTC"),
                ("`position`", ""),
                ("RFC", "0"),
                ("revision", "p0-1"),
            ];
            let example = examples.iter().find(|(word, _)| about.contains(word));
            example.map_or("1", |(_, example)| example).into()
        }
    }
}

/// A parameter as it stands in a target.
fn query(name: &str, value: &Value, of_json: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => encoded(text),
        value => encoded(&value.to_string()),
    };
    match value {
        value if !of_json.is_null() => format!("{name}={}", text(value)),
        Value::Array(values) => {
            let pairs: Vec<_> =
                values.iter().map(|value| format!("{name}={}", text(value))).collect();
            pairs.join("&")
        }
        Value::Object(_) => format!("{name}[plan]=ann"),
        value => format!("{name}={}", text(value)),
    }
}

/// A target with one parameter in the place of what it has of that name.
fn with(target: &str, name: &str, pair: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_other = |pair: &&str| !pair.is_empty() && pair.split('=').next() != Some(name);
    let others: String = query.split('&').filter(is_other).map(|pair| format!("&{pair}")).collect();
    format!("{path}?{pair}{others}")
}
