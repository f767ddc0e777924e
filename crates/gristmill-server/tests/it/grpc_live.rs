//! Streams of answers over gRPC.

use gristmill_model::{Positions, Timestamp, limits};
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::GetAnalyticsSummaryRequest as AnySummary;
use gristmill_proto::analytics::v1::subscribe_request::Question;
use gristmill_proto::analytics::v1::subscribe_response::Answer;
use gristmill_testkit::SeededEntropy;
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::grpc_questions::Both;
use crate::support::{NOW, PATIENCE};

async fn next<A>(stream: &mut Streaming<A>) -> A {
    let message = timeout(PATIENCE, stream.message()).await.expect("nothing comes");
    message.unwrap().expect("the stream has ended")
}

fn total(answer: &v1::SubscribeResponse) -> i64 {
    match &answer.answer {
        Some(Answer::Summary(answer)) => answer.total_events,
        other => panic!("no summary: {other:?}"),
    }
}

fn summary(last_position: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        question: Some(Question::Summary(AnySummary::default())),
        last_position: last_position.to_owned(),
    }
}

#[tokio::test]
async fn changes_are_told_with_their_positions() {
    let both = Both::new();
    let mut client = both.client.clone();
    let mut live = client.subscribe(summary("")).await.unwrap().into_inner();
    let mut before = next(&mut live).await;
    assert_eq!(total(&before), 0);
    for count in 1..=3 {
        both.api.fill(&json!([{"user_id": "ann", "event_type": "view"}])).await;
        let now = next(&mut live).await;
        assert_eq!(total(&now), count);
        let positions = [&before, &now].map(|answer| answer.position.parse::<Positions>().unwrap());
        assert!(positions[1].covers(&positions[0]) && positions[1] != positions[0]);
        // It is a position like any other.
        let request = AnySummary { at_least: now.position.clone(), ..Default::default() };
        let plain = client.get_analytics_summary(request).await.unwrap().into_inner();
        assert_eq!(plain.total_events, count);
        before = now;
    }
    // Who comes again with the newest position hears of the next change only.
    let mut again = client.subscribe(summary(&before.position)).await.unwrap().into_inner();
    both.api.fill(&json!([{"user_id": "bob", "event_type": "view"}])).await;
    assert_eq!(total(&next(&mut again).await), 4);
}

#[tokio::test]
async fn a_slow_reader_has_the_newest_answer_and_nothing_piles_up() {
    let both = Both::new();
    let mut client = both.client.clone();
    let mut live = client.subscribe(summary("")).await.unwrap().into_inner();
    assert_eq!(total(&next(&mut live).await), 0);
    let random = SeededEntropy::new(5);
    for _ in 0..30 {
        let user = format!("u{}", random.below(9));
        both.api.fill(&json!([{"user_id": user, "event_type": "view"}])).await;
    }
    let mut told = 0;
    while told < 30 {
        let now = total(&next(&mut live).await);
        assert!(now > told, "{now} after {told}");
        told = now;
    }
}

#[tokio::test]
async fn subscriptions_are_limited_and_room_comes_back() {
    let both = Both::new();
    let mut client = both.client.clone();
    let mut open = Vec::new();
    for _ in 0..limits::LIVE_SUBSCRIPTIONS {
        open.push(client.subscribe(summary("")).await.unwrap().into_inner());
    }
    let refused = client.subscribe(summary("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(client.get_analytics_summary(AnySummary::default()).await.is_ok());
    // Who goes away makes room, as soon as the server hears of it.
    open.pop();
    let room = async {
        loop {
            match client.subscribe(summary("")).await {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
        }
    };
    let mut stream = timeout(PATIENCE, room).await.expect("no room comes back");
    assert_eq!(total(&next(&mut stream).await), 0);
}

#[tokio::test]
async fn streams_end_well_when_the_server_stops() {
    let mut both = Both::new();
    let mut client = both.client.clone();
    let mut live = client.subscribe(summary("")).await.unwrap().into_inner();
    let request = v1::GetRealTimeAnalyticsRequest::default();
    let mut window = client.get_real_time_analytics(request).await.unwrap().into_inner();
    next(&mut live).await;
    next(&mut window).await;
    both.server.shutdown.cancel();
    assert!(timeout(PATIENCE, live.message()).await.unwrap().unwrap().is_none());
    assert!(timeout(PATIENCE, window.message()).await.unwrap().unwrap().is_none());
    drop((live, window, client));
    let ended = timeout(PATIENCE, both.server.running.join_next()).await;
    ended.expect("the server does not stop").unwrap().unwrap().unwrap();
}

fn numbers(answer: &v1::RealTimeAnalyticsResponse) -> Vec<(String, f64)> {
    let name = |metric: &v1::RealTimeMetric| {
        metric.labels.get("event_type").unwrap_or(&metric.name).clone()
    };
    answer.metrics.iter().map(|metric| (name(metric), metric.value)).collect()
}

fn expected(numbers: &[(&str, f64)]) -> Vec<(String, f64)> {
    numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

#[tokio::test]
async fn the_window_follows_events_and_time() {
    let both = Both::new();
    let at = |seconds: i64| NOW.plus(seconds * Timestamp::SECOND).to_string();
    let event = |user: &str, event_type: &str, seconds: i64| json!({"user_id": user, "event_type": event_type, "timestamp": at(seconds)});
    both.api
        .fill(&json!([
            event("ann", "view", -61),
            event("ann", "view", -30),
            event("bob", "buy", -5),
            event("bob", "view", 3_600),
        ]))
        .await;
    let mut client = both.client.clone();
    let request = v1::GetRealTimeAnalyticsRequest::default();
    let mut live = client.get_real_time_analytics(request).await.unwrap().into_inner();
    let first = next(&mut live).await;
    let two = [("total_events", 2.0), ("events_per_second", 2.0 / 60.0), ("unique_users", 2.0)];
    let types = [("buy", 1.0), ("view", 1.0)];
    assert_eq!(numbers(&first), expected(&[&two[..], &types[..]].concat()));
    assert_eq!(first.window_id, format!("{}/{}", at(-60), at(0)));

    // One more comes, and the request's filter is kept.
    let filters = [("user_id".to_owned(), "bob".to_owned())].into();
    let request =
        v1::GetRealTimeAnalyticsRequest { filters, window_seconds: 10, ..Default::default() };
    let mut of_bob = client.get_real_time_analytics(request).await.unwrap().into_inner();
    assert_eq!(numbers(&next(&mut of_bob).await)[0].1.to_bits(), 1.0_f64.to_bits());
    both.api.fill(&json!([event("cid", "view", 0)])).await;
    assert_eq!(numbers(&next(&mut live).await)[0], ("total_events".to_owned(), 3.0));

    // Time passes, and nothing else: events leave the windows.
    both.server.platform.as_ref().unwrap().clock.advance(31 * Timestamp::SECOND);
    let later = next(&mut live).await;
    let two = [("total_events", 2.0), ("events_per_second", 2.0 / 60.0), ("unique_users", 2.0)];
    assert_eq!(numbers(&later), expected(&[&two[..], &types[..]].concat()));
    let none = [("total_events", 0.0), ("events_per_second", 0.0), ("unique_users", 0.0)];
    assert_eq!(numbers(&next(&mut of_bob).await), expected(&none));
}
