//! Questions asked live.

use axum::body::Body;
use gristmill_model::{Positions, limits};
use gristmill_server::ServerConfig;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Answer, Api, Listening, PATIENCE, post, status_of};

const SUMMARY: &str = "/v1/analytics/summary";
const FUNNEL: &str = "/v1/analytics/funnel";
const STEPS: &str = r#"{"steps": [{"event_type": "view"}, {"event_type": "buy"}]}"#;

/// Where a stream comes from.
enum Source {
    Body(Body),
    Socket(TcpStream),
}

/// A stream of server-sent events, read only when the next one is asked for.
struct Live {
    headers: HeaderMap,
    source: Source,
    text: String,
}

/// One event.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<Positions>,
    data: Value,
}

impl Event {
    fn total(&self) -> u64 {
        self.data["total_events"].as_u64().unwrap_or_else(|| panic!("{self:?}"))
    }

    fn id(&self) -> String {
        self.id.as_ref().unwrap().to_string()
    }
}

impl Live {
    async fn open(api: &Api, request: http::request::Builder, body: impl Into<Body>) -> Self {
        let request = request.header("accept", "text/event-stream");
        let response = api.open(request.body(body.into()).unwrap()).await;
        if response.status() != StatusCode::OK {
            panic!("{}", Answer::read(response).await.text);
        }
        let (head, body) = response.into_parts();
        Self { headers: head.headers, source: Source::Body(body), text: String::new() }
    }

    async fn get(api: &Api, target: &str) -> Self {
        Self::open(api, Request::get(target), Body::empty()).await
    }

    async fn resume(api: &Api, target: &str, id: &str) -> Self {
        Self::open(api, Request::get(target).header("last-event-id", id), Body::empty()).await
    }

    /// The same over a socket. A server of HTTP/1.0 does not cut its answer in chunks.
    async fn connect(server: &Listening, target: &str) -> Self {
        let mut stream = server.connect().await;
        let request = format!("GET {target} HTTP/1.0\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let source = Source::Socket(stream);
        let mut live = Self { headers: HeaderMap::new(), source, text: String::new() };
        let head = live.until("\r\n\r\n").await.unwrap();
        assert_eq!(status_of(&head), 200, "{head}");
        live
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.event()).await.expect("there is no event")
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let lines = block.lines().filter_map(|line| line.strip_prefix(name));
                let values: Vec<_> = lines.filter_map(|line| line.strip_prefix(": ")).collect();
                (!values.is_empty()).then(|| values.join("\n"))
            };
            let Some(name) = field("event") else { continue };
            let id = field("id").map(|id| id.parse().unwrap());
            let data = field("data").expect("an event without data");
            return Some(Event { name, id, data: serde_json::from_str(&data).unwrap() });
        }
    }

    async fn revision(&mut self) -> Event {
        let event = self.next().await.expect("the stream has ended");
        assert_eq!(event.name, "revision", "{event:?}");
        event
    }

    /// The next lines up to an empty one.
    async fn block(&mut self) -> Option<String> {
        self.until("\n\n").await
    }

    async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once(end) {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let more = timeout(PATIENCE, self.source.read()).await.expect("nothing comes");
            self.text.push_str(&more?);
        }
    }
}

impl Source {
    async fn read(&mut self) -> Option<String> {
        let bytes = match self {
            Source::Body(body) => body.frame().await?.unwrap().into_data().unwrap().to_vec(),
            Source::Socket(stream) => {
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                buffer.truncate(length);
                buffer
            }
        };
        (!bytes.is_empty()).then(|| String::from_utf8(bytes).unwrap())
    }
}

async fn ingest(api: &Api, event_type: &str) {
    api.fill(&json!([{"user_id": "ann", "event_type": event_type}])).await;
}

