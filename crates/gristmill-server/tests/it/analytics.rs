//! Questions and their answers.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::Api;

/// Two users over two days: ann views, then buys an hour later; bob views twice.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: &str, user: &str, event_type: &str, time: &str, properties: Value| {
        json!({"id": id, "user_id": user, "session_id": format!("{user}-1"), "event_type": event_type,
            "timestamp": time, "page_url": "/p", "source": "web", "properties": properties})
    };
    api.fill(&json!([
        event("1", "ann", "view", "2025-03-01T10:00:00Z", json!({"plan": "free", "n": 1.5})),
        event("2", "ann", "buy", "2025-03-01T11:00:00Z", json!({"plan": "paid"})),
        event("3", "bob", "view", "2025-03-01T12:00:00Z", json!({"plan": "=free"})),
        event("4", "bob", "view", "2025-03-02T12:00:00Z", json!({"plan": "free"})),
    ]))
    .await;
    api
}

#[tokio::test]
async fn summary_counts_what_is_selected() {
    let api = filled().await;
    let all = api.get("/v1/analytics/summary").await.json();
    assert_eq!(
        (&all["total_events"], &all["unique_users"], &all["sessions"]),
        (&json!(4), &json!(2), &json!(2))
    );
    assert_eq!(all["events_by_type"], json!({"buy": 1, "view": 3}));
    assert_eq!(all["first_event"], "2025-03-01T10:00:00Z");
    assert_eq!(all["last_event"], "2025-03-02T12:00:00Z");
    assert_eq!(all["top_metrics"][0], json!({"name": "view", "value": 3, "unit": "events"}));
    for (query, events) in [
        ("start=2025-03-02T00:00:00Z", 1),
        ("time_range.start=2025-03-01T11:00:00Z&time_range.end=2025-03-02T12:00:00Z", 2),
        ("end=1740826800", 1),
        ("start=2025-03-01T12:00:00%2B01:00&end=1740830400000", 1),
        ("event_type=buy", 1),
        ("event_types=buy&event_type=view", 4),
        ("filters.plan=free", 2),
        ("filters[plan]=free&filters.user_id=bob", 1),
        ("filters.nothing=x", 0),
        ("at_least=", 4),
    ] {
        let answer = api.get(&format!("/v1/analytics/summary?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        assert_eq!(answer.json()["total_events"], events, "{query}");
    }
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = filled().await;
    for (target, named) in [
        ("summary?start=yesterday", "`start`"),
        ("summary?start=1&time_range.start=1", "`time_range.start`"),
        ("summary?start=1&start=2", "`start`"),
        ("summary?nonsense=1", "`nonsense`"),
        ("summary?at_least=soon", "`at_least`"),
        ("summary?at_least=p0-99999", "`at_least`"),
        ("summary?%ff=1", ""),
        ("timeseries?metric=sum", "`metric`"),
        ("timeseries?granularity=second", "`granularity`"),
        ("timeseries?tz=Mars/Base", "Mars/Base"),
        ("timeseries?limit=1", "`limit`"),
        ("top", "`property`"),
        ("top?property=plan&limit=0", "`limit`"),
        ("top?property=plan&limit=-1", "`limit`"),
        ("top?property=plan&limit=10001", "`limit`"),
        ("users/ann?limit=x", "`limit`"),
        ("users/%ff", ""),
    ] {
        let answer = api.get(&format!("/v1/analytics/{target}")).await;
        assert_eq!(answer.status, 400, "{target}: {}", answer.text);
        let body = answer.json();
        assert!(body["detail"].as_str().unwrap().contains(named), "{target}: {body}");
    }
}

#[tokio::test]
async fn series_have_every_bucket_and_labels_when_grouped() {
    let api = filled().await;
    let days = api
        .get("/v1/analytics/timeseries?granularity=day&metric=unique_users&start=2025-03-01T00:00:00Z&end=2025-03-04T00:00:00Z")
        .await
        .json();
    let point = |time: &str, value: u64| json!({"timestamp": time, "value": value, "labels": {}});
    assert_eq!(
        days["series"],
        json!([
            point("2025-03-01T00:00:00Z", 2),
            point("2025-03-02T00:00:00Z", 1),
            point("2025-03-03T00:00:00Z", 0)
        ])
    );
    assert_eq!(
        days["metadata"],
        json!({"metric": "unique_users", "granularity": "day", "data_points": 3})
    );
    let grouped = api
        .get("/v1/analytics/timeseries?metric=count&granularity=TIME_GRANULARITY_MONTH&group_by=plan&tz=America/Sao_Paulo&event_type=view")
        .await
        .json();
    let labels: Vec<_> = grouped["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (&p["labels"]["plan"], &p["value"]))
        .collect();
    assert_eq!(labels, [(&json!("=free"), &json!(1)), (&json!("free"), &json!(2))]);
    assert_eq!(grouped["series"][0]["timestamp"], "2025-03-01T03:00:00Z");
}

#[tokio::test]
async fn top_values_and_users_are_told() {
    let api = filled().await;
    let top = api.get("/v1/analytics/top?property=plan&limit=1").await.json();
    assert_eq!(top, json!({"values": [{"value": "free", "count": 2, "unique_users": 2}]}));

    let user = api.get("/v1/analytics/users/ann?limit=1").await.json();
    let profile = &user["user_profile"];
    assert_eq!((&profile["user_id"], &profile["total_events"]), (&json!("ann"), &json!(2)));
    assert_eq!(profile["first_seen"], "2025-03-01T10:00:00Z");
    assert_eq!(user["events"].as_array().unwrap().len(), 1);
    let event = &user["events"][0];
    assert_eq!((&event["id"], &event["session_id"]), (&json!("2"), &json!("ann-1")));
    assert_eq!(event["properties"], json!({"plan": "paid"}));

    let nobody = api.get("/v1/analytics/users/no%2Fbody").await;
    assert_eq!(nobody.status, 200);
    assert_eq!(nobody.json()["user_profile"]["user_id"], "no/body");
    assert_eq!(nobody.json()["user_profile"]["total_events"], 0);
}

#[tokio::test]
async fn funnels_tell_steps_and_rates() {
    let api = filled().await;
    let ask = async |question: Value| api.post("/v1/analytics/funnel", question.to_string()).await;
    let steps = json!([{"name": "seen", "event_type": "view"}, {"event_type": "buy"}]);
    let answer = ask(json!({"steps": steps, "window": "3600s"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(
        (&body["steps"][0]["name"], &body["steps"][0]["users"]),
        (&json!("seen"), &json!(2))
    );
    assert_eq!((&body["steps"][1]["name"], &body["steps"][1]["users"]), (&json!("buy"), &json!(1)));
    assert_eq!(body["steps"][1]["avg_time_to_convert"], "3600s");
    assert_eq!(
        (&body["overall_conversion_rate"], &body["metadata"]["total_users"]),
        (&json!(0.5), &json!(2))
    );

    let range = json!({"start": "2025-03-01T10:30:00Z", "end": 1_740_916_800});
    let body = ask(json!({"steps": steps, "time_range": range})).await.json();
    assert_eq!(body["steps"][0]["users"], 1, "{body}");
    let body = ask(json!({"steps": steps, "window": "59m", "filters": {}})).await.json();
    assert_eq!(body["steps"][1]["users"], 0, "{body}");

    for bad in [
        json!({"steps": [steps[0]]}),
        json!({"steps": vec![steps[0].clone(); 21]}),
        json!({"steps": steps, "window": "soon"}),
        json!({"steps": steps, "windows": "1h"}),
        json!({"steps": steps, "time_range": {"start": "x"}}),
        json!([]),
    ] {
        assert_eq!(ask(bad.clone()).await.status, 400, "{bad}");
    }
    let deep = format!("{{\"steps\":{}", "[".repeat(100_000));
    assert_eq!(api.post("/v1/analytics/funnel", deep).await.status, 400);
    let large = format!("{{\"steps\":[],\"x\":\"{}\"}}", "a".repeat(300_000));
    assert_eq!(api.post("/v1/analytics/funnel", large).await.status, 413);
    let plain = Request::post("/v1/analytics/funnel").body(Body::from("{}")).unwrap();
    assert_eq!(api.send(plain).await.status, 415);
}

#[tokio::test]
async fn tables_come_as_csv_that_no_spreadsheet_runs() {
    let api = filled().await;
    let table = async |target: &str| {
        let answer = api.get_csv(&format!("/v1/analytics/{target}")).await;
        assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8", "{}", answer.text);
        answer.text
    };
    assert_eq!(
        table("top?property=plan").await,
        "value,count,unique_users\r\nfree,2,2\r\n\"'=free\",1,1\r\npaid,1,1\r\n"
    );
    assert_eq!(
        table("summary?event_type=buy").await,
        "name,event_type,value\r\ntotal_events,,1\r\nunique_users,,1\r\nsessions,,1\r\nevents,buy,1\r\n"
    );
    assert_eq!(
        table("timeseries?granularity=day&group_by=event_type&end=2025-03-02T00:00:00Z").await,
        "timestamp,event_type,value\r\n2025-03-01T00:00:00Z,buy,1\r\n2025-03-01T00:00:00Z,view,2\r\n"
    );
    let user = table("users/ann?limit=1").await;
    assert!(
        user.ends_with(
            "2,ann,ann-1,buy,2025-03-01T11:00:00Z,web,/p,\"{\"\"plan\"\":\"\"paid\"\"}\"\r\n"
        ),
        "{user}"
    );
}
