//! A client cannot tell whether a gateway is in between.

use std::io::Write as _;

use anyhow::Context;
use gristmill_testkit::{Behind, Connection, Deployment, Request, Response, Stopwatch, TestServer};
use serde_json::{Value, json};

use crate::profiles::behind_gateway;
use crate::support::{metric, server, summary};

/// What a gateway answers itself.
const ITS_OWN: [&str; 6] =
    ["/health", "/ready", "/readyz", "/livez", "/actuator/health", "/metrics"];

/// What tells the numbers of the process that answers, which every request changes.
const CHANGING: [&str; 2] = ["/v1/metrics", "/v1/metrics/export"];

/// Headers that are the same whoever answers.
const HEADERS: [&str; 16] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "allow",
    "retry-after",
    "cache-control",
    "vary",
    "location",
    "connection",
    "x-accel-buffering",
    "x-content-type-options",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "next-page-token",
];

#[test]
fn every_route_answers_as_it_does_without_a_gateway() -> anyhow::Result<()> {
    let mut deployment = behind_gateway()?;
    let document = deployment.front().get_json("/v1/openapi.json")?;
    let paths = document["paths"].as_object().context("no paths")?;
    let mut requests = requests()?;
    let is_left_out = |path: &str| ITS_OWN.contains(&path) || CHANGING.contains(&path);
    for path in paths.keys().filter(|path| !is_left_out(path)) {
        let target = path.replace("{id}", "some%20one");
        for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            requests.push(Request::new(method, &target));
        }
        requests.push(Request::get(&format!("{target}/")));
        requests.push(Request::get(&format!("{target}?no_such=1")));
        for body in ["", "{}", "[]", "{\"steps\": 1}"] {
            requests.push(Request::post_json(&target, body));
        }
    }
    anyhow::ensure!(requests.len() > 200, "only {} requests", requests.len());
    let backend = deployment.behind()[0].address();
    let mut direct = Connection::open(backend)?;
    let mut relayed = Connection::open(deployment.front().address())?;
    for request in &requests {
        let what = format!("{} {}", request.method, request.target);
        let expected = exchange(&mut direct, backend, request).with_context(|| what.clone())?;
        let front = deployment.front().address();
        let answer = exchange(&mut relayed, front, request).with_context(|| what.clone())?;
        let compared = [answer, expected].map(|answer| comparable(&answer, request));
        assert_eq!(compared[0], compared[1], "{what}: {:?}", request.headers);
    }
    Ok(())
}

/// Sends a request over a connection, or over a new one if the last answer has ended it.
fn exchange(
    connection: &mut Connection,
    address: std::net::SocketAddr,
    request: &Request,
) -> anyhow::Result<Response> {
    let answer = connection.send(request)?;
    if answer.header("connection") == Some("close") {
        *connection = Connection::open(address)?;
    }
    Ok(answer)
}

/// Requests that are good or bad in their own way. Events that are posted have their ids, so that the
/// second time is the same event.
fn requests() -> anyhow::Result<Vec<Request>> {
    let event = json!({"id": "e", "user_id": "some one", "event_type": "t", "page_url": "/"});
    let text = event.to_string();
    let packed = gzipped(&text)?;
    let gzip = |target| post(target, packed.clone()).header("content-encoding", "gzip");
    let event = |number| json!({"id": format!("{number}"), "user_id": "u", "event_type": "t"});
    let batch: Vec<_> = (0..2_000).map(event).collect();
    let mut requests = older_requests();
    requests.extend([
        post("/v1/events", &*text),
        post("/v1/events?wait=visible", &*text),
        post("/v1/events?wait=whatever", &*text),
        post("/v1/events/batch", json!(batch).to_string()),
        post("/v1/events/batch", "[]"),
        Request::new("POST", "/v1/events/batch")
            .header("content-type", "application/x-ndjson")
            .body(format!("{text}\n\nno json\n")),
        Request::new("POST", "/v1/events").body(&*text),
        post("/v1/events", &*text).header("idempotency-key", ""),
        post("/v1/events", &*text).header("content-encoding", "br"),
        gzip("/v1/events"),
        gzip("/events"),
        post("/v1/events", "no gzip").header("content-encoding", "gzip"),
        post("/v1/events", "\u{feff}{}"),
        post("/v1/events", large(1 << 20)),
        post("/v1/events", large(9 << 20)),
        post("/v1/analytics/funnel", large(2 << 20)),
        Request::get("/v1/analytics/summary").header("accept", "text/csv"),
        Request::get("/v1/analytics/top?property=event_type"),
        Request::get("/v1/analytics/top?property=event_id&limit=10000"),
        Request::get("/v1/analytics/users/some%20one"),
        Request::get("/v1/analytics/users/no_one").header("x-request-id", "mine-7"),
        Request::get("/v1/analytics/summary?at_least=nonsense"),
        Request::get("/v1/nothing"),
        Request::get(&format!("/v1/analytics/summary?x={}", "y".repeat(9_000))),
        Request::get("/v1/analytics/summary").header("x-large", &"z".repeat(17_000)),
        Request::new("OPTIONS", "*"),
    ]);
    Ok(requests)
}

