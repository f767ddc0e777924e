//! The commands of the four systems' manuals, unchanged, against a server on four listeners that
//! stand for their ports 8080 to 8083, however the platform is deployed.

use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{Connection, Curl, Request, Response, TestServer, http, wait_until};
use serde_json::{Value, json};

use crate::manuals::{
    ACTIVITY, CLICK, CLICK_COUNT, HEALTH, METRICS_STREAM, PLATFORM_EVENT, PLATFORM_SUMMARY,
    SESSION_EVENT, SUMMARY, WRAPPED_EVENT,
};
use crate::profiles::on_each_profile;
use crate::support::{server, wait_for_total};

/// How long a count may take to show an acknowledged event.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn every_command_of_the_manuals_works_unchanged() -> anyhow::Result<()> {
    on_each_profile(&server().listeners(4), |deployment| {
        let server = deployment.front();

        clicks(server)?;
        native_events(server)?;
        platform_events(server)?;
        activities(server)?;
        sessions(server)?;

        // One event of each of the five commands that post one.
        wait_for_total(server, 5)
    })
}

fn clicks(server: &TestServer) -> anyhow::Result<()> {
    let answer = run(server, CLICK)?;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let echo = concat!(
        r#"{"event_id":"test_123","user_id":"user_1","event_type":"click","#,
        r#""page_url":"https://example.com","time_stamp":"2025-11-05T20:00:00Z"}"#,
        "\n"
    );
    assert_eq!(answer.text(), echo);

    let wanted = "{\"count\":1,\"page_url\":\"https://example.com\",\"user_id\":\"user_1\"}\n";
    let answer = wait_until("the click to be counted", VISIBLE_WITHIN, || {
        let answer = run(server, CLICK_COUNT).ok()?;
        (answer.text() == wanted).then_some(answer)
    });
    let answer = answer.with_context(|| format!("{:?}", run(server, CLICK_COUNT)))?;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    Ok(())
}

fn native_events(server: &TestServer) -> anyhow::Result<()> {
    let answer = run(server, WRAPPED_EVENT)?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json()?;
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(1), &json!(0)), "{body}");
    assert_eq!(body["results"][0]["id"], "evt-123", "{body}");
    let position = body["position"].as_str().context("no position")?;

    let curl = Curl::parse(SUMMARY)?;
    let mut request = curl.request;
    // The position is a promise that a later question sees the event.
    request.target.push_str(&format!("?at_least={}", http::encode(position)));
    let body = http::send(address(server, curl.port)?, &request)?.json()?;
    assert_eq!(body["events_by_type"]["EVENT_TYPE_USER"], 1, "{body}");

    let answer = run(server, SUMMARY)?;
    assert_eq!(answer.status, 200);
    let body = answer.json()?;
    for number in ["total_events", "unique_users", "sessions"] {
        assert!(body[number].is_u64(), "{number} in {body}");
    }
    Ok(())
}

fn platform_events(server: &TestServer) -> anyhow::Result<()> {
    let answer = run(server, PLATFORM_EVENT)?;
    assert_eq!(answer.status, 200);
    let wanted =
        json!({"success": true, "message": "Event sent successfully", "event_id": "event_123"});
    assert_eq!(answer.json()?, wanted);

    let answer = run(server, PLATFORM_SUMMARY)?;
    assert_eq!(answer.status, 200);
    let body = answer.json()?;
    assert!(body["total_events"].is_u64() && body["total_users"].is_u64(), "{body}");
    assert!(body["events_by_type"].is_object() && body["top_metrics"].is_array(), "{body}");
    assert!(body["last_updated"].is_i64(), "{body}");
    Ok(())
}

fn activities(server: &TestServer) -> anyhow::Result<()> {
    let answer = run(server, ACTIVITY)?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.json()?, json!({"message": "Activity published successfully"}));

    let answer = run(server, HEALTH)?;
    assert_eq!((answer.status, &answer.json()?["status"]), (200, &json!("healthy")));
    Ok(())
}

fn sessions(server: &TestServer) -> anyhow::Result<()> {
    let answer = run(server, SESSION_EVENT)?;
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));

    let curl = Curl::parse(METRICS_STREAM)?;
    let data = metrics_of_stream(address(server, curl.port)?, &curl.request)?;
    for key in ["receivedTotal", "writtenTotal", "avgProcessingMs", "lag"] {
        assert!(data[key].is_number(), "{key} in {data}");
    }
    assert!(data["ts"].is_string(), "{data}");
    Ok(())
}

