//! Funnels: orders, exclusions, breakdowns, times, and the users at a step.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, Api};

/// Four users who view and buy: ann at once, bob after a help page, cid the other way round, and
/// dan never.
async fn filled() -> Api {
    let api = Api::new();
    let event = |id: usize, user: &str, event_type: &str, minute: usize, plan: Option<&str>| {
        json!({"id": id.to_string(), "user_id": user, "event_type": event_type,
            "timestamp": format!("2025-03-01T10:{minute:02}:00Z"),
            "properties": plan.map_or(json!({}), |plan| json!({"plan": plan}))})
    };
    api.fill(&json!([
        event(1, "ann", "view", 0, Some("free")),
        event(2, "ann", "buy", 1, Some("paid")),
        event(3, "bob", "view", 0, Some("free")),
        event(4, "bob", "help", 1, None),
        event(5, "bob", "buy", 30, Some("paid")),
        event(6, "cid", "buy", 5, Some("=cmd")),
        event(7, "cid", "view", 9, None),
        event(8, "dan", "view", 0, Some("free")),
    ]))
    .await;
    api
}

/// A funnel from view to buy with more members.
fn funnel(members: &Value) -> Value {
    let mut question = json!({"steps": [{"event_type": "view"}, {"event_type": "buy"}]});
    let members = members.as_object().unwrap().clone();
    question.as_object_mut().unwrap().extend(members);
    question
}

async fn ask(api: &Api, members: Value) -> Value {
    let answer = api.post("/v1/analytics/funnel", funnel(&members).to_string()).await;
    assert_eq!(answer.status, 200, "{members}: {}", answer.text);
    answer.json()
}

async fn ask_users(api: &Api, members: Value) -> Value {
    let answer = api.post("/v1/analytics/funnel/users", funnel(&members).to_string()).await;
    assert_eq!(answer.status, 200, "{members}: {}", answer.text);
    answer.json()
}

async fn ask_csv(api: &Api, target: &str, members: Value) -> Answer {
    let request = Request::post(target)
        .header("content-type", "application/json")
        .header("accept", "text/csv")
        .body(Body::from(funnel(&members).to_string()));
    let answer = api.send(request.unwrap()).await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8", "{}", answer.text);
    answer
}

#[tokio::test]
async fn orders_and_exclusions_decide_who_gets_through() {
    let api = filled().await;
    let help = |members: Value| {
        let mut exclusion = json!({"event_type": "help"});
        exclusion.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"exclusions": [exclusion]})
    };
    for (members, users) in [
        (json!({}), [4, 2]),
        (json!({"order": "ordered", "exclusions": []}), [4, 2]),
        (json!({"order": "strict"}), [4, 1]),
        (json!({"order": "strict", "event_types": ["view", "buy"]}), [4, 2]),
        (json!({"order": "any"}), [4, 3]),
        (json!({"order": "any", "window": "239s"}), [4, 1]),
        (help(json!({})), [4, 1]),
        (help(json!({"from_step": 1, "to_step": 2})), [4, 1]),
        (help(json!({"filters": {"plan": "free"}})), [4, 2]),
        (help(json!({"where": {"field": "plan", "op": "exists", "value": false}})), [4, 1]),
    ] {
        let body = ask(&api, members.clone()).await;
        assert_eq!(body["steps"][0]["users"], users[0], "{members}");
        assert_eq!(body["steps"][1]["users"], users[1], "{members}");
    }
    let any = ask(&api, json!({"order": "any"})).await;
    assert_eq!(
        (&any["steps"][0]["name"], &any["steps"][1]["name"]),
        (&json!("1 of 2"), &json!("2 of 2"))
    );
    assert_eq!(any["metadata"]["order"], "any");
}

#[tokio::test]
async fn steps_tell_rates_drop_off_and_times() {
    let api = filled().await;
    let body = ask(&api, json!({})).await;
    let first = json!({"name": "view", "users": 4, "conversion_rate": 1.0,
        "step_conversion_rate": 1.0, "drop_off": 2, "avg_time_to_convert": null,
        "median_time_to_convert": null, "time_to_convert": null});
    assert_eq!(body["steps"][0], first);
    let bucket = |below: Option<&str>, users: u64| json!({"below": below, "users": users});
    let second = json!({"name": "buy", "users": 2, "conversion_rate": 0.5,
        "step_conversion_rate": 0.5, "drop_off": null, "avg_time_to_convert": "930s",
        "median_time_to_convert": "930s", "time_to_convert": [
            bucket(Some("1s"), 0), bucket(Some("10s"), 0), bucket(Some("60s"), 0),
            bucket(Some("600s"), 1), bucket(Some("3600s"), 1), bucket(Some("21600s"), 0),
            bucket(Some("86400s"), 0), bucket(Some("604800s"), 0), bucket(Some("2592000s"), 0),
            bucket(None, 0)]});
    assert_eq!(body["steps"][1], second);
    assert_eq!(body["overall_median_time_to_convert"], "930s");
    assert!(body.get("breakdown").is_none());
    let nobody = ask(&api, json!({"filters": {"user_id": "nobody"}})).await;
    assert_eq!(nobody["overall_median_time_to_convert"], Value::Null);
    assert_eq!(nobody["steps"][0]["step_conversion_rate"], 0.0);

    let answer = ask_csv(&api, "/v1/analytics/funnel", json!({})).await;
    assert_eq!(
        answer.text,
        "name,users,conversion_rate,avg_time_to_convert_seconds,step_conversion_rate,drop_off,\
         median_time_to_convert_seconds,below_1s,below_10s,below_60s,below_600s,below_3600s,\
         below_21600s,below_86400s,below_604800s,below_2592000s,longer\r\n\
         view,4,1,,1,2,,,,,,,,,,,\r\n\
         buy,2,0.5,930,0.5,,930,0,0,0,1,1,0,0,0,0,0\r\n"
    );
}

