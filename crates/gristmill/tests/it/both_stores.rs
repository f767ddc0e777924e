//! Both stores answer alike, files in one process and tables that are filled from a topic: some
//! hundreds of random questions over the same events, in which ties, late events, repeats and absent
//! values are common.

use anyhow::Context;
use gristmill_testkit::{
    Connection, Request, SeededEntropy, TestDatabase, TestServer, TestTopic, http, setting,
    shared_redis,
};
use serde_json::{Value, json};

use crate::profiles::split;
use crate::support::{server, summary};

const EVENTS: u64 = 3_000;
const QUESTIONS: u64 = 500;
/// The first moment of the events, and how many minutes after it the last one lies.
const START: u64 = 1_476_500_000;
const MINUTES: u64 = 60 * 24 * 60;

const TYPES: &[&str] = &["view", "view", "view", "like", "buy"];
const PAGES: &[&str] = &["", "/", "/a", "/b?x=ü"];
const PLANS: &[&str] = &["free", "pro", "", "1"];
const FIELDS: &[&str] =
    &["event_type", "user_id", "session_id", "source", "page_url", "plan", "n", "o.k", "missing"];

#[test]
fn both_stores_answer_alike() -> anyhow::Result<()> {
    let default_seed = u64::from(std::process::id());
    let seed = setting("GRISTMILL_QUESTIONS_SEED").map_or(Ok(default_seed), |text| text.parse())?;
    println!("GRISTMILL_QUESTIONS_SEED={seed}");
    let dice = SeededEntropy::new(seed);
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    // Little is kept in memory, so that the files are asked as well.
    let columnar = server().setting("GRISTMILL__STORE__SEAL_BYTES", "64 KiB").start()?;
    // Two processors take what they find in three partitions.
    let roles = ["ingest", "process", "process", "query"];
    let apart = split(&topic, &database, &shared_redis()?, &roles)?;
    let tables = apart.front();
    fill(&[&columnar, tables], &dice)?;

    let mut told = 0;
    for number in 0..QUESTIONS {
        let request = question(&dice);
        let answers = [answer(&columnar, &request)?, answer(tables, &request)?];
        let (target, body) = (&request.target, String::from_utf8_lossy(&request.body));
        assert_eq!(answers[0], answers[1], "seed {seed}, question {number}: {target} {body}");
        told += u64::from(answers[0]["status"] == 200);
    }
    assert!(told > QUESTIONS * 9 / 10, "only {told} of {QUESTIONS} questions were answered");
    Ok(())
}

/// Posts the same events in the same order to several servers.
fn fill(servers: &[&TestServer], dice: &SeededEntropy) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for server in servers {
        connections.push(Connection::open(server.address())?);
    }
    for _ in 0..EVENTS / 100 {
        let events: Vec<_> = (0..100).map(|_| random_event(dice)).collect();
        let request = Request::post_json(
            "/v1/events/batch?wait=visible",
            json!({"events": events}).to_string(),
        );
        let mut answers = Vec::new();
        for connection in &mut connections {
            let answer = connection.send(&request)?;
            anyhow::ensure!(answer.status == 200, "{}", answer.text());
            answers.push(answer.json()?["results"].take());
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the outcomes differ");
    }
    let total = summary(servers[0])?["total_events"].as_u64().context("no total")?;
    anyhow::ensure!(total < EVENTS && total > EVENTS / 2, "{total} events, there are repeats");
    Ok(())
}

fn random_event(dice: &SeededEntropy) -> Value {
    let user = dice.below(60);
    let mut event = json!({
        "id": dice.below(EVENTS / 60).to_string(),
        "user_id": if user == 0 { String::new() } else { format!("u{user}") },
        "event_type": pick(dice, TYPES),
        "timestamp": START + dice.below(MINUTES / 20) * 20 * 60,
        "source": pick(dice, &["", "web", "app"]),
        "page_url": pick(dice, PAGES),
        "properties": {},
    });
    if dice.below(3) > 0 {
        event["session_id"] = json!(format!("s{}", dice.below(4)));
    }
    if dice.below(3) > 0 {
        event["properties"]["plan"] = json!(pick(dice, PLANS));
    }
    match dice.below(4) {
        0 => event["properties"]["n"] = json!(dice.below(40) as f64 / 4.0),
        1 => event["properties"]["n"] = json!(dice.below(9).to_string()),
        2 => event["properties"]["o"] = json!({"k": pick(dice, &["v", "w", "\n\"é"])}),
        _ => event["properties"]["n"] = Value::Null,
    }
    event
}

/// The status and the body, without what tells when and how fast it was answered.
fn answer(server: &TestServer, request: &Request) -> anyhow::Result<Value> {
    let answer = server.send(request)?;
    let mut body = answer.json().with_context(|| answer.text())?;
    if let Some(members) = body.as_object_mut() {
        for name in ["last_updated", "metadata", "request_id"] {
            members.remove(name);
        }
    }
    Ok(json!({"status": answer.status, "body": body}))
}

