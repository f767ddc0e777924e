//! Real answers held against the schemas of the document.

use std::collections::BTreeSet;

use axum::body::Body;
use gristmill_model::limits;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::document::{Document, Operation};
use crate::support::{Answer, Api, Platform, ingest_config};

/// A request of an operation.
pub(super) struct Asked {
    pub(super) id: &'static str,
    pub(super) target: String,
    pub(super) body: Value,
}

impl Asked {
    fn get(id: &'static str, target: &str) -> Self {
        Self { id, target: target.to_owned(), body: Value::Null }
    }

    fn sent(id: &'static str, target: &str, body: Value) -> Self {
        Self { id, target: target.to_owned(), body }
    }

    pub(super) async fn send(&self, api: &Api, document: &Document, accept: &str) -> Answer {
        let method = document.operation(self.id).method.to_uppercase();
        let target = with_key(api, &self.target).await;
        let request = Request::builder().method(method.as_str()).uri(&target);
        let request = request.header("accept", accept).header("content-type", "application/json");
        let body = match &self.body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = request.body(body).unwrap();
        if accept != "text/event-stream" {
            return api.send(request).await;
        }
        // A stream goes on for as long as somebody reads it: the first answer is enough.
        let (head, mut body) = api.open(request).await.into_parts();
        let mut text = String::new();
        while !text.ends_with("}\n\n") {
            let Some(frame) = body.frame().await else { break };
            text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
        Answer { status: head.status, headers: head.headers, text }
    }
}

/// Two users on two days: ann views twice and buys; bob views without a session.
pub(super) async fn filled() -> Api {
    // Requests of the document make keys, after which all of them need one.
    let api = Api::with_key();
    let event = |id: &str, user: &str, event_type: &str, time: &str| {
        let carried =
            json!({"name": "parcel", "metrics": [{"name": "weight", "value": 2, "unit": "kg"}]});
        let properties =
            json!({"plan": user, "price": 2.5, "list": [1, {"a": null}], "custom_event": carried});
        json!({"id": id, "user_id": user, "event_type": event_type, "timestamp": time,
            "page_url": "/p", "source": "web", "properties": properties})
    };
    let mut events = vec![
        event("1", "ann", "view", "2025-03-01T10:00:00Z"),
        event("2", "ann", "view", "2025-03-01T10:01:00Z"),
        event("3", "ann", "buy", "2025-03-01T11:00:00Z"),
        event("4", "bob", "view", "2025-03-02T12:00:00Z"),
    ];
    (0..3).for_each(|index| events[index]["session_id"] = "s1".into());
    api.fill(&Value::from(events)).await;
    let cohort = json!({"id": "buyers", "definition": {"event_type": "buy"}}).to_string();
    assert_eq!(api.post("/v1/cohorts", cohort).await.status, 201);
    api
}

/// Stands in a target for the id of a key, which is different in each platform.
const SOME_KEY: &str = "SOME-KEY";

/// A target with the id of a new key in it, if it asks for one.
async fn with_key(api: &Api, target: &str) -> String {
    if !target.contains(SOME_KEY) {
        return target.to_owned();
    }
    let made = api.post("/v1/keys", json!({"scopes": ["read"]}).to_string()).await.json();
    target.replace(SOME_KEY, made["id"].as_str().unwrap())
}

/// Questions and other requests that have an answer, at least one of each operation; those of one
/// operation in order.
pub(super) fn all() -> Vec<Asked> {
    let get = Asked::get;
    let mut all = vec![
        get("getOpenapiJson", "/v1/openapi.json"),
        get("getDocs", "/docs"),
        get("getDocsPageCss", "/docs/page.css"),
        get("getDocsPageJs", "/docs/page.js"),
        get("getEventsHealth", "/v1/events/health"),
        get("getAnalyticsHealth", "/v1/analytics/health"),
        get("getHealth", "/health"),
        get("getReady", "/ready"),
        get("getLivez", "/livez"),
        get("getReadyz", "/readyz"),
        get("getActuatorHealth", "/actuator/health"),
        get("getStats", "/stats"),
        get("getLag", "/lag"),
        get("getMetrics", "/metrics"),
        get("getAnalyticsSummary", "/v1/analytics/summary"),
        get("getAnalyticsSummary", "/v1/analytics/summary?event_type=none"),
        get(
            "getAnalyticsSummary",
            "/v1/analytics/summary?start=2025-03-02T00:00:00Z&end=1741000000",
        ),
        get("getAnalyticsTimeseries", "/v1/analytics/timeseries"),
        get(
            "getAnalyticsTimeseries",
            "/v1/analytics/timeseries?metric=p90&property=price&group_by=plan&top=1\
             &start=2025-03-01T00:00:00Z&end=2025-03-03T00:00:00Z&compare=previous_period",
        ),
        get("getAnalyticsTop", "/v1/analytics/top?property=plan"),
        get("getAnalyticsUsersById", "/v1/analytics/users/ann"),
        get("getAnalyticsUsersById", "/v1/analytics/users/ann?include_sessions=true&limit=1"),
        get("getAnalyticsUsersById", "/v1/analytics/users/nobody?include_events=false"),
        get("getAnalyticsStickiness", "/v1/analytics/stickiness"),
        get("getAnalyticsLifecycle", "/v1/analytics/lifecycle"),
        get("getAnalyticsSessions", "/v1/analytics/sessions"),
        get(
            "getAnalyticsSessions",
            "/v1/analytics/sessions?granularity=day&group_by=user_id&limit=1",
        ),
        get("getAnalyticsSessions", "/v1/analytics/sessions?event_type=none"),
        get("getMetricsByName", "/v1/metrics"),
        get(
            "getMetricsByName",
            "/v1/metrics?metric_names=weight&aggregation=p95&labels.plan=ann&start=0",
        ),
        get("getMetricsExport", "/v1/metrics/export"),
        get("getMetricsHealth", "/v1/metrics/health"),
        get("getCohorts", "/v1/cohorts"),
        get("getCohortsById", "/v1/cohorts/buyers"),
        get("getCohortsByIdUsers", "/v1/cohorts/buyers/users?limit=1"),
        get("getKeysSelf", "/v1/keys/self"),
        get("getKeys", "/v1/keys"),
        get("getKeysById", "/v1/keys/SOME-KEY"),
        Asked::sent(
            "postKeys",
            "/v1/keys",
            json!({"scopes": ["write"], "limits": {"events_per_day": 5}, "ttl": "1d"}),
        ),
        Asked::sent("postKeysByIdRotate", "/v1/keys/SOME-KEY/rotate", json!({"ttl": "1d"})),
        get("deleteKeysById", "/v1/keys/SOME-KEY"),
    ];
    all.extend(posted());
    all.extend(events_and_cohorts());
    all
}

/// Questions that are bodies, in the body and in the target.
fn posted() -> Vec<Asked> {
    // As many as there may be, so that every number of a step that is described is one of them.
    let mut steps = vec![json!({"event_type": "view"}); limits::FUNNEL_STEPS];
    steps[1] = json!({"event_type": "buy"});
    let breakdown = json!({"property": "plan", "top": 1});
    let everything = json!({
        "start": 0, "time_range": {"end": "2026-01-01T00:00:00Z"}, "event_types": ["view", "buy"],
        "filters": {"source": "web"}, "steps": steps, "order": "strict", "window": "1d",
        "where": {"not": {"or": [{"field": "plan", "op": "in", "value": ["x", 1]}, {"cohort": "buyers"}]}},
    });
    let series = json!([{"metric": "sum", "property": "price", "event_type": ["buy"]}, {}]);
    let formulas = json!([{"expression": "A / B"}]);
    let questions = [
        ("Timeseries", "/v1/analytics/timeseries", json!({"series": series, "formulas": formulas})),
        ("Users", "/v1/analytics/users", json!({"limit": 1, "min_events": 1})),
        ("Funnel", "/v1/analytics/funnel", json!({"steps": steps})),
        ("Funnel", "/v1/analytics/funnel", json!({"steps": steps, "breakdown": breakdown})),
        ("Funnel", "/v1/analytics/funnel", everything),
        ("FunnelUsers", "/v1/analytics/funnel/users", json!({"steps": steps, "step": 1})),
        (
            "FunnelUsers",
            "/v1/analytics/funnel/users",
            json!({"steps": steps, "step": 1, "breakdown": breakdown}),
        ),
        ("Retention", "/v1/analytics/retention", json!({"return_event": {"event_type": "buy"}})),
        ("Paths", "/v1/analytics/paths", json!({"anchor": {}, "gap": "30m", "limit": 1})),
    ];
    let mut all = Vec::new();
    for (name, target, question) in questions {
        if name != "Timeseries" {
            let target = format!("{target}?question={}", encoded(&question.to_string()));
            all.push(Asked::get(leaked(format!("getAnalytics{name}")), &target));
        }
        all.push(Asked::sent(leaked(format!("postAnalytics{name}")), target, question));
    }
    all
}

fn events_and_cohorts() -> Vec<Asked> {
    let sent = Asked::sent;
    let event = json!({"id": "e", "user_id": "ann", "event_type": "view", "timestamp": 1.5,
        "session_id": null, "properties": {"a": 1}});
    let cohort = json!({"name": "New ones", "definition": {"and": [
        {"event_type": "view", "min_count": 1, "last": "30d"}, {"not": {"or": []}}]}});
    vec![
        sent("postEvents", "/v1/events", event.clone()),
        sent("postEvents", "/v1/events?wait=visible", json!({"event": event})),
        sent("postEvents", "/v1/events", json!({"event_type": ""})),
        sent("postEventsBatch", "/v1/events/batch", json!([event, {"event_type": "", "id": "x"}])),
        sent("postEventsBatch", "/v1/events/batch?wait=visible", json!({"events": [event]})),
        sent("postStoreCompact", "/v1/store/compact", Value::Null),
        sent("postCohorts", "/v1/cohorts", cohort.clone()),
        sent("putCohortsById", "/v1/cohorts/new-ones", cohort),
        sent("deleteCohortsById", "/v1/cohorts/new-ones", Value::Null),
    ]
}

fn leaked(text: String) -> &'static str {
    text.leak()
}

