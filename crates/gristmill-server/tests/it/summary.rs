//! The summary's leading event types.

use serde_json::{Value, json};

use crate::support::Api;

#[tokio::test]
async fn leading_types_are_compared_with_the_range_before() {
    let api = Api::new();
    let event = |id: &str, event_type: &str, time: &str| json!({"id": id, "user_id": id, "event_type": event_type, "timestamp": time});
    api.fill(&json!([
        event("0", "view", "2025-02-28T00:00:00Z"),
        event("1", "view", "2025-03-01T00:00:00Z"),
        event("2", "view", "2025-03-01T12:00:00Z"),
        event("3", "gone", "2025-03-01T12:00:00Z"),
        event("4", "view", "2025-03-02T00:00:00Z"),
        event("5", "view", "2025-03-02T01:00:00Z"),
        event("6", "view", "2025-03-02T02:00:00Z"),
        event("7", "buy", "2025-03-02T03:00:00Z"),
        event("8", "buy", "2025-03-02T04:00:00Z"),
        event("9", "add", "2025-03-02T04:00:00Z"),
    ]))
    .await;
    let metrics = async |query: &str| {
        let answer = api.get(&format!("/v1/analytics/summary?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        answer.json()["top_metrics"].clone()
    };
    let metric = |name: &str, value: u64, change: Value| json!({"name": name, "value": value, "unit": "events", "change_percentage": change});
    let day = "start=2025-03-02T00:00:00Z&end=2025-03-03T00:00:00Z";
    assert_eq!(
        metrics(day).await,
        json!([
            metric("view", 3, json!(50.0)),
            metric("buy", 2, json!(null)),
            metric("add", 1, json!(null))
        ])
    );
    assert_eq!(metrics(&format!("{day}&top=1")).await, json!([metric("view", 3, json!(50.0))]));
    assert_eq!(metrics(&format!("{day}&top=0")).await, json!([]));
    // Without an end there is no range of equal length before.
    let open = "start=2025-03-02T00:00:00Z&top=1";
    assert_eq!(metrics(open).await, json!([metric("view", 3, json!(null))]));
    let fewer = "start=2025-03-02T01:00:00Z&end=2025-03-02T02:00:00Z&event_type=view";
    assert_eq!(metrics(fewer).await, json!([metric("view", 1, json!(0.0))]));
    // Values of any field or property are metrics, if asked for, and compared with nothing.
    let by_user = format!("{day}&event_type=view&group_by=user_id&top=2");
    let expected = json!([metric("4", 1, json!(null)), metric("5", 1, json!(null))]);
    assert_eq!(metrics(&by_user).await, expected);
    for wrong in ["top=101", "top=-1", "top=x", "top=1&top=2"] {
        let answer = api.get(&format!("/v1/analytics/summary?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("`top`"), "{wrong}");
    }
}
