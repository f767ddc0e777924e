//! Values over time: metrics, several series with formulas, groups and periods.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::Api;

/// Orders of three users in two sessions of one user each, over three days.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: &str, user: &str, event_type: &str, time: &str, properties: Value| {
        json!({"id": id, "user_id": user, "event_type": event_type, "timestamp": time,
            "session_id": if user == "cid" { Value::Null } else { json!("s") },
            "properties": properties})
    };
    let order = |price: Value, shop: &str| json!({"price": price, "shop": shop});
    api.fill(&json!([
        event("1", "ann", "view", "2025-03-01T10:00:00Z", json!({})),
        event("2", "ann", "order", "2025-03-01T11:00:00Z", order(json!(19.5), "north")),
        event("3", "bob", "order", "2025-03-01T12:00:00Z", order(json!("0.5"), "other")),
        event("4", "bob", "order", "2025-03-02T12:00:00Z", order(json!(10), "other")),
        event("5", "cid", "order", "2025-03-02T13:00:00Z", order(json!("free"), "south")),
        event("6", "ann", "order", "2025-03-02T14:00:00Z", order(json!(30), "north")),
        event("7", "cid", "view", "2025-03-03T09:00:00Z", json!({})),
    ]))
    .await;
    api
}

const RANGE: &str = "start=2025-03-01T00:00:00Z&end=2025-03-04T00:00:00Z";

#[tokio::test]
async fn every_metric_has_its_value() {
    let api = filled().await;
    for (question, values) in [
        ("metric=count", json!([3, 3, 1])),
        ("metric=sessions", json!([2, 2, 0])),
        ("metric=per_user_average", json!([1.5, 1, 1])),
        ("metric=sum&property=price", json!([20, 40, 0])),
        ("metric=avg&property=properties.price", json!([10, 20, null])),
        ("metric=min&property=price", json!([0.5, 10, null])),
        ("metric=max&property=price", json!([19.5, 30, null])),
        ("metric=p50&property=price", json!([19.5, 30, null])),
        ("metric=p99&property=price", json!([19.5, 30, null])),
        ("metric=count&cumulative=true", json!([3, 6, 7])),
        ("metric=unique_users&cumulative=true", json!([2, 3, 3])),
        ("metric=sessions&cumulative=true", json!([2, 2, 2])),
        ("metric=avg&property=price&cumulative=true", json!([10, 15, 15])),
        ("metric=p50&property=price&cumulative=true", json!([19.5, 19.5, 19.5])),
        ("metric=unique_users&event_type=order&cumulative=false", json!([2, 3, 0])),
    ] {
        let answer = api.get(&format!("/v1/analytics/timeseries?{RANGE}&{question}")).await;
        assert_eq!(answer.status, 200, "{question}: {}", answer.text);
        let points = answer.json()["series"].as_array().unwrap().clone();
        let told: Vec<&Value> = points.iter().map(|point| &point["value"]).collect();
        assert_eq!(json!(told), values, "{question}");
        assert!(points.iter().all(|point| point["labels"] == json!({})), "{}", answer.text);
        assert!(points.iter().all(|point| point.as_object().unwrap().len() == 3));
    }
}

#[tokio::test]
async fn groups_may_be_of_two_fields_and_all_but_the_top_ones_are_one() {
    let api = filled().await;
    let target = "/v1/analytics/timeseries?granularity=month&event_type=order";
    let by_two = api.get(&format!("{target}&group_by=shop&group_by=user_id")).await.json();
    let point = |labels: Value, value: u64| json!({"timestamp": "2025-03-01T00:00:00Z", "labels": labels, "value": value});
    assert_eq!(
        by_two["series"],
        json!([
            point(json!({"shop": "north", "user_id": "ann"}), 2),
            point(json!({"shop": "other", "user_id": "bob"}), 2),
            point(json!({"shop": "south", "user_id": "cid"}), 1),
        ])
    );
    let top = format!("{target}&group_by=shop&top=1&metric=sum&property=price");
    let answer = api.get(&top).await.json();
    let mut others = point(json!({}), 10);
    others["other"] = json!(true);
    others["value"] = json!(10.5);
    let mut north = point(json!({"shop": "north"}), 49);
    north["value"] = json!(49.5);
    assert_eq!(answer["series"], json!([north, others]));
    assert_eq!(
        api.get_csv(&top).await.text,
        "timestamp,shop,other,value\r\n\
         2025-03-01T00:00:00Z,north,false,49.5\r\n\
         2025-03-01T00:00:00Z,,true,10.5\r\n"
    );
}

