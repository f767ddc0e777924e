//! Metrics by their names, over HTTP and over gRPC.

mod calls;
mod listening;

use gristmill_proto::analytics::v1::metrics_service_client::MetricsServiceClient;
use gristmill_proto::analytics::v1::{
    ExportMetricsRequest, GetMetricsRequest, Metric, MetricAggregation, MetricType, TimeRange,
};
use gristmill_server::ServerConfig;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Api, Listening};
use calls::{Channel, PARCELS, channel, get, names, post};

type Client = MetricsServiceClient<Channel>;

async fn filled() -> (Listening, Client) {
    let server = Listening::new(ServerConfig::default());
    post(&server, &json!(PARCELS.iter().map(calls::Parcel::event).collect::<Vec<_>>())).await;
    let client = MetricsServiceClient::with_origin(
        channel(&server).await,
        "http://localhost".parse().unwrap(),
    );
    (server, client)
}

/// A metric of gRPC as HTTP has it.
fn as_json(metric: &Metric) -> Value {
    let metadata = metric.metadata.as_ref().unwrap();
    let kind = MetricType::try_from(metric.r#type).unwrap().as_str_name();
    json!({
        "name": metric.name,
        "type": kind.trim_start_matches("METRIC_TYPE_").to_lowercase(),
        "value": metric.value,
        "labels": metric.labels,
        "timestamp": calls::time_text(metric.timestamp.as_ref().unwrap()),
        "unit": metric.unit,
        "metadata": {
            "description": metadata.description,
            "tags": metadata.tags,
            "sample_rate": metadata.sample_rate,
        },
    })
}

/// The metrics of an answer over HTTP, with all numbers as floating-point ones.
fn metrics_of(answer: &Value) -> Vec<Value> {
    let mut metrics = answer["metrics"].as_array().unwrap().clone();
    for metric in &mut metrics {
        metric["value"] = metric["value"].as_f64().into();
        metric["metadata"]["sample_rate"] = metric["metadata"]["sample_rate"].as_f64().into();
    }
    metrics
}

fn asked(metric_names: &[&str]) -> GetMetricsRequest {
    GetMetricsRequest { metric_names: names(metric_names), ..GetMetricsRequest::default() }
}

#[tokio::test]
async fn metrics_are_the_same_over_both_protocols() {
    let (server, mut client) = filled().await;
    let second = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let process = [
        "gristmill_events_processed_total",
        "gristmill_ingest_ack_seconds",
        "gristmill_build_info",
    ];
    let questions = [
        ("metric_names=weight&metric_names=cost", asked(&["weight", "cost"])),
        (
            "metric_names=gristmill_events_processed_total&metric_names=gristmill_ingest_ack_seconds\
             &metric_names=gristmill_build_info",
            asked(&process),
        ),
        (
            "metric_names=gristmill_ingest_ack_seconds_count",
            asked(&["gristmill_ingest_ack_seconds_count"]),
        ),
        (
            "metric_names=weight&start=100&time_range.end=200&aggregation=METRIC_AGGREGATION_MAX",
            GetMetricsRequest {
                time_range: Some(TimeRange { start: second(100), end: second(200) }),
                aggregation: MetricAggregation::Max.into(),
                ..asked(&["weight"])
            },
        ),
        (
            "metric_names=weight&labels.plan=pro&labels[user_id]=bob",
            GetMetricsRequest {
                labels: [("plan", "pro"), ("user_id", "bob")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                ..asked(&["weight"])
            },
        ),
        ("metric_names=nothing", asked(&["nothing"])),
    ];
    for (query, request) in questions {
        let http = get(&server, &format!("/v1/metrics?{query}")).await.json();
        let grpc = client.get_metrics(request).await.unwrap().into_inner();
        let metrics: Vec<_> = grpc.metrics.iter().map(as_json).collect();
        assert_eq!(metrics_of(&http), metrics, "{query}");
        assert_eq!(metrics.is_empty(), query.ends_with("nothing"), "{query}");
        let metadata = grpc.metadata.unwrap();
        assert_eq!(http["metadata"]["total_metrics"], metadata.total_metrics);
        let aggregation = metadata.aggregation().as_str_name().to_lowercase();
        let expected =
            format!("metric_aggregation_{}", http["metadata"]["aggregation"].as_str().unwrap());
        assert_eq!(aggregation, expected);
        let start = metadata.time_range.unwrap().start.as_ref().map(calls::time_text);
        assert_eq!(http["metadata"]["time_range"]["start"], json!(start));
    }
}

#[tokio::test]
async fn every_aggregation_reduces_what_events_carry() {
    let (server, mut client) = filled().await;
    for (name, number, weight) in [
        ("sum", 1, 10.5),
        ("avg", 2, 2.625),
        ("min", 3, 0.5),
        ("max", 4, 6.0),
        ("count", 5, 4.0),
        ("p95", 6, 6.0),
        ("p99", 7, 6.0),
    ] {
        let target = format!("/v1/metrics?metric_names=weight&aggregation={name}");
        let http = get(&server, &target).await.json();
        assert_eq!(http["metrics"][0]["value"].as_f64(), Some(weight), "{http}");
        let request = GetMetricsRequest { aggregation: number, ..asked(&["weight"]) };
        let grpc = client.get_metrics(request).await.unwrap().into_inner();
        assert_eq!(grpc.metrics[0].value, weight, "{name}");
    }
    // Whole numbers are written as such, and nobody says in what a cost is.
    let text = get(&server, "/v1/metrics?metric_names=cost").await.text;
    assert!(
        text.contains(r#""value":9,"labels":{},"timestamp":"1970-01-01T00:05:00Z","unit":"""#),
        "{text}"
    );
}

#[tokio::test]
async fn one_name_of_both_kinds_is_answered_twice() {
    let api = Api::new();
    let name = "gristmill_events_accepted_total";
    let carried = json!({"name": "x", "metrics": [{"name": name, "value": 7}]});
    api.fill(&json!([{"event_type": "t", "properties": {"custom_event": carried}}])).await;
    let answer = api.get(&format!("/v1/metrics?metric_names={name}")).await.json();
    let told = |metric: &Value| (metric["metadata"]["tags"].clone(), metric["value"].clone());
    let told: Vec<_> = answer["metrics"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(told, [(json!(["process"]), json!(1)), (json!(["events"]), json!(7))]);
}

#[tokio::test]
async fn labels_are_those_of_the_process_and_conditions_on_events() {
    let api = Api::new();
    let event = |plan: &str| {
        let carried = json!({"metrics": [{"name": "m", "value": 1}]});
        json!({"event_type": "t", "properties": {"outcome": plan, "custom_event": carried}})
    };
    api.fill(&json!([event("stored"), event("stored"), event("lost")])).await;
    let answer = api.get("/v1/metrics?labels.outcome=stored").await.json();
    let name_and_value = |metric: &Value| (metric["name"].clone(), metric["value"].clone());
    let told: Vec<_> = answer["metrics"].as_array().unwrap().iter().map(name_and_value).collect();
    assert_eq!(
        told,
        [(json!("gristmill_events_processed_total"), json!(3)), (json!("m"), json!(2))]
    );
    assert!(
        metrics_of(&answer).iter().all(|metric| metric["labels"] == json!({"outcome": "stored"}))
    );
}

#[tokio::test]
async fn an_answer_waits_for_a_position() {
    let api = Api::new();
    let carried = json!({"metrics": [{"name": "m", "value": 1}]});
    let event = json!({"event_type": "t", "custom_event": carried});
    let position = api.post("/v1/events", event.to_string()).await.json()["position"].clone();
    let target = format!("/v1/metrics?metric_names=m&at_least={}", position.as_str().unwrap());
    assert_eq!(api.get(&target).await.json()["metrics"][0]["value"], 1);
}

#[tokio::test]
async fn exports_are_the_same_over_both_protocols() {
    let (server, mut client) = filled().await;
    let wanted = ["weight", "cost", "gristmill_events_processed_total", "gristmill_build_info"];
    let query: String = wanted.iter().map(|name| format!("&metric_names={name}")).collect();
    for (format, content_type) in [
        ("prometheus", "text/plain; version=0.0.4; charset=utf-8"),
        ("json", "application/json"),
        ("csv", "text/csv; charset=utf-8"),
    ] {
        let http = get(&server, &format!("/v1/metrics/export?format={format}{query}")).await;
        assert_eq!(http.header("content-type"), content_type);
        let request = ExportMetricsRequest {
            format: format.to_owned(),
            metric_names: names(&wanted),
            ..ExportMetricsRequest::default()
        };
        let grpc = client.export_metrics(request).await.unwrap().into_inner();
        assert_eq!(grpc.data, http.text);
        assert_eq!((grpc.content_type.as_str(), grpc.metrics_count), (content_type, 7), "{format}");
    }
    // Without a format it is that of Prometheus, and HTTP looks at what is accepted.
    let plain = client.export_metrics(ExportMetricsRequest::default()).await.unwrap().into_inner();
    assert!(plain.data.starts_with("# HELP "), "{}", plain.data);
    assert!(get(&server, "/v1/metrics/export").await.text.starts_with("# HELP "));
}

#[tokio::test]
async fn what_is_exported_for_prometheus_is_read_back() {
    let api = Api::new();
    let tricky = "a \"b\" \\ c\nd{e=\"f\"} 1";
    let carried = json!({"metrics": [{"name": tricky, "value": 1.5, "unit": "kg"}, {"name": "m"}]});
    api.fill(&json!([{"event_type": "t", "properties": {"custom_event": carried}}])).await;
    let page = api.get("/metrics").await.text;
    let exported = api.get("/v1/metrics/export?format=prometheus").await.text;
    let (page, exported) = (calls::samples(&page), calls::samples(&exported));
    let names = |samples: &[calls::Sample]| {
        samples.iter().map(|sample| sample.name.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    let mut expected = names(&page);
    expected.insert("gristmill_event_metric".to_owned());
    assert_eq!(names(&exported), expected);
    let carried: Vec<_> =
        exported.iter().filter(|sample| sample.name == "gristmill_event_metric").collect();
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(carried[0].labels, [label("name", tricky), label("unit", "kg")]);
    assert_eq!((carried[0].value, carried[1].value), (1.5, 0.0));
    // Sent as they are, and read back as they were.
    let json = api.get("/v1/metrics/export?format=json&metric_names=m").await.json();
    assert_eq!(json, api.get("/v1/metrics?metric_names=m").await.json());
}

#[tokio::test]
async fn tables_are_safe_to_open() {
    let api = Api::new();
    let carried = json!({"metrics": [{"name": "=cmd()", "value": -2, "unit": "@x"}]});
    let event =
        json!({"event_type": "t", "timestamp": 60, "properties": {"custom_event": carried}});
    api.fill(&json!([event])).await;
    let expected = "name,type,value,unit,timestamp,source,labels\r\n\
        \"'=cmd()\",gauge,-2,\"'@x\",1970-01-01T00:01:00Z,events,{}\r\n";
    let target = "/v1/metrics/export?format=csv&metric_names=%3Dcmd()";
    assert_eq!(api.get(target).await.text, expected);
    assert_eq!(api.get_csv("/v1/metrics?metric_names=%3Dcmd()").await.text, expected);
    let table = api.get_csv("/v1/metrics?metric_names=gristmill_build_info").await.text;
    assert!(table.contains(r#","{""version"":""0.0.0""}""#), "{table}");
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_told() {
    let (server, mut client) = filled().await;
    for (target, detail) in [
        ("/v1/metrics?aggregation=median", "`aggregation` must be one of sum, avg"),
        ("/v1/metrics?labels.a=1&labels.a=2", "`labels.a` is given more than once"),
        ("/v1/metrics?start=soon", "`start` is no time"),
        ("/v1/metrics?at_least=here", "`at_least` is"),
        ("/v1/metrics?names=x", "unknown parameters: `names`"),
        ("/v1/metrics/export?format=xml", "`format` must be one of prometheus, json, csv"),
        ("/v1/metrics/export?aggregation=sum", "unknown parameters: `aggregation`"),
    ] {
        let answer = get(&server, target).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (400, &json!("invalid_argument"))
        );
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(told.starts_with(detail), "{target}: {told}");
    }
    let never = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let many: Vec<_> = (0..1_001).map(|n| n.to_string()).collect();
    for (request, detail) in [
        (
            GetMetricsRequest { aggregation: 8, ..asked(&[]) },
            "`aggregation` must be a number from 0",
        ),
        (
            GetMetricsRequest {
                time_range: Some(TimeRange { start: never, end: None }),
                ..asked(&[])
            },
            "`time_range.start` is no time",
        ),
        (GetMetricsRequest { at_least: "here".to_owned(), ..asked(&[]) }, "`at_least` is"),
        (GetMetricsRequest { metric_names: many, ..asked(&[]) }, "`metric_names` has 1001 names"),
    ] {
        let status = client.get_metrics(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(detail), "{status}");
        let listening = client.stream_metrics(request).await.unwrap_err();
        assert_eq!((listening.code(), listening.message()), (status.code(), status.message()));
    }
    let request = ExportMetricsRequest { format: "xml".to_owned(), ..Default::default() };
    let status = client.export_metrics(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "`format` must be one of prometheus, json, csv");
}

#[tokio::test]
async fn health_is_the_same_over_both_protocols() {
    let (server, mut client) = filled().await;
    let http = get(&server, "/v1/metrics/health").await.json();
    let grpc = client.health(()).await.unwrap().into_inner();
    assert_eq!(http["healthy"], grpc.healthy);
    assert_eq!(http["status"], grpc.status.as_str());
    assert_eq!(http["details"], json!(grpc.details));
    assert_eq!(http["timestamp"], calls::time_text(&grpc.timestamp.unwrap()));
    let services: Vec<_> =
        grpc.services.iter().map(|service| (service.name.as_str(), service.healthy)).collect();
    assert_eq!(services, [("log", true), ("store", true)]);
}