#[tokio::test]
async fn breakdowns_put_each_user_into_one_group() {
    let api = filled().await;
    let breakdown = json!({"breakdown": {"property": "plan", "top": 1}});
    let body = ask(&api, breakdown).await;
    let step = |name: &str, users: u64, rates: [f64; 2], drop_off: Option<u64>| {
        json!({"name": name, "users": users, "conversion_rate": rates[0],
            "step_conversion_rate": rates[1], "drop_off": drop_off})
    };
    let two_of_three = 2.0 / 3.0;
    assert_eq!(
        body["breakdown"],
        json!({"property": "plan", "attribution": "first",
            "values": [{"value": "free", "overall_conversion_rate": two_of_three, "steps": [
                step("view", 3, [1.0, 1.0], Some(1)),
                step("buy", 2, [two_of_three, two_of_three], None)]}],
            "other": {"values": 1, "overall_conversion_rate": 0.0, "steps": [
                step("view", 1, [1.0, 1.0], Some(1)), step("buy", 0, [0.0, 0.0], None)]}})
    );
    for (members, values) in [
        (json!({"attribution": "first"}), json!(["free", null])),
        (json!({"attribution": "last"}), json!(["paid", null, "free"])),
        (json!({"attribution": "step", "step": 2}), json!([null, "paid"])),
    ] {
        let mut breakdown = members.clone();
        breakdown["property"] = json!("plan");
        let body = ask(&api, json!({"breakdown": breakdown})).await;
        let listed = body["breakdown"]["values"].as_array().unwrap();
        let listed: Vec<_> = listed.iter().map(|value| value["value"].clone()).collect();
        assert_eq!(json!(listed), values, "{members}");
        assert_eq!(body["breakdown"]["attribution"], members["attribution"]);
        assert_eq!(body["breakdown"].get("step"), members.get("step"));
        assert_eq!(body["breakdown"]["other"], Value::Null);
    }

    let breakdown = json!({"order": "any", "breakdown": {"property": "plan", "top": 2}});
    let answer = ask_csv(&api, "/v1/analytics/funnel", breakdown).await;
    assert_eq!(
        answer.text,
        "group,value,name,users,conversion_rate,step_conversion_rate,drop_off\r\n\
         all,,1 of 2,4,1,1,1\r\n\
         all,,2 of 2,3,0.75,0.75,\r\n\
         value,free,1 of 2,3,1,1,1\r\n\
         value,free,2 of 2,2,0.6666666666666666,0.6666666666666666,\r\n\
         value,\"'=cmd\",1 of 2,1,1,1,0\r\n\
         value,\"'=cmd\",2 of 2,1,1,1,\r\n"
    );
}

#[tokio::test]
async fn users_at_a_step_come_in_pages() {
    let api = filled().await;
    let first = ask_users(&api, json!({"step": 1, "limit": 3})).await;
    let user = |user: &str, step: u64| json!({"user_id": user, "reached_step": step});
    assert_eq!(first["users"], json!([user("ann", 2), user("bob", 2), user("cid", 1)]));
    let token = first["next_page_token"].as_str().unwrap();
    // The limit is no part of the question, and neither is how it is written.
    let next = json!({"page_token": token, "limit": 2, "outcome": "reached", "step": 1});
    let second = ask_users(&api, next).await;
    assert_eq!(second["users"], json!([user("dan", 1)]));
    assert_eq!(second["next_page_token"], Value::Null);

    let dropped = ask_users(&api, json!({"step": 1, "outcome": "dropped"})).await;
    assert_eq!(dropped["users"], json!([user("cid", 1), user("dan", 1)]));
    let breakdown = json!({"property": "plan", "attribution": "last"});
    let valued = json!({"step": 1, "outcome": "dropped", "breakdown": breakdown});
    assert_eq!(
        ask_users(&api, valued).await["users"],
        json!([{"user_id": "cid", "reached_step": 1, "value": null},
               {"user_id": "dan", "reached_step": 1, "value": "free"}])
    );

    let target = "/v1/analytics/funnel/users";
    let members = json!({"step": 2, "limit": 1, "breakdown": {"property": "plan"}});
    let page = ask_csv(&api, target, members.clone()).await;
    assert_eq!(page.text, "user_id,reached_step,value\r\nann,2,free\r\n");
    let mut next = members;
    next["page_token"] = json!(page.header("next-page-token"));
    let last = ask_csv(&api, target, next).await;
    assert_eq!(last.text, "user_id,reached_step,value\r\nbob,2,free\r\n");
    assert_eq!(last.header("next-page-token"), "");
}

