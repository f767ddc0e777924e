//! How the tests of metrics speak to a server, and what they find there.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use gristmill_model::Timestamp;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower::Service;

use crate::support::{Answer, Listening};

/// An event that carries a weight and a cost.
pub(super) struct Parcel {
    user: &'static str,
    plan: &'static str,
    /// In seconds since 1970.
    time: i64,
    weight: f64,
    cost: i64,
}

/// The events of a server.
pub(super) const PARCELS: [Parcel; 4] = [
    Parcel { user: "ann", plan: "pro", time: 100, weight: 1.5, cost: 1 },
    Parcel { user: "bob", plan: "pro", time: 150, weight: 2.5, cost: 2 },
    Parcel { user: "bob", plan: "free", time: 200, weight: 0.5, cost: 3 },
    Parcel { user: "cid", plan: "pro", time: 300, weight: 6.0, cost: 3 },
];

impl Parcel {
    /// The event.
    pub(super) fn event(&self) -> Value {
        let metrics = json!([
            {"name": "weight", "value": self.weight, "unit": "kg"},
            {"name": "cost", "value": self.cost},
        ]);
        let carried = json!({"name": "parcel", "metrics": metrics});
        json!({
            "user_id": self.user, "event_type": "parcel", "timestamp": self.time,
            "properties": {"plan": self.plan, "custom_event": carried},
        })
    }
}

/// What calls go over.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Body>,
    _driving: Arc<JoinSet<hyper::Result<()>>>,
}

/// A connection to a server's address for gRPC.
pub(super) async fn channel(server: &Listening) -> Channel {
    let (sender, driving) = connect(server.grpc_address).await;
    Channel { sender, _driving: Arc::new(driving) }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request.map(Body::new)))
    }
}

async fn connect(address: SocketAddr) -> (SendRequest<Body>, JoinSet<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    (sender, driving)
}

async fn send(server: &Listening, request: Request<Body>) -> Answer {
    let (mut sender, _driving) = connect(server.address).await;
    Answer::read(sender.send_request(request).await.unwrap().map(Body::new)).await
}

/// Asks over HTTP.
pub(super) async fn get(server: &Listening, target: &str) -> Answer {
    let request = Request::get(format!("http://localhost{target}"));
    send(server, request.body(Body::empty()).unwrap()).await
}

/// Posts events and waits until they can be queried.
pub(super) async fn post(server: &Listening, events: &Value) {
    let request = Request::post("http://localhost/v1/events/batch?wait=visible")
        .header("content-type", "application/json");
    let answer = send(server, request.body(Body::from(events.to_string())).unwrap()).await;
    assert_eq!(answer.json()["rejected"], 0, "{}", answer.text);
}

/// Names as a message has them.
pub(super) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A time as HTTP has it.
pub(super) fn time_text(time: &prost_types::Timestamp) -> String {
    let micros = time.seconds * Timestamp::SECOND + i64::from(time.nanos / 1_000);
    Timestamp(micros).to_string()
}

/// A line of Prometheus' text format.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// Reads the text format, and fails if a line is none of it, a name comes twice with the same labels,
/// or a sample is not where its metric was announced.
pub(super) fn samples(text: &str) -> Vec<Sample> {
    let (mut samples, mut family): (Vec<Sample>, _) = (Vec::new(), "");
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "{line}, again");
            families.push(name);
            family = name;
        } else if !line.starts_with("# HELP ") {
            let sample = sample(line);
            let suffix = sample.name.strip_prefix(family);
            let suffix = suffix.unwrap_or_else(|| panic!("{line} under {family}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line} under {family}");
            let is_same =
                |other: &Sample| other.name == sample.name && other.labels == sample.labels;
            assert!(!samples.iter().any(is_same), "{line}, again");
            samples.push(sample);
        }
    }
    samples
}

fn sample(line: &str) -> Sample {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c: char| !is_of_name(c)).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.trim_start_matches(',').split_once("=\"").unwrap();
            assert!(label.chars().all(is_of_name), "{line}");
            let (value, after) = unquoted(after);
            labels.push((label.to_owned(), value));
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample { name: name.to_owned(), labels, value }
}

/// The value up to a quote, and what comes behind that.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next().unwrap().1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    panic!("no quote ends {text}")
}