/// The first of the numbers that the session system streams.
pub(crate) fn metrics_of_stream(
    address: std::net::SocketAddr,
    request: &Request,
) -> anyhow::Result<Value> {
    let mut stream = Connection::open(address)?;
    stream.write(&request.to_bytes())?;
    let text = stream.read_through("}")?;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.to_ascii_lowercase().contains("content-type: text/event-stream"), "{text}");
    let (_, event) = text.split_once("event:metrics\ndata:").context("no event")?;
    Ok(serde_json::from_str(event.lines().next().unwrap_or_default())?)
}

#[test]
fn routes_without_a_command_answer_as_their_clients_expect() -> anyhow::Result<()> {
    on_each_profile(&server().listeners(4), |deployment| {
        let server = deployment.front();

        let event = json!({"id": "a", "user_id": "u", "event_type": "page_view"});
        let answer = post(server, "/events/async", &event)?;
        assert_eq!((answer.status, &answer.json()?["event_id"]), (202, &json!("a")));

        let answer = post(server, "/events/batch", &json!({"events": [event, event]}))?;
        let body = answer.json()?;
        assert_eq!((answer.status, &body["success"]), (200, &json!(true)), "{body}");
        assert_eq!(body["message"], "Processed 2/2 events");
        assert_eq!(body["processed_count"], 2);
        assert_eq!(body["failed_event_ids"], Value::Null);

        let answer = post(server, "/events/batch", &json!({"events": []}))?;
        assert_eq!(
            (answer.status, &answer.json()?["message"]),
            (206, &json!("No events provided"))
        );

        let answer = post(server, "/ingest", &json!([]))?;
        assert_eq!((answer.status, answer.text().as_str()), (400, "invalid json body\n"));
        let answer = server.send(&Request::get("/ingest"))?;
        assert_eq!((answer.status, answer.text().as_str()), (405, "method not allowed\n"));

        let answer = post(server, "/activity", &json!({"user_id": "u"}))?;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("required"), "{}", answer.text());

        let object = json!({"sessionId": "s", "eventType": "t", "payload": {"path": "/"}});
        assert_eq!(post(server, "/events", &object)?.status, 400);
        Ok(())
    })
}

/// Routes that several systems shared, with what one or the other of their clients read there.
const SHARED: [(&str, &[&str]); 7] = [
    ("/stats", &["service", "uptime_seconds", "messages_sent", "consumer", "stream"]),
    ("/lag", &["service", "lag", "timestamp"]),
    ("/livez", &[]),
    ("/readyz", &[]),
    ("/metrics", &[]),
    ("/health", &["status", "service", "timestamp", "uptime_seconds", "kafka_health"]),
    ("/ready", &["ready", "service", "timestamp", "producer_ready", "consumer_ready"]),
];

#[test]
fn shared_routes_answer_one_superset_on_every_listener() -> anyhow::Result<()> {
    on_each_profile(&server().listeners(4), |deployment| {
        let mut processes: Vec<_> = deployment.processes().collect();
        if processes.len() > 1 {
            // Of itself, a gateway tells whom it reaches instead.
            tells(processes.remove(0), &SHARED[..5])?;
        }
        processes.iter().try_for_each(|process| tells(process, &SHARED))
    })
}

fn tells(server: &TestServer, wanted: &[(&str, &[&str])]) -> anyhow::Result<()> {
    for (address, (path, keys)) in
        server.addresses().iter().flat_map(|address| wanted.iter().map(move |it| (*address, it)))
    {
        let answer = http::send(address, &Request::get(path))?;
        assert_eq!(answer.status, 200, "{path}");
        for key in *keys {
            let body = answer.json()?;
            assert!(!body[key].is_null(), "{key} of {path} in {body}");
        }
    }
    Ok(())
}

/// Runs a command with its port replaced by that of the listener that stands for it.
fn run(server: &TestServer, command: &str) -> anyhow::Result<Response> {
    let curl = Curl::parse(command)?;
    http::send(address(server, curl.port)?, &curl.request).with_context(|| command.to_owned())
}

fn address(server: &TestServer, port: u16) -> anyhow::Result<std::net::SocketAddr> {
    let listener = port.checked_sub(8080).context("a port below 8080")?;
    server.addresses().get(usize::from(listener)).copied().context("a port above 8083")
}

fn post(server: &TestServer, path: &str, body: &Value) -> anyhow::Result<Response> {
    server.send(&Request::post_json(path, body.to_string()))
}
