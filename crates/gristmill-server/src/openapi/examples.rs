//! An example of each operation. The tests send every one of them and hold the answer against the document.

use serde_json::{Value, json};

/// A request: its target, and its body as JSON, if it has one.
type Example = (&'static str, &'static str);

/// Adds the example to an operation: as the body's, and whole, as a command.
pub(super) fn add(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    let Some((target, body)) = of(id) else { return };
    let method = if id.starts_with("put") {
        " -X PUT"
    } else if id.starts_with("delete") {
        " -X DELETE"
    } else if id.starts_with("post") && body.is_empty() {
        " -X POST"
    } else {
        ""
    };
    let mut command = format!("curl{method} 'http://localhost:8080{target}'");
    if operation["security"] != json!([]) {
        command += " -H \"x-api-key: $GRISTMILL_API_KEY\"";
    }
    if !body.is_empty() {
        command += &format!(" -H 'Content-Type: application/json' -d '{body}'");
        let example = serde_json::from_str(body).unwrap_or(Value::Null);
        operation["requestBody"]["content"]["application/json"]["example"] = example;
    }
    let request = json!({"target": target, "body": body});
    operation["x-codeSamples"] = json!([{"lang": "Shell", "source": command, "request": request}]);
}

/// The example of the operation with an id.
fn of(id: &str) -> Option<Example> {
    QUESTIONS
        .iter()
        .chain(OTHERS)
        .find(|(of, ..)| *of == id)
        .map(|(_, target, body)| (*target, *body))
}

const QUESTIONS: &[(&str, &str, &str)] = &[
    (
        "getAnalyticsSummary",
        "/v1/analytics/summary?start=2026-01-01T00:00:00Z&end=2026-02-01T00:00:00Z",
        "",
    ),
    (
        "getAnalyticsTimeseries",
        "/v1/analytics/timeseries?metric=unique_users&granularity=day&tz=Europe/Berlin&group_by=plan",
        "",
    ),
    (
        "postAnalyticsTimeseries",
        "/v1/analytics/timeseries",
        r#"{"series": [{"name": "buyers", "metric": "unique_users", "event_type": "buy"}, {"name": "all", "metric": "unique_users"}], "formulas": [{"name": "share", "expression": "buyers / all"}], "granularity": "week"}"#,
    ),
    ("getAnalyticsTop", "/v1/analytics/top?property=page_url&limit=5", ""),
    (
        "getAnalyticsUsers",
        "/v1/analytics/users?question=%7B%22event_type%22:%22buy%22,%22order_by%22:%22events%22%7D",
        "",
    ),
    (
        "postAnalyticsUsers",
        "/v1/analytics/users",
        r#"{"event_type": "buy", "min_events": 1, "order_by": "events"}"#,
    ),
    ("getAnalyticsUsersById", "/v1/analytics/users/ada?include_sessions=true&limit=10", ""),
    (
        "getAnalyticsFunnel",
        "/v1/analytics/funnel?question=%7B%22steps%22:%5B%7B%22event_type%22:%22view%22%7D,%7B%22event_type%22:%22buy%22%7D%5D%7D",
        "",
    ),
    (
        "postAnalyticsFunnel",
        "/v1/analytics/funnel",
        r#"{"steps": [{"name": "saw", "event_type": "view"}, {"name": "bought", "event_type": "buy", "where": {"field": "amount", "op": ">", "value": 10}}], "window": "1d"}"#,
    ),
    (
        "getAnalyticsFunnelUsers",
        "/v1/analytics/funnel/users?question=%7B%22steps%22:%5B%7B%22event_type%22:%22view%22%7D,%7B%22event_type%22:%22buy%22%7D%5D,%22step%22:2%7D",
        "",
    ),
    (
        "postAnalyticsFunnelUsers",
        "/v1/analytics/funnel/users",
        r#"{"steps": [{"event_type": "view"}, {"event_type": "buy"}], "step": 1}"#,
    ),
    (
        "getAnalyticsRetention",
        "/v1/analytics/retention?question=%7B%22granularity%22:%22week%22%7D",
        "",
    ),
    (
        "postAnalyticsRetention",
        "/v1/analytics/retention",
        r#"{"start_event": {"event_type": "signup"}, "granularity": "day"}"#,
    ),
    ("getAnalyticsStickiness", "/v1/analytics/stickiness?period=month", ""),
    (
        "getAnalyticsLifecycle",
        "/v1/analytics/lifecycle?granularity=week&start=2026-01-01T00:00:00Z&end=2026-02-01T00:00:00Z",
        "",
    ),
    ("getAnalyticsSessions", "/v1/analytics/sessions", ""),
    (
        "getAnalyticsPaths",
        "/v1/analytics/paths?question=%7B%22anchor%22:%7B%22event_type%22:%22view%22%7D%7D",
        "",
    ),
    (
        "postAnalyticsPaths",
        "/v1/analytics/paths",
        r#"{"anchor": {"event_type": "signup"}, "depth": 3}"#,
    ),
];