#[tokio::test]
async fn a_range_is_held_against_the_one_before() {
    let api = filled().await;
    let target = "/v1/analytics/timeseries?compare=previous_period&tz=Europe/Berlin\
                  &start=2025-03-01T23:00:00Z&end=2025-03-03T23:00:00Z";
    let answer = api.get(target).await.json();
    let point = |day: &str, value: u64, period: &str| json!({"timestamp": day, "labels": {}, "value": value, "period": period});
    let mut before = point("2025-02-27T23:00:00Z", 0, "previous");
    before["compared_with"] = json!("2025-03-01T23:00:00Z");
    let mut last_before = point("2025-02-28T23:00:00Z", 3, "previous");
    last_before["compared_with"] = json!("2025-03-02T23:00:00Z");
    assert_eq!(
        answer["series"],
        json!([
            point("2025-03-01T23:00:00Z", 3, "current"),
            point("2025-03-02T23:00:00Z", 1, "current"),
            before,
            last_before,
        ])
    );
    let previous = json!({"start": "2025-02-27T23:00:00Z", "end": "2025-03-01T23:00:00Z"});
    assert_eq!(answer["metadata"]["previous_time_range"], previous);
    assert_eq!(
        api.get_csv(&format!("{target}&metric=avg&property=price")).await.text,
        "timestamp,period,compared_with,value\r\n\
         2025-03-01T23:00:00Z,current,,20\r\n\
         2025-03-02T23:00:00Z,current,,\r\n\
         2025-02-27T23:00:00Z,previous,2025-03-01T23:00:00Z,\r\n\
         2025-02-28T23:00:00Z,previous,2025-03-02T23:00:00Z,10\r\n"
    );
}

fn conversion() -> Value {
    json!({
        "series": [
            {"name": "buyers", "metric": "unique_users", "event_type": ["order"],
             "where": {"field": "price", "op": ">", "value": 0}},
            {"metric": "unique_users"},
        ],
        "formulas": [{"name": "conversion", "expression": "buyers / B * 100"}],
        "time_range": {"start": "2025-03-01T00:00:00Z", "end": "2025-03-05T00:00:00Z"},
    })
}

