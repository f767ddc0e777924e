//! Stickiness.

use serde_json::{Value, json};

use crate::support::Api;

/// Ann comes on three days of a week and on one of the next, bob on one day, twice.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: &str, user: &str, time: &str| json!({"id": id, "user_id": user, "event_type": "view", "timestamp": time});
    // 3 March 2025 was a Monday.
    api.fill(&json!([
        event("1", "ann", "2025-03-03T10:00:00Z"),
        event("2", "ann", "2025-03-04T10:00:00Z"),
        event("3", "ann", "2025-03-09T23:30:00Z"),
        event("4", "ann", "2025-03-12T10:00:00Z"),
        event("5", "bob", "2025-03-05T10:00:00Z"),
        event("6", "bob", "2025-03-05T11:00:00Z"),
    ]))
    .await;
    api
}

const TWO_WEEKS: &str = "start=2025-03-03T00:00:00Z&end=2025-03-17T00:00:00Z";

async fn ask(api: &Api, query: &str) -> Value {
    let answer = api.get(&format!("/v1/analytics/stickiness?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json()
}

#[tokio::test]
async fn users_are_counted_by_their_days_in_a_week() {
    let api = filled().await;
    let answer = ask(&api, TWO_WEEKS).await;
    assert_eq!(
        answer["periods"],
        json!([
            {"start": "2025-03-03T00:00:00Z", "days": 7, "active_users": 2,
                "avg_daily_users": 4.0 / 7.0, "stickiness": 2.0 / 7.0,
                "exactly": [1, 0, 1, 0, 0, 0, 0], "at_least": [2, 1, 1, 0, 0, 0, 0]},
            {"start": "2025-03-10T00:00:00Z", "days": 7, "active_users": 1,
                "avg_daily_users": 1.0 / 7.0, "stickiness": 1.0 / 7.0,
                "exactly": [1, 0, 0, 0, 0, 0, 0], "at_least": [1, 0, 0, 0, 0, 0, 0]},
        ])
    );
    let metadata = &answer["metadata"];
    assert_eq!(
        (&metadata["granularity"], &metadata["period"], &metadata["tz"]),
        (&json!("day"), &json!("week"), &json!("UTC"))
    );
}

#[tokio::test]
async fn periods_are_cut_by_zone_and_range() {
    let api = filled().await;
    // In Berlin the last event of the week is one of the next.
    let berlin = ask(&api, &format!("{TWO_WEEKS}&tz=Europe/Berlin")).await;
    assert_eq!(berlin["periods"][0]["exactly"], json!([1, 1, 0, 0, 0, 0, 0]));
    assert_eq!(berlin["periods"][1]["exactly"], json!([0, 1, 0, 0, 0, 0, 0]));
    let month = ask(&api, "period=month&end=2025-03-11T00:00:00Z&granularity=DAY").await;
    // The data begins on the third.
    assert_eq!(month["periods"][0]["start"], "2025-03-01T00:00:00Z");
    assert_eq!(month["periods"][0]["exactly"], json!([1, 0, 1, 0, 0, 0, 0, 0]));
    assert_eq!(ask(&api, "event_type=nothing").await["periods"], json!([]));
}

#[tokio::test]
async fn a_table_has_a_line_for_each_number_of_days() {
    let api = filled().await;
    let query = "filters.user_id=bob&start=2025-03-05T00:00:00Z&end=2025-03-07T00:00:00Z";
    let answer = api.get_csv(&format!("/v1/analytics/stickiness?{query}")).await;
    assert_eq!(
        answer.text,
        "period,active_users,avg_daily_users,stickiness,active_days,exactly,at_least\r\n\
         2025-03-03T00:00:00Z,1,0.5,0.5,1,1,1\r\n\
         2025-03-03T00:00:00Z,1,0.5,0.5,2,0,0\r\n"
    );
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = filled().await;
    for (query, named) in [
        ("granularity=hour", "`granularity` of stickiness may only be `day`"),
        ("granularity=year", "`granularity` must be one of"),
        ("period=day", "`period` must be one of week, month"),
        ("period=week&period=week", "`period` is given more than once"),
        ("tz=Nowhere/Land", "`tz` is not a known time zone"),
        ("start=0", "more than 400 periods"),
        ("limit=1", "`limit`"),
    ] {
        let answer = api.get(&format!("/v1/analytics/stickiness?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{query}: {detail}");
    }
}
