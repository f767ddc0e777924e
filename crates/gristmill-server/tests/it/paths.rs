//! Paths over HTTP.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::sessions::visited;
use crate::support::Api;

async fn ask(api: &Api, question: &Value) -> Value {
    let answer = api.post("/v1/analytics/paths", question.to_string()).await;
    assert_eq!(answer.status, 200, "{question}: {}", answer.text);
    answer.json()
}

/// The nodes as level, value and count.
fn nodes(answer: &Value) -> Vec<(u64, &str, u64)> {
    let nodes = answer["nodes"].as_array().unwrap().iter();
    let number = |value: &Value| value.as_u64().unwrap();
    let node = |node: &'_ Value| (number(&node["level"]), number(&node["count"]));
    nodes.map(|n| (node(n).0, n["value"].as_str().unwrap_or("other"), node(n).1)).collect()
}

#[tokio::test]
async fn paths_lead_over_nodes_and_edges() {
    let api = visited().await;
    let question = json!({"anchor": {"filters": {"page_url": "/home"}}, "step": "page_url",
        "depth": 2, "gap": "30m"});
    let mut answer = ask(&api, &question).await;
    let metadata = answer.as_object_mut().unwrap().remove("metadata").unwrap();
    assert_eq!(
        answer,
        json!({
            "unique_users": 3,
            "levels": [
                {"level": 0, "count": 3, "ended": 1},
                {"level": 1, "count": 2, "ended": 2},
                {"level": 2, "count": 0, "ended": null},
            ],
            "nodes": [
                {"id": 0, "level": 0, "value": "/home", "count": 3, "unique_users": 3, "ended": 1},
                {"id": 1, "level": 1, "value": "/docs", "count": 1, "unique_users": 1, "ended": 1},
                {"id": 2, "level": 1, "value": "/pricing", "count": 1, "unique_users": 1,
                 "ended": 1},
            ],
            "edges": [
                {"level": 1, "from": 0, "to": 1, "count": 1},
                {"level": 1, "from": 0, "to": 2, "count": 1},
            ],
        })
    );
    let time = metadata["processing_time"].as_str().unwrap();
    assert!(time.ends_with('s'), "{time}");
    assert_eq!(
        (&metadata["direction"], &metadata["occurrences"], &metadata["collapse_repeats"]),
        (&json!("after"), &json!("all"), &json!(true))
    );
    assert_eq!((&metadata["gap"], &metadata["limit"]), (&json!("1800s"), &json!(10)));
}

#[tokio::test]
async fn paths_follow_what_is_asked() {
    let api = visited().await;
    for (members, expected) in [
        (
            json!({"anchor": {"event_type": "signup"}, "direction": "before"}),
            vec![(0, "signup", 1), (1, "view", 1)],
        ),
        (
            json!({"anchor": {"event_type": "signup"}, "direction": "before", "step": "page_url"}),
            vec![(0, "", 1), (1, "/pricing", 1), (2, "/home", 1)],
        ),
        (
            json!({"anchor": {"event_types": ["view"]}, "collapse_repeats": false, "depth": 1}),
            vec![(0, "view", 6), (1, "view", 3), (1, "signup", 1)],
        ),
        (
            json!({"anchor": {}, "occurrences": "first", "depth": 1, "step": "page_url"}),
            vec![(0, "/home", 3), (1, "/docs", 1), (1, "/pricing", 1)],
        ),
        (
            json!({"anchor": {}, "limit": 1, "depth": 1, "step": "page_url",
                "occurrences": "first", "time_range": {"end": "2025-03-01T12:00:00Z"}}),
            vec![(0, "/home", 3), (1, "/docs", 1), (1, "other", 1)],
        ),
        (json!({"anchor": {"event_type": "nothing"}}), vec![]),
    ] {
        assert_eq!(nodes(&ask(&api, &members).await), expected, "{members}");
    }
}

#[tokio::test]
async fn paths_come_as_csv() {
    let api = visited().await;
    let question = json!({"anchor": {}, "limit": 1, "depth": 1, "step": "plan",
        "collapse_repeats": false});
    let request = Request::post("/v1/analytics/paths")
        .header("content-type", "application/json")
        .header("accept", "text/csv")
        .body(Body::from(question.to_string()))
        .unwrap();
    assert_eq!(
        api.send(request).await.text,
        "kind,level,id,value,count,unique_users,ended,from,to\r\n\
         node,0,0,pro,4,2,2,,\r\n\
         other,0,1,,3,1,1,,\r\n\
         node,1,2,free,2,1,,,\r\n\
         other,1,3,,2,1,,,\r\n\
         edge,1,,,2,,,0,3\r\n\
         edge,1,,,2,,,1,2\r\n"
    );
}

#[tokio::test]
async fn wrong_questions_about_paths_are_named() {
    let api = visited().await;
    for (body, named) in [
        ("{}", "`anchor` is missing"),
        (r#"{"anchor": null}"#, "`anchor` is missing"),
        (r#"{"anchor": []}"#, "`anchor` must be an object"),
        (r#"{"anchor": {"types": 1}}"#, "`anchor.types` is unknown"),
        (r#"{"anchor": {"where": {"op": "="}}}"#, "`anchor.where` must have one of"),
        (r#"{"anchor": {}, "direction": "back"}"#, "`direction` must be one of after, before"),
        (r#"{"anchor": {}, "depth": 0}"#, "`depth` must be a whole number from 1 to 5"),
        (r#"{"anchor": {}, "depth": 6}"#, "`depth` must be a whole number from 1 to 5"),
        (r#"{"anchor": {}, "depth": 1.5}"#, "`depth` must be a whole number from 1 to 5"),
        (r#"{"anchor": {}, "depth": "2"}"#, "`depth` must be a whole number from 1 to 5"),
        (r#"{"anchor": {}, "limit": -1}"#, "`limit` must be a whole number from 1 to 100"),
        (r#"{"anchor": {}, "limit": 1e9}"#, "`limit` must be a whole number from 1 to 100"),
        (r#"{"anchor": {}, "step": 1}"#, "`step` must be a string"),
        (r#"{"anchor": {}, "gap": "-1h"}"#, "`gap` is no length of time"),
        (r#"{"anchor": {}, "gap": 30}"#, "`gap` must be a string"),
        (r#"{"anchor": {}, "collapse_repeats": 1}"#, "`collapse_repeats` must be true or false"),
        (r#"{"anchor": {}, "occurrences": "last"}"#, "`occurrences` must be one of all, first"),
        (r#"{"anchor": {}, "steps": []}"#, "`steps` is unknown"),
        (r#"{"anchor": {}, "at_least": "soon"}"#, "`at_least`"),
    ] {
        let answer = api.post("/v1/analytics/paths", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
    }
}
