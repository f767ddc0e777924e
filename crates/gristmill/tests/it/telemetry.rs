//! What the process tells of itself: spans to a collector, and lines of its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gristmill_testkit::{Behind, Deployment, Request, TestServer, wait_until};
use serde_json::{Value, json};

use crate::support::server;

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector of spans: a socket that takes OTLP in JSON for as long as the test runs.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let spans = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&spans);
        std::thread::Builder::new().name("collector".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                let serving = std::thread::Builder::new().name("collecting".to_owned());
                // A connection that ends is no matter.
                let _ = serving.spawn(move || serve(stream, &taken));
            }
        })?;
        Ok(Self { address, spans })
    }

    /// Waits until a span of this trace and name has come, and gives it with its service's roles.
    fn wait_for(&self, wanted: impl Fn(&Value) -> bool, what: &str) -> anyhow::Result<Value> {
        wait_until(what, PATIENCE, || lock(&self.spans).iter().find(|span| wanted(span)).cloned())
            .with_context(|| format!("{:#?}", lock(&self.spans)))
    }
}

fn lock(spans: &Mutex<Vec<Value>>) -> MutexGuard<'_, Vec<Value>> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes requests of one connection and answers each as a collector does.
fn serve(stream: TcpStream, taken: &Mutex<Vec<Value>>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut line, mut head, mut length) = (String::new(), Vec::new(), 0);
        while reader.read_line(&mut line)? > 0 && line.trim() != "" {
            let text = line.trim().to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            head.push(text);
            line.clear();
        }
        anyhow::ensure!(!head.is_empty(), "the connection ended");
        anyhow::ensure!(head[0] == "post /v1/traces http/1.1", "{head:?}");
        anyhow::ensure!(head.contains(&"content-type: application/json".to_owned()), "{head:?}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request: Value = serde_json::from_slice(&body)?;
        let mut spans = lock(taken);
        for resource in request["resourceSpans"].as_array().context("no resourceSpans")? {
            for scope in resource["scopeSpans"].as_array().context("no scopeSpans")? {
                for span in scope["spans"].as_array().context("no spans")? {
                    let mut span = span.clone();
                    span["resource"] = resource["resource"].clone();
                    spans.push(span);
                }
            }
        }
        drop(spans);
        writer.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        )?;
    }
}

/// The value of an attribute, as a text.
fn attribute(of: &Value, name: &str) -> String {
    let all = of["attributes"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|attribute| attribute["key"] == name);
    let value = found.map(|attribute| attribute["value"].clone()).unwrap_or_default();
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.unwrap_or_default().to_owned()
}

#[test]
fn one_trace_goes_from_the_client_through_the_gateway_to_the_log() -> anyhow::Result<()> {
    let collector = Collector::start()?;
    let telling = || server().setting("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address);
    let mut deployment = Deployment::behind_gateway(telling(), &[Behind::all(telling())])?;
    let caller = "00f067aa0ba902b7";
    let event = json!({"id": "1", "user_id": "ada", "event_type": "t"}).to_string();
    let request = Request::post_json("/v1/events?wait=visible", event)
        .header("traceparent", &format!("00-{TRACE}-{caller}-01"))
        .header("tracestate", "vendor=1");
    assert_eq!(deployment.front().send(&request)?.status, 200);
    let ask = Request::get("/v1/analytics/summary")
        .header("traceparent", &format!("00-{TRACE}-{caller}-01"));
    assert_eq!(deployment.front().send(&ask)?.status, 200);

    let find = |name: &str, parent: &Value| {
        let (wanted, parent) = (name.to_owned(), parent.clone());
        let is_it = move |span: &Value| {
            span["traceId"] == TRACE && span["name"] == wanted && span["parentSpanId"] == parent
        };
        collector.wait_for(is_it, name)
    };
    let at_gateway = find("POST /v1/events", &json!(caller))?;
    let relay = find("relay", &at_gateway["spanId"])?;
    let at_role = find("POST /v1/events", &relay["spanId"])?;
    let append = find("append", &at_role["spanId"])?;
    let kinds: Vec<_> =
        [&at_gateway, &relay, &at_role, &append].map(|span| span["kind"].clone()).into();
    assert_eq!(kinds, [2, 3, 2, 1]);
    assert_eq!(attribute(&relay, "gristmill.role"), "ingest");
    assert_eq!(attribute(&at_role, "http.response.status_code"), "200");
    assert_eq!(attribute(&at_gateway["resource"], "gristmill.roles"), "gateway");
    assert_eq!(attribute(&at_role["resource"], "service.name"), "gristmill");
    let [start, end] = ["startTimeUnixNano", "endTimeUnixNano"].map(|name| {
        append[name].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
    });
    assert!(1_700_000_000_000_000_000 < start && start <= end, "{append}");

    let asked = find("GET /v1/analytics/summary", &json!(caller))?;
    let relay = find("relay", &asked["spanId"])?;
    let asked = find("GET /v1/analytics/summary", &relay["spanId"])?;
    find("query", &asked["spanId"])?;
    let commit = collector.wait_for(|span| span["name"] == "commit", "commit")?;
    assert_eq!(attribute(&commit, "gristmill.rows"), "1");

    // What is left is told when the process ends.
    let last = Request::get("/livez").header("traceparent", &format!("00-{TRACE}-{caller}-01"));
    assert_eq!(deployment.front().send(&last)?.status, 200);
    deployment.stop()?;
    find("GET /livez", &json!(caller))?;
    Ok(())
}

#[test]
fn collector_that_is_away_is_told_of_once_and_holds_up_nothing() -> anyhow::Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = format!("http://{address}");
    let mut server = server().setting("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).start()?;
    server.get_json("/v1/analytics/summary")?;
    let text = "spans were given up";
    wait_until(text, PATIENCE, || server.log().contains(text).then_some(()))?;
    server.get_json("/v1/analytics/summary")?;
    assert!(server.terminate()?.success());
    assert_eq!(server.log().matches(text).count(), 1, "{}", server.log());
    Ok(())
}

/// The lines of the log that belong to a request.
fn lines_of(server: &TestServer, request_id: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["request_id"] == request_id).collect()
}

