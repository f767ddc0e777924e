//! The binary with its log in a topic of a real Kafka, which `scripts/services` starts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Request, ServerOptions, TestDatabase, TestKafka, TestServer, TestTopic, http, wait_until,
};
use serde_json::{Value, json};

use crate::support::{self, store_number, summary, wait_for_more, wait_for_total};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// How long a server may take to notice that a broker is gone, or back.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// A server with its log in a topic, chosen as older systems' environments do.
pub(crate) fn server(topic: &TestTopic) -> ServerOptions {
    support::server()
        .setting("KAFKA_BROKERS", topic.brokers())
        .setting("KAFKA_TOPIC", topic.name())
        .setting("KAFKA_GROUP_ID", &topic.group())
        .setting("GRISTMILL__LOG__SESSION_TIMEOUT", "3s")
        .setting("GRISTMILL__STORE__CONNECTIONS", "2")
}

pub(crate) fn with_postgres(topic: &TestTopic, database: &TestDatabase) -> ServerOptions {
    server(topic).setting("DATABASE_URL", &database.url())
}

fn with_files(topic: &TestTopic) -> ServerOptions {
    support::server()
        .setting("KAFKA_BROKER", topic.brokers())
        .setting("KAFKA_TOPIC", topic.name())
        .setting("KAFKA_GROUP_ID", &topic.group())
        .setting("GRISTMILL__STORE__SEAL_AGE", "1s")
}

#[test]
fn a_topic_and_postgres_count_each_event_once() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::unmade()?, TestDatabase::create()?);
    counts_each_event_once(&topic, with_postgres(&topic, &database))?;
    // The session event names no page.
    let clicks = database.run("SELECT count(*), sum(click_count) FROM page_clicks")?;
    assert_eq!(clicks, [["23", "25"]]);
    Ok(())
}

#[test]
fn a_topic_and_files_count_each_event_once() -> anyhow::Result<()> {
    let topic = TestTopic::unmade()?;
    counts_each_event_once(&topic, with_files(&topic))
}

/// Events of ours and of every older system's own producers, with copies, tombstones and nonsense
/// among them; also after a kill.
fn counts_each_event_once(topic: &TestTopic, options: ServerOptions) -> anyhow::Result<()> {
    let mut server = options.start()?;
    for number in 0..20 {
        post(&server, number)?;
        post(&server, number % 7)?;
    }
    wait_for_total(&server, 20)?;
    let records = topic.read()?;
    assert_eq!(records.len(), 40);
    for record in &records {
        let value: Value = serde_json::from_str(&record.value)?;
        assert_eq!(value["user_id"], record.key);
        assert_eq!((&value["project"], &value["origin"]), (&json!("default"), &json!("native")));
        assert_eq!(value["properties"], json!({"n": 1.5}));
        assert_eq!(record.headers["gristmill"], "1");
        assert_eq!(record.headers["producer_id"], "gristmill");
        assert_eq!(record.headers["traceparent"], TRACEPARENT);
        assert_eq!(record.headers["timestamp"], value["received_at"].as_str().context("text")?);
    }
    let last = records.iter().map(|record| record.partition).max();
    assert_eq!(last, Some(2), "the topic has three partitions");

    let foreign = [
        r#"{"event_id":"c1","user_id":"c","event_type":"click","page_url":"/c","time_stamp":"2024-05-01T10:00:00Z"}"#,
        r#"{"id":"b1","user_id":"b","event_type":"page_view","properties":{"page":"/b"},"timestamp":1714557600,"source":"s"}"#,
        r#"{"user_id":"d","activity_type":"page_view","timestamp":"2024-05-01T10:00:00Z","metadata":{"page_url":"/d","referrer":""}}"#,
        r#"{"eventId":"e1","sessionId":"e","eventType":"view","payload":"{}","ts":"2024-05-01T10:00:00Z"}"#,
    ];
    let twice: Vec<_> = foreign.iter().chain(&foreign).map(|value| ("k", Some(*value))).collect();
    topic.write(1, &twice)?;
    topic.write(2, &[("k", None), ("k", Some("nonsense")), ("k", Some(foreign[0]))])?;
    post(&server, 100)?;
    wait_for_total(&server, 25)?;
    assert_eq!(store_number(&server, "quarantined")?, 2);
    let all_ready = || (server.send(&Request::get("/ready")).ok()?.status == 200).then_some(());
    wait_until("all to be settled", NOTICED_WITHIN, all_ready)?;

    // The group's positions follow what is durable in the store.
    let ends = || -> Option<i64> { Some(topic.committed().ok()?.values().sum()) };
    let told = wait_until("positions of the group", NOTICED_WITHIN, || ends().filter(|n| *n == 52));
    told.with_context(|| format!("{:?}: {}", topic.committed(), server.log()))?;

    server.kill9()?;
    server.restart()?;
    wait_for_total(&server, 25)?;
    post(&server, 101)?;
    wait_for_total(&server, 26)?;
    assert_eq!(store_number(&server, "quarantined")?, 2);
    let status = server.terminate()?;
    assert!(status.success(), "{status}: {}", server.log());
    Ok(())
}