/// How often live questions were answered so far.
async fn answers(api: &Api) -> u64 {
    let metrics = api.get("/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("gristmill_live_answers_total "));
    line.unwrap().parse().unwrap()
}

/// An answer without what it says of itself.
fn lasting(mut answer: Value) -> Value {
    answer["metadata"]["processing_time"].take();
    answer
}

fn in_target(question: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    format!("question={}", question.bytes().map(encode).collect::<String>())
}

#[tokio::test]
async fn stream_begins_with_the_plain_answer_and_each_change_is_a_revision() {
    let api = Api::new();
    ingest(&api, "view").await;
    let mut live = Live::get(&api, SUMMARY).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(live.headers[name], value);
    }
    assert!(live.block().await.unwrap().starts_with("retry: "));
    let mut before = live.revision().await;
    assert_eq!(lasting(before.data.clone()), lasting(api.get(SUMMARY).await.json()));
    for _ in 0..3 {
        ingest(&api, "buy").await;
        let next = live.revision().await;
        assert_eq!(lasting(next.data.clone()), lasting(api.get(SUMMARY).await.json()));
        let (old, new) = (before.id.as_ref().unwrap(), next.id.as_ref().unwrap());
        assert!(new.covers(old) && new != old, "{old} {new}");
        before = next;
    }
    // The id is a position like any other.
    let target = format!("{SUMMARY}?at_least={}", before.id());
    assert_eq!(api.get(&target).await.json()["total_events"], 4);
}

#[tokio::test]
async fn every_question_can_be_asked_live() {
    let api = Api::new();
    ingest(&api, "view").await;
    let funnel = in_target(STEPS);
    for target in [
        SUMMARY.to_owned(),
        "/v1/analytics/timeseries".to_owned(),
        "/v1/analytics/top?property=event_type".to_owned(),
        "/v1/analytics/users/ann".to_owned(),
        format!("{FUNNEL}?{funnel}"),
        format!("/v1/analytics/retention?{}", in_target("{}")),
    ] {
        let mut live = Live::get(&api, &target).await;
        let first = live.revision().await;
        assert_eq!(lasting(first.data), lasting(api.get(&target).await.json()), "{target}");
        let view = |user: &str| json!({"user_id": user, "event_type": "view"});
        api.fill(&json!([view("ann"), view(&target)])).await;
        let now = lasting(api.get(&target).await.json());
        // The two events may be committed one after the other.
        while lasting(live.revision().await.data) != now {}
    }
}

