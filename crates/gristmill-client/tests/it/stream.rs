//! The sender over a gRPC stream.

use std::time::Duration;

use gristmill_client::{Event, Reason, SendError, Sender, SenderConfig, StreamTarget, Undelivered};
use tokio::net::TcpListener;

use crate::grpc_server::{GrpcServer, Manner, Reads};
use crate::support::{event, id, quick, soon, until};

const COUNT: usize = 2_000;

async fn send_all(sender: &Sender, numbers: std::ops::Range<usize>) {
    for number in numbers {
        soon(sender.send(&event(number))).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_loses_nothing() {
    let manner = Manner { ends_after: Some(7), ..Manner::default() };
    let server = GrpcServer::start(manner).await;
    let config = SenderConfig { batch_events: 10, ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    send_all(&sender, 0..COUNT).await;
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    let state = server.state.lock().unwrap();
    assert!(state.streams > 3, "{} streams", state.streams);
    state.kept.assert_all(COUNT);
    assert!(state.kept.copies.values().any(|copies| *copies > 1), "nothing was sent twice");
    let order: Vec<_> = state.kept.order.iter().map(|(_, id)| id.clone()).collect();
    assert!(order.is_sorted(), "a stream keeps the order of all events");
}

#[tokio::test]
async fn a_server_that_is_killed_and_restarted_loses_nothing() {
    let mut server = GrpcServer::start(Manner::default()).await;
    let sender = Sender::stream(&server.target(), quick()).await.unwrap();
    for round in 0..4 {
        send_all(&sender, round * 500..round * 500 + 250).await;
        until("an acknowledgement", || sender.stats().events < 250).await;
        server.kill().await;
        send_all(&sender, round * 500 + 250..round * 500 + 500).await;
        server.revive().await;
    }
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.delivered, COUNT as u64);
    assert_eq!(report.position, format!("p0-{COUNT}"));
    server.state.lock().unwrap().kept.assert_all(COUNT);
}

#[tokio::test]
async fn credit_is_honoured() {
    let credit = 8 * 1024;
    let manner = Manner { credit, ack_every: 2, ..Manner::default() };
    let server = GrpcServer::start(manner).await;
    let config = SenderConfig { batch_events: 20, ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    send_all(&sender, 0..COUNT).await;
    until("acknowledgements", || sender.stats().events <= 20).await;
    let most = server.state.lock().unwrap().most_under_way;
    assert!(most <= credit, "{most} bytes were under way, the credit is {credit}");
    assert!(most > credit / 4, "only {most} bytes were under way");
}

#[tokio::test]
async fn a_batch_beyond_all_credit_goes_alone() {
    let server = GrpcServer::start(Manner { credit: 10, ..Manner::default() }).await;
    let sender = Sender::stream(&server.target(), quick()).await.unwrap();
    send_all(&sender, 0..200).await;
    assert!(soon(sender.close()).await.is_complete());
    server.state.lock().unwrap().kept.assert_all(200);
}

#[tokio::test]
async fn rejected_events_are_told() {
    let manner = Manner { rejections: 1, ..Manner::default() };
    let server = GrpcServer::start(manner).await;
    let sender = Sender::stream(&server.target(), quick()).await.unwrap();
    for number in 0..100 {
        let event = match number % 25 {
            7 => Event::new("bad").id(id(number)),
            _ => event(number),
        };
        sender.send(&event).await.unwrap();
    }
    let report = soon(sender.close()).await;
    let ids: Vec<_> = report.undelivered.iter().map(Undelivered::id).collect();
    assert_eq!(ids, [7, 32, 57, 82].map(id));
    assert_eq!(report.delivered, 96);
}

#[tokio::test]
async fn a_batch_that_ends_the_stream_is_found_and_given_back() {
    let server = GrpcServer::start(Manner::default()).await;
    let config = SenderConfig { batch_events: 5, ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    for number in 0..200 {
        let event = if number == 101 { event(number).page("poison") } else { event(number) };
        sender.send(&event).await.unwrap();
    }
    let report = soon(sender.close()).await;
    let ids: Vec<_> = report.undelivered.iter().map(Undelivered::id).collect();
    assert!(ids.contains(&id(101)) && ids.len() <= 5, "{ids:?}");
    assert!(report.undelivered.iter().all(|event| matches!(event.reason, Reason::Refused(_))));
    assert_eq!(report.delivered as usize + ids.len(), 200);
}

#[tokio::test]
async fn a_server_that_reads_nothing_holds_back_and_close_tells() {
    let server = GrpcServer::start(Manner { reads: Reads::Nothing, ..Manner::default() }).await;
    let close_within = Duration::from_millis(50);
    let config = SenderConfig { buffer_events: 300, close_within, ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    let mut taken = 0;
    while sender.try_send(&event(taken)).is_ok() {
        taken += 1;
    }
    assert_eq!((taken, sender.try_send(&event(0))), (300, Err(SendError::Full)));
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.undelivered.len()), (0, 300));
}

#[tokio::test]
async fn what_is_not_acknowledged_is_given_back_in_time() {
    let server = GrpcServer::start(Manner { reads: Reads::WithoutAck, ..Manner::default() }).await;
    let config = SenderConfig { give_up_after: Duration::from_secs(2), ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    send_all(&sender, 0..100).await;
    let report = soon(sender.flush()).await;
    assert_eq!(report.undelivered.len(), 100);
    for event in &report.undelivered {
        assert!(matches!(event.reason, Reason::GaveUp(_)), "{}", event.reason);
        assert!(event.may_have_arrived);
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_given_up_in_time() {
    let mut server = GrpcServer::start(Manner::default()).await;
    server.kill().await;
    let config = SenderConfig { give_up_after: Duration::from_millis(100), ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    send_all(&sender, 0..100).await;
    let report = soon(sender.flush()).await;
    assert_eq!(report.undelivered.len(), 100);
    assert!(!report.undelivered.iter().any(|event| event.may_have_arrived));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = StreamTarget::at(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let config = SenderConfig { give_up_after: Duration::from_millis(200), ..quick() };
    let sender = Sender::stream(&target, config).await.unwrap();
    send_all(&sender, 0..100).await;
    let report = soon(sender.flush()).await;
    assert_eq!(report.undelivered.len(), 100);
    for event in &report.undelivered {
        // Not what the client says of a server that it has waited for long enough.
        assert_eq!(event.reason, Reason::GaveUp("no stream began in time".into()));
        assert!(!event.may_have_arrived);
    }
}

#[tokio::test]
async fn a_stream_that_ends_while_nothing_is_under_way_is_no_failure() {
    let server = GrpcServer::start(Manner::default()).await;
    let sender = Sender::stream(&server.target(), quick()).await.unwrap();
    send_all(&sender, 0..1).await;
    assert!(soon(sender.flush()).await.is_complete());
    server.state.lock().unwrap().ends.notify_one();
    until("the client to hear of it", || server.state.lock().unwrap().left == 1).await;
    assert_eq!(sender.stats().last_error, "");
    send_all(&sender, 1..2).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.is_complete()), (2, true));
    assert_eq!(sender.stats().last_error, "");
    assert_eq!(server.state.lock().unwrap().streams, 2);
}

#[tokio::test]
async fn lines_go_in_as_many_messages_as_they_need_and_one_too_large_for_any_comes_back() {
    let server = GrpcServer::start(Manner::default()).await;
    let config = SenderConfig { batch_events: 1_000, ..quick() };
    let sender = Sender::stream(&server.target(), config).await.unwrap();
    let line = |number, bytes| {
        let page = "x".repeat(bytes);
        format!("{{\"id\":\"{}\",\"event_type\":\"view\",\"page_url\":\"{page}\"}}\n", id(number))
    };
    let mut lines: String = (0..400).map(|number| line(number, 30_000)).collect();
    lines.insert_str(0, &line(400, 300_000));
    sender.send_ndjson(lines).await.unwrap();
    let report = soon(sender.close()).await;
    assert_eq!(report.delivered, 400);
    let [event] = &report.undelivered[..] else { panic!("{report:?}") };
    assert_eq!((event.id(), event.may_have_arrived), (id(400), false));
    assert!(event.reason.to_string().contains("more than 262144"), "{}", event.reason);
    server.state.lock().unwrap().kept.assert_all(400);
}

#[tokio::test]
async fn a_client_that_is_refused_hears_it_at_once() {
    let server = GrpcServer::start(Manner { reads: Reads::Refused, ..Manner::default() }).await;
    let sender = Sender::stream(&server.target(), quick()).await.unwrap();
    send_all(&sender, 0..100).await;
    let report = soon(sender.flush()).await;
    assert_eq!(report.undelivered.len(), 100);
    assert!(report.undelivered.iter().all(|event| matches!(event.reason, Reason::Refused(_))));
}