#[test]
fn a_transaction_leaves_no_gap_that_is_waited_for() -> anyhow::Result<()> {
    let topic = TestTopic::create(1, &[])?;
    let event = r#"{"event_type":"t","user_id":"u"}"#;
    topic.write(0, &[("u", Some(event)), ("u", Some(event))])?;
    topic.forget_below(0, 1)?;
    let server = with_files(&topic).start()?;
    wait_for_total(&server, 1)?;
    topic.write_in_transaction(0, &[("u", Some(event))])?;
    wait_for_total(&server, 2)?;
    let ready = || (server.send(&Request::get("/ready")).ok()?.status == 200).then_some(());
    wait_until("all to be settled", NOTICED_WITHIN, ready)
        .with_context(|| format!("{:?}", server.get_json("/lag")))
}

#[test]
fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() -> anyhow::Result<()> {
    let topic = TestTopic::create(1, &[])?;
    let mut server = with_files(&topic).start()?;
    (0..5).try_for_each(|number| post(&server, number))?;
    wait_for_total(&server, 5)?;
    wait_until("the events to be sealed", NOTICED_WITHIN, || {
        (store_number(&server, "hot_rows").ok()? == 0).then_some(())
    })?;
    server.terminate()?;
    topic.delete()?;
    wait_until("the topic to be made", NOTICED_WITHIN, || topic.make(1, &[]).ok())?;
    let failed = server.restart();
    assert!(failed.is_err(), "it serves");
    assert!(!server.wait_exit()?.success());
    assert!(server.log().contains("made anew"), "{}", server.log());
    Ok(())
}

#[test]
fn a_broker_that_comes_late_or_crashes_costs_nothing() -> anyhow::Result<()> {
    let (kafka, database) = (TestKafka::start()?, TestDatabase::create()?);
    kafka.crash()?;
    let topic = kafka.topic();
    let mut server = with_postgres(&topic, &database).start_unready()?;
    wait_until("the server to answer", NOTICED_WITHIN, || status(&server, "/livez"))?;
    assert_eq!(status(&server, "/ready"), Some(503));
    refuses_on_every_route(&server)?;
    kafka.restart()?;
    server.wait_ready()?;

    // Under load, so that batches are cut in the middle. Each event is sent until it is taken.
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let taken = || post(&server, number).ok();
                        wait_until("an event to be taken", NOTICED_WITHIN, taken)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let crashes = (0..3).try_for_each(|_| {
            wait_for_more(&next, 200, NOTICED_WITHIN)?;
            kafka.crash()?;
            let is_away = || (status(&server, "/ready")? == 503).then_some(());
            wait_until("503", NOTICED_WITHIN, is_away)?;
            kafka.restart()
        });
        let rest = crashes.and_then(|()| wait_for_more(&next, 200, NOTICED_WITHIN));
        is_over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        rest
    })
    .with_context(|| server.log())?;
    let total = next.into_inner();
    wait_for_total(&server, total).with_context(|| server.log())?;
    let clicks = database.run("SELECT sum(click_count) FROM page_clicks")?;
    assert_eq!(clicks, [[total.to_string()]]);

    kafka.crash()?;
    let status = server.terminate()?;
    assert!(status.success(), "{status}: {}", server.log());
    Ok(())
}