/// The same on the routes of older systems.
fn older_requests() -> Vec<Request> {
    let time = "2026-01-01T00:00:00Z";
    let click = json!({
        "event_id": "c", "user_id": "u", "event_type": "c", "page_url": "/", "time_stamp": time,
    });
    let page = json!({"page_url": "/"});
    let activity =
        json!({"user_id": "u", "activity_type": "x", "timestamp": time, "metadata": page});
    let view = json!({"id": "p", "event_type": "page_view"}).to_string();
    let batch = json!({"events": [{"id": "r", "event_type": "t"}]});
    let count = json!({"user_id": "u", "page_url": "/"});
    let origin = |request: Request, origin: &str| request.header("origin", origin);
    vec![
        post("/ingest", click.to_string()),
        post("/ingest", large(9 << 20)),
        post("/ingest", "{}"),
        post("/ingest", "nothing"),
        Request::get("/ingest"),
        post("/events", &*view),
        post("/events", "{}"),
        post("/events", "nothing"),
        post("/events/async", &*view),
        post("/events/batch", batch.to_string()),
        post("/events/batch", json!({"events": []}).to_string()),
        post("/events/batch", large(9 << 20)),
        Request::new("DELETE", "/events/batch"),
        post("/activity", activity.to_string()),
        post("/activity", "{}"),
        origin(post("/events", &*view), "http://localhost:5173"),
        origin(Request::new("OPTIONS", "/events"), "http://localhost:5173")
            .header("access-control-request-headers", "content-type"),
        origin(Request::new("OPTIONS", "/events"), "http://elsewhere"),
        Request::new("GET", "/analytics/events").body(count.to_string()),
        Request::get("/analytics/events?user_id=some+one&page_url=/"),
        Request::get("/analytics/events"),
        Request::new("POST", "/analytics/events"),
        Request::get("/analytics/summary"),
        Request::new("POST", "/analytics/summary"),
    ]
}

fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::post_json(target, body)
}

/// An event with so many bytes more than it needs.
fn large(bytes: usize) -> String {
    let more = "x".repeat(bytes);
    json!({"id": "l", "user_id": "u", "event_type": "t", "page_url": "/", "x": more}).to_string()
}

fn gzipped(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

/// An answer without what differs from one to the next.
fn comparable(answer: &Response, request: &Request) -> Value {
    let mut body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| json!(answer.text()));
    forget(&mut body);
    // Objects hold what differs, also those that `HEAD` leaves out.
    let is_dated = body.is_object() || request.method == "HEAD";
    let same = |name: &&&str| **name != "content-length" || !is_dated;
    let headers = HEADERS.iter().filter(same).map(|name| json!([name, answer.header(name)]));
    let headers: Vec<_> = headers.collect();
    json!({"status": answer.status, "headers": headers, "body": body})
}

fn forget(value: &mut Value) {
    const DATED: [&str; 12] = [
        "request_id",
        "timestamp",
        "position",
        "last_updated",
        "metadata",
        "uptime_seconds",
        "throughput_per_sec",
        "processing_rate",
        "avg_latency_ms",
        "avg_processing_ms",
        "last_message_time",
        "bytes_sent",
    ];
    // Totals, which the requests before have changed.
    const COUNTED: [&str; 6] =
        ["messages_sent", "consumer", "stream", "store", "kafka_health", "backlog_records"];
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !DATED.contains(&&**name) && !COUNTED.contains(&&**name));
            members.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