const OTHERS: &[(&str, &str, &str)] = &[
    (
        "postEvents",
        "/v1/events?wait=visible",
        r#"{"id": "e1", "user_id": "ada", "event_type": "signup", "timestamp": "2026-01-01T00:00:00Z", "properties": {"plan": "free"}}"#,
    ),
    (
        "postEventsBatch",
        "/v1/events/batch?wait=visible",
        r#"{"events": [{"id": "e2", "user_id": "ada", "event_type": "view", "page_url": "/shop", "timestamp": "2026-01-01T00:10:00Z"}, {"id": "e3", "user_id": "ada", "event_type": "buy", "timestamp": "2026-01-01T00:20:00Z", "properties": {"amount": 20}}]}"#,
    ),
    ("getEventsHealth", "/v1/events/health", ""),
    ("getAnalyticsHealth", "/v1/analytics/health", ""),
    (
        "postCohorts",
        "/v1/cohorts",
        r#"{"id": "buyers", "name": "Who bought", "definition": {"event_type": "buy"}}"#,
    ),
    ("getCohorts", "/v1/cohorts", ""),
    ("getCohortsById", "/v1/cohorts/buyers", ""),
    ("getCohortsByIdUsers", "/v1/cohorts/buyers/users?limit=10", ""),
    (
        "putCohortsById",
        "/v1/cohorts/buyers",
        r#"{"name": "Who bought for more than 10", "definition": {"event_type": "buy", "where": {"field": "amount", "op": ">", "value": 10}}}"#,
    ),
    ("deleteCohortsById", "/v1/cohorts/buyers", ""),
    (
        "postKeys",
        "/v1/keys",
        r#"{"scopes": ["write"], "name": "web", "ttl": "90d", "limits": {"events_per_second": 1000}}"#,
    ),
    ("getKeys", "/v1/keys", ""),
    ("getKeysSelf", "/v1/keys/self", ""),
    ("getKeysById", "/v1/keys/8fQ2kXz01bTr", ""),
    ("postKeysByIdRotate", "/v1/keys/8fQ2kXz01bTr/rotate", r#"{"overlap": "7d"}"#),
    ("deleteKeysById", "/v1/keys/8fQ2kXz01bTr", ""),
    ("getHealth", "/health", ""),
    ("getReady", "/ready", ""),
    ("getLivez", "/livez", ""),
    ("getReadyz", "/readyz", ""),
    ("getActuatorHealth", "/actuator/health", ""),
    ("getStats", "/stats", ""),
    ("getLag", "/lag", ""),
    ("getMetrics", "/metrics", ""),
    ("getMetricsByName", "/v1/metrics?metric_names=weight&aggregation=p95&labels.plan=pro", ""),
    ("getMetricsExport", "/v1/metrics/export?format=prometheus", ""),
    ("getMetricsHealth", "/v1/metrics/health", ""),
    ("postStoreCompact", "/v1/store/compact", ""),
    ("getOpenapiJson", "/v1/openapi.json", ""),
    ("getDocs", "/docs", ""),
    ("getDocsPageCss", "/docs/page.css", ""),
    ("getDocsPageJs", "/docs/page.js", ""),
];
