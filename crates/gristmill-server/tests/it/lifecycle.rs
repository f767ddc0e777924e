//! Lifecycle.

use serde_json::{Value, json};

use crate::support::Api;

/// Ann comes on the first, second and fifth, bob on the second.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: &str, user: &str, time: &str| json!({"id": id, "user_id": user, "event_type": "view", "timestamp": time});
    api.fill(&json!([
        event("1", "ann", "2025-03-01T10:00:00Z"),
        event("2", "ann", "2025-03-02T23:30:00Z"),
        event("3", "ann", "2025-03-05T10:00:00Z"),
        event("4", "bob", "2025-03-02T10:00:00Z"),
    ]))
    .await;
    api
}

/// Start, new, returning, resurrecting and dormant of each bucket.
async fn ask(api: &Api, query: &str) -> Vec<(String, [u64; 4])> {
    let answer = api.get(&format!("/v1/analytics/lifecycle?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let answer = answer.json();
    let bucket = |bucket: &Value| {
        let users = ["new", "returning", "resurrecting", "dormant"];
        let start = bucket["start"].as_str().unwrap().to_owned();
        (start, users.map(|name| bucket[name].as_u64().unwrap()))
    };
    answer["buckets"].as_array().unwrap().iter().map(bucket).collect()
}

fn days(users: &[(u8, [u64; 4])]) -> Vec<(String, [u64; 4])> {
    users.iter().map(|(day, users)| (format!("2025-03-0{day}T00:00:00Z"), *users)).collect()
}

#[tokio::test]
async fn users_are_new_returning_resurrecting_or_dormant() {
    let api = filled().await;
    let whole = days(&[
        (1, [1, 0, 0, 0]),
        (2, [1, 1, 0, 0]),
        (3, [0, 0, 0, 2]),
        (4, [0, 0, 0, 0]),
        (5, [0, 0, 1, 0]),
    ]);
    assert_eq!(ask(&api, "").await, whole);
    // What came before the range still counts, and its first bucket is a whole one.
    let range = "start=2025-03-02T12:00:00Z&end=2025-03-05T00:00:00Z";
    assert_eq!(ask(&api, range).await, whole[1..4]);
    // In Berlin ann's second day is the third.
    let berlin = ask(&api, &format!("{range}&tz=Europe/Berlin")).await;
    assert_eq!(
        berlin.iter().map(|(_, users)| *users).collect::<Vec<_>>(),
        [[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    );
    let month = ask(&api, "granularity=month").await;
    assert_eq!(month, days(&[(1, [2, 0, 0, 0])]));
    assert_eq!(ask(&api, "filters.user_id=nobody").await, []);
}

#[tokio::test]
async fn a_table_has_a_line_for_each_bucket() {
    let api = filled().await;
    let answer = api.get_csv("/v1/analytics/lifecycle?filters.user_id=bob").await;
    assert_eq!(
        answer.text,
        "bucket,new,returning,resurrecting,dormant\r\n2025-03-02T00:00:00Z,1,0,0,0\r\n"
    );
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = filled().await;
    for (query, named) in [
        ("granularity=year", "`granularity` must be one of"),
        ("tz=Nowhere/Land", "`tz` is not a known time zone"),
        ("start=0", "more than 1000 buckets"),
        ("period=week", "`period`"),
    ] {
        let answer = api.get(&format!("/v1/analytics/lifecycle?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{query}: {detail}");
    }
}
