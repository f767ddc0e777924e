//! The sender over requests: what is promised holds whatever goes wrong, and what does not hold is
//! told.

use std::sync::Arc;
use std::time::Duration;

use gristmill_client::{
    ApiKey, ClientConfig, Compression, Event, Reason, SendError, Sender, SenderConfig, Undelivered,
};

use crate::http_server::{Act, HttpServer, client_of};
use crate::proxy::Proxy;
use crate::support::{Deaf, Notes, event, id, quick, soon, until};

const COUNT: usize = 2_000;

async fn send_all(sender: &Sender, numbers: std::ops::Range<usize>) {
    for number in numbers {
        soon(sender.send(&event(number))).await.unwrap();
    }
}

#[tokio::test]
async fn everything_arrives_in_order_whatever_the_server_answers() {
    let faults = [
        Act::Answer(503, ""),
        Act::Cut,
        Act::KeepAndCut,
        Act::Answer(429, ""),
        Act::Answer(500, ""),
        Act::Answer(502, "<html>"),
        Act::KeepAndCut,
        Act::Answer(408, ""),
        Act::Answer(504, ""),
        Act::Answer(200, "{}"),
    ];
    let server = HttpServer::start(faults.into_iter().cycle().take(100)).await;
    let sender = Sender::start(&server.client(), quick()).await.unwrap();
    send_all(&sender, 0..COUNT).await;
    let report = soon(sender.flush()).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.delivered, COUNT as u64);
    server.kept(|kept| {
        kept.assert_all(COUNT);
        assert!(kept.copies.values().any(|copies| *copies > 1), "nothing was sent twice");
    });
    assert_eq!(report.position, format!("p0-{COUNT}"));
    let stats = sender.stats();
    assert_eq!((stats.events, stats.bytes), (0, 0));
    assert!(soon(sender.close()).await.is_complete());
    assert_eq!(sender.send(&event(0)).await, Err(SendError::Closed));
}

#[tokio::test]
async fn a_server_that_is_killed_and_restarted_loses_nothing() {
    let mut server = HttpServer::start([]).await;
    let sender = Sender::start(&server.client(), quick()).await.unwrap();
    for round in 0..4 {
        send_all(&sender, round * 500..round * 500 + 250).await;
        server.kill().await;
        send_all(&sender, round * 500 + 250..round * 500 + 500).await;
        server.revive().await;
    }
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    server.kept(|kept| kept.assert_all(COUNT));
}

#[tokio::test]
async fn a_network_that_is_cut_slow_and_silent_loses_nothing() {
    let server = HttpServer::start([]).await;
    let proxy = Proxy::to(server.address).await;
    let config = ClientConfig { timeout: Duration::from_secs(2), ..ClientConfig::default() };
    let sender = Sender::start(&client_of(&proxy.url(), config), quick()).await.unwrap();
    for round in 0..5 {
        send_all(&sender, round * 200..round * 200 + 100).await;
        match round {
            0 | 3 => proxy.cut(),
            1 => proxy.slow(),
            2 => proxy.swallow(),
            _ => {}
        }
        send_all(&sender, round * 200 + 100..round * 200 + 200).await;
        let passed = proxy.passed();
        if round == 2 {
            until("a try that fails", || !sender.stats().last_error.is_empty()).await;
        } else {
            until("something to pass", || proxy.passed() > passed || sender.stats().events == 0)
                .await;
        }
        proxy.pass();
    }
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    server.kept(|kept| kept.assert_all(1_000));
}

#[tokio::test]
async fn retry_after_is_obeyed_with_the_same_bytes() {
    let server = HttpServer::start([Act::AskToWait(429, 1)]).await;
    let sender = Sender::start(&server.client(), quick()).await.unwrap();
    let started = tokio::time::Instant::now();
    sender.send(&Event::new("view").user("ann")).await.unwrap();
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.is_complete()), (1, true));
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    let requests = &server.state.lock().unwrap().requests;
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].1, requests[1].1, "the id or the time has changed");
}

