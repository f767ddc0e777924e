//! Calls of gRPC.

use std::collections::BTreeSet;

use serde_json::json;

use super::Keyed;
use crate::calling::{Caller, first, framed};
use crate::gateway_calls::gateway_to;
use crate::support::{Listening, Platform, ingest_config, with_admin_key};

/// What a key must allow for the methods of a service, as the manual says.
const NEEDS: &[(&str, &str, &[&str])] = &[
    ("nothing", "analytics.v1.EventIngestionService", &["Health"]),
    ("nothing", "analytics.v1.AnalyticsService", &["Health"]),
    ("nothing", "analytics.v1.MetricsService", &["Health"]),
    ("nothing", "analytics.ProducerService", &["GetProducerHealth"]),
    ("nothing", "analytics.ConsumerService", &["GetConsumerHealth"]),
    ("nothing", "analytics.AnalyticsService", &["GetAnalyticsHealth"]),
    (
        "write",
        "analytics.v1.EventIngestionService",
        &["IngestEvent", "IngestEvents", "StreamEvents"],
    ),
    ("write", "analytics.ProducerService", &["SendEvent", "SendBatchEvents"]),
    (
        "read",
        "analytics.v1.AnalyticsService",
        &[
            "GetAnalyticsSummary",
            "GetTimeSeries",
            "GetRealTimeAnalytics",
            "GetUserAnalytics",
            "GetFunnelAnalysis",
            "GetFunnelUsers",
            "GetRetention",
            "GetPaths",
            "GetSessions",
            "GetStickiness",
            "GetLifecycle",
            "GetTopValues",
            "ListUsers",
            "GetCohort",
            "ListCohorts",
            "ListCohortUsers",
            "Subscribe",
        ],
    ),
    ("admin", "analytics.v1.AnalyticsService", &["CreateCohort", "ReplaceCohort", "DeleteCohort"]),
    ("read", "analytics.v1.MetricsService", &["GetMetrics", "ExportMetrics", "StreamMetrics"]),
    ("read", "analytics.AnalyticsService", &["GetEventCount", "GetAnalyticsSummary", "GetMetrics"]),
    ("read", "analytics.ConsumerService", &["GetConsumerStats"]),
];

/// Every service with its calls, as `proto/` has them.
pub(super) fn calls() -> Vec<String> {
    let mut calls = Vec::new();
    for file in ["analytics.proto", "v1/analytics.proto", "v1/ingestion.proto", "v1/metrics.proto"]
    {
        let path = gristmill_testkit::repository().join("proto/analytics").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let word = |line: &str, before: &str| {
            let rest = line.trim().strip_prefix(before)?;
            Some(rest.split([' ', '(', '{']).next()?.to_owned())
        };
        let package = text.lines().find_map(|line| word(line, "package ")).unwrap();
        let package = package.trim_end_matches(';').to_owned();
        let mut service = String::new();
        for line in text.lines() {
            service = word(line, "service ").unwrap_or(service);
            let call = word(line, "rpc ").map(|call| format!("/{package}.{service}/{call}"));
            calls.extend(call);
        }
    }
    calls
}

/// The status that a call has when its answer begins, and what it says.
async fn call(
    server: &Listening,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (String, String) {
    let mut caller = Caller::open(server.grpc_address).await;
    let mut answer = caller.begin(path, headers, framed(0, b"")).await;
    match first(&mut answer).await {
        Ok(_) => ("0".to_owned(), String::new()),
        Err(ended) => (ended.status().to_owned(), ended.message().to_owned()),
    }
}

#[tokio::test]
async fn without_a_key_every_call_but_health_is_refused() {
    let server = Listening::over(with_admin_key(), Platform::new(ingest_config()));
    let calls = calls();
    assert!(calls.len() > 20, "{calls:?}");
    let others = ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/no/Such"];
    for path in calls.iter().map(String::as_str).chain(others) {
        let (status, message) = call(&server, path, &[]).await;
        let is_health = path.ends_with("Health");
        assert_eq!(status != "16", is_health, "{path}: {status} {message}");
        if !is_health {
            assert_eq!(message.replace("%20", " "), "missing authentication credentials");
        }
    }
}

#[tokio::test]
async fn an_address_whose_calls_try_many_keys_is_slowed_by_a_gateway() {
    let behind = Listening::over(with_admin_key(), Platform::new(ingest_config()));
    let gateway = gateway_to(behind.grpc_address, behind.grpc_address).await;
    let count = "/analytics.AnalyticsService/GetEventCount";
    for number in 0..gristmill_model::limits::WRONG_KEYS_A_MINUTE {
        let key = format!("wrong-{number}");
        assert_eq!(call(&gateway, count, &[("x-api-key", &key)]).await.0, "16", "{number}");
    }
    // It does not come as far as the process behind.
    let (status, message) = call(&gateway, count, &[("x-api-key", "wrong-again")]).await;
    assert_eq!(status, "8", "{message}");
}

#[tokio::test]
async fn a_call_with_a_key_of_another_scope_is_refused() {
    let platform = Platform::new(ingest_config());
    let keyed = Keyed::new();
    let (stranger, _) = keyed.key("p", &["admin"]).await;
    let server = Listening::over(with_admin_key(), platform);
    let admin = crate::support::ADMIN_KEY;
    let make = async |scope: &str| {
        let body = json!({"scopes": [scope]}).to_string();
        let request = crate::support::post(
            "/v1/keys",
            &format!("x-api-key: {admin}\r\nconnection: close\r\n"),
            &body,
        );
        let answer = server.exchange(&request).await;
        let text = answer.split("\r\n\r\n").nth(1).unwrap();
        let made: serde_json::Value = serde_json::from_str(text).unwrap();
        made["key"].as_str().unwrap().to_owned()
    };
    let (read, write) = (make("read").await, make("write").await);
    let count = "/analytics.AnalyticsService/GetEventCount";
    let ingest = "/analytics.v1.EventIngestionService/IngestEvent";
    let bearer = format!("Bearer {read}");
    for (path, header, status) in [
        (count, ("x-api-key", read.as_str()), "0"),
        (count, ("authorization", bearer.as_str()), "0"),
        (count, ("x-api-key", write.as_str()), "7"),
        (ingest, ("x-api-key", read.as_str()), "7"),
        (count, ("x-api-key", stranger.as_str()), "16"),
        (count, ("x-api-key", ""), "16"),
    ] {
        assert_eq!(call(&server, path, &[header]).await.0, status, "{path} {}", header.0);
    }
}

#[tokio::test]
async fn calls_need_what_the_manual_says() {
    let needs = NEEDS.iter().flat_map(|(need, service, methods)| {
        methods.iter().map(move |method| (format!("/{service}/{method}"), *need))
    });
    let needs: Vec<_> = needs.collect();
    let listed: BTreeSet<_> = needs.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(listed, calls().into_iter().collect(), "the table, and the methods");
    let keyed = Keyed::new();
    let server = Listening::serving(keyed.front.clone());
    for scopes in [&["write"][..], &["read"], &["write", "read"], &["admin"]] {
        let (key, _) = keyed.key("p", scopes).await;
        for (path, need) in &needs {
            let may = *need == "nothing" || scopes.contains(need) || scopes.contains(&"admin");
            let (status, message) = call(&server, path, &[("x-api-key", &key)]).await;
            assert_ne!(status, "16", "{path} with {scopes:?}");
            assert_eq!(status != "7", may, "{path} with {scopes:?}: {status} {message}");
        }
    }
}
