//! Questions over gRPC: each means the same as over HTTP.

mod bad;
mod cases;
mod events;
mod folds;
mod funnels;
mod shapes;
mod users;

use std::collections::BTreeSet;

use axum::body::Body;
use gristmill_model::limits;
use gristmill_proto::FILE_DESCRIPTOR_SET;
use gristmill_proto::analytics::analytics_service_client::AnalyticsServiceClient as OlderClient;
use gristmill_proto::analytics::v1::GetAnalyticsSummaryRequest;
use gristmill_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use gristmill_proto::analytics::{AnalyticsSummaryRequest, HealthRequest, MetricsRequest};
use gristmill_server::ServerConfig;
use http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{Answer, Api, Listening, PATIENCE, Platform, ingest_config};

type Connection = Client<HttpConnector, tonic::body::Body>;

/// A platform that is asked both ways.
pub(crate) struct Both {
    pub(crate) server: Listening,
    pub(crate) api: Api,
    pub(crate) client: AnalyticsServiceClient<Connection>,
    pub(crate) older: OlderClient<Connection>,
}

impl Both {
    pub(crate) fn new() -> Self {
        Self::over(Platform::new(ingest_config()))
    }

    pub(crate) fn over(platform: Platform) -> Self {
        let server = Listening::over(ServerConfig::default(), platform);
        let api = server.api();
        let origin: http::Uri = format!("http://{}", server.grpc_address).parse().unwrap();
        let mut connections = Client::builder(TokioExecutor::new());
        let connection = connections.http2_only(true).build_http();
        let client = AnalyticsServiceClient::with_origin(connection, origin.clone());
        let connection = connections.http2_only(true).build_http();
        let older = OlderClient::with_origin(connection, origin);
        Self { server, api, client, older }
    }

    /// What the HTTP API answers.
    pub(crate) async fn rest(&self, target: &str) -> Value {
        let answer = self.api.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text);
        answer.json()
    }

    /// What the HTTP API answers to a body.
    pub(crate) async fn posted(&self, target: &str, body: &Value) -> Value {
        let answer = self.api.post(target, body.to_string()).await;
        assert!(answer.status.is_success(), "{target} {body}: {}", answer.text);
        answer.json()
    }

    pub(crate) async fn send(&self, method: &str, target: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(target);
        let request = request.header("content-type", "application/json");
        self.api.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

/// The methods of a service, as its descriptor lists them.
fn methods(package: &str, service: &str) -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let files = files.iter().filter(|file| file.package() == package);
    let services = files.flat_map(|file| &file.service).filter(|found| found.name() == service);
    services.flat_map(|found| &found.method).map(|method| method.name().to_owned()).collect()
}

#[tokio::test]
async fn every_question_means_the_same_both_ways() {
    let covered: BTreeSet<_> = cases::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(covered, methods("analytics.v1", "AnalyticsService"), "cases, and methods");
    for seed in 1..=3 {
        let platform = Platform::new(ingest_config());
        let both = Both::over(if seed == 2 { platform.with_cache() } else { platform });
        let events = events::random(seed);
        both.api.fill(&Value::Array(events)).await;
        for (name, case) in cases::ALL {
            for selected in events::selections(seed) {
                let asked = case(&both, &selected);
                timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{name} takes too long"));
            }
        }
    }
}

#[tokio::test]
async fn answers_are_given_again_for_as_long_as_they_hold() {
    let both = Both::over(Platform::new(ingest_config()).with_cache());
    both.api.fill(&Value::Array(events::random(1))).await;
    let mut client = both.client.clone();
    let query = both.server.platform.as_ref().unwrap().services.query.clone();
    let hits = || query.answer_stats().unwrap().hits;
    let request = GetAnalyticsSummaryRequest::default();
    let first = client.get_analytics_summary(request.clone()).await.unwrap().into_inner();
    assert_eq!(hits(), 0);
    let again = client.get_analytics_summary(request.clone()).await.unwrap().into_inner();
    // To the last digit of the time that it took.
    assert_eq!((hits(), &again), (1, &first));
    let other = GetAnalyticsSummaryRequest { top: Some(1), ..request.clone() };
    let other = client.get_analytics_summary(other).await.unwrap().into_inner();
    assert_eq!((hits(), other.top_metrics.len()), (1, 1));
    both.api.fill(&json!([{"user_id": "new", "event_type": "view"}])).await;
    let later = client.get_analytics_summary(request).await.unwrap().into_inner();
    assert_eq!(later.total_events, first.total_events + 1);
}