/// Each route answers as its interface says when the broker is away.
fn refuses_on_every_route(server: &TestServer) -> anyhow::Result<()> {
    let send = |target: &str, body: Value| -> anyhow::Result<(u16, Value)> {
        let answer = server.send(&Request::post_json(target, body.to_string()))?;
        Ok((answer.status, serde_json::from_str(&answer.text()).unwrap_or(Value::Null)))
    };
    let native = json!({"event_type": "t", "user_id": "u"});
    let (status, problem) = send("/v1/events", native)?;
    assert_eq!((status, &problem["code"]), (503, &json!("log_unavailable")), "{problem}");
    let activity = json!({"user_id": "u", "activity_type": "page_view",
        "timestamp": "2024-05-01T10:00:00Z", "metadata": {"page_url": "/"}});
    let refused = send("/activity", activity)?;
    assert_eq!(refused, (500, json!({"error": "Failed to publish activity"})));
    let platform = json!({"id": "b", "event_type": "page_view", "user_id": "u"});
    let (status, body) = send("/events", platform.clone())?;
    assert_eq!((status, &body["success"], &body["event_id"]), (400, &json!(false), &json!("")));
    let message = body["message"].as_str().context("no message")?;
    assert!(message.starts_with("Failed to send event: "), "{message}");
    let (status, body) = send("/events/async", platform.clone())?;
    let error = body["error"].as_str().context("no error")?;
    assert_eq!(status, 500);
    assert!(error.starts_with("Failed to queue async event: "), "{error}");
    let (status, body) = send("/events/batch", json!({"events": [platform]}))?;
    assert_eq!(status, 206);
    let expected = json!({"success": false, "message": "Processed 0/1 events",
        "processed_count": 0, "failed_event_ids": ["b"]});
    assert_eq!(body, expected);
    let session = json!({"sessionId": "s", "eventType": "v", "payload": "{}"});
    assert_eq!(send("/events", session)?.0, 503);
    let click = json!({"event_id": "c", "user_id": "u", "event_type": "click", "page_url": "/"});
    assert_eq!(send("/ingest", click)?.0, 503);
    Ok(())
}

#[test]
fn processes_share_the_partitions_and_each_event_counts_once() -> anyhow::Result<()> {
    let (topic, database) = (TestTopic::create(6, &[])?, TestDatabase::create()?);
    let first = with_postgres(&topic, &database).start()?;
    let mut next = 0;
    let mut post_some = |server: &TestServer| -> anyhow::Result<u64> {
        (next..next + 200).try_for_each(|number| post(server, number))?;
        next += 200;
        Ok(next)
    };
    wait_for_total(&first, post_some(&first)?)?;
    let mut second = with_postgres(&topic, &database).start()?;
    let both = || {
        let given = |server: &TestServer| server.log().matches("partitions were given").count();
        (given(&second) > 0 && first.log().contains("partitions went away")).then_some(())
    };
    wait_until("the partitions to be shared", NOTICED_WITHIN, both)
        .with_context(|| format!("{}\n{}", first.log(), second.log()))?;
    let total = post_some(&first)?;
    wait_for_total(&first, total)?;
    wait_for_total(&second, total)?;
    // One is gone without a word, and one comes while events do.
    second.kill9()?;
    let third = with_postgres(&topic, &database).start()?;
    let total = post_some(&third)?;
    wait_for_total(&first, total)?;
    wait_for_total(&third, total)?;
    assert_eq!(summary(&first)?["total_events"], total);
    let clicks = database.run("SELECT sum(click_count) FROM page_clicks")?;
    assert_eq!(clicks, [[total.to_string()]]);
    Ok(())
}

#[test]
fn records_that_are_set_aside_are_shown_in_a_topic_of_their_own() -> anyhow::Result<()> {
    let (topic, letters) = (TestTopic::create(2, &[])?, TestTopic::create(1, &[])?);
    let server = with_files(&topic).setting("GRISTMILL__LOG__DEAD_LETTERS", letters.name());
    let server = server.start()?;
    topic.write(1, &[("k", Some("nonsense")), ("k", None)])?;
    post(&server, 0)?;
    wait_for_total(&server, 1)?;
    let shown = || letters.read().ok().filter(|shown| shown.len() == 2);
    let shown = wait_until("the letters", NOTICED_WITHIN, shown)?;
    for (record, (offset, value)) in shown.iter().zip([(0, "nonsense"), (1, "")]) {
        let mut letter: Value = serde_json::from_str(&record.value)?;
        let reason = letter["error"].take();
        assert!(reason.as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");
        assert!(letter["timestamp"].take().as_i64() > Some(1_700_000_000), "{letter}");
        let told = json!({
            "original_topic": topic.name(), "original_partition": 1, "original_offset": offset,
            "original_key": "k", "original_value": value, "error": null, "timestamp": null,
        });
        assert_eq!((letter, &*record.key), (told, "k"));
    }
    Ok(())
}

fn status(server: &TestServer, target: &str) -> Option<u16> {
    Some(server.send(&Request::get(target)).ok()?.status)
}

/// Posts an event on a page, which must be taken.
fn post(server: &TestServer, number: u64) -> anyhow::Result<()> {
    let event = json!({"id": number.to_string(), "user_id": format!("u{}", number % 50),
        "event_type": "t", "page_url": "/p", "properties": {"n": 1.5}});
    let request = Request::post_json("/v1/events", event.to_string());
    let request = request.header("traceparent", TRACEPARENT);
    let answer = http::send(server.address(), &request)?;
    anyhow::ensure!(answer.status == 200, "event {number}: {}", answer.text());
    Ok(())
}