fn question(dice: &SeededEntropy) -> Request {
    match dice.below(6) {
        0 => get(dice, "/v1/analytics/summary?", ""),
        1 => get(dice, "/v1/analytics/top?", &format!("&limit=50&property={}", pick(dice, FIELDS))),
        2 => get(
            dice,
            &format!("/v1/analytics/users/u{}?", dice.below(62)),
            &format!("&include_sessions=true&order={}", pick(dice, &["asc", "desc"])),
        ),
        3 => post(dice, "/v1/analytics/timeseries", series(dice)),
        4 => post(dice, "/v1/analytics/funnel", funnel(dice)),
        _ => post(dice, "/v1/analytics/retention", retention(dice)),
    }
}

fn get(dice: &SeededEntropy, path: &str, more: &str) -> Request {
    let (mut target, (start, end)) = (format!("{path}{more}"), range(dice));
    for (name, value) in [("start", start), ("end", end)] {
        if let Some(value) = value {
            target += &format!("&{name}={value}");
        }
    }
    if dice.below(2) == 0 {
        target += &format!("&where={}", http::encode(&filter(dice, 2).to_string()));
    }
    Request::get(&target.replace("?&", "?"))
}

fn post(dice: &SeededEntropy, path: &str, mut body: Value) -> Request {
    let (start, end) = range(dice);
    for (name, value) in [("start", start), ("end", end)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if dice.below(2) == 0 {
        body["where"] = filter(dice, 2);
    }
    Request::post_json(path, body.to_string())
}

fn range(dice: &SeededEntropy) -> (Option<u64>, Option<u64>) {
    let end = || (dice.below(2) == 0).then(|| START + dice.below(MINUTES) * 60);
    match (end(), end()) {
        (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other) + 60)),
        ends => ends,
    }
}

fn series(dice: &SeededEntropy) -> Value {
    const METRICS: &[&str] = &[
        "count",
        "unique_users",
        "sessions",
        "per_user_average",
        "sum",
        "avg",
        "min",
        "max",
        "p90",
    ];
    let one = |_| {
        let metric = pick(dice, METRICS);
        let mut series = json!({"metric": metric, "event_type": pick(dice, TYPES)});
        if METRICS[4..].contains(&metric) {
            series["property"] = json!("n");
        }
        if dice.below(2) == 0 {
            series["where"] = filter(dice, 1);
        }
        series
    };
    let mut body = json!({
        "series": (0..=dice.below(2)).map(one).collect::<Vec<_>>(),
        "granularity": pick(dice, &["hour", "day", "week", "month"]),
        "tz": pick(dice, &["UTC", "America/Sao_Paulo", "Asia/Kolkata"]),
    });
    if dice.below(2) == 0 {
        body["group_by"] = json!(pick(dice, FIELDS));
        body["top"] = json!(1 + dice.below(9));
    }
    body
}

fn funnel(dice: &SeededEntropy) -> Value {
    let step = |number| {
        let mut step = json!({"name": format!("step {number}"), "event_type": pick(dice, TYPES)});
        if dice.below(3) == 0 {
            step["where"] = filter(dice, 1);
        }
        step
    };
    let mut body = json!({
        "steps": (0..2 + dice.below(3)).map(step).collect::<Vec<_>>(),
        "order": pick(dice, &["ordered", "strict", "any"]),
    });
    if dice.below(2) == 0 {
        body["window"] = json!(format!("{}s", 1_200 * (1 + dice.below(500))));
    }
    if dice.below(3) == 0 {
        body["breakdown"] = json!({"property": pick(dice, FIELDS)});
    }
    body
}

fn retention(dice: &SeededEntropy) -> Value {
    let event = || match dice.below(3) {
        0 => json!({}),
        1 => json!({"event_type": pick(dice, TYPES)}),
        _ => json!({"where": filter(dice, 1)}),
    };
    json!({
        "start_event": event(),
        "return_event": event(),
        "mode": pick(dice, &["first_time", "recurring"]),
        "counting": pick(dice, &["exact", "rolling"]),
        "granularity": pick(dice, &["day", "week", "month"]),
    })
}

fn filter(dice: &SeededEntropy, depth: u64) -> Value {
    let inner = |_| filter(dice, depth - 1);
    match if depth == 0 { 3 } else { dice.below(6) } {
        0 => json!({"and": (0..2).map(inner).collect::<Vec<_>>()}),
        1 => json!({"or": (0..2).map(inner).collect::<Vec<_>>()}),
        2 => json!({"not": inner(0)}),
        _ => condition(dice),
    }
}

fn condition(dice: &SeededEntropy) -> Value {
    let text = pick(dice, &["", "view", "u1", "s2", "/a", "free", "1", "v", "web"]);
    let field = pick(dice, FIELDS);
    match dice.below(6) {
        0 => json!({"field": field, "op": "exists"}),
        1 => json!({"field": field, "op": "in", "value": [text, pick(dice, PLANS)]}),
        2 => json!({"field": field, "op": pick(dice, &["<", ">="]), "value": dice.below(9)}),
        3 => {
            json!({"field": field, "op": pick(dice, &["contains", "starts_with", "regex"]), "value": text})
        }
        _ => json!({"field": field, "op": pick(dice, &["=", "!="]), "value": text}),
    }
}

fn pick<'a>(dice: &SeededEntropy, among: &[&'a str]) -> &'a str {
    among[dice.below(among.len() as u64) as usize]
}