#[test]
fn live_questions_go_through_and_end_with_either_process() -> anyhow::Result<()> {
    let mut deployment = behind_gateway()?;
    let live = Request::get("/v1/analytics/summary").header("accept", "text/event-stream");
    let subscribe = |front: &TestServer| -> anyhow::Result<Connection> {
        let mut client = Connection::open(front.address())?;
        client.write(&live.to_bytes())?;
        let head = client.read_through("\"total_events\"")?;
        anyhow::ensure!(head.contains("text/event-stream"), "{head}");
        Ok(client)
    };
    let mut client = subscribe(deployment.front())?;
    let event = json!({"id": "1", "user_id": "u", "event_type": "t"});
    deployment.front().post_json("/v1/events", &event)?;
    client.read_through("\"total_events\":1")?;
    // The gateway does not wait for streams when it stops, nor does what is behind it.
    let mut streams = vec![client];
    streams.push(subscribe(deployment.front())?);
    deployment.restart()?;
    for mut stream in streams {
        let rest = stream.read_through("\"never\"").unwrap_err();
        assert_eq!(rest.kind(), std::io::ErrorKind::UnexpectedEof, "{rest}");
    }
    let mut client = subscribe(deployment.front())?;
    deployment.behind()[0].kill9()?;
    client.read_through("\"never\"").unwrap_err();
    Ok(())
}

#[test]
fn requests_in_flight_are_bounded() -> anyhow::Result<()> {
    let gateway = server()
        .setting("GRISTMILL__GATEWAY__MAX_IN_FLIGHT_REQUESTS", "3")
        .setting("GRISTMILL__GATEWAY__MAX_IN_FLIGHT_BYTES", "1 MiB");
    // Heartbeats, by which it is found that a client has left, come twice in this time.
    let behind = Behind::all(server().setting("GRISTMILL__SERVER__WRITE_TIMEOUT", "1s"));
    let deployment = Deployment::behind_gateway(gateway, &[behind])?;
    let front = deployment.front();
    let live = Request::get("/v1/analytics/summary").header("accept", "text/event-stream");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut client = Connection::open(front.address())?;
        client.write(&live.to_bytes())?;
        client.read_through("\"total_events\"")?;
        streams.push(client);
    }
    let answer = front.send(&Request::get("/v1/analytics/summary"))?;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()?["code"], "overloaded");
    assert_eq!(front.send(&Request::get("/livez"))?.status, 200, "its own answers need no room");
    drop(streams);
    let room = || summary(front).ok();
    gristmill_testkit::wait_until("room", std::time::Duration::from_secs(30), room)?;

    let large = format!("{{\"event_type\":\"t\",\"x\":\"{}\"}}", "x".repeat(2 << 20));
    let answer = front.send(&Request::post_json("/v1/events", large))?;
    assert_eq!((answer.status, answer.json()?["code"].clone()), (503, json!("overloaded")));
    Ok(())
}

#[test]
fn without_anybody_behind_it_a_gateway_says_so_in_time() -> anyhow::Result<()> {
    let mut deployment = behind_gateway()?;
    assert_eq!(deployment.front().send(&Request::get("/ready"))?.status, 200);
    deployment.behind()[0].kill9()?;
    let front = deployment.front();
    let ask = |request: Request| -> anyhow::Result<Response> {
        let waited = Stopwatch::start();
        let answer = front.send(&request)?;
        let elapsed = waited.elapsed();
        assert!(elapsed.as_secs() < 8, "{}: {elapsed:?}", request.target);
        Ok(answer)
    };
    let event = json!({"id": "1", "user_id": "u", "event_type": "t"}).to_string();
    // What is sent before the gateway hears of the death may have been done, for all it knows.
    let answer = ask(Request::post_json("/v1/events", event.clone()))?;
    assert!(matches!(answer.status, 503 | 504), "{}", answer.status);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let has_noticed = || (front.send(&Request::get("/ready")).ok()?.status == 503).then_some(());
    gristmill_testkit::wait_until("the death", std::time::Duration::from_secs(30), has_noticed)?;
    let answer = ask(Request::post_json("/v1/events", event.clone()))?;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()?["code"], "not_ready");
    assert_eq!(ask(Request::get("/v1/analytics/summary"))?.status, 503);
    let answer = ask(Request::get("/analytics/events?user_id=u&page_url=/"))?;
    assert_eq!((answer.status, answer.text().as_str()), (500, "failed to get analytics\n"));
    let answer = ask(Request::post_json("/events", event))?;
    assert_eq!((answer.status, answer.json()?["success"].clone()), (503, json!(false)));
    let answer = ask(Request::get("/ready"))?;
    let targets = answer.json()?["targets"]["ingest"].clone();
    assert_eq!((answer.status, targets.as_object().map(serde_json::Map::len)), (503, Some(1)));
    assert!(metric(front, "gristmill_gateway_failures_total")? >= 4);

    deployment.behind()[0].restart()?;
    let is_back =
        || (deployment.front().send(&Request::get("/ready")).ok()?.status == 200).then_some(());
    gristmill_testkit::wait_until("the gateway", std::time::Duration::from_secs(30), is_back)?;
    assert_eq!(summary(deployment.front())?["total_events"], 0, "nothing of that was taken");
    Ok(())
}
