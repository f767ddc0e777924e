//! A server that keeps events, unless its script says otherwise, and that can be killed.

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gristmill_client::{Client, ClientConfig};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{Kept, Noon, Numbers};

/// What the server does with one request; without any, it keeps the events.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(u16, &'static str),
    AskToWait(u16, u64),
    Cut,
    /// Keeps the events and says nothing.
    KeepAndCut,
    /// Keeps the events and is told to wait before it says so.
    Hold,
    /// Rejects every second event.
    RejectOdd,
    /// Refuses more than so many events at once, now and later.
    AtMost(usize),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) script: VecDeque<Act>,
    pub(crate) kept: Kept,
    pub(crate) requests: Vec<(HeaderMap, Bytes)>,
    at_most: Option<usize>,
}

pub(crate) struct HttpServer {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) release: Arc<Notify>,
    pub(crate) address: SocketAddr,
    tasks: JoinSet<()>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl HttpServer {
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let state = State { script: script.into_iter().collect(), ..State::default() };
        let (state, release) = (Arc::new(Mutex::new(state)), Arc::new(Notify::new()));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { state, release, address, tasks: JoinSet::new() };
        server.revive().await;
        server
    }

    /// Ends all connections at once, and takes no more.
    pub(crate) async fn kill(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Listens again, on the same port.
    pub(crate) async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (state, release) = (Arc::clone(&self.state), Arc::clone(&self.release));
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, release) = (Arc::clone(&state), Arc::clone(&release));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        act(Arc::clone(&state), Arc::clone(&release), request)
                    });
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        client_of(&self.url(), ClientConfig::default())
    }

    pub(crate) fn kept<T>(&self, read: impl FnOnce(&Kept) -> T) -> T {
        read(&self.state.lock().unwrap().kept)
    }
}

pub(crate) fn client_of(url: &str, config: ClientConfig) -> Client {
    let config = ClientConfig {
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(5),
        ..config
    };
    Client::with_ambient(url, config, Arc::new(Numbers::default()), Arc::new(Noon)).unwrap()
}

/// Failing makes hyper close the connection without an answer.
async fn act(
    state: Arc<Mutex<State>>,
    release: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Failed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let events = events_of(&head.headers, &body)?;
    let act = {
        let mut state = state.lock().unwrap();
        state.requests.push((head.headers, body));
        let act = state.script.pop_front();
        if let Some(Act::AtMost(most)) = act {
            state.at_most = Some(most);
        }
        match state.at_most {
            Some(most) if events.len() > most => Some(Act::Answer(413, "")),
            _ => act,
        }
    };
    let keep = |rejects_odd| receipt(&mut state.lock().unwrap().kept, &events, rejects_odd);
    let answer = match act {
        None | Some(Act::AtMost(_)) => Response::builder().body(keep(Odd::Kept)),
        Some(Act::RejectOdd) => Response::builder().body(keep(Odd::Rejected)),
        Some(Act::Hold) => {
            let kept = keep(Odd::Kept);
            release.notified().await;
            Response::builder().body(kept)
        }
        Some(Act::KeepAndCut) => {
            keep(Odd::Kept);
            return Err("cut".into());
        }
        Some(Act::Cut) => return Err("cut".into()),
        Some(Act::Answer(status, body)) => Response::builder().status(status).body(body.into()),
        Some(Act::AskToWait(status, seconds)) => {
            Response::builder().status(status).header("retry-after", seconds).body("".into())
        }
    };
    Ok(answer?)
}

#[derive(Clone, Copy, PartialEq)]
enum Odd {
    Kept,
    Rejected,
}

fn receipt(kept: &mut Kept, events: &[Value], odd: Odd) -> Full<Bytes> {
    let mut results = Vec::new();
    for (index, event) in events.iter().enumerate() {
        if odd == Odd::Rejected && index % 2 == 1 {
            results.push(json!({"index": index, "id": event["id"], "status": "rejected",
                                "code": "invalid_event", "message": "odd"}));
        } else {
            kept.keep(event);
            results.push(json!({"index": index, "id": event["id"], "status": "accepted"}));
        }
    }
    let rejected = results.iter().filter(|result| result["status"] == "rejected").count();
    let position = format!("p0-{}", kept.order.len());
    json!({"accepted": events.len() - rejected, "rejected": rejected, "position": position,
           "results": results})
    .to_string()
    .into()
}

fn events_of(headers: &HeaderMap, body: &Bytes) -> Result<Vec<Value>, Failed> {
    let mut text = String::new();
    match headers.get(header::CONTENT_ENCODING) {
        Some(_) => flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text)?,
        None => (&body[..]).read_to_string(&mut text)?,
    };
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
