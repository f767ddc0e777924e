//! Listening to metrics, and what the older platform's clients ask of its consumer.

use gristmill_model::limits;
use gristmill_proto::analytics::consumer_service_client::ConsumerServiceClient;
use gristmill_proto::analytics::v1::GetMetricsRequest;
use gristmill_proto::analytics::{ConsumerStatsRequest, HealthRequest};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::calls::{PARCELS, channel, get, post};
use super::{Metric, asked, filled};
use crate::support::{NOW, PATIENCE};

async fn heard(stream: &mut Streaming<Metric>) -> (String, f64) {
    let message = timeout(PATIENCE, stream.message()).await.unwrap();
    let metric = message.unwrap().unwrap();
    (metric.name, metric.value)
}

#[tokio::test]
async fn listeners_hear_what_is_and_then_what_changes() {
    let (server, mut client) = filled().await;
    let request = GetMetricsRequest {
        labels: [("plan".to_owned(), "pro".to_owned())].into(),
        ..asked(&["weight", "cost"])
    };
    let mut stream = client.stream_metrics(request).await.unwrap().into_inner();
    assert_eq!(heard(&mut stream).await, ("cost".to_owned(), 6.0));
    assert_eq!(heard(&mut stream).await, ("weight".to_owned(), 10.0));
    // Another plan changes nothing, and what weighs nothing changes the cost only.
    let mut free = PARCELS[2].event();
    free["id"] = "another".into();
    let carried =
        json!({"metrics": [{"name": "weight", "unit": "kg"}, {"name": "cost", "value": 4}]});
    let pro = json!({"event_type": "t", "properties": {"plan": "pro", "custom_event": carried}});
    post(&server, &json!([free])).await;
    post(&server, &json!([pro])).await;
    assert_eq!(heard(&mut stream).await, ("cost".to_owned(), 10.0));
    post(&server, &json!([pro])).await;
    assert_eq!(heard(&mut stream).await, ("cost".to_owned(), 14.0));
}

#[tokio::test]
async fn metrics_of_the_process_are_heard_too() {
    let (server, mut client) = filled().await;
    let name = "gristmill_events_accepted_total";
    let mut stream = client.stream_metrics(asked(&[name])).await.unwrap().into_inner();
    assert_eq!(heard(&mut stream).await, (name.to_owned(), 4.0));
    post(&server, &json!([PARCELS[0].event()])).await;
    assert_eq!(heard(&mut stream).await, (name.to_owned(), 5.0));
}

#[tokio::test]
async fn listening_ends_when_the_server_stops() {
    let (mut server, mut client) = filled().await;
    let mut stream = client.stream_metrics(asked(&["cost"])).await.unwrap().into_inner();
    assert_eq!(heard(&mut stream).await, ("cost".to_owned(), 9.0));
    server.shutdown.cancel();
    let status = timeout(PATIENCE, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the server is stopping: listen again");
    drop((stream, client));
    timeout(PATIENCE, server.running.join_next()).await.unwrap().unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn there_is_room_for_so_many_listeners() {
    let (_server, mut client) = filled().await;
    let mut streams = Vec::new();
    for _ in 0..limits::LIVE_SUBSCRIPTIONS {
        streams.push(client.stream_metrics(asked(&["nothing"])).await.unwrap());
    }
    let status = client.stream_metrics(asked(&["nothing"])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("256 subscriptions are open"), "{status}");
}

#[tokio::test]
async fn the_older_consumer_tells_what_stats_tell() {
    let (server, _client) = filled().await;
    let origin = "http://localhost".parse().unwrap();
    let mut client = ConsumerServiceClient::with_origin(channel(&server).await, origin);
    let health = client.get_consumer_health(HealthRequest {}).await.unwrap().into_inner();
    assert_eq!((health.healthy, health.status.as_str()), (true, "healthy"));
    assert_eq!(health.timestamp, NOW.seconds());
    let told = client.get_consumer_stats(ConsumerStatsRequest {}).await.unwrap().into_inner();
    let consumer = &get(&server, "/stats").await.json()["consumer"];
    assert_eq!(consumer["processed_events"], told.processed_events);
    assert_eq!(told.processed_events, 4);
    assert_eq!(consumer["failed_events"], told.failed_events);
    assert_eq!(consumer["processing_rate"], told.events_per_second);
    assert_eq!(consumer["last_message_time"], NOW.to_string());
    assert_eq!(told.last_processed, NOW.seconds());
}