#[test]
fn lines_of_a_request_carry_its_names() -> anyhow::Result<()> {
    let server = server().setting("GRISTMILL__TELEMETRY__FILTER", "debug").start()?;
    let request = Request::get("/v1/nothing")
        .header("x-request-id", "mine-7")
        .header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-00"));
    let answer = server.send(&request)?;
    assert_eq!((answer.status, answer.header("x-request-id")), (404, Some("mine-7")));
    assert_eq!(answer.json()?["request_id"], "mine-7");
    let line = wait_until("a line", PATIENCE, || lines_of(&server, "mine-7").into_iter().next())?;
    assert_eq!((&line["trace_id"], &line["code"]), (&json!(TRACE), &json!("not_found")), "{line}");

    // One that has no name gets one, which is the same everywhere.
    let answer = server.send(&Request::post_json("/v1/events", "{"))?;
    let name = answer.header("x-request-id").context("no name")?.to_owned();
    assert_eq!(answer.json()?["request_id"], name);
    let line = wait_until("a line", PATIENCE, || lines_of(&server, &name).into_iter().next())?;
    assert_eq!(line["trace_id"], Value::Null, "{line}");
    Ok(())
}

#[test]
fn requests_keep_their_names_through_a_gateway() -> anyhow::Result<()> {
    let talking = || server().setting("GRISTMILL__TELEMETRY__FILTER", "debug");
    let mut deployment = Deployment::behind_gateway(talking(), &[Behind::all(talking())])?;
    let request = Request::get("/v1/analytics/summary?tz=Nowhere")
        .header("x-request-id", "mine-8")
        .header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-00"));
    let answer = deployment.front().send(&request)?;
    assert_eq!((answer.status, answer.header("x-request-id")), (400, Some("mine-8")));
    let role = &deployment.behind()[0];
    let line = wait_until("a line", PATIENCE, || lines_of(role, "mine-8").into_iter().next())?;
    assert_eq!(line["trace_id"], TRACE, "{line}");
    Ok(())
}

#[test]
fn no_payload_and_no_secret_is_in_the_log_at_debug() -> anyhow::Result<()> {
    let mark = "m4rk3d";
    let talking = || {
        server()
            .setting("GRISTMILL__TELEMETRY__FILTER", "debug")
            .setting("GRISTMILL__TELEMETRY__FORMAT", "json")
    };
    let mut deployment = Deployment::behind_gateway(talking(), &[Behind::all(talking())])?;
    let marked = |name: &str| format!("{mark}-{name}");
    let event = json!({
        "id": marked("id"), "user_id": marked("user"), "event_type": marked("type"),
        "session_id": marked("session"), "source": marked("source"), "page_url": marked("page"),
        "properties": {marked("key"): marked("value")},
    });
    let older = json!({"event_id": marked("id"), "user_id": marked("u"), "event_type": "click", "page_url": marked("p"), "time_stamp": marked("no-time")});
    let bad =
        json!({"event_type": 7, "user_id": marked("user"), marked("field"): [marked("value")]});
    let requests = [
        Request::post_json("/v1/events?wait=visible", event.to_string()),
        Request::post_json("/v1/events/batch?wait=visible", json!([event, bad]).to_string()),
        Request::post_json("/v1/events", bad.to_string()),
        Request::post_json("/v1/events", format!("{{\"{mark}")),
        Request::post_json("/ingest", older.to_string()),
        Request::post_json("/events", event.to_string()),
        Request::post_json("/activity", event.to_string()),
        Request::post_json(
            "/v1/analytics/funnel",
            json!({"steps": [marked("a"), marked("b")]}).to_string(),
        ),
        Request::get(&format!("/v1/analytics/users/{mark}")),
        Request::get(&format!("/v1/analytics/top?property={mark}")),
        Request::get(&format!("/v1/analytics/summary?at_least={mark}")),
        Request::get(&format!("/{mark}")),
    ];
    for request in requests {
        let request = request
            .header("x-api-key", &marked("api-key"))
            .header("authorization", &format!("Bearer {}", marked("token")))
            .header("cookie", &marked("cookie"));
        for server in [deployment.front(), deployment.processes().nth(1).context("no role")?] {
            server.send(&request)?;
        }
    }
    deployment.stop()?;
    for server in deployment.processes() {
        let log = server.log();
        assert!(log.contains("\"level\":\"DEBUG\""), "{log}");
        let lines: Vec<_> = log.lines().filter(|line| line.contains(mark)).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
    Ok(())
}
