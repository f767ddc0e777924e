//! Health and reflection, as load balancers and grpcurl ask for them.

use std::collections::BTreeSet;

use gristmill_server::{Front, Parts, Role, ServerConfig};
use prost::Message;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::calling::{Caller, Ended, ended, framed, payloads, slow_body};
use crate::support::{Listening, PATIENCE, Platform, ingest_config, post, status_of};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const SERVING: &[u8] = b"\x08\x01";
const NOT_SERVING: &[u8] = b"\x08\x02";
const SERVICE_UNKNOWN: &[u8] = b"\x08\x03";

const SERVICES: [&str; 6] = [
    "analytics.AnalyticsService",
    "analytics.ConsumerService",
    "analytics.ProducerService",
    "analytics.v1.AnalyticsService",
    "analytics.v1.EventIngestionService",
    "analytics.v1.MetricsService",
];

fn about(service: &str) -> Vec<u8> {
    framed(0, &HealthCheckRequest { service: service.to_owned() }.encode_to_vec())
}

async fn check(caller: &mut Caller, service: &str) -> Result<Vec<u8>, String> {
    let answer = caller.call(CHECK, &[], about(service)).await;
    match answer.status() {
        "0" => Ok(payloads(&answer.body)[0].to_vec()),
        code => Err(code.to_owned()),
    }
}

#[tokio::test]
async fn health_is_told_of_the_process_and_of_each_service() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.grpc_address).await;
    for service in SERVICES.into_iter().chain([""]) {
        assert_eq!(check(&mut caller, service).await.as_deref(), Ok(SERVING), "{service}");
    }
    assert_eq!(check(&mut caller, "no.Service").await, Err("5".to_owned()));
}

#[tokio::test]
async fn a_process_that_has_not_caught_up_is_not_serving_until_it_has() {
    let mut platform = Platform::stalled(ingest_config());
    let front = Front::new(ServerConfig::default(), platform.services.clone());
    let server = Listening::serving(front);
    let event = server.exchange(&post("/v1/events", "", r#"{"event_type":"t"}"#)).await;
    assert_eq!(status_of(&event), 200, "{event}");
    let mut caller = Caller::open(server.grpc_address).await;
    assert_eq!(check(&mut caller, "").await.as_deref(), Ok(NOT_SERVING));
    let mut watching = Caller::open(server.grpc_address).await;
    let watch = watching.begin(WATCH, &[], about("")).await;
    platform.resume();
    platform.services.query.wait_for(&platform.services.ingest.durable()).await.unwrap();
    assert_eq!(check(&mut caller, "").await.as_deref(), Ok(SERVING));
    // Who watches hears of both, and of the end.
    let unknown = caller.begin(WATCH, &[], about("no.Service")).await;
    let told = told_until_serving(watch).await;
    assert_eq!(told, [NOT_SERVING, SERVING]);
    server.shutdown.cancel();
    let unknown = ended(unknown).await;
    assert_eq!((unknown.status(), payloads(&unknown.body)), ("0", vec![SERVICE_UNKNOWN]));
}

/// What a watch tells until the process serves.
async fn told_until_serving(watch: http::Response<hyper::body::Incoming>) -> Vec<Vec<u8>> {
    use http_body_util::BodyExt;
    let mut body = watch.into_body();
    let mut told: Vec<Vec<u8>> = Vec::new();
    while told.last().is_none_or(|state| state != SERVING) {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
        told.extend(payloads(&data).into_iter().map(<[u8]>::to_vec));
    }
    told
}

#[tokio::test]
async fn who_watches_hears_of_the_end_before_the_connection_ends() {
    let mut server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.address).await;
    let watch = caller.begin(WATCH, &[], about("analytics.v1.MetricsService")).await;
    server.shutdown.cancel();
    let watch = ended(watch).await;
    assert_eq!((watch.status(), payloads(&watch.body)), ("0", vec![SERVING, NOT_SERVING]));
    let ended = tokio::time::timeout(PATIENCE, server.running.join_next()).await;
    ended.unwrap().unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_knows_the_services_of_the_roles_only() {
    let platform = Platform::new(ingest_config());
    let parts = Parts::Services(platform.services.clone(), [Role::Ingest].into(), None);
    let server = Listening::serving(Front::of(ServerConfig::default(), parts));
    let mut caller = Caller::open(server.grpc_address).await;
    let ingestion = "analytics.v1.EventIngestionService";
    assert_eq!(check(&mut caller, ingestion).await.as_deref(), Ok(SERVING));
    assert_eq!(check(&mut caller, "analytics.v1.AnalyticsService").await, Err("5".to_owned()));
}

fn ask(question: MessageRequest) -> Vec<u8> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    framed(0, &request.encode_to_vec())
}

/// The answers of one stream; both versions have the same messages.
fn answers(answer: &Ended) -> Vec<MessageResponse> {
    let answers = payloads(&answer.body).into_iter().map(|payload| {
        ServerReflectionResponse::decode(payload).unwrap().message_response.unwrap()
    });
    answers.collect()
}

#[tokio::test]
async fn reflection_tells_exactly_what_clients_may_call_in_both_versions() {
    let server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.grpc_address).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let own = format!("grpc.reflection.{version}.ServerReflection");
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("analytics.v1.IngestEventRequest".to_owned())),
            ask(MessageRequest::FileByFilename("google/protobuf/timestamp.proto".to_owned())),
        ];
        let answer = caller.call(&path, &[], questions.concat()).await;
        assert_eq!(answer.status(), "0", "{answer:?}");
        let answers = answers(&answer);
        let MessageResponse::ListServicesResponse(list) = &answers[0] else {
            panic!("{answers:?}")
        };
        let listed: BTreeSet<_> = list.service.iter().map(|service| &*service.name).collect();
        let wanted = SERVICES.into_iter().chain(["grpc.health.v1.Health", &own]);
        assert_eq!(listed, wanted.collect(), "{version}");
        for answer in &answers[1..] {
            let MessageResponse::FileDescriptorResponse(files) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(files.file_descriptor_proto.len(), 1);
        }
        let hidden = "gristmill.internal.v1.Relay";
        let question = ask(MessageRequest::FileContainingSymbol(hidden.to_owned()));
        assert_eq!(caller.call(&path, &[], question).await.status(), "5");
    }
}

#[tokio::test]
async fn reflection_may_be_turned_off() {
    let server = Listening::new(ServerConfig { grpc_reflection: false, ..Default::default() });
    let mut caller = Caller::open(server.address).await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let question = ask(MessageRequest::ListServices(String::new()));
    assert_eq!(caller.call(path, &[], question).await.status(), "12");
}

#[tokio::test]
async fn a_tool_that_stays_does_not_hold_up_the_end() {
    let mut server = Listening::new(ServerConfig::default());
    let mut caller = Caller::open(server.grpc_address).await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let (_staying, body) = slow_body();
    let stream = caller.begin(path, &[], body).await;
    server.shutdown.cancel();
    assert_eq!(ended(stream).await.status(), "14");
    let finished = tokio::time::timeout(PATIENCE, server.running.join_next()).await;
    finished.unwrap().unwrap().unwrap().unwrap();
}
