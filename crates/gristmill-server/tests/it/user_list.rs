//! Lists of users.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::Api;

/// Ann views twice, bob once and then buys, cid buys.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: &str, user: &str, event_type: &str, time: &str| {
        json!({"id": id, "user_id": user, "event_type": event_type, "timestamp": time,
            "properties": {"n": id.len()}})
    };
    api.fill(&json!([
        event("1", "ann", "view", "2025-03-01T10:00:00Z"),
        event("2", "ann", "view", "2025-03-04T10:00:00Z"),
        event("3", "bob", "view", "2025-03-02T10:00:00Z"),
        event("4", "bob", "buy", "2025-03-03T10:00:00Z"),
        event("55", "=cid", "buy", "2025-03-03T10:00:00Z"),
    ]))
    .await;
    api
}

async fn ask(api: &Api, question: &Value) -> Value {
    let answer = api.post("/v1/analytics/users", question.to_string()).await;
    assert_eq!(answer.status, 200, "{question}: {}", answer.text);
    answer.json()
}

fn names(answer: &Value) -> Vec<&str> {
    let users = answer["users"].as_array().unwrap();
    users.iter().map(|user| user["user_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn users_are_listed_by_what_they_did() {
    let api = filled().await;
    let all = ask(&api, &json!({})).await;
    assert_eq!(
        all["users"][1],
        json!({"user_id": "ann", "events": 2, "first_seen": "2025-03-01T10:00:00Z",
            "last_seen": "2025-03-04T10:00:00Z"})
    );
    assert_eq!((&all["total_users"], &all["next_page_token"]), (&json!(3), &Value::Null));
    assert_eq!(all["metadata"]["order_by"], "user_id");
    for (question, users) in [
        (json!({}), vec!["=cid", "ann", "bob"]),
        (json!({"order_by": "events"}), vec!["ann", "bob", "=cid"]),
        (json!({"order_by": "last_seen"}), vec!["ann", "=cid", "bob"]),
        (json!({"order_by": "first_seen"}), vec!["=cid", "bob", "ann"]),
        (json!({"event_type": "view"}), vec!["ann", "bob"]),
        (json!({"event_type": "view", "min_events": 2}), vec!["ann"]),
        (json!({"max_events": 1}), vec!["=cid"]),
        (json!({"min_events": 2, "max_events": 2.0, "limit": null}), vec!["ann", "bob"]),
        (json!({"where": {"field": "n", "op": ">", "value": 1}}), vec!["=cid"]),
        (json!({"filters": {"user_id": "bob"}}), vec!["bob"]),
        (json!({"time_range": {"start": "2025-03-04T00:00:00Z"}}), vec!["ann"]),
        (json!({"event_type": "nothing"}), vec![]),
    ] {
        assert_eq!(names(&ask(&api, &question).await), users, "{question}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_in_every_order() {
    let api = filled().await;
    for order in ["user_id", "events", "first_seen", "last_seen"] {
        let whole = ask(&api, &json!({"order_by": order})).await;
        let mut question = json!({"order_by": order, "limit": 1});
        let mut pages = Vec::new();
        loop {
            let page = ask(&api, &question).await;
            assert_eq!(page["total_users"], 3);
            pages.extend(page["users"].as_array().unwrap().clone());
            if page["next_page_token"].is_null() {
                break;
            }
            question["page_token"] = page["next_page_token"].clone();
        }
        assert_eq!(&json!(pages), &whole["users"], "{order}");
    }
}

#[tokio::test]
async fn a_table_tells_its_token_in_a_header() {
    let api = filled().await;
    let request = Request::post("/v1/analytics/users")
        .header("content-type", "application/json")
        .header("accept", "text/csv")
        .body(Body::from(r#"{"limit": 1}"#))
        .unwrap();
    let answer = api.send(request).await;
    assert_eq!(
        answer.text,
        "user_id,events,first_seen,last_seen\r\n\
         \"'=cid\",1,2025-03-03T10:00:00Z,2025-03-03T10:00:00Z\r\n"
    );
    let next = json!({"limit": 1, "page_token": answer.header("next-page-token")});
    assert_eq!(names(&ask(&api, &next).await), ["ann"]);
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = filled().await;
    let first = ask(&api, &json!({"limit": 1})).await;
    let token = &first["next_page_token"];
    for (question, named) in [
        (json!({"limit": 0}), "`limit` must be a whole number from 1 to 10000"),
        (json!({"limit": 10_001}), "`limit` must be"),
        (json!({"limit": "5"}), "`limit` must be"),
        (json!({"min_events": 0}), "`min_events` must be a whole number from 1"),
        (json!({"min_events": 1.5}), "`min_events` must be"),
        (json!({"min_events": -1}), "`min_events` must be"),
        (json!({"max_events": 1e300}), "`max_events` must be"),
        (json!({"max_events": []}), "`max_events` must be"),
        (json!({"min_events": 3, "max_events": 2}), "`min_events` must not be above `max_events`"),
        (json!({"order_by": "name"}), "`order_by` must be one of user_id, events, last_seen"),
        (json!({"order_by": 1}), "`order_by` must be a string"),
        (json!({"page_token": "00"}), "`page_token` does not belong"),
        (json!({"page_token": token, "order_by": "events"}), "`page_token` does not belong"),
        (json!({"page_token": token, "event_type": "buy"}), "`page_token` does not belong"),
        (json!({"page_token": token, "min_events": 2}), "`page_token` does not belong"),
        (json!({"page_token": 7}), "`page_token` must be a string"),
        (json!({"users": []}), "`users` is unknown"),
        (json!({"at_least": "soon"}), "`at_least`"),
    ] {
        let answer = api.post("/v1/analytics/users", question.to_string()).await;
        assert_eq!(answer.status, 400, "{question}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{question}: {detail}");
    }
    let without = api.get("/v1/analytics/users").await;
    assert_eq!(without.status, 400, "a question in the target is missing");
}
