//! Sessions over HTTP.

use serde_json::{Value, json};

use crate::support::Api;

/// Three users: ann in a session with an id, bob in none with a long pause, cat with one page.
pub(crate) async fn visited() -> Api {
    let api = Api::new();
    let event = |user: &str, time: &str, session: &str, event_type: &str, page: &str| {
        let plan = if user == "bob" { "free" } else { "pro" };
        json!({"id": format!("{user}-{time}"), "user_id": user, "session_id": session,
            "event_type": event_type, "timestamp": format!("2025-03-01T{time}:00Z"),
            "page_url": page, "properties": {"plan": plan}})
    };
    api.fill(&json!([
        event("ann", "10:00", "s1", "view", "/home"),
        event("ann", "10:02", "s1", "view", "/pricing"),
        event("ann", "10:05", "s1", "signup", ""),
        event("bob", "11:00", "", "view", "/home"),
        event("bob", "11:20", "", "view", "/docs"),
        event("bob", "12:30", "", "view", "/pricing"),
        event("cat", "09:00", "c1", "view", "/home"),
    ]))
    .await;
    api
}

async fn ask(api: &Api, query: &str) -> Value {
    let answer = api.get(&format!("/v1/analytics/sessions?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json()
}

#[tokio::test]
async fn sessions_tell_how_many_how_long_and_where() {
    let api = visited().await;
    let mut answer = ask(&api, "").await;
    let metadata = answer.as_object_mut().unwrap().remove("metadata").unwrap();
    assert_eq!(
        answer,
        json!({
            "unique_users": 3, "sessions": 4, "events": 7, "page_views": 6,
            "events_per_session": 1.75, "pages_per_session": 1.5,
            "bounces": 2, "bounce_rate": 0.5,
            "avg_duration": "375s", "median_duration": "300s", "p95_duration": "1200s",
            "entry_pages": [
                {"page_url": "/home", "sessions": 3, "unique_users": 3},
                {"page_url": "/pricing", "sessions": 1, "unique_users": 1},
            ],
            "exit_pages": [
                {"page_url": "/pricing", "sessions": 2, "unique_users": 2},
                {"page_url": "/docs", "sessions": 1, "unique_users": 1},
                {"page_url": "/home", "sessions": 1, "unique_users": 1},
            ],
        })
    );
    assert_eq!(metadata["gap"], "1800s");
    assert_eq!(metadata["time_range"], json!({"start": null, "end": null}));
    for (query, sessions) in [
        ("gap=70m", 3),
        ("gap=19.9m", 5),
        ("event_type=view&filters.user_id=ann", 1),
        ("start=2025-03-01T12:00:00Z", 1),
        ("event_type=nothing", 0),
    ] {
        assert_eq!(ask(&api, query).await["sessions"], sessions, "{query}");
    }
    let nothing = ask(&api, "event_type=nothing&granularity=day&group_by=plan").await;
    assert_eq!(nothing["avg_duration"], Value::Null);
    assert_eq!(nothing["bounce_rate"], 0.0);
    assert_eq!((&nothing["series"], &nothing["groups"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn sessions_come_by_bucket_and_by_group() {
    let api = visited().await;
    let hours = ask(&api, "granularity=hour&tz=Asia/Kathmandu").await;
    let hours: Vec<_> = hours["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hour| (&hour["timestamp"], &hour["sessions"], &hour["avg_duration"]))
        .collect();
    assert_eq!(hours[0], (&json!("2025-03-01T08:15:00Z"), &json!(1), &json!("0s")));
    assert_eq!(hours[1], (&json!("2025-03-01T09:15:00Z"), &json!(1), &json!("300s")));
    assert_eq!(hours[2], (&json!("2025-03-01T10:15:00Z"), &json!(1), &json!("1200s")));
    assert_eq!(hours[3], (&json!("2025-03-01T11:15:00Z"), &json!(0), &Value::Null));
    assert_eq!(hours.len(), 5);

    let groups = ask(&api, "group_by=plan&limit=1").await;
    assert_eq!(groups["groups"][0]["value"], "free");
    assert_eq!(groups["groups"][0]["bounce_rate"], 0.5);
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1);
    assert_eq!(groups["other_groups"]["sessions"], 2);
    let absent = ask(&api, "group_by=nothing").await;
    assert_eq!(absent["groups"][0]["value"], Value::Null);
    assert!(absent.get("other_groups").is_none(), "{absent}");
}

#[tokio::test]
async fn sessions_come_as_csv() {
    let api = visited().await;
    let target = "/v1/analytics/sessions?group_by=plan&granularity=day&limit=1";
    let answer = api.get_csv(target).await;
    assert_eq!(
        answer.text,
        "kind,value,sessions,unique_users,events,page_views,events_per_session,pages_per_session,\
         bounces,bounce_rate,avg_duration_seconds,median_duration_seconds,p95_duration_seconds\r\n\
         total,,4,3,7,6,1.75,1.5,2,0.5,375,300,1200\r\n\
         bucket,2025-03-01T00:00:00Z,4,,7,6,1.75,1.5,2,0.5,375,,\r\n\
         group,free,2,,3,3,1.5,1.5,1,0.5,600,,\r\n\
         other_groups,,2,,4,3,2,1.5,1,0.5,150,,\r\n\
         entry_page,/home,3,3,,,,,,,,,\r\n\
         exit_page,/pricing,2,2,,,,,,,,,\r\n"
    );
}

#[tokio::test]
async fn wrong_questions_about_sessions_are_named() {
    let api = visited().await;
    for (query, named) in [
        ("gap=30", "`gap` is no length of time"),
        ("gap=-5m", "`gap` is no length of time"),
        ("gap=0s", "`gap` is no length of time"),
        ("gap=1h&gap=2h", "`gap` is given more than once"),
        ("limit=0", "`limit` must be a number from 1 to 1000"),
        ("limit=1001", "`limit` must be a number from 1 to 1000"),
        ("granularity=year", "`granularity` must be one of"),
        ("tz=UTC", "`tz` says where buckets are cut: give a `granularity` as well"),
        ("granularity=day&tz=Mars/Base", "`tz` is not a known time zone"),
        ("granularity=minute&start=0", "the series has more than 100000 points"),
        ("group_by=a&group_by=b", "`group_by` is given more than once"),
        ("metric=count", "`metric`"),
        ("where=%7B%22field%22%3A1%7D", "`where.field` must be a string"),
        ("at_least=soon", "`at_least`"),
    ] {
        let answer = api.get(&format!("/v1/analytics/sessions?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
    }
}
