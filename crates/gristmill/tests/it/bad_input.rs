//! Bad and slow clients against the real binary, however it is deployed: they are told so, leave nothing behind, and
//! disturb nobody.

use std::io;
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{
    Connection, Deployment, Request, Response, Stopwatch, TestServer, raise_open_files_limit,
    wait_until,
};
use serde_json::json;

use crate::profiles::on_each_profile;
use crate::support::{metric, server, store_number, summary, wait_for_total};

const SLOW_CLIENTS: usize = 1_000;
const MEMORY_BYTES: u64 = 512 * 1024 * 1024;

#[test]
fn bad_requests_are_refused_one_by_one_and_store_nothing() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        let server = deployment.front();
        for (what, bytes, status) in bad_requests() {
            let answer = exchange(server, bytes.as_bytes())?;
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            // Below the routes, nothing but a status is promised.
            let is_below_routes = matches!(status, 414 | 431) || what == "length and chunks";
            if !is_below_routes {
                let problem = answer.json()?;
                for key in ["type", "title", "status", "code", "message", "error"] {
                    assert!(!problem[key].is_null(), "{what}: {key} in {problem}");
                }
            }
        }
        assert_eq!(summary(server)?["total_events"], 0);
        for process in deployment.processes() {
            assert!(!process.log().contains("panicked"), "{}", process.log());
        }
        Ok(())
    })
}

/// Requests with what is bad about them and the status they deserve.
fn bad_requests() -> Vec<(&'static str, String, u16)> {
    let deep = "[".repeat(100_000);
    let long_header = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(64 * 1024));
    let long_target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(9 * 1024));
    vec![
        ("an unknown path", "GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n".into(), 404),
        ("a wrong method", "DELETE /v1/events HTTP/1.1\r\nhost: a\r\n\r\n".into(), 405),
        ("a long header", long_header, 431),
        ("a long target", long_target, 414),
        ("no content type", post("/v1/events", "", "{}"), 415),
        ("an unknown encoding", post("/v1/events", &json_with("content-encoding: br"), "{}"), 415),
        ("an empty body", post("/v1/events", &json_with(""), ""), 400),
        ("no JSON", post("/v1/events", &json_with(""), "{'id': 1}"), 400),
        ("two documents", post("/v1/events", &json_with(""), "{} {}"), 400),
        ("a lone surrogate", post("/v1/events", &json_with(""), r#"{"id":"\ud800"}"#), 400),
        ("deep nesting", post("/v1/events", &json_with(""), &deep), 400),
        ("a wrong type", post("/v1/events", &json_with(""), r#"{"id":1,"event_type":"t"}"#), 422),
        ("no event type", post("/v1/events", &json_with(""), r#"{"id":"a"}"#), 422),
        ("length and chunks", both_lengths(), 400),
    ]
}

#[test]
fn body_that_is_cut_short_stores_nothing() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        let server = deployment.front();
        let event = r#"{"id":"cut","user_id":"u","event_type":"t"}"#;
        let bytes = post("/v1/events", &json_with(""), event);
        let mut connection = Connection::open(server.address())?;
        connection.write(&bytes.as_bytes()[..bytes.len() - 1])?;
        drop(connection);

        let whole = server.send(&Request::post_json("/v1/events?wait=visible", event))?;
        assert_eq!(whole.json()?["results"][0]["status"], "stored", "{}", whole.text());
        wait_for_total(server, 1)
    })
}

#[test]
fn partial_success_names_each_event() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        let server = deployment.front();
        let events = json!([
            {"id": "a", "user_id": "u", "event_type": "t"},
            {"id": "b", "user_id": "u"},
            {"id": "a", "user_id": "u", "event_type": "t"},
        ]);
        let answer = server.post_json("/v1/events/batch?wait=visible", &events)?;
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)), "{answer}");
        let status = |index: usize| answer["results"][index]["status"].as_str().unwrap_or_default();
        assert_eq!(
            [status(0), status(1), status(2)],
            ["stored", "rejected", "duplicate"],
            "{answer}"
        );
        assert_eq!(answer["results"][1]["code"], "invalid_event", "{answer}");
        wait_for_total(server, 1)
    })
}

#[test]
fn every_accepted_event_is_accounted_for() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        let server = deployment.front();
        for round in 0..20 {
            let good = |id: u64| json!({"id": id.to_string(), "user_id": "u", "event_type": "t"});
            let events = json!([good(round), good(round + 1), {"id": "no type"}, good(round)]);
            server.post_json("/v1/events/batch", &events)?;
        }
        wait_for_total(server, 21)?;
        let count = |name: &str| highest(deployment, &format!("gristmill_events_{name}_total"));
        let is_settled = || (count("processed").ok()? == 60).then_some(());
        wait_until(
            "stored, duplicate, quarantined and expired",
            Duration::from_secs(10),
            is_settled,
        )?;
        assert_eq!(highest(deployment, "gristmill_consumer_lag_records")?, 0);
        assert_eq!(count("received")?, 80);
        assert_eq!((count("accepted")?, count("rejected")?, count("failed")?), (60, 20, 0));
        let duplicates = || (store_number(server, "duplicate").ok()? == 39).then_some(());
        wait_until("the duplicates to be told", Duration::from_secs(10), duplicates)
    })
}

/// The highest that any process says a metric is: all that settle one log tell the same totals, and
/// what comes in is counted where it does.
fn highest(deployment: &Deployment, name: &str) -> anyhow::Result<u64> {
    let told = deployment.processes().filter_map(|process| metric(process, name).ok());
    told.max().with_context(|| format!("nobody tells {name}"))
}

#[test]
fn slow_clients_do_not_disturb_others() -> anyhow::Result<()> {
    on_each_profile(&server(), |deployment| {
        raise_open_files_limit()?;
        let server = deployment.front();
        let slow: Vec<_> = (0..SLOW_CLIENTS)
            .map(|number| {
                let mut connection = Connection::open(server.address())?;
                // Half of them never finish their headers, the others never finish their body.
                let bytes = if number % 2 == 0 {
                    "POST /v1/events HTTP/1.1\r\nhost: a\r\n".to_owned()
                } else {
                    let bytes = post("/v1/events", &json_with(""), &"x".repeat(1_000));
                    bytes[..bytes.len() - 900].to_owned()
                };
                connection.write(bytes.as_bytes())?;
                Ok(connection)
            })
            .collect::<io::Result<_>>()?;

        let event = Request::post_json("/v1/events", r#"{"user_id":"u","event_type":"t"}"#);
        for _ in 0..100 {
            let waited = Stopwatch::start();
            assert_eq!(server.send(&event)?.status, 200);
            assert!(waited.elapsed() < Duration::from_secs(1), "{:?}", waited.elapsed());
        }
        assert_eq!(slow.len(), SLOW_CLIENTS);
        assert!(server.peak_memory()? < MEMORY_BYTES);
        wait_for_total(server, 100)
    })
}

/// Sends bytes as they are over a connection of their own.
fn exchange(server: &TestServer, bytes: &[u8]) -> io::Result<Response> {
    let mut connection = Connection::open(server.address())?;
    // The server may answer and close before it has read everything.
    let _ = connection.write(bytes);
    connection.read()
}

fn json_with(header: &str) -> String {
    format!(
        "content-type: application/json\r\n{header}{}",
        if header.is_empty() { "" } else { "\r\n" }
    )
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

fn both_lengths() -> String {
    let headers = json_with("transfer-encoding: chunked");
    post("/v1/events", &headers, "2\r\n{}\r\n0\r\n\r\n")
}
