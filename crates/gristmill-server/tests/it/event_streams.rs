//! `StreamEvents`: order, acknowledgements, credits, and how a stream ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use gristmill_ingest::IngestConfig;
use gristmill_model::{Positions, limits};
use gristmill_proto::analytics::v1::event_ingestion_service_client::EventIngestionServiceClient;
use gristmill_proto::analytics::v1::stream_events_request::Request;
use gristmill_proto::analytics::v1::stream_events_response::Response;
use gristmill_proto::analytics::v1::{
    BatchAck, Event, EventBatch, IngestEventResponse, StreamConfig, StreamEventsRequest,
    StreamEventsResponse, StreamStatus,
};
use gristmill_server::ServerConfig;
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::calling::{Caller, framed, slow_body};
use crate::channel::Channel;
use crate::ingest_calls::event;
use crate::support::{Listening, PATIENCE, Platform, ingest_config};

/// A stream that is open, whose first answer was read.
struct Open {
    requests: mpsc::Sender<StreamEventsRequest>,
    answers: Streaming<StreamEventsResponse>,
    credit: u64,
}

impl Open {
    async fn over(channel: Channel) -> Self {
        let (requests, mut sent) = mpsc::channel::<StreamEventsRequest>(1);
        let sending = stream::poll_fn(move |context| sent.poll_recv(context));
        let mut client = EventIngestionServiceClient::new(channel);
        let answers = client.stream_events(sending).await.unwrap().into_inner();
        let mut open = Self { requests, answers, credit: 0 };
        match open.answer().await {
            Response::Status(status) if status.connected => open.credit = status.credit_bytes,
            other => panic!("the first answer is {other:?}"),
        }
        open
    }

    async fn to(server: &Listening) -> Self {
        Self::over(Channel::to(server.grpc_address).await).await
    }

