//! The client against a small server that answers as a script says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gristmill_client::{BatchFormat, Client, ClientConfig, ClientError, WaitFor};
use gristmill_model::Entropy;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

struct NoEntropy;

impl Entropy for NoEntropy {
    fn next_u128(&self) -> u128 {
        0
    }
}

/// What the server does with one request.
enum Act {
    Answer(u16, &'static str),
    AskToWait(u16, u64),
    Cut,
}

#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    seen: Vec<(String, Bytes)>,
}

struct TestServer {
    url: String,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

impl TestServer {
    async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let script = Script { acts: acts.into_iter().collect(), seen: Vec::new() };
        let script = Arc::new(Mutex::new(script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&script);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| act(Arc::clone(&script), request));
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, script, _tasks: tasks }
    }

    fn client(&self, retries: u32) -> Client {
        let config = ClientConfig {
            retries,
            first_backoff: Duration::from_millis(1),
            longest_backoff: Duration::from_millis(5),
            ..ClientConfig::default()
        };
        Client::new(&self.url, config, Arc::new(NoEntropy)).unwrap()
    }

    fn seen(&self) -> Vec<(String, Bytes)> {
        self.script.lock().unwrap().seen.clone()
    }
}

/// Failing makes hyper close the connection without an answer.
async fn act(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let target = request.uri().to_string();
    let body = request.into_body().collect().await?.to_bytes();
    let act = {
        let mut script = script.lock().unwrap();
        script.seen.push((target, body));
        script.acts.pop_front().unwrap_or(Act::Answer(500, "the script has ended"))
    };
    let response = match act {
        Act::Answer(status, body) => Response::builder().status(status).body(body.into()),
        Act::AskToWait(status, seconds) => {
            Response::builder().status(status).header("retry-after", seconds).body("".into())
        }
        Act::Cut => return Err("cut".into()),
    };
    Ok::<_, Infallible>(response?).map_err(Into::into)
}

const RECEIPT: &str = r#"{"accepted":1,"rejected":1,"position":"p0-7","results":[
    {"index":0,"id":"a","status":"stored"},
    {"index":1,"id":"b","status":"rejected","code":"invalid_event","message":"no type"}]}"#;

#[tokio::test]
async fn the_same_bytes_are_sent_until_there_is_an_answer() {
    let server = TestServer::start([
        Act::Answer(503, ""),
        Act::Cut,
        Act::Answer(429, ""),
        Act::Answer(504, ""),
        Act::Answer(200, RECEIPT),
    ])
    .await;
    let batch = Bytes::from_static(b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
    let receipt = server
        .client(8)
        .ingest(batch.clone(), BatchFormat::Ndjson, WaitFor::Visible)
        .await
        .unwrap();
    assert_eq!((receipt.accepted, receipt.rejected), (1, 1));
    assert_eq!((receipt.position.as_str(), receipt.retries), ("p0-7", 4));
    assert_eq!((receipt.count("stored"), receipt.count("rejected")), (1, 1));
    assert_eq!(receipt.results[1].message.as_deref(), Some("no type"));
    let expected = ("/v1/events/batch?wait=visible".to_owned(), batch);
    assert_eq!(server.seen(), vec![expected; 5]);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let server = TestServer::start([Act::AskToWait(503, 1), Act::Answer(200, RECEIPT)]).await;
    let started = tokio::time::Instant::now();
    let batch = Bytes::from_static(b"[]");
    let receipt =
        server.client(1).ingest(batch, BatchFormat::Json, WaitFor::Durable).await.unwrap();
    assert_eq!(receipt.retries, 1);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_final_error_is_not_repeated_and_is_told_whole() {
    let body = r#"{"status":413,"code":"too_large","detail":"split the batch"}"#;
    let server = TestServer::start([Act::Answer(413, body)]).await;
    let batch = Bytes::from_static(b"[]");
    let error = server.client(8).ingest(batch, BatchFormat::Json, WaitFor::Durable).await;
    match error {
        Err(ClientError::Refused { status: 413, code, message, .. }) => {
            assert_eq!((code.as_str(), message.as_str()), ("too_large", "split the batch"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn retries_are_bounded() {
    let server = TestServer::start([Act::Cut, Act::Cut, Act::Cut, Act::Answer(200, "{}")]).await;
    let error = server.client(2).get_json::<serde_json::Value>("/stats").await;
    assert!(matches!(error, Err(ClientError::Unreachable { .. })), "{error:?}");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_batch_of_bad_events_is_a_receipt() {
    let body =
        r#"{"accepted":0,"rejected":1,"position":"","results":[{"index":0,"status":"rejected"}]}"#;
    let problem = r#"{"status":422,"code":"invalid_event","detail":"no"}"#;
    let server = TestServer::start([Act::Answer(422, body), Act::Answer(422, problem)]).await;
    let client = server.client(0);
    let send = || client.ingest(Bytes::from_static(b"{}"), BatchFormat::Ndjson, WaitFor::Durable);
    assert_eq!(send().await.unwrap().rejected, 1);
    assert!(matches!(send().await, Err(ClientError::Refused { status: 422, .. })));
}

#[tokio::test]
async fn json_goes_and_comes() {
    let server = TestServer::start([Act::Answer(200, "{\"n\":3}"), Act::Answer(200, "{}")]).await;
    let client = server.client(0);
    let answer: serde_json::Value =
        client.post_json("/v1/analytics/funnel", &serde_json::json!({"steps": []})).await.unwrap();
    assert_eq!(answer["n"], 3);
    client.wait_visible("p0-7").await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0], ("/v1/analytics/funnel".to_owned(), Bytes::from_static(b"{\"steps\":[]}")));
    assert!(seen[1].0.ends_with("&at_least=p0-7"), "{}", seen[1].0);
}

#[tokio::test]
async fn addresses_are_checked() {
    let new = |url| Client::new(url, ClientConfig::default(), Arc::new(NoEntropy));
    assert_eq!(new("http://127.0.0.1:8080/").unwrap().url(), "http://127.0.0.1:8080");
    for bad in ["127.0.0.1:8080", "ftp://example.com", "http://x/?y", "http://", ""] {
        assert!(matches!(new(bad), Err(ClientError::Url { .. })), "{bad}");
    }
}