/// A text as it stands in a target.
pub(super) fn encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[tokio::test]
async fn answers_of_every_operation_are_as_described() {
    let api = filled().await;
    let document = Document::of(&api).await;
    let mut asked = BTreeSet::new();
    for request in all() {
        let operation = document.operation(request.id);
        asked.insert(operation.id());
        if !request.body.is_null() {
            let fault = document.fault(operation.body(), &request.body);
            assert_eq!(fault, None, "the body of {}: {}", request.id, request.body);
        }
        let answer = request.send(&api, &document, "application/json").await;
        check(&document, &operation, &answer);
        if answer.status != 200 {
            continue;
        }
        for media in operation.media().filter(|media| *media != "application/json") {
            let answer = request.send(&api, &document, media).await;
            check(&document, &operation, &answer);
            assert!(answer.header("content-type").starts_with(media), "{} {media}", request.id);
        }
    }
    let described = document.operations().map(|operation| operation.id()).collect();
    assert_eq!(asked, described, "asked, and described");
}

#[tokio::test]
async fn refusals_are_as_described() {
    let stalled = Api::over(Platform::stalled(ingest_config()));
    let document = Document::of(&stalled).await;
    stalled.post("/v1/events", r#"{"event_type":"t"}"#).await;
    for (id, target) in [("getReady", "/ready"), ("getReadyz", "/readyz")] {
        let answer = Asked::get(id, target).send(&stalled, &document, "*/*").await;
        assert_eq!(answer.status, 503, "{id}");
        check(&document, &document.operation(id), &answer);
    }
    let api = filled().await;
    let mut refused = 0;
    for mut request in all() {
        request.target.push_str(if request.target.contains('?') { "&x=1" } else { "?x=1" });
        let answer = request.send(&api, &document, "*/*").await;
        check(&document, &document.operation(request.id), &answer);
        refused += usize::from(answer.status == 400);
    }
    assert!(refused > 30, "{refused}");
    for (id, target, body, status) in [
        ("getCohortsById", "/v1/cohorts/none", Value::Null, 404),
        ("postCohorts", "/v1/cohorts", json!({"id": "buyers", "definition": {}}), 409),
        ("postAnalyticsFunnel", "/v1/analytics/funnel", json!([]), 400),
        ("postEvents", "/v1/events", json!("x".repeat(2 << 20)), 413),
    ] {
        let answer = Asked::sent(id, target, body).send(&api, &document, "*/*").await;
        assert_eq!(answer.status, status, "{id}: {}", answer.text);
        check(&document, &document.operation(id), &answer);
    }
}

/// Holds an answer against what its operation says of its status, headers and body.
fn check(document: &Document, operation: &Operation<'_>, answer: &Answer) {
    let (id, status) = (operation.id(), answer.status.as_u16());
    let described = document.resolve(&operation.value["responses"][status.to_string()]);
    assert!(!described.is_null(), "{id} {status} is not described: {}", answer.text);
    let media = answer.header("content-type").split(';').next().unwrap_or_default();
    for header in ["x-request-id", "server-timing", "retry-after", "etag", "location"] {
        let is_described = described["headers"][header].is_object();
        let is_there = !answer.header(header).is_empty();
        // A table or a stream may have fewer headers, and a problem more.
        let is_right = media != "application/json" || is_described == is_there;
        assert!(is_right, "{header} of {id} {status}: {is_described}, {is_there}");
    }
    if answer.text.is_empty() {
        return assert!(described["content"].is_null(), "{id} {status} is empty");
    }
    let schema = operation.answer(document, status, media);
    let value = match media {
        "application/json" | "application/problem+json" => json_of(&answer.text),
        _ => Value::from(answer.text.as_str()),
    };
    assert_eq!(document.fault(schema, &value), None, "{id} {status} {media}: {value}");
    if media == "text/event-stream" {
        let value = json_of(answer.text.split("data: ").nth(1).unwrap_or_default());
        let schema = operation.answer(document, status, "application/json");
        assert_eq!(document.fault(schema, &value), None, "{id}, live: {value}");
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