#[tokio::test]
async fn formulas_work_with_the_values_of_series() {
    let api = filled().await;
    let answer = api.post("/v1/analytics/timeseries", conversion().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    let values = |name: &str| -> Vec<&Value> {
        let points = answer["series"].as_array().unwrap().iter();
        points.filter(|point| point["series"] == name).map(|point| &point["value"]).collect()
    };
    assert_eq!(json!(values("buyers")), json!([2, 2, 0, 0]));
    assert_eq!(json!(values("B")), json!([2, 3, 1, 0]));
    let share = 2.0 / 3.0 * 100.0;
    assert_eq!(json!(values("conversion")), json!([100, share, 0, null]));
    let metadata = &answer["metadata"];
    assert_eq!(metadata["data_points"], 12);
    assert_eq!(metadata["time_range"]["end"], "2025-03-05T00:00:00Z");
    assert_eq!((&metadata["granularity"], &metadata["tz"]), (&json!("day"), &json!("UTC")));

    let mut question = conversion();
    question["time_range"] = Value::Null;
    question["group_by"] = json!("shop");
    question["top"] = json!(1);
    question["cumulative"] = json!(true);
    let request =
        Request::post("/v1/analytics/timeseries?start=2025-03-02T00:00:00Z&event_type=order")
            .header("content-type", "application/json")
            .header("accept", "text/csv")
            .body(Body::from(question.to_string()))
            .unwrap();
    assert_eq!(
        api.send(request).await.text,
        "timestamp,series,shop,other,value\r\n\
         2025-03-02T00:00:00Z,buyers,north,false,1\r\n\
         2025-03-02T00:00:00Z,buyers,,true,1\r\n\
         2025-03-02T00:00:00Z,B,north,false,1\r\n\
         2025-03-02T00:00:00Z,B,,true,2\r\n\
         2025-03-02T00:00:00Z,conversion,north,false,100\r\n\
         2025-03-02T00:00:00Z,conversion,,true,50\r\n"
    );
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let api = filled().await;
    for (target, named) in [
        ("metric=median", "`metric` must be one of count, unique_users, sessions"),
        ("metric=sum", "`property` is missing: it says what `metric` sum is about"),
        ("property=price", "`property` is for metrics of numbers, not for `metric` count"),
        ("group_by=shop&top=0", "`top` must be"),
        ("group_by=shop&top=many", "`top` must be a whole number from 1 to 1000"),
        ("top=3", "`top` needs a `group_by`"),
        ("group_by=shop&group_by=properties.shop", "`group_by` names `shop` twice"),
        ("compare=previous_period", "`compare` needs a range with `start` and `end`"),
        ("compare=last_year", "`compare` must be one of previous_period"),
        ("cumulative=1", "`cumulative` must be true or false"),
        ("formulas=A", "`formulas`"),
    ] {
        let answer = api.get(&format!("/v1/analytics/timeseries?{target}")).await;
        assert_eq!(answer.status, 400, "{target}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{target}: {detail}");
    }
}

#[tokio::test]
async fn wrong_series_are_named_with_their_place() {
    let api = filled().await;
    let with = |key: &str, value: Value| {
        let mut question = conversion();
        question[key] = value;
        question
    };
    for (question, named) in [
        (json!({}), "`series` is missing"),
        (json!({"series": {}}), "`series` must be an array"),
        (json!({"series": []}), "`series` must be from 1 to 10"),
        (json!({"series": vec![json!({}); 11]}), "`series` must be from 1 to 10"),
        (json!({"series": [{}, 1]}), "`series[1]` must be an object"),
        (json!({"series": [{"metric": "x"}]}), "`series[0].metric` must be one of count"),
        (json!({"series": [{"metric": "p95"}]}), "`series[0].property` is missing"),
        (json!({"series": [{"name": "A"}, {"name": "A"}]}), "`series[1].name` is already"),
        (json!({"series": [{"event": "view"}]}), "`series[0].event` is unknown"),
        (
            json!({"series": [{"where": {"field": "a", "op": "~", "value": 1}}]}),
            "`series[0].where.op` must be one of =",
        ),
        (with("formulas", json!([{"name": "F"}])), "`formulas[0].expression` is missing"),
        (
            with("formulas", json!([{"expression": "buyers / A"}])),
            "`formulas[0].expression` is wrong at character 10: there is no series of this name",
        ),
        (
            with("formulas", json!([{"expression": "(".repeat(500)}])),
            "`formulas[0].name` is longer than 100 bytes",
        ),
        (
            with("formulas", json!([{"name": "F", "expression": "(".repeat(500)}])),
            "nested more than 32 levels deep",
        ),
        (with("group_by", json!(["a", "b", "c"])), "`group_by` must be 2 fields at most"),
        (with("group_by", json!([1])), "`group_by` must be a string or an array of strings"),
        (with("top", json!("3")), "`top` must be a whole number"),
        (with("top", json!(2.5)), "`top` must be a whole number"),
        (with("top", json!(1e300)), "`top` must be from 1 to 1000"),
        (with("compare", json!(true)), "`compare` must be a string"),
        (with("cumulative", json!("yes")), "`cumulative` must be true or false"),
        (with("tz", json!("Nowhere/Land")), "`tz` is not a known time zone"),
        (with("time_range", json!({"start": 0, "end": 2_000_000_000})), "more than 100000 points"),
        (with("metric", json!("count")), "`metric` is unknown"),
    ] {
        let mut question = question;
        if named.contains("points") {
            question["granularity"] = json!("minute");
        }
        if named.contains("from 1 to 1000") {
            question["group_by"] = json!("shop");
        }
        let answer = api.post("/v1/analytics/timeseries", question.to_string()).await;
        assert_eq!(answer.status, 400, "{question}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
    }
}