#[tokio::test]
async fn wrong_funnels_are_named() {
    let api = filled().await;
    let from = |from: Value, to: Value| json!({"exclusions": [{"event_type": "x", "from_step": from, "to_step": to}]});
    let by = |members: Value| json!({"breakdown": members});
    for (members, named) in [
        (json!({"order": "loose"}), "`order` must be one of ordered, strict, any"),
        (json!({"order": 1}), "`order` must be a string"),
        (json!({"order": "any", "step_timeout": "1s"}), "`step_timeout` needs an order"),
        (json!({"window": "-1s"}), "`window` is no length of time"),
        (json!({"exclusions": {}}), "`exclusions` must be an array"),
        (json!({"exclusions": [{}]}), "`exclusions[0].event_type` is missing"),
        (
            json!({"exclusions": [{"event_type": "x", "step": 1}]}),
            "`exclusions[0].step` is unknown",
        ),
        (from(json!(0), json!(2)), "`exclusions[0].from_step` must be a whole number from 1 to 2"),
        (from(json!(1), json!(3)), "`exclusions[0].to_step` must be a whole number from 1 to 2"),
        (from(json!(1.5), json!(2)), "`exclusions[0].from_step` must be a whole number"),
        (from(json!(2), json!(2)), "`exclusions[0].from_step` must be below `to_step`"),
        (
            json!({"exclusions": vec![json!({"event_type": "x"}); 11]}),
            "`exclusions` has 11 entries",
        ),
        (by(json!([])), "`breakdown` must be an object"),
        (by(json!({})), "`breakdown.property` is missing"),
        (by(json!({"property": "p", "x": 1})), "`breakdown.x` is unknown"),
        (by(json!({"property": "p", "attribution": "all"})), "`breakdown.attribution` must be one"),
        (by(json!({"property": "p", "attribution": "step"})), "`breakdown.step` is missing"),
        (by(json!({"property": "p", "step": 1})), "`breakdown.step` needs `breakdown.attribution`"),
        (
            by(json!({"property": "p", "attribution": "step", "step": 3})),
            "`breakdown.step` must be a whole number from 1 to 2",
        ),
        (by(json!({"property": "p", "top": 1001})), "`breakdown.top` must be a whole number"),
        (by(json!({"property": "p", "top": "9"})), "`breakdown.top` must be a whole number"),
        (json!({"step": 1}), "`step` is unknown"),
        (json!({"page_token": "x"}), "`page_token` is unknown"),
    ] {
        refused(&api, "/v1/analytics/funnel", &members, named).await;
    }
}

#[tokio::test]
async fn wrong_questions_for_users_are_named() {
    let api = filled().await;
    let target = "/v1/analytics/funnel/users";
    for (members, named) in [
        (json!({}), "`step` is missing"),
        (json!({"step": 0}), "`step` must be a whole number from 1 to 2"),
        (json!({"step": 3}), "`step` must be a whole number from 1 to 2"),
        (json!({"step": 2, "outcome": "dropped"}), "`step` must be from 1 to 1: nobody drops out"),
        (json!({"step": 1, "outcome": "lost"}), "`outcome` must be one of reached, dropped"),
        (json!({"step": 1, "limit": 0}), "`limit` must be a whole number from 1 to 10000"),
        (json!({"step": 1, "limit": 10_001}), "`limit` must be a whole number from 1 to 10000"),
        (json!({"step": 1, "page_token": 1}), "`page_token` must be a string"),
        (json!({"step": 1, "page_token": ""}), "`page_token` does not belong to this question"),
        (json!({"step": 1, "page_token": "ä"}), "`page_token` does not belong to this question"),
        (json!({"step": 1, "page": 1}), "`page` is unknown"),
    ] {
        refused(&api, target, &members, named).await;
    }
    let page = ask_users(&api, json!({"step": 1, "limit": 1})).await;
    let token = page["next_page_token"].as_str().unwrap();
    let tampered = token.replace("616e6e", "626f62");
    assert_ne!(tampered, token);
    for members in [
        json!({"step": 1, "page_token": tampered}),
        json!({"step": 2, "page_token": token}),
        json!({"step": 1, "page_token": token, "outcome": "dropped"}),
        json!({"step": 1, "page_token": token, "window": "1h"}),
        json!({"step": 1, "page_token": token, "event_type": "view"}),
    ] {
        refused(&api, target, &members, "`page_token` does not belong to this question").await;
    }
}

async fn refused(api: &Api, target: &str, members: &Value, named: &str) {
    let answer = api.post(target, funnel(members).to_string()).await;
    assert_eq!(answer.status, 400, "{members}: {}", answer.text);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(named), "{members}: {detail}");
}
