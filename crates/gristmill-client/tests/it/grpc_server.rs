//! A server of `StreamEvents` that keeps events, honours its own credit, and can be killed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use gristmill_client::StreamTarget;
use gristmill_client::proto::analytics::v1::event_ingestion_service_server::{
    EventIngestionService, EventIngestionServiceServer,
};
use gristmill_client::proto::analytics::v1::stream_events_request::Request as Sent;
use gristmill_client::proto::analytics::v1::stream_events_response::Response as Heard;
use gristmill_client::proto::analytics::v1::{
    BatchAck, EventResult, HealthResponse, IngestEventRequest, IngestEventResponse,
    IngestEventsRequest, IngestEventsResponse, RejectedEvent, StreamEventsRequest,
    StreamEventsResponse, StreamStatus,
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::support::{Kept, Noon, Numbers};

/// How the server behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Bytes under way.
    pub(crate) credit: u64,
    /// Batches between two acknowledgements.
    pub(crate) ack_every: u64,
    /// Batches, over all streams, after which a stream ends with what came last kept but not acknowledged.
    pub(crate) ends_after: Option<u64>,
    /// Rejections in one acknowledgement; more come in another one.
    pub(crate) rejections: usize,
    pub(crate) reads: Reads,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reads {
    All,
    Nothing,
    /// But acknowledges nothing.
    WithoutAck,
    /// Refuses the client.
    Refused,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            credit: 64 * 1024,
            ack_every: 1,
            ends_after: None,
            rejections: 1_000,
            reads: Reads::All,
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) kept: Kept,
    pub(crate) batches: u64,
    pub(crate) streams: u64,
    /// Connections that have ended.
    pub(crate) left: u64,
    /// Ends a stream when it is told.
    pub(crate) ends: Arc<Notify>,
    /// The most bytes that ever were under way, as the client could know.
    pub(crate) most_under_way: u64,
}

#[derive(Clone)]
struct Service {
    manner: Manner,
    state: Arc<Mutex<State>>,
}

pub(crate) struct GrpcServer {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) manner: Manner,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl GrpcServer {
    pub(crate) async fn start(manner: Manner) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let state = Arc::default();
        let mut server = Self { state, manner, address, tasks: JoinSet::new() };
        server.revive().await;
        server
    }

    pub(crate) async fn kill(&mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let service = Service { manner: self.manner, state: Arc::clone(&self.state) };
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&service.state);
                let service = EventIngestionServiceServer::new(service.clone());
                connections.spawn(async move {
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                        .await;
                    state.lock().unwrap().left += 1;
                });
            }
        });
    }

    pub(crate) fn target(&self) -> StreamTarget {
        let target = StreamTarget::at(&format!("http://{}", self.address)).unwrap();
        target.ambient(Arc::new(Noon), Arc::new(Numbers::default()))
    }
}

type Answers = mpsc::Sender<Result<StreamEventsResponse, Status>>;

impl Service {
    async fn serve(self, mut requests: Streaming<StreamEventsRequest>, answers: Answers) {
        let answer = |heard| Ok(StreamEventsResponse { response: Some(heard) });
        let credit_bytes = self.manner.credit;
        let status = StreamStatus { connected: true, credit_bytes, ..StreamStatus::default() };
        let _ = answers.send(answer(Heard::Status(status))).await;
        if self.manner.reads == Reads::Nothing {
            return answers.closed().await;
        }
        let (mut ack, mut waiting, mut bytes) = (BatchAck::default(), 0, 0);
        let ends = Arc::clone(&self.state.lock().unwrap().ends);
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = ends.notified() => {
                    let _ = answers.send(Err(Status::deadline_exceeded("no request came"))).await;
                    return;
                }
            };
            let Ok(Some(request)) = request else { return };
            bytes += request.encoded_len() as u64;
            let Some(Sent::Batch(batch)) = request.request else { continue };
            if batch.ndjson.windows(6).any(|window| window == b"poison") {
                let _ = answers.send(Err(Status::invalid_argument("it is poisoned"))).await;
                return;
            }
            assert_eq!(batch.sequence, ack.sequence + 1, "numbers go up from 1");
            ack.sequence = batch.sequence;
            let ends = {
                let mut state = self.state.lock().unwrap();
                state.batches += 1;
                state.most_under_way = state.most_under_way.max(bytes);
                keep(&mut state.kept, &batch.ndjson, &mut ack);
                self.manner.ends_after.is_some_and(|after| state.batches.is_multiple_of(after))
            };
            if ends {
                let _ = answers.send(Err(Status::unavailable("going away"))).await;
                return;
            }
            waiting += 1;
            if waiting < self.manner.ack_every || self.manner.reads == Reads::WithoutAck {
                continue;
            }
            waiting = 0;
            ack.credit_bytes = std::mem::take(&mut bytes);
            loop {
                let most = ack.rejected.len().min(self.manner.rejections);
                let rejected = ack.rejected.split_off(most);
                let (sequence, position) = (ack.sequence, ack.position.clone());
                let next = BatchAck { sequence, position, rejected, ..BatchAck::default() };
                let sent = std::mem::replace(&mut ack, next);
                if answers.send(answer(Heard::BatchAck(sent))).await.is_err() {
                    return;
                }
                if ack.rejected.is_empty() {
                    break;
                }
            }
        }
    }
}

fn keep(kept: &mut Kept, ndjson: &[u8], ack: &mut BatchAck) {
    let lines = ndjson.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (index, line) in lines.enumerate() {
        let event: Value = serde_json::from_slice(line).unwrap();
        if event["event_type"] == "bad" {
            let (index, code) = (index as i32, "invalid_event".to_owned());
            let result = EventResult { index, code, ..EventResult::default() };
            ack.rejected.push(RejectedEvent { sequence: ack.sequence, result: Some(result) });
        } else {
            kept.keep(&event);
            ack.accepted += 1;
        }
    }
    ack.position = format!("p0-{}", kept.order.len());
}

#[tonic::async_trait]
impl EventIngestionService for Service {
    type StreamEventsStream =
        Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

    async fn stream_events(
        &self,
        request: Request<Streaming<StreamEventsRequest>>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        self.state.lock().unwrap().streams += 1;
        if self.manner.reads == Reads::Refused {
            return Err(Status::unauthenticated("no such key"));
        }
        let (answers, mut heard) = mpsc::channel(4);
        let mut task = JoinSet::new();
        task.spawn(self.clone().serve(request.into_inner(), answers));
        let stream = futures_util::stream::poll_fn(move |context| {
            let _ = &task;
            heard.poll_recv(context)
        });
        Ok(Response::new(Box::pin(stream.map(|answer| answer))))
    }

    async fn ingest_event(
        &self,
        _: Request<IngestEventRequest>,
    ) -> Result<Response<IngestEventResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn ingest_events(
        &self,
        _: Request<IngestEventsRequest>,
    ) -> Result<Response<IngestEventsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn health(&self, _: Request<()>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(HealthResponse::default()))
    }
}