#[tokio::test]
async fn every_question_is_refused_in_the_same_words() {
    let covered: BTreeSet<_> = bad::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut methods = methods("analytics.v1", "AnalyticsService");
    // These take nothing that could be wrong.
    for name in ["Health", "ListCohorts"] {
        assert!(methods.remove(name));
    }
    assert_eq!(covered, methods, "cases, and methods");
    let both = Both::new();
    both.api.fill(&Value::Array(events::random(1))).await;
    for (name, case) in bad::ALL {
        let asked = case(&both);
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{name} takes too long"));
    }
}

#[tokio::test]
async fn clients_of_older_systems_have_their_totals() {
    let methods = methods("analytics", "AnalyticsService");
    // The last one has a test of its own.
    let known = ["GetAnalyticsHealth", "GetAnalyticsSummary", "GetMetrics", "GetEventCount"]
        .map(str::to_owned);
    assert_eq!(methods, known.into());
    let both = Both::new();
    both.api.fill(&Value::Array(events::random(4))).await;
    let mut older = both.older.clone();
    for (from, to) in [(0, 0), (events::START, events::START + 3 * 86_400), (0, 1)] {
        let bound = |name: &str, time: i64| {
            if time == 0 { String::new() } else { format!("&{name}={time}") }
        };
        let bounds = format!("{}{}", bound("start", from), bound("end", to));
        let rest = both.rest(&format!("/v1/analytics/summary?top=100{bounds}")).await;
        let request = AnalyticsSummaryRequest { from, to };
        let summary = older.get_analytics_summary(request).await.unwrap().into_inner();
        assert_eq!(json!(summary.total_events), rest["total_events"]);
        assert_eq!(json!(summary.total_users), rest["unique_users"]);
        assert_eq!(json!(summary.events_by_type), rest["events_by_type"]);
        assert!(summary.top_metrics.len() <= 10 && summary.last_updated > 0);

        let filters = [("plan".to_owned(), "pro".to_owned())].into();
        let rest =
            both.rest(&format!("/v1/analytics/summary?top=100&filters.plan=pro{bounds}")).await;
        let request = MetricsRequest { metric_name: String::new(), from, to, filters };
        let all = older.get_metrics(request.clone()).await.unwrap().into_inner();
        assert!(all.success);
        for metric in &all.metrics {
            let by_type = &rest["events_by_type"][&metric.name];
            let expected = rest.get(&metric.name).unwrap_or(by_type).as_f64().unwrap();
            assert!((metric.value - expected).abs() < 1e-9, "{metric:?} {expected}");
            assert_eq!(metric.labels["plan"], "pro");
            let one = MetricsRequest { metric_name: metric.name.clone(), ..request.clone() };
            let one = older.get_metrics(one).await.unwrap().into_inner();
            assert_eq!(one.metrics, std::slice::from_ref(metric));
        }
        assert_eq!(all.metrics.len(), 3 + rest["events_by_type"].as_object().unwrap().len());
        let none = MetricsRequest { metric_name: "no such".to_owned(), ..request };
        assert!(older.get_metrics(none).await.unwrap().into_inner().metrics[0].value.abs() < 1e-9);
    }
    let health = older.get_analytics_health(HealthRequest {}).await.unwrap().into_inner();
    assert_eq!((health.healthy, health.status.as_str()), (true, "healthy"));
}

#[tokio::test]
async fn questions_are_no_larger_than_over_http() {
    let both = Both::new();
    let mut client = both.client.clone();
    let mut sized = async |length| {
        let request = GetAnalyticsSummaryRequest {
            event_types: vec!["t".repeat(length)],
            ..GetAnalyticsSummaryRequest::default()
        };
        client.get_analytics_summary(request).await.map(|answer| answer.into_inner().total_events)
    };
    assert_eq!(sized(limits::QUERY_BODY_BYTES - 100).await.unwrap(), 0);
    let refused = sized(limits::QUERY_BODY_BYTES + 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}
