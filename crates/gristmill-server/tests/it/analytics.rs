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
    assert_eq!(
        all["top_metrics"][0],
        json!({"name": "view", "value": 3, "unit": "events", "change_percentage": null})
    );
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
        ("group_by=event_type", 4),
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
        ("users/ann?include_events=yes", "`include_events`"),
        ("users/ann?include_sessions=1", "`include_sessions`"),
        ("timeseries?group_by=plan&group_by=source&group_by=id", "`group_by` must be 2 fields"),
        ("summary?group_by=event_type&group_by=plan", "`group_by` is given more than once"),
        ("summary?start=2025-03-01T12:00:00+02:00", "write + as %2B"),
        ("summary?time_range.end=2025-03-01T12:00:00+02:00", "`time_range.end` is no time"),
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

    let without = api.get("/v1/analytics/users/ann?include_events=false&include_sessions=true");
    let without = without.await.json();
    assert_eq!(&without["user_profile"], profile);
    assert!(without.get("events").is_none(), "{without}");
    let with = "/v1/analytics/users/ann?limit=1&include_events=true&include_sessions=false";
    assert_eq!(api.get(with).await.json(), user);

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

    let large = format!("{{\"steps\":[],\"x\":\"{}\"}}", "a".repeat(300_000));
    assert_eq!(api.post("/v1/analytics/funnel", large).await.status, 413);
    for (content_type, encoding) in
        [("", "gzip"), ("application/x-ndjson", "gzip"), ("application/json", "br")]
    {
        let request = Request::post("/v1/analytics/funnel")
            .header("content-type", content_type)
            .header("content-encoding", encoding);
        let answer = api.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(answer.status, 415, "{content_type} {encoding}");
        assert!(!answer.text.contains("application/x-ndjson"), "{}", answer.text);
    }
}

#[tokio::test]
async fn funnels_take_what_all_questions_take_in_the_target_or_in_the_body() {
    let api = filled().await;
    let steps = json!([{"event_type": "view"}, {"event_type": "buy"}]);
    for (target, members, users) in [
        ("", json!({}), 2),
        ("?start=2025-03-01T10:30:00Z", json!({}), 1),
        ("?time_range.end=2025-03-01T11:30:00Z", json!({"start": 1}), 1),
        ("", json!({"end": "2025-03-01T11:30:00Z", "at_least": ""}), 1),
        ("?at_least=", json!({"time_range": {"end": 1_740_827_400}}), 1),
        ("?event_type=buy", json!({}), 0),
        ("", json!({"event_type": "view"}), 2),
        ("?event_type=buy", json!({"event_types": ["view"]}), 2),
        ("", json!({"event_type": ["buy", "view"], "window": null}), 2),
        ("?filters.user_id=bob", json!({"filters": {"plan": "free"}}), 1),
    ] {
        let mut question = members.clone();
        question["steps"] = steps.clone();
        let answer = api.post(&format!("/v1/analytics/funnel{target}"), question.to_string()).await;
        assert_eq!(answer.status, 200, "{target} {members}: {}", answer.text);
        assert_eq!(answer.json()["steps"][0]["users"], users, "{target} {members}");
    }
    let twice = json!({"steps": steps, "start": 2}).to_string();
    let answer = api.post("/v1/analytics/funnel?start=1", twice).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &json!("invalid_argument")));
    let text = json!({"steps": steps}).to_string();
    assert_eq!(api.post("/v1/analytics/funnel?nonsense=1", text).await.status, 400);
}