    async fn send(&self, request: Request) {
        self.requests.send(StreamEventsRequest { request: Some(request) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<StreamEventsResponse>, Status> {
        timeout(PATIENCE, self.answers.message()).await.expect("no answer comes")
    }

    async fn answer(&mut self) -> Response {
        self.next().await.unwrap().expect("the stream has ended").response.unwrap()
    }

    async fn event_response(&mut self) -> IngestEventResponse {
        match self.answer().await {
            Response::EventResponse(response) => response,
            other => panic!("expected what became of an event, not {other:?}"),
        }
    }

    async fn status(&mut self) -> StreamStatus {
        match self.answer().await {
            Response::Status(status) => status,
            other => panic!("expected a status, not {other:?}"),
        }
    }

    async fn ack(&mut self) -> BatchAck {
        match self.answer().await {
            Response::BatchAck(ack) => ack,
            other => panic!("expected an acknowledgement, not {other:?}"),
        }
    }

    /// The status that the stream ends with.
    async fn end(mut self) -> Status {
        loop {
            match self.next().await {
                Err(status) => return status,
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
            }
        }
    }
}

fn batch(sequence: u64, ndjson: &str) -> Request {
    let ndjson = ndjson.to_owned().into();
    Request::Batch(EventBatch { sequence, events: Vec::new(), ndjson })
}

fn line(id: &str, user: &str) -> String {
    format!("{{\"id\":\"{id}\",\"user_id\":\"{user}\",\"event_type\":\"t\"}}\n")
}

async fn total(server: &Listening, position: &str) -> u64 {
    let answer = server.get(&format!("/v1/analytics/summary?at_least={position}")).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["total_events"].as_u64().unwrap()
}

#[tokio::test]
async fn single_events_are_answered_in_order_and_a_client_that_ends_has_all_answers() {
    let server = Listening::new(ServerConfig::default());
    let Open { requests, mut answers, .. } = Open::to(&server).await;
    let count = 500;
    let sending = async move {
        for number in 0..count {
            let name = if number % 100 == 7 { "" } else { "t" };
            let event = event(&format!("e{number}"), &format!("u{}", number % 9), name);
            let request = StreamEventsRequest { request: Some(Request::Event(event)) };
            requests.send(request).await.unwrap();
        }
        // Here the client ends its side.
    };
    let receiving = async {
        let mut responses = Vec::new();
        while let Some(answer) = timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
            match answer.response.unwrap() {
                Response::EventResponse(response) => responses.push(response),
                other => panic!("{other:?}"),
            }
        }
        responses
    };
    let ((), responses) = tokio::join!(sending, receiving);
    assert_eq!(responses.len(), count);
    for (number, response) in responses.iter().enumerate() {
        assert_eq!(response.event_id, format!("e{number}"));
        assert_eq!(response.success, number % 100 != 7, "{response:?}");
    }
    assert_eq!(responses[7].validation_errors[0].field, "event_type");
    // Each answer's position covers its event; all of them together cover all.
    let mut all = Positions::start();
    for response in responses.iter().filter(|response| response.success) {
        all.advance_all(&response.position.parse().unwrap());
    }
    assert_eq!(total(&server, &all.to_string()).await, 495);
}

#[tokio::test]
async fn batches_are_acknowledged_with_what_was_rejected_and_credits_come_back() {
    let server = Listening::new(ServerConfig::default());
    let mut open = Open::to(&server).await;
    assert!(open.credit > 0);
    let typed = vec![event("d", "v", "t"), event("e", "v", ""), event("a", "u", "t")];
    let requests = [
        batch(1, &format!("{}no json\n{}", line("a", "u"), line("b", "u"))),
        Request::Batch(EventBatch { sequence: 2, events: typed, ..EventBatch::default() }),
        batch(7, &line("c", "u")),
        batch(8, ""),
    ];
    let mut bytes = 0;
    for request in requests {
        let request = StreamEventsRequest { request: Some(request) };
        bytes += request.encoded_len() as u64;
        open.requests.send(request).await.unwrap();
    }
    let mut total_ack = BatchAck::default();
    while total_ack.sequence < 8 {
        let ack = open.ack().await;
        assert!(ack.sequence >= total_ack.sequence, "{ack:?}");
        total_ack.sequence = ack.sequence;
        total_ack.accepted += ack.accepted;
        total_ack.credit_bytes += ack.credit_bytes;
        total_ack.rejected.extend(ack.rejected);
        total_ack.position = ack.position;
    }
    assert_eq!((total_ack.accepted, total_ack.credit_bytes), (5, bytes));
    let rejected: Vec<_> = total_ack
        .rejected
        .iter()
        .map(|rejected| {
            let result = rejected.result.as_ref().unwrap();
            (rejected.sequence, result.index, result.code.as_str())
        })
        .collect();
    assert_eq!(rejected, [(1, 1, "invalid_body"), (2, 1, "invalid_event")]);
    // One was sent twice, and counts once.
    assert_eq!(total(&server, &total_ack.position).await, 4);
}

#[tokio::test]
async fn what_a_broken_stream_left_unacknowledged_is_sent_again_and_counts_once() {
    let server = Listening::new(ServerConfig::default());
    let lines: String = (0..1_000).map(|n| line(&format!("e{n}"), &format!("u{n}"))).collect();
    let open = Open::to(&server).await;
    open.send(batch(1, &lines)).await;
    drop(open);
    let mut open = Open::to(&server).await;
    open.send(batch(1, &lines)).await;
    let ack = open.ack().await;
    assert_eq!((ack.sequence, ack.accepted), (1, 1_000));
    assert_eq!(total(&server, &ack.position).await, 1_000);
}

#[tokio::test]
async fn many_rejections_come_in_messages_that_clients_take() {
    let server = Listening::new(ServerConfig::default());
    let mut open = Open::to(&server).await;
    open.send(batch(1, &"x\n".repeat(9_999))).await;
    let mut rejected = 0;
    while rejected < 9_999 {
        let ack = open.ack().await;
        assert_eq!((ack.sequence, ack.accepted), (1, 0));
        assert!(ack.encoded_len() < 1 << 20);
        rejected += ack.rejected.len();
    }
    open.send(batch(2, &"x\n".repeat(10_001))).await;
    let status = open.end().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn requests_that_make_no_sense_end_the_stream_after_what_came_before() {
    let server = Listening::new(ServerConfig::default());
    let both = EventBatch { sequence: 2, events: vec![Event::default()], ndjson: "x".into() };
    let slow = prost_types::Duration { seconds: 3_600, nanos: 0 };
    for (wrong, field) in [
        (batch(1, &line("b", "u")), "batch.sequence"),
        (Request::Batch(both), "batch.ndjson"),
        (
            Request::Config(StreamConfig { batch_size: -1, ..StreamConfig::default() }),
            "config.batch_size",
        ),
        (
            Request::Config(StreamConfig { flush_interval: Some(slow), ..StreamConfig::default() }),
            "config.flush_interval",
        ),
    ] {
        let mut open = Open::to(&server).await;
        open.send(batch(1, &line("a", "u"))).await;
        open.send(wrong).await;
        assert_eq!(open.ack().await.sequence, 1);
        let status = open.end().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
}

#[tokio::test]
async fn a_group_may_wait_for_more_events_and_is_answered_when_it_is_full() {
    let server = Listening::new(ServerConfig::default());
    let mut open = Open::to(&server).await;
    let flush_interval = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    open.send(Request::Config(StreamConfig { batch_size: 3, flush_interval })).await;
    assert!(matches!(open.answer().await, Response::Status(_)));
    for id in ["a", "b", "c"] {
        open.send(Request::Event(event(id, "u", "t"))).await;
    }
    let mut positions = Vec::new();
    for id in ["a", "b", "c"] {
        let response = open.event_response().await;
        assert_eq!(response.event_id, id);
        positions.push(response.position);
    }
    assert!(positions.iter().all(|position| *position == positions[0]), "{positions:?}");
    // A batch does not overtake the events before it.
    open.send(Request::Event(event("d", "u", "t"))).await;
    open.send(batch(1, &line("e", "u"))).await;
    assert_eq!(open.event_response().await.event_id, "d");
    assert_eq!(open.ack().await.sequence, 1);
}

#[tokio::test]
async fn a_server_that_stops_acknowledges_what_it_took_and_sends_the_client_away() {
    let server = Listening::new(ServerConfig::default());
    let mut open = Open::to(&server).await;
    open.send(Request::Event(event("a", "u", "t"))).await;
    assert!(open.event_response().await.success);
    server.shutdown.cancel();
    let status = open.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "not_ready");
    assert!(details.retry_info().is_some());
}

#[tokio::test]
async fn a_stream_on_which_nothing_comes_is_ended() {
    let keep_alive_timeout = Duration::from_secs(1);
    let server = Listening::new(ServerConfig { keep_alive_timeout, ..ServerConfig::default() });
    let status = Open::to(&server).await.end().await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("connect again"), "{status}");
}

#[tokio::test]
async fn a_store_that_is_behind_holds_streams_up_in_bounded_memory() {
    let config = IngestConfig { max_backlog_records: 3, ..ingest_config() };
    let platform = Platform::stalled(config);
    let ingest = platform.services.ingest.clone();
    let server = Listening::over(ServerConfig::default(), platform);
    let open = Open::to(&server).await;
    // The server takes no more until it ends the stream.
    let padding = "x".repeat(64 * 1024);
    let (mut sent, mut held) = (0, 0);
    for number in 0..1_000_u64 {
        let line = format!("{{\"id\":\"e{number}\",\"event_type\":\"t\",\"x\":\"{padding}\"}}\n");
        let request = StreamEventsRequest { request: Some(batch(number + 1, &line)) };
        let sending = timeout(PATIENCE, open.requests.send(request)).await;
        held = held.max(ingest.stats().admission.in_flight_bytes);
        if sending.expect("the stream does not end").is_err() {
            break;
        }
        sent += line.len();
    }
    assert!(sent < 8 << 20, "{sent} bytes were taken");
    assert!(held < 1 << 20, "{held} bytes were held");
    // In the end the client is told to come again, after what was taken was acknowledged.
    let status = open.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "overloaded");
}

#[tokio::test]
async fn a_client_that_does_not_read_has_its_answers_when_it_does() {
    let server = Listening::new(ServerConfig::default());
    let mut open = Open::over(Channel::with_window(server.grpc_address, 1_024).await).await;
    // As many as may be under way; of more small ones HTTP/2 itself takes no more.
    let sent = 4_000;
    for number in 0..sent {
        open.send(Request::Event(event(&format!("e{number}"), "u", "t"))).await;
    }
    for number in 0..sent {
        assert_eq!(open.event_response().await.event_id, format!("e{number}"));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_held_up_however_long_its_answers_are() {
    let server = Listening::new(ServerConfig::default());
    let mut open = Open::over(Channel::with_window(server.grpc_address, 64 * 1024).await).await;
    // Every line is rejected, which takes about fifty times as many bytes to tell as it has.
    let (lines, most) = ("x\n".repeat(5_000), 400);
    assert!(most * lines.len() < open.credit as usize, "credit alone would let all of it pass");
    let mut sent = 0;
    while sent < most {
        let request = StreamEventsRequest { request: Some(batch(sent as u64 + 1, &lines)) };
        // Who waits longer than this waits for the server. If it was only slow, less was sent.
        if timeout(Duration::from_secs(1), open.requests.send(request)).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(
        (1..most / 4).contains(&sent),
        "{sent} batches were taken from a client that reads nothing"
    );
    let mut told = BatchAck::default();
    let mut rejected = 0;
    while told.sequence < sent as u64 || rejected < sent * 5_000 {
        told = open.ack().await;
        rejected += told.rejected.len();
    }
    assert_eq!((told.sequence, rejected), (sent as u64, sent * 5_000));
}

#[tokio::test]
async fn a_status_tells_how_many_events_are_pending() {
    let gate = Arc::new(Semaphore::new(0));
    let platform = Platform::held(ingest_config(), &gate);
    let server = Listening::over(ServerConfig::default(), platform);
    let mut open = Open::to(&server).await;
    open.send(batch(1, &format!("{}\n{}", line("a", "u"), line("b", "u")))).await;
    let events = vec![event("c", "u", "t")];
    open.send(Request::Batch(EventBatch { sequence: 2, events, ..EventBatch::default() })).await;
    open.send(Request::Config(StreamConfig::default())).await;
    assert_eq!(open.status().await.pending_events, 3);
    gate.add_permits(1);
    while open.ack().await.sequence < 2 {}
    open.send(Request::Config(StreamConfig::default())).await;
    assert_eq!(open.status().await.pending_events, 0);
}

#[tokio::test]
async fn large_messages_that_are_only_announced_take_no_room_from_others() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.grpc_address).await;
    let request = StreamEventsRequest { request: Some(Request::Event(event("a", "u", "t"))) };
    let mut bytes = framed(0, &request.encode_to_vec());
    bytes.push(0);
    bytes.extend((limits::MESSAGE_BYTES as u32).to_be_bytes());
    let mut announced = Vec::new();
    for _ in 0..=limits::LARGE_MESSAGES_BYTES / limits::MESSAGE_BYTES {
        let (sender, body) = slow_body();
        sender.send(bytes.clone()).await;
        let path = "/analytics.v1.EventIngestionService/StreamEvents";
        let mut answers = caller.begin(path, &[], body).await.into_body();
        // What is answered was read, and what came with it was looked at.
        let mut come = Vec::new();
        while !String::from_utf8_lossy(&come).contains("event accepted") {
            let frame = timeout(PATIENCE, answers.frame()).await.expect("no answer comes");
            come.extend(frame.unwrap().unwrap().into_data().unwrap());
        }
        announced.push((sender, answers));
    }
    let mut open = Open::to(&server).await;
    let lines: String = (0..2_000).map(|number| line(&format!("e{number}"), "u")).collect();
    assert!(lines.len() > 64 * 1024);
    open.send(batch(1, &lines)).await;
    assert_eq!(open.ack().await.accepted, 2_000);
}
