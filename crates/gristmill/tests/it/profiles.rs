//! What the platform promises, on every way it can be deployed.

use anyhow::{Context, ensure};
use gristmill_testkit::{
    Behind, Deployment, Request, ServerOptions, TestDatabase, TestServer, TestTopic, shared_redis,
};
use serde_json::{Value, json};

use crate::kafka;
use crate::support::{server, summary, wait_for_total};

#[test]
fn promises_hold_in_one_process() -> anyhow::Result<()> {
    promises_hold(Deployment::alone(server())?)
}

#[test]
fn promises_hold_behind_a_gateway() -> anyhow::Result<()> {
    promises_hold(behind_gateway()?)
}

#[test]
fn promises_hold_with_each_role_in_a_process_of_its_own() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let roles = ["ingest", "process", "query"];
    promises_hold(split(&topic, &database, &shared_redis()?, &roles)?)
}

/// Checks something on both ways to deploy the platform: all in one process over files, and each role in
/// a process of its own over Kafka, PostgreSQL and Redis. The options are for the process that clients
/// speak to.
pub(crate) fn on_each_profile(
    front: &ServerOptions,
    check: impl Fn(&mut Deployment) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    check(&mut Deployment::alone(front.clone())?).context("in one process")?;
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    let behind = apart(&topic, &database, &shared_redis()?, &["ingest", "process", "query"]);
    let mut deployment = Deployment::behind_gateway(front.clone(), &behind)?;
    check(&mut deployment).context("each role in a process of its own")
}