#[tokio::test]
async fn wrong_funnels_are_named_without_words_of_the_program() {
    let api = filled().await;
    let s = r#""steps":[{"event_type":"view"},{"event_type":"buy"}]"#;
    let steps = |count: usize| vec![r#"{"event_type":"t"}"#; count].join(",");
    let filters = |count: usize| -> String {
        (0..count).map(|n| format!("\"f{n}\":\"\",")).collect::<String>()
    };
    let condition = |op: &str, value: &str| {
        format!("{{{s},\"where\":{{\"field\":\"a\",\"op\":\"{op}\",\"value\":{value}}}}}")
    };
    for (body, named) in [
        (String::new(), "the body is empty"),
        (" \n".into(), "the body is empty"),
        ("[]".into(), "the body must be a JSON object"),
        (format!("[[{}],null,[],{{}},null,null,null]", steps(2)), "must be a JSON object"),
        ("null".into(), "the body must be a JSON object"),
        ("{".into(), "the body is not JSON"),
        (format!("{{{s}}} x"), "the body is not JSON"),
        ("{}".into(), "`steps` is missing"),
        (r#"{"steps":{}}"#.into(), "`steps` must be an array"),
        (format!("{{\"steps\":{}", "[".repeat(100_000)), "the body is not JSON"),
        (format!("{{\"steps\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000)), "2 to 20 `steps`"),
        (format!("{{\"steps\":[{}]}}", steps(1)), "2 to 20 `steps`, not 1"),
        (format!("{{\"steps\":[{}]}}", steps(21)), "2 to 20 `steps`, not 21"),
        (r#"{"steps":[{"event_type":"t"},["t","u",{}]]}"#.into(), "`steps[1]` must be an object"),
        (r#"{"steps":[{"name":"t"},{}]}"#.into(), "`steps[0].event_type` is missing"),
        (r#"{"steps":[{"event_type":"t"},{"event_type":1}]}"#.into(), "`steps[1].event_type` must"),
        (
            r#"{"steps":[{"event_type":"t"},{"event_type":"t","filters":{"a":1}}]}"#.into(),
            "`steps[1].filters.a` must be a string",
        ),
        (r#"{"steps":[{"event_type":"t","x":1},{}]}"#.into(), "`steps[0].x` is unknown"),
        (format!("{{{s},\"window\":3600}}"), "`window` must be a string"),
        (format!("{{{s},\"window\":\"soon\"}}"), "`window`"),
        (format!("{{{s},\"step_timeout\":{{}}}}"), "`step_timeout` must be a string"),
        (format!("{{{s},\"windows\":\"1h\"}}"), "`windows`"),
        (format!("{{{s},\"window\":\"1h\",\"window\":\"1h\"}}"), "`window` is given more"),
        (format!("{{{s},\"at_least\":[]}}"), "`at_least` must be a string"),
        (format!("{{{s},\"at_least\":\"soon\"}}"), "`at_least`"),
        (format!("{{{s},\"start\":true}}"), "`start` must be a string or a number"),
        (format!("{{{s},\"time_range\":[1,2]}}"), "`time_range` must be an object"),
        (format!("{{{s},\"time_range\":{{\"start\":\"x\"}}}}"), "`time_range.start` is no time"),
        (format!("{{{s},\"time_range\":{{\"from\":1}}}}"), "`time_range.from`"),
        (format!("{{{s},\"end\":1,\"time_range\":{{\"end\":1}}}}"), "`end` is given more"),
        (format!("{{{s},\"event_types\":[1]}}"), "`event_types` must be"),
        (format!("{{{s},\"filters\":[]}}"), "`filters` must be an object"),
        (
            format!("{{{s},\"filters\":{{{}\"z\":\"\"}}}}", filters(1_000)),
            "more than 128 different",
        ),
        (format!("{{{s},\"where\":{{\"and\":[1]}}}}"), "`where.and[0]` must be an object"),
        (
            condition("regex", "\"(\""),
            "`regex` cannot use \"(\": unclosed group, in the condition on `a`",
        ),
        (
            condition("regex", r#""((a{1000}){1000}){1000}""#),
            "it matches too much at once, in the condition on `a`",
        ),
        (
            condition("in", &format!("[{}0]", "0,".repeat(10_000))),
            "`where.value` has 10001 values, more than 10000",
        ),
    ] {
        let answer = api.post("/v1/analytics/funnel", body.clone()).await;
        assert_eq!(answer.status, 400, "{named}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
        assert!(!detail.contains("struct") && !detail.contains("Body"), "{detail}");
    }
}

#[tokio::test]
async fn funnels_may_be_compressed_up_to_the_same_size() {
    let api = filled().await;
    let question = r#"{"steps":[{"event_type":"view"},{"event_type":"buy"}]}"#;
    let bomb = format!("{question}{}", " ".repeat(300_000));
    for (encoding, text, status) in [
        ("gzip", question, 200),
        ("zstd", question, 200),
        ("gzip", &bomb, 413),
        ("zstd", &bomb, 413),
        ("", question, 400),
    ] {
        let mut bytes = zstd::encode_all(text.as_bytes(), 3).unwrap();
        if encoding == "gzip" {
            let mut gzip = flate2::read::GzEncoder::new(text.as_bytes(), Default::default());
            bytes.clear();
            std::io::Read::read_to_end(&mut gzip, &mut bytes).unwrap();
        }
        let request = Request::post("/v1/analytics/funnel")
            .header("content-type", "application/json")
            .header("content-encoding", encoding);
        let answer = api.send(request.body(Body::from(bytes)).unwrap()).await;
        assert_eq!(answer.status, status, "{encoding}: {}", answer.text);
        assert!(!answer.text.contains("ingest."), "{}", answer.text);
    }
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

#[tokio::test]
async fn filters_put_conditions_together() {
    let api = filled().await;
    for (filter, events) in [
        (json!({"field": "plan", "op": "starts_with", "value": "fr"}), 2),
        (json!({"field": "n", "op": ">", "value": 1}), 1),
        (json!({"field": "n", "op": "exists", "value": false}), 3),
        (json!({"field": "plan", "op": "!=", "value": "free"}), 2),
        (json!({"not": {"field": "event_type", "op": "in", "value": ["view", "x"]}}), 1),
        (
            json!({"and": [{"field": "user_id", "value": "bob"},
                {"or": [{"field": "plan", "op": "regex", "value": "^=F(?-i)"},
                        {"field": "plan", "op": "regex", "value": "(?i)^=F"}]}]}),
            1,
        ),
    ] {
        let target = url_encoded(&filter.to_string());
        let answer = api.get(&format!("/v1/analytics/summary?where={target}")).await;
        assert_eq!(answer.status, 200, "{filter}: {}", answer.text);
        assert_eq!(answer.json()["total_events"], events, "{filter}");
        let step = json!({"event_type": "view", "where": filter});
        let question = json!({"steps": [step, {"event_type": "buy"}]}).to_string();
        assert_eq!(api.post("/v1/analytics/funnel", question).await.status, 200);
    }
    let wrong = url_encoded(r#"{"field": "plan", "op": "=~", "value": "x"}"#);
    let answer = api.get(&format!("/v1/analytics/top?property=plan&where={wrong}")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("`where.op` must be one of"));
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn retention_tells_cohorts() {
    let api = filled().await;
    let question = json!({
        "start_event": {"event_type": "view"},
        "return_event": {"event_type": "view"},
        "time_range": {"start": "2025-03-01T00:00:00Z", "end": "2025-03-03T00:00:00Z"},
    });
    let answer = api.post("/v1/analytics/retention", question.to_string()).await.json();
    assert_eq!(
        answer["cohorts"],
        json!([
            {"start": "2025-03-01T00:00:00Z", "users": 2, "retained": [2, 1], "rates": [1.0, 0.5]},
            {"start": "2025-03-02T00:00:00Z", "users": 0, "retained": [0], "rates": [0.0]},
        ])
    );
    let recurring = json!({"mode": "recurring", "counting": "rolling", "granularity": "day"});
    let request = Request::post("/v1/analytics/retention")
        .header("content-type", "application/json")
        .header("accept", "text/csv")
        .body(Body::from(recurring.to_string()))
        .unwrap();
    assert_eq!(
        api.send(request).await.text,
        "cohort,users,period,retained,rate\r\n\
         2025-03-01T00:00:00Z,2,0,2,1\r\n\
         2025-03-01T00:00:00Z,2,1,1,0.5\r\n\
         2025-03-02T00:00:00Z,1,0,1,1\r\n"
    );
    assert_eq!(answer["metadata"]["granularity"], "day");
    assert_eq!(answer["metadata"]["mode"], "first_time");
    for (body, named) in [
        (r#"{"mode": "never"}"#, "`mode` must be one of first_time, recurring"),
        (r#"{"counting": "twice"}"#, "`counting` must be one of exact, rolling"),
        (r#"{"granularity": "year"}"#, "`granularity` must be one of"),
        (r#"{"tz": "Nowhere/Land"}"#, "`tz` is not a known time zone"),
        (r#"{"start_event": []}"#, "`start_event` must be an object"),
        (r#"{"return_event": {"types": 1}}"#, "`return_event.types` is unknown"),
        (r#"{"time_range": {"start": 0}, "granularity": "minute"}"#, "more than 400 buckets"),
    ] {
        let answer = api.post("/v1/analytics/retention", body.to_owned()).await;
        assert_eq!(answer.status, 400, "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
    }
}