#[tokio::test]
async fn body_of_a_question_may_stand_in_the_target() {
    let api = Api::new();
    ingest(&api, "view").await;
    let posted = api.post(FUNNEL, STEPS).await.json();
    let target = format!("{FUNNEL}?{}&event_type=view", in_target(STEPS));
    let got = api.get(&target).await;
    assert_eq!(lasting(got.json()), lasting(posted.clone()), "{target}");
    assert!(api.get_csv(&target).await.text.starts_with("name,users"));
    for (query, named) in [
        ("", "`question` is missing"),
        ("question=%7B", "`question` is no question: the body is not JSON"),
        ("question=[]", "must be a JSON object"),
        ("question=%7B%7D", "`steps` is missing"),
        ("question=%7B%7D&question=%7B%7D", "`question` is given more than once"),
        ("question=%7B%7D&x=1", "`x`"),
    ] {
        let answer = api.get(&format!("{FUNNEL}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{}", answer.text);
    }

    let request = Request::post(FUNNEL).header("content-type", "application/json");
    let mut live = Live::open(&api, request, STEPS).await;
    assert_eq!(lasting(live.revision().await.data), lasting(posted));
    ingest(&api, "buy").await;
    assert_eq!(live.revision().await.data["steps"][1]["users"], 1);
}

#[tokio::test]
async fn commits_that_change_nothing_are_not_told() {
    let api = Api::new();
    let mut live = Live::get(&api, &format!("{SUMMARY}?event_type=buy")).await;
    assert_eq!(live.revision().await.total(), 0);
    for total in 1..=2 {
        let before = answers(&api).await;
        ingest(&api, "view").await;
        let asked_again = async {
            while answers(&api).await == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asked_again).await.expect("the commit is not looked at");
        ingest(&api, "buy").await;
        assert_eq!(live.revision().await.total(), total);
    }
}

#[tokio::test]
async fn late_event_corrects_an_earlier_revision() {
    let api = Api::new();
    let range = "start=2025-03-01T00:00:00Z&end=2025-03-03T00:00:00Z";
    let mut live = Live::get(&api, &format!("/v1/analytics/timeseries?{range}")).await;
    for (time, days) in [
        (None, [0, 0]),
        (Some("2025-03-02T12:00:00Z"), [0, 1]),
        (Some("2025-03-01T12:00:00Z"), [1, 1]),
    ] {
        if let Some(time) = time {
            api.fill(&json!([{"event_type": "t", "timestamp": time}])).await;
        }
        let revision = live.revision().await;
        let values: Vec<_> = (0..2).map(|day| &revision.data["series"][day]["value"]).collect();
        assert_eq!(values, [&json!(days[0]), &json!(days[1])], "{time:?}");
    }
}

#[tokio::test]
async fn client_that_comes_again_is_told_what_it_missed_and_no_more() {
    let api = Api::new();
    ingest(&api, "a").await;
    let first = Live::get(&api, SUMMARY).await.revision().await;

    // Nothing has changed, so the first revision is about the next event.
    let mut again = Live::resume(&api, SUMMARY, &first.id()).await;
    let in_parameter = format!("{SUMMARY}?last_event_id={}", first.id());
    let mut by_parameter = Live::get(&api, &in_parameter).await;
    ingest(&api, "b").await;
    let second = again.revision().await;
    assert_eq!((second.total(), by_parameter.revision().await.total()), (2, 2));

    // The browser's header is newer than the parameter that it repeats.
    let mut newer = Live::resume(&api, &in_parameter, &second.id()).await;
    // Something has changed, so the revision comes at once.
    for behind in [&first.id(), "", "p0-99999"] {
        assert_eq!(Live::resume(&api, SUMMARY, behind).await.revision().await.total(), 2);
    }
    ingest(&api, "c").await;
    assert_eq!(newer.revision().await.total(), 3);
}

#[tokio::test]
async fn first_revision_includes_what_it_must() {
    let api = Api::new();
    let mut other = Live::get(&api, SUMMARY).await;
    other.revision().await;
    for total in 1..=3 {
        // The topic rests after the last event and has not seen this one yet.
        let answer = api.post("/v1/events", r#"{"event_type": "t"}"#).await.json();
        let target = format!("{SUMMARY}?at_least={}", answer["position"].as_str().unwrap());
        assert_eq!(Live::get(&api, &target).await.revision().await.total(), total);
    }
}

#[tokio::test]
async fn slow_reader_gets_the_newest_state() {
    let api = Api::new();
    let mut slow = Live::get(&api, SUMMARY).await;
    let mut quick = Live::get(&api, SUMMARY).await;
    assert_eq!(quick.revision().await.total(), 0);
    for total in 1..=5 {
        ingest(&api, "t").await;
        assert_eq!(quick.revision().await.total(), total);
    }
    assert_eq!(slow.revision().await.total(), 5);
    ingest(&api, "t").await;
    assert_eq!(slow.revision().await.total(), 6);
}

#[tokio::test]
async fn equal_questions_are_asked_once() {
    let api = Api::new();
    let mut streams = Vec::new();
    for query in ["event_type=a&start=1", "start=1&event_type=a", "start=1&event_type=a&at_least="]
    {
        streams.push(Live::get(&api, &format!("{SUMMARY}?{query}")).await);
    }
    for live in &mut streams {
        live.revision().await;
    }
    assert_eq!(answers(&api).await, 1);
    let mut other = Live::get(&api, &format!("{SUMMARY}?event_type=b&start=1")).await;
    other.revision().await;
    assert_eq!(answers(&api).await, 2);
    // Nobody listens any more, so nobody asks; a new subscription does.
    drop(streams);
    Live::get(&api, &format!("{SUMMARY}?event_type=a&start=1")).await.revision().await;
    assert_eq!(answers(&api).await, 3);
}

#[tokio::test]
async fn subscriptions_are_limited_and_room_comes_back() {
    let api = Api::new();
    let mut open = Vec::new();
    for _ in 0..limits::LIVE_SUBSCRIPTIONS {
        open.push(Live::get(&api, SUMMARY).await);
    }
    let request = Request::get(SUMMARY).header("accept", "text/event-stream");
    let refused = api.open(request.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(Answer::read(refused).await.json()["code"], "overloaded");
    assert_eq!(api.get(SUMMARY).await.status, 200);
    let metrics = api.get("/metrics").await.text;
    let line = format!("\ngristmill_live_subscriptions {}\n", limits::LIVE_SUBSCRIPTIONS);
    assert!(metrics.contains(&line), "{metrics}");
    open.pop();
    Live::get(&api, SUMMARY).await.revision().await;
}

#[tokio::test]
async fn bad_questions_are_refused_before_the_stream_begins() {
    let api = Api::new();
    let old = json!({"event_type": "t", "timestamp": "2000-01-01T00:00:00Z"});
    api.fill(&json!([old, {"event_type": "t"}])).await;
    let get = |target: &str| Request::get(format!("/v1/analytics/{target}")).body(Body::empty());
    let post = |body: &'static str| {
        let request = Request::post(FUNNEL).header("content-type", "application/json");
        request.body(Body::from(body))
    };
    for (request, status, named) in [
        (get("summary?nonsense=1"), 400, "`nonsense`"),
        (get("summary?last_event_id=soon"), 400, "`last_event_id`"),
        (get("summary?at_least=p0-99999"), 400, "`at_least`"),
        (get("timeseries?tz=Mars/Base"), 400, "Mars/Base"),
        (get("timeseries?granularity=minute"), 400, ""),
        (get("funnel"), 400, "`question` is missing"),
        (get("funnel?question=%7B%22steps%22:1%7D"), 400, "`steps`"),
        (post(r#"{"steps": []}"#), 400, "`steps`"),
        (post("{"), 400, "the body is not JSON"),
        (Request::post(FUNNEL).body(Body::from(STEPS)), 415, "content-type"),
        (
            Request::get(SUMMARY).header("last-event-id", "x").body(Body::empty()),
            400,
            "no position",
        ),
        (Request::post(SUMMARY).body(Body::empty()), 405, ""),
    ] {
        let mut request = request.unwrap();
        let what = format!("{} {}", request.method(), request.uri());
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let answer = api.send(request).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{}", answer.text);
    }
}

#[tokio::test]
async fn question_that_loses_its_answer_says_why_and_ends() {
    let api = Api::new();
    ingest(&api, "t").await;
    let mut live = Live::get(&api, "/v1/analytics/timeseries?granularity=minute").await;
    live.revision().await;
    api.fill(&json!([{"event_type": "t", "timestamp": "2000-01-01T00:00:00Z"}])).await;
    let event = live.next().await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["status"]), ("problem", &json!(400)), "{event:?}");
    assert_eq!(event.data["code"], "invalid_argument");
    assert!(live.next().await.is_none());
}

#[tokio::test]
async fn quiet_streams_stay_open_and_end_with_the_server() {
    let write_timeout = std::time::Duration::from_millis(200);
    let drain_timeout = PATIENCE * 2;
    let config = ServerConfig { write_timeout, drain_timeout, ..ServerConfig::default() };
    let mut server = Listening::new(config);
    let mut live = Live::connect(&server, SUMMARY).await;
    assert_eq!(live.revision().await.total(), 0);
    // Longer than the client may leave an answer unread, if nothing were sent to it.
    for _ in 0..4 {
        assert_eq!(live.block().await.as_deref(), Some(": heartbeat"));
    }
    server.exchange(&post("/v1/events", "", r#"{"event_type":"t"}"#)).await;
    assert_eq!(live.revision().await.total(), 1);

    let mut other = Live::connect(&server, SUMMARY).await;
    server.shutdown.cancel();
    while live.next().await.is_some() {}
    while other.next().await.is_some() {}
    timeout(PATIENCE, server.running.join_next()).await.unwrap().unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn answers_say_what_they_took() {
    let api = Api::new();
    let event = api.post("/v1/events", r#"{"event_type": "t"}"#).await.json();
    let position = event["position"].as_str().unwrap();
    let mut of_target = Vec::new();
    for target in [SUMMARY.to_owned(), format!("{SUMMARY}?at_least={position}")] {
        of_target.push(api.get(&target).await);
    }
    of_target.push(api.post(FUNNEL, STEPS).await);
    of_target.push(api.get("/v1/analytics/summary?nonsense=1").await);
    for answer in of_target {
        let timing = answer.header("server-timing");
        let parts: Vec<_> = timing.split(", ").map(|part| part.split_once(';').unwrap()).collect();
        let names: Vec<_> = parts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["wait", "query", "rows", "parts", "cache"], "{timing}");
        let is_time = |value: &str| {
            value.strip_prefix("dur=").is_some_and(|millis| millis.parse::<f64>().is_ok())
        };
        assert!(parts[..2].iter().all(|(_, value)| is_time(value)), "{timing}");
        assert!(parts[2..].iter().all(|(_, value)| value.starts_with("desc=")), "{timing}");
    }
}
