//! One user's profile and history.

use serde_json::{Value, json};

use crate::support::Api;

fn event(id: &str, time: &str, more: &Value) -> Value {
    let mut event = json!({"id": id, "user_id": "ann", "event_type": "view", "timestamp": time});
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

/// Two visits, three transactions of which one failed, and one refund.
async fn filled() -> Api {
    let api = Api::new();
    api.fill(&json!([
        event("1", "2025-11-01T10:00:00Z", &json!({"session_id": "s1", "page_url": "/home"})),
        event("2", "2025-11-01T10:10:00Z", &json!({"session_id": "s1", "page_url": "/shop"})),
        event("3", "2025-12-31T22:30:00Z", &json!({"session_id": "s2", "page_url": "/shop"})),
        event(
            "4",
            "2025-12-31T23:30:00Z",
            &json!({"session_id": "s2", "event_type": "purchase",
            "properties": {"amount": "12.50"}})
        ),
        event(
            "5",
            "2025-12-31T23:30:00Z",
            &json!({"event_type": "EVENT_TYPE_TRANSACTION",
            "transactionEvent": {"transactionId": "t1", "amount": 10, "currency": "EUR",
                "status": "TRANSACTION_STATUS_COMPLETED"}})
        ),
        event(
            "6",
            "2025-12-31T23:30:00Z",
            &json!({"event_type": "EVENT_TYPE_TRANSACTION",
            "transaction_event": {"transaction_id": "t2", "amount": 99,
                "status": "TRANSACTION_STATUS_FAILED"}})
        ),
        event(
            "7",
            "2025-12-31T23:30:00Z",
            &json!({"event_type": "refunded",
            "transaction_event": {"amount": 4, "type": "TRANSACTION_TYPE_REFUND"}})
        ),
    ]))
    .await;
    api
}

async fn ask(api: &Api, query: &str) -> Value {
    let answer = api.get(&format!("/v1/analytics/users/ann?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_profile_tells_days_sessions_pages_and_revenue() {
    let api = filled().await;
    let user = ask(&api, "include_sessions=true&include_events=false").await;
    assert_eq!(
        user["user_profile"],
        json!({"user_id": "ann", "first_seen": "2025-11-01T10:00:00Z",
            "last_seen": "2025-12-31T23:30:00Z", "total_sessions": 2, "total_events": 7,
            "attributes": {}})
    );
    // It is 2026-01-01 in UTC, so of both active days one is among the last 28.
    assert_eq!(
        user["metrics"],
        json!({"engagement_score": 1.0 / 28.0, "days_active": 2, "avg_session_duration": 2100.0,
            "total_transactions": 3, "total_revenue": 18.5,
            "top_pages": [{"page_url": "/shop", "count": 2}, {"page_url": "/home", "count": 1}]})
    );
    assert_eq!(
        user["sessions"],
        json!([
            {"session_id": "s2", "start_time": "2025-12-31T22:30:00Z",
                "end_time": "2025-12-31T23:30:00Z", "event_count": 2, "duration": "3600s"},
            {"session_id": "s1", "start_time": "2025-11-01T10:00:00Z",
                "end_time": "2025-11-01T10:10:00Z", "event_count": 2, "duration": "600s"},
        ])
    );
    for name in ["events", "next_page_token", "previous_page_token"] {
        assert!(user.get(name).is_none(), "{name}");
    }
    assert!(ask(&api, "").await.get("sessions").is_none());
}

#[tokio::test]
async fn days_are_those_of_the_zone_and_engagement_ends_with_the_range() {
    let api = filled().await;
    let metrics = async |query: &str| {
        let user = ask(&api, query).await;
        let days = user["metrics"]["days_active"].as_u64().unwrap();
        (days, user["metrics"]["engagement_score"].as_f64().unwrap() * 28.0)
    };
    // In Berlin half past eleven of the last day is a day of the new year.
    assert_eq!(metrics("tz=Europe/Berlin").await, (3, 2.0));
    assert_eq!(metrics("end=2025-11-20T00:00:00Z").await, (1, 1.0));
    assert_eq!(metrics("end=2025-12-20T00:00:00Z").await, (1, 0.0));
    assert_eq!(metrics("end=2099-01-01T00:00:00Z").await, (2, 1.0));
    assert_eq!(metrics("event_type=nothing").await, (0, 0.0));
}

/// The ids on the pages from a first one on, following one kind of token.
async fn walk(api: &Api, query: &str, first: Value, token: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut page = first;
    loop {
        let events = page["events"].as_array().unwrap();
        pages.push(events.iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect());
        let Some(token) = page[token].as_str() else { return pages };
        page = ask(api, &format!("{query}&page_token={token}")).await;
    }
}

#[tokio::test]
async fn events_are_paged_both_ways_through_ties() {
    let api = filled().await;
    let query = "limit=2";
    let first = ask(&api, query).await;
    assert_eq!(first["previous_page_token"], Value::Null);
    let pages = walk(&api, query, first.clone(), "next_page_token").await;
    assert_eq!(pages, [vec!["7", "6"], vec!["5", "4"], vec!["3", "2"], vec!["1"]]);

    let second = format!("{query}&page_token={}", first["next_page_token"].as_str().unwrap());
    let second = ask(&api, &second).await;
    let pages = walk(&api, query, second, "previous_page_token").await;
    assert_eq!(pages, [["5", "4"], ["7", "6"]]);

    let query = "limit=3&order=asc&start=2025-12-01T00:00:00Z";
    let pages = walk(&api, query, ask(&api, query).await, "next_page_token").await;
    assert_eq!(pages, [vec!["3", "4", "5"], vec!["6", "7"]]);
}

#[tokio::test]
async fn new_events_move_no_page() {
    let api = filled().await;
    let first = ask(&api, "limit=2").await;
    let next = first["next_page_token"].as_str().unwrap();
    api.fill(&json!([
        event("8", "2025-12-31T23:30:00Z", &json!({})),
        event("9", "2025-12-31T23:45:00Z", &json!({})),
    ]))
    .await;
    let second = ask(&api, &format!("limit=2&page_token={next}")).await;
    assert_eq!(
        (&second["events"][0]["id"], &second["events"][1]["id"]),
        (&json!("5"), &json!("4"))
    );
    let newer = second["previous_page_token"].as_str().unwrap();
    let newer = ask(&api, &format!("limit=9&page_token={newer}")).await;
    let ids: Vec<_> = newer["events"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    assert_eq!(ids, ["9", "8", "7", "6"]);
}

#[tokio::test]
async fn tables_tell_the_tokens_in_headers() {
    let api = filled().await;
    let first = api.get_csv("/v1/analytics/users/ann?limit=2").await;
    let next = first.header("next-page-token").to_owned();
    assert!(!next.is_empty() && first.header("previous-page-token").is_empty());
    let target = format!("/v1/analytics/users/ann?limit=9&page_token={next}");
    let second = api.get_csv(&target).await;
    assert_eq!(second.text.lines().count(), 6, "{}", second.text);
    assert!(second.header("next-page-token").is_empty());
    assert!(!second.header("previous-page-token").is_empty());
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = filled().await;
    let first = ask(&api, "limit=2").await;
    let token = first["next_page_token"].as_str().unwrap();
    let changed = format!("{}0", &token[..token.len() - 1]);
    for (query, named) in [
        ("page_token=soon".to_owned(), "`page_token`"),
        ("page_token=".to_owned(), "`page_token`"),
        (format!("page_token={changed}"), "`page_token`"),
        (format!("page_token={token}&order=asc"), "`page_token`"),
        (format!("page_token={token}&event_type=view"), "`page_token`"),
        (format!("page_token={token}&page_token={token}"), "`page_token` is given more than once"),
        ("order=random".to_owned(), "`order` must be one of desc, asc"),
        ("tz=Nowhere/Land".to_owned(), "`tz` is not a known time zone"),
        ("limit=0".to_owned(), "`limit`"),
        ("limit=10001".to_owned(), "`limit`"),
    ] {
        let answer = api.get(&format!("/v1/analytics/users/ann?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{query}: {detail}");
    }
    // The same token of another user's page.
    let answer = api.get(&format!("/v1/analytics/users/bob?page_token={token}")).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
}