#[tokio::test]
async fn what_the_server_rejects_is_told_event_by_event() {
    let server = HttpServer::start([Act::RejectOdd]).await;
    let config = SenderConfig { lanes: 1, linger: Duration::from_secs(60), ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    send_all(&sender, 0..10).await;
    let report = soon(sender.flush()).await;
    assert_eq!(report.delivered, 5);
    let ids: Vec<_> = report.undelivered.iter().map(Undelivered::id).collect();
    assert_eq!(ids, [1, 3, 5, 7, 9].map(id));
    for event in &report.undelivered {
        let expected = Reason::Rejected { code: "invalid_event".into(), message: "odd".into() };
        assert_eq!((&event.reason, event.may_have_arrived), (&expected, false));
    }
    // What is given back can be sent again, and is told only once.
    let again = report.undelivered.iter().flat_map(|event| [&event.json[..], b"\n"].concat());
    sender.send_ndjson(again.collect::<Vec<_>>()).await.unwrap();
    let report = soon(sender.close()).await;
    assert_eq!((report.delivered, report.is_complete()), (10, true));
    server.kept(|kept| assert_eq!(kept.copies.len(), 10));
}

#[tokio::test]
async fn a_full_buffer_holds_back_and_memory_stays_bounded() {
    let server = HttpServer::start([Act::Hold]).await;
    let config = SenderConfig { buffer_events: 100, lanes: 1, ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    let mut taken = 0;
    while sender.try_send(&event(taken)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 100);
    assert_eq!(sender.try_send(&event(taken)), Err(SendError::Full));
    assert_eq!(sender.stats().events, 100);
    let next = event(taken);
    let mut waiting = std::pin::pin!(sender.send(&next));
    let early = tokio::time::timeout(Duration::from_millis(20), waiting.as_mut()).await;
    assert!(early.is_err(), "it did not wait");
    server.release.notify_one();
    soon(waiting).await.unwrap();
    assert!(soon(sender.close()).await.is_complete());
    server.kept(|kept| kept.assert_all(101));
}

#[tokio::test]
async fn a_sender_that_is_dropped_tells_what_it_loses() {
    let server = HttpServer::start(std::iter::repeat_n(Act::Answer(503, ""), 10_000)).await;
    let notes = Arc::new(Notes::default());
    let observer = Arc::clone(&notes);
    let sender = Sender::start_observed(&server.client(), quick(), observer).await.unwrap();
    send_all(&sender, 0..500).await;
    drop(sender);
    let lost = notes.undelivered.lock().unwrap();
    assert_eq!(lost.len(), 500);
    assert!(lost.iter().all(|event| event.reason == Reason::Dropped));
    drop(lost);
    assert_eq!(notes.ids(), (0..500).map(id).collect::<Vec<_>>(), "each is told once");
}

#[tokio::test]
async fn a_dropped_sender_tells_of_every_event_either_way() {
    let server = HttpServer::start([]).await;
    let notes = Arc::new(Notes::default());
    let observer = Arc::clone(&notes);
    let sender = Sender::start_observed(&server.client(), quick(), observer).await.unwrap();
    send_all(&sender, 0..COUNT).await;
    drop(sender);
    assert_eq!(notes.ids(), (0..COUNT).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn tries_end_and_the_events_are_given_back() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let config = SenderConfig { give_up_after: Duration::from_secs(2), ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    send_all(&sender, 0..100).await;
    let report = soon(sender.flush()).await;
    assert_eq!((report.delivered, report.undelivered.len()), (0, 100));
    for event in &report.undelivered {
        assert!(matches!(event.reason, Reason::GaveUp(_)), "{}", event.reason);
        assert!(!event.may_have_arrived, "there was no connection");
    }
    server.revive().await;
    send_all(&sender, 0..100).await;
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    server.kept(|kept| kept.assert_all(100));
}

#[tokio::test]
async fn what_only_waited_for_a_connection_has_not_arrived() {
    let deaf = Deaf::listen().await;
    // A try is cut by its own time limit, or when the events are given up.
    for timeout in [Duration::from_millis(20), Duration::from_secs(60)] {
        let config = ClientConfig { timeout, ..ClientConfig::default() };
        let client = client_of(&deaf.url(), config);
        let config = SenderConfig { give_up_after: Duration::from_millis(200), ..quick() };
        let sender = Sender::start(&client, config).await.unwrap();
        send_all(&sender, 0..100).await;
        let report = soon(sender.close()).await;
        assert_eq!(report.undelivered.len(), 100);
        for event in &report.undelivered {
            let Reason::GaveUp(error) = &event.reason else { panic!("{}", event.reason) };
            assert!(error.contains("there was no connection within"), "{error}");
            assert!(!event.may_have_arrived, "{timeout:?}");
        }
    }
}

#[tokio::test]
async fn lines_go_in_as_many_requests_as_they_need() {
    let server = HttpServer::start([]).await;
    let config = SenderConfig { batch_bytes: 1_000, batch_events: 500, ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    let lines: String = (0..500).map(|n| format!("{{\"id\":\"{}\"}}\n", id(n))).collect();
    sender.send_ndjson(lines).await.unwrap();
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    server.kept(|kept| kept.assert_all(500));
    let state = server.state.lock().unwrap();
    assert!(state.requests.len() > 1);
    assert!(state.requests.iter().all(|(_, body)| body.len() <= 1_000));
}

#[tokio::test]
async fn closing_ends_and_tells_what_is_unknown() {
    let server = HttpServer::start(std::iter::repeat_n(Act::Hold, 10)).await;
    let config = SenderConfig { close_within: Duration::from_millis(50), ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    send_all(&sender, 0..20).await;
    until("a request", || !server.state.lock().unwrap().requests.is_empty()).await;
    let report = soon(sender.close()).await;
    assert_eq!(report.undelivered.len(), 20);
    assert!(report.undelivered.iter().all(|event| matches!(event.reason, Reason::Closed(_))));
    assert!(report.undelivered.iter().any(|event| event.may_have_arrived));
}

#[tokio::test]
async fn a_client_that_is_refused_hears_it_at_once() {
    let server = HttpServer::start(std::iter::repeat_n(Act::Answer(401, ""), 100)).await;
    let sender = Sender::start(&server.client(), quick()).await.unwrap();
    send_all(&sender, 0..20).await;
    let report = soon(sender.close()).await;
    assert_eq!(report.undelivered.len(), 20);
    assert!(report.undelivered.iter().all(|event| matches!(event.reason, Reason::Refused(_))));
}

#[tokio::test]
async fn batches_that_are_too_large_for_the_server_are_split() {
    let server = HttpServer::start([Act::AtMost(7)]).await;
    let config = SenderConfig { lanes: 1, linger: Duration::from_secs(60), ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    send_all(&sender, 0..500).await;
    let report = soon(sender.close()).await;
    assert!(report.is_complete(), "{report:?}");
    server.kept(|kept| kept.assert_all(500));
}

#[tokio::test]
async fn too_many_undelivered_events_are_counted() {
    let mut server = HttpServer::start([]).await;
    server.kill().await;
    let config =
        SenderConfig { give_up_after: Duration::from_millis(20), kept_undelivered: 30, ..quick() };
    let sender = Sender::start(&server.client(), config).await.unwrap();
    send_all(&sender, 0..100).await;
    let report = soon(sender.close()).await;
    assert_eq!((report.undelivered.len(), report.forgotten), (30, 70));
    assert!(!report.is_complete());
}

#[tokio::test]
async fn requests_are_compressed_and_carry_the_key() {
    let server = HttpServer::start([]).await;
    let config = ClientConfig { api_key: Some(ApiKey::new("secret-7")), ..ClientConfig::default() };
    assert!(!format!("{config:?}").contains("secret-7"));
    let client = client_of(&server.url(), config);
    assert!(!format!("{client:?}").contains("secret-7"));
    let config = SenderConfig { compression: Compression::Gzip, ..quick() };
    let sender = Sender::start(&client, config).await.unwrap();
    send_all(&sender, 0..100).await;
    assert!(soon(sender.close()).await.is_complete());
    server.kept(|kept| kept.assert_all(100));
    for (headers, _) in &server.state.lock().unwrap().requests {
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["x-api-key"], "secret-7");
    }
}

#[tokio::test]
async fn what_can_never_be_sent_is_refused_at_the_door() {
    let server = HttpServer::start([]).await;
    let sender = Sender::start(&server.client(), quick()).await.unwrap();
    assert!(matches!(sender.send(&Event::new("")).await, Err(SendError::Event(_))));
    assert_eq!(sender.send_ndjson("\n").await, Err(SendError::Lines { lines: 0 }));
    let config = SenderConfig { lanes: 0, ..quick() };
    assert!(Sender::start(&server.client(), config).await.is_err());
    assert!(soon(sender.close()).await.is_complete());
}
