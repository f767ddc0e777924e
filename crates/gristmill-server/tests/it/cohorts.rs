//! Cohorts: saving them, who belongs, and filters that ask for them.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{Answer, Api};

/// Three users: ann buys twice, bob once and long ago, eve only looks.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: &str, user: &str, event_type: &str, time: &str| json!({"id": id, "user_id": user, "event_type": event_type, "timestamp": time});
    api.fill(&json!([
        event("1", "ann", "buy", "2025-12-30T00:00:00Z"),
        event("2", "ann", "buy", "2025-12-31T00:00:00Z"),
        event("3", "bob", "buy", "2025-06-01T00:00:00Z"),
        event("4", "bob", "view", "2025-12-31T00:00:00Z"),
        event("5", "eve", "view", "2025-12-31T00:00:00Z"),
    ]))
    .await;
    api
}

async fn send(api: &Api, method: Method, target: &str, tag: Option<&str>, body: &Value) -> Answer {
    let mut request =
        Request::builder().method(method).uri(target).header("content-type", "application/json");
    if let Some(tag) = tag {
        request = request.header("if-match", tag);
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    api.send(request.body(body).unwrap()).await
}

async fn create(api: &Api, id: &str, definition: Value) -> Answer {
    let body = json!({"id": id, "definition": definition});
    let answer = api.post("/v1/cohorts", body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer
}

#[tokio::test]
async fn cohorts_are_kept_changed_and_removed() {
    let api = filled().await;
    let definition = json!({"event_type": "buy", "min_count": 2});
    let body = json!({"name": "Loyal buyers!", "definition": definition}).to_string();
    let made = api.post("/v1/cohorts", body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "/v1/cohorts/loyal-buyers");
    let version = made.json()["version"].clone();
    let expected = json!({"id": "loyal-buyers", "name": "Loyal buyers!", "version": version,
        "definition": definition});
    assert_eq!(made.json(), expected);
    let again = api.post("/v1/cohorts", body).await;
    assert_eq!((again.status.as_u16(), &again.json()["code"]), (409, &json!("conflict")));
    create(&api, "all", json!({})).await;

    let one = api.get("/v1/cohorts/loyal-buyers").await;
    assert_eq!(one.header("etag"), made.header("etag"));
    assert_eq!(one.json()["size"], 1);
    let list = api.get("/v1/cohorts").await.json();
    let ids: Vec<_> = list["cohorts"].as_array().unwrap().iter().map(|c| &c["id"]).collect();
    assert_eq!(ids, ["all", "loyal-buyers"]);
    let csv = api.get_csv("/v1/cohorts/loyal-buyers").await;
    assert_eq!(
        csv.text,
        format!("id,name,version,size\r\nloyal-buyers,Loyal buyers!,{version},1\r\n")
    );

    let target = "/v1/cohorts/loyal-buyers";
    let change = json!({"name": "Buyers", "definition": {"event_type": "buy"}});
    let changed = send(&api, Method::PUT, target, Some(one.header("etag")), &change).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(changed.json()["version"].as_u64() > version.as_u64());
    let late = send(&api, Method::PUT, target, Some(one.header("etag")), &change).await;
    assert_eq!(late.status, 409, "{}", late.text);
    assert_eq!(send(&api, Method::PUT, target, None, &change).await.status, 200);
    assert_eq!(api.get(target).await.json()["size"], 2);

    let none = Value::Null;
    let late = send(&api, Method::DELETE, target, Some(one.header("etag")), &none).await;
    assert_eq!(late.status, 409);
    assert_eq!(send(&api, Method::DELETE, target, None, &none).await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        let gone = send(&api, method, target, None, &none).await;
        assert_eq!(gone.status, 404);
        assert_eq!(gone.json()["detail"], "there is no cohort \"loyal-buyers\"");
    }
    assert_eq!(send(&api, Method::PUT, target, None, &change).await.status, 404);
}

#[tokio::test]
async fn users_come_in_pages() {
    let api = filled().await;
    create(&api, "all", json!({})).await;
    let first = api.get("/v1/cohorts/all/users?limit=2").await.json();
    assert_eq!(first, json!({"users": ["ann", "bob"], "size": 3, "next": "bob"}));
    let last = api.get("/v1/cohorts/all/users?limit=2&after=bob").await.json();
    assert_eq!(last, json!({"users": ["eve"], "size": 3, "next": null}));
    let csv = api.get_csv("/v1/cohorts/all/users").await;
    assert_eq!(csv.text, "user_id\r\nann\r\nbob\r\neve\r\n");
    assert_eq!(api.get("/v1/cohorts/none/users").await.status, 404);
    assert_eq!(api.get("/v1/cohorts/all/users?limit=10001").await.status, 400);
    assert_eq!(api.get("/v1/cohorts/all/users?offset=1").await.status, 400);
}

#[tokio::test]
async fn every_question_may_ask_for_a_cohort() {
    let api = filled().await;
    create(&api, "recent", json!({"event_type": "buy", "last": "30d"})).await;
    create(&api, "never", json!({"not": {"event_type": "buy"}})).await;
    let whole = "summary?where=%7B%22cohort%22%3A%22recent%22%7D";
    let summary = api.get(&format!("/v1/analytics/{whole}")).await.json();
    assert_eq!((&summary["total_events"], &summary["unique_users"]), (&json!(2), &json!(1)));
    let others = "summary?where=%7B%22not%22%3A%7B%22cohort%22%3A%22recent%22%7D%7D";
    assert_eq!(api.get(&format!("/v1/analytics/{others}")).await.json()["total_events"], 3);

    let step = |cohort: &str| json!({"event_type": "view", "where": {"cohort": cohort}});
    let both = json!({"steps": [{"event_type": "view"}, step("never")]});
    assert_eq!(api.post("/v1/analytics/funnel", both.to_string()).await.status, 200);
    let retention = json!({"start_event": {"where": {"or": [{"cohort": "never"},
        {"cohort": "recent"}]}}, "granularity": "month"});
    let answer = api.post("/v1/analytics/retention", retention.to_string()).await.json();
    let users: Vec<_> =
        answer["cohorts"].as_array().unwrap().iter().map(|c| c["users"].as_u64()).collect();
    assert_eq!(users.iter().flatten().sum::<u64>(), 2);

    let unknown = json!({"steps": [step("lost"), step("never")]});
    let answer = api.post("/v1/analytics/funnel", unknown.to_string()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["detail"], "there is no cohort \"lost\"");
}

#[tokio::test]
async fn questions_are_broken_down_by_cohorts() {
    let api = filled().await;
    create(&api, "buyers", json!({"event_type": "buy"})).await;
    create(&api, "twice", json!({"event_type": "buy", "min_count": 2})).await;
    let target = "/v1/analytics/timeseries?metric=unique_users&granularity=month\
                  &start=2025-12-01T00:00:00Z&group_by=cohort:buyers";
    let series = api.get(target).await.json();
    let points = series["series"].as_array().unwrap().iter();
    let points: Vec<_> = points.map(|point| (&point["labels"], &point["value"])).collect();
    let label = |value: &str| json!({"cohort:buyers": value});
    let (inside, outside) = (label("in"), label("out"));
    assert_eq!(points, [(&inside, &json!(2)), (&outside, &json!(1))]);
    assert!(api.get_csv(target).await.text.starts_with("timestamp,cohort:buyers,value\r\n"));

    let two = json!({"series": [{"metric": "count"}], "granularity": "month", "top": 2,
        "group_by": ["cohort:buyers", "cohort:twice"]});
    let two = api.post("/v1/analytics/timeseries", two.to_string()).await.json();
    let labels = json!({"cohort:buyers": "in", "cohort:twice": "in"});
    assert!(two["series"].as_array().unwrap().iter().any(|point| point["labels"] == labels));

    let funnel = json!({"steps": [{"event_type": "buy"}, {"event_type": "view"}],
        "breakdown": {"property": "cohort:twice"}});
    let funnel = api.post("/v1/analytics/funnel", funnel.to_string()).await.json();
    let breakdown = &funnel["breakdown"];
    assert_eq!(breakdown["property"], "cohort:twice");
    let values = breakdown["values"].as_array().unwrap().iter();
    let users: Vec<_> = values.map(|v| (&v["value"], &v["steps"][1]["users"])).collect();
    assert_eq!(users, [(&json!("in"), &json!(0)), (&json!("out"), &json!(1))]);

    let sessions = api.get("/v1/analytics/sessions?group_by=cohort:twice").await.json();
    assert_eq!(sessions["groups"].as_array().unwrap().len(), 2, "{sessions}");

    let lost = api.get("/v1/analytics/timeseries?group_by=cohort:lost").await;
    assert_eq!(lost.status, 400);
    assert_eq!(lost.json()["detail"], "there is no cohort \"lost\"");
}

#[tokio::test]
async fn wrong_cohorts_are_named() {
    let api = filled().await;
    for (body, named) in [
        (json!({"id": "a"}), "`definition` is missing"),
        (json!({"definition": {}}), "`id` and `name` are both missing"),
        (json!({"id": "a b", "definition": {}}), "`id` must be 1 to 64 letters"),
        (json!({"name": "日本", "definition": {}}), "`id` must be 1 to 64 letters"),
        (json!({"name": "", "definition": {}}), "`name` must have 1 to 200 bytes"),
        (json!({"id": "a", "definition": {}, "x": 1}), "`x` is unknown"),
        (json!({"id": "a", "definition": []}), "`definition` must be an object"),
        (json!({"id": "a", "definition": {"count": 1}}), "`definition.count` is unknown"),
        (
            json!({"id": "a", "definition": {"where": {"cohort": "a"}}}),
            "a cohort's definition may not ask for a cohort, and asks for \"a\"",
        ),
        (
            json!({"id": "a", "definition": {"where": {"field": "n", "op": "regex", "value": "("}}}),
            "`regex` cannot use",
        ),
        (json!({"id": "a", "definition": {"or": vec![json!({}); 21]}}), "more than 20 behaviours"),
        (
            json!({"id": "a", "definition": {"event_type": "x".repeat(70_000)}}),
            "larger than 65536 bytes",
        ),
    ] {
        let answer = api.post("/v1/cohorts", body.to_string()).await;
        assert_eq!(answer.status, 400, "{named}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
    }
    create(&api, "a", json!({})).await;
    let change = json!({"id": "b", "definition": {}});
    assert_eq!(send(&api, Method::PUT, "/v1/cohorts/a", None, &change).await.status, 400);
    let change = json!({"definition": {}});
    let answer = send(&api, Method::PUT, "/v1/cohorts/a", Some("new"), &change).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("`if-match` must be a version"));
}