/// A process for each of these roles behind a gateway, over Kafka, PostgreSQL and Redis.
pub(crate) fn split(
    topic: &TestTopic,
    database: &TestDatabase,
    redis: &str,
    roles: &[&'static str],
) -> anyhow::Result<Deployment> {
    Deployment::behind_gateway(server(), &apart(topic, database, redis, roles))
}

fn apart(
    topic: &TestTopic,
    database: &TestDatabase,
    redis: &str,
    roles: &[&'static str],
) -> Vec<Behind> {
    let options = kafka::with_postgres(topic, database).setting("REDIS_ADDR", redis);
    roles.iter().map(|roles| Behind { options: options.clone(), roles }).collect()
}

/// Everything in one process, which only a gateway speaks to.
pub(crate) fn behind_gateway() -> anyhow::Result<Deployment> {
    Deployment::behind_gateway(server(), &[Behind::all(server())])
}

fn promises_hold(mut deployment: Deployment) -> anyhow::Result<()> {
    let front = deployment.front();
    every_dialect_is_taken(front).context("dialects")?;
    wait_for_total(front, 6)?;
    what_is_repeated_counts_once(front).context("repeats")?;
    wait_for_total(front, 11)?;
    outcomes_are_told(front).context("outcomes")?;
    mistakes_are_told(front).context("mistakes")?;
    let before = answers(front)?;
    deployment.crash().context("a crash")?;
    assert_eq!(answers(deployment.front())?, before, "after a crash");
    deployment.restart().context("a restart")?;
    assert_eq!(answers(deployment.front())?, before, "after a restart");
    Ok(())
}

/// One event in each dialect; six in all.
fn every_dialect_is_taken(front: &TestServer) -> anyhow::Result<()> {
    let native = json!({"id": "1", "user_id": "ada", "event_type": "view", "page_url": "/"});
    assert_eq!(post(front, "/v1/events", &native, 200)?["accepted"], 1);
    let batch = json!([native, {"id": "2", "user_id": "ada", "event_type": "buy"}]);
    assert_eq!(post(front, "/v1/events/batch", &batch, 200)?["accepted"], 2);
    let click = json!({"event_id": "3", "user_id": "ada", "event_type": "click", "page_url": "/"});
    assert_eq!(post(front, "/ingest", &click, 200)?["event_id"], "3");
    let event = json!({"id": "4", "user_id": "bob", "event_type": "page_view"});
    assert_eq!(post(front, "/events", &event, 200)?["success"], true);
    let session = json!({
        "eventId": "5", "sessionId": "s", "eventType": "page_view", "payload": "{}",
        "ts": "2026-01-01T00:00:00Z",
    });
    let answer = front.send(&Request::post_json("/events", session.to_string()))?;
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
    let activity = json!({
        "user_id": "bob", "activity_type": "page_view", "timestamp": "2026-01-01T00:00:00Z",
        "metadata": {"page_url": "/x"},
    });
    let answer = post(front, "/activity", &activity, 200)?;
    assert_eq!(answer["message"], "Activity published successfully");
    Ok(())
}

/// Five events, each posted more often.
fn what_is_repeated_counts_once(front: &TestServer) -> anyhow::Result<()> {
    let with_id = json!({"id": "again", "user_id": "cy", "event_type": "t"});
    let with_time = json!({"user_id": "cy", "event_type": "t", "timestamp": 1_767_225_600});
    for event in [&with_id, &with_time] {
        let ids: Vec<Value> = (0..3)
            .map(|_| Ok(post(front, "/v1/events", event, 200)?["results"][0]["id"].take()))
            .collect::<anyhow::Result<_>>()?;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    // Two events that are equal in one request, repeated under one key; and one that is new each time.
    let twins = json!([{"user_id": "cy", "event_type": "t"}, {"user_id": "cy", "event_type": "t"}]);
    let request = Request::post_json("/v1/events/batch", twins.to_string());
    for _ in 0..3 {
        assert_eq!(front.send(&request.clone().header("idempotency-key", "k"))?.status, 200);
    }
    post(front, "/v1/events", &json!({"user_id": "cy", "event_type": "t"}), 200)?;
    Ok(())
}

fn outcomes_are_told(front: &TestServer) -> anyhow::Result<()> {
    let batch = json!([
        {"id": "again", "user_id": "cy", "event_type": "t"},
        {"id": "new", "user_id": "cy", "event_type": "t"},
        {"id": "bad", "user_id": "cy"},
    ]);
    let answer = post(front, "/v1/events/batch?wait=visible", &batch, 200)?;
    let told: Vec<_> = (0..3).map(|index| answer["results"][index]["status"].clone()).collect();
    assert_eq!(told, ["duplicate", "stored", "rejected"]);
    let position = answer["position"].as_str().context("no position")?;
    let counted = front.get_json(&format!("/v1/analytics/summary?at_least={position}"))?;
    assert_eq!(counted["total_events"], 12);
    Ok(())
}

fn mistakes_are_told(front: &TestServer) -> anyhow::Result<()> {
    assert_eq!(post(front, "/v1/events", &json!({"user_id": "u"}), 422)?["code"], "invalid_event");
    assert_eq!(post(front, "/v1/events", &json!([]), 400)?["code"], "invalid_body");
    let answer = front.send(&Request::post_json("/ingest", "no JSON"))?;
    assert_eq!((answer.status, answer.text().as_str()), (400, "invalid json body\n"));
    for (target, status) in [("/v1/analytics/top", 400), ("/v1/nothing", 404), ("/v1/events", 405)]
    {
        let answer = front.send(&Request::get(target))?;
        ensure!(answer.status == status, "{target}: {} {}", answer.status, answer.text());
        assert_eq!(answer.json()?["status"], status);
    }
    Ok(())
}

/// What several questions are answered.
fn answers(front: &TestServer) -> anyhow::Result<Value> {
    let mut summary = summary(front)?;
    for name in ["last_updated", "metadata"] {
        summary.as_object_mut().context("no summary")?.remove(name);
    }
    let clicks = Request::new("GET", "/analytics/events")
        .header("content-type", "application/json")
        .body(json!({"user_id": "ada", "page_url": "/"}).to_string());
    let clicks = front.send(&clicks)?.json()?;
    assert_eq!(clicks, json!({"count": 2, "page_url": "/", "user_id": "ada"}));
    let funnel = json!({"steps": [{"event_type": "view"}, {"event_type": "buy"}]});
    let mut funnel = post(front, "/v1/analytics/funnel", &funnel, 200)?;
    funnel.as_object_mut().context("no funnel")?.remove("metadata");
    Ok(json!([summary, clicks, funnel]))
}

fn post(front: &TestServer, target: &str, body: &Value, status: u16) -> anyhow::Result<Value> {
    let answer = front.send(&Request::post_json(target, body.to_string()))?;
    ensure!(answer.status == status, "{target} {body}: {} {}", answer.status, answer.text());
    answer.json()
}
