//! Questions that are wrong, for each method that could be asked one.

use std::pin::Pin;

use gristmill_proto::analytics::v1;
use serde_json::{Value, json};
use tonic::{Code, Response, Status};

use super::Both;
use crate::support::Answer;

type Asked<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Case = for<'a> fn(&'a Both) -> Asked<'a>;

/// The methods, each with what is refused.
pub(super) const ALL: &[(&str, Case)] = &[
    ("GetAnalyticsSummary", |both| Box::pin(summary(both))),
    ("GetTimeSeries", |both| Box::pin(series(both))),
    ("GetRealTimeAnalytics", |both| Box::pin(real_time(both))),
    ("GetUserAnalytics", |both| Box::pin(user(both))),
    ("GetFunnelAnalysis", |both| Box::pin(funnel(both))),
    ("GetFunnelUsers", |both| Box::pin(funnel_users(both))),
    ("GetRetention", |both| Box::pin(retention(both))),
    ("GetPaths", |both| Box::pin(paths(both))),
    ("GetSessions", |both| Box::pin(sessions(both))),
    ("GetStickiness", |both| Box::pin(stickiness(both))),
    ("GetLifecycle", |both| Box::pin(lifecycle(both))),
    ("GetTopValues", |both| Box::pin(top_values(both))),
    ("ListUsers", |both| Box::pin(list_users(both))),
    ("CreateCohort", |both| Box::pin(cohorts(both))),
    ("GetCohort", |both| Box::pin(cohorts(both))),
    ("ReplaceCohort", |both| Box::pin(cohorts(both))),
    ("DeleteCohort", |both| Box::pin(cohorts(both))),
    ("ListCohortUsers", |both| Box::pin(cohorts(both))),
    ("Subscribe", |both| Box::pin(subscribe(both))),
];

const NO_FILTER: &str = r#"{"field": "a", "op": "~", "value": 1}"#;

/// Fails unless both refuse, in the same words.
fn hold<T>(rest: &Answer, grpc: Result<Response<T>, Status>) {
    assert_eq!(rest.status, 400, "{}", rest.text);
    let detail = rest.json()["detail"].as_str().unwrap().to_owned();
    let Err(status) = grpc else { panic!("taken, and not over HTTP: {detail}") };
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, detail.as_str()));
}

/// Fails unless a call is refused, which the HTTP API has no like of.
fn refused<T>(grpc: Result<Response<T>, Status>, named: &str) {
    let Err(status) = grpc else { panic!("taken, and not because of {named}") };
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains(named), "{status}");
}

async fn get(both: &Both, target: &str) -> Answer {
    let target =
        target.replace("NO_FILTER", "%7B%22field%22:%22a%22,%22op%22:%22~%22,%22value%22:1%7D");
    both.api.get(&format!("/v1/analytics/{target}")).await
}

async fn post(both: &Both, target: &str, body: &Value) -> Answer {
    both.send("POST", &format!("/v1/analytics/{target}"), body).await
}

async fn summary(both: &Both) {
    type Request = v1::GetAnalyticsSummaryRequest;
    let mut client = both.client.clone();
    for (target, request) in [
        (
            "summary?where=NO_FILTER",
            Request { r#where: NO_FILTER.to_owned(), ..Default::default() },
        ),
        ("summary?where=%7B", Request { r#where: "{".to_owned(), ..Default::default() }),
        ("summary?at_least=soon", Request { at_least: "soon".to_owned(), ..Default::default() }),
        (
            "summary?at_least=p0-9999",
            Request { at_least: "p0-9999".to_owned(), ..Default::default() },
        ),
        ("summary?top=-1", Request { top: Some(-1), ..Default::default() }),
        ("summary?top=101", Request { top: Some(101), ..Default::default() }),
    ] {
        hold(&get(both, target).await, client.get_analytics_summary(request).await);
    }
    for time in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (-99_999_999_999, 0)] {
        let (seconds, nanos) = time;
        let end = Some(prost_types::Timestamp { seconds, nanos });
        let time_range = Some(v1::TimeRange { start: None, end });
        let request = Request { time_range, ..Default::default() };
        refused(client.get_analytics_summary(request).await, "`time_range.end` is no time");
    }
    let filters = (0..200).map(|at| (format!("p{at}"), "x".to_owned())).collect();
    let request = Request { filters, ..Default::default() };
    let target: String = (0..200).map(|at| format!("filters.p{at}=x&")).collect();
    hold(
        &get(both, &format!("summary?{target}")).await,
        client.get_analytics_summary(request).await,
    );
}

async fn series(both: &Both) {
    type Request = v1::GetTimeSeriesRequest;
    let mut client = both.client.clone();
    let metric = |metric: &str, property: &str| Request {
        metric: metric.to_owned(),
        property: property.to_owned(),
        ..Default::default()
    };
    let group_by = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let minute = v1::TimeGranularity::Minute.into();
    for (target, request) in [
        ("timeseries?metric=mode", metric("mode", "")),
        ("timeseries?metric=sum", metric("sum", "")),
        ("timeseries?metric=count&property=n", metric("count", "n")),
        ("timeseries?tz=Mars/Base", Request { tz: "Mars/Base".to_owned(), ..Default::default() }),
        (
            "timeseries?group_by=a&group_by=b&group_by=c",
            Request { group_by: group_by(&["a", "b", "c"]), ..Default::default() },
        ),
        ("timeseries?top=3", Request { top: 3, ..Default::default() }),
        ("timeseries?top=-3", Request { top: -3, ..Default::default() }),
        (
            "timeseries?compare=previous_period",
            Request { compare_previous_period: true, ..Default::default() },
        ),
        (
            "timeseries?group_by=cohort:lost",
            Request { group_by: group_by(&["cohort:lost"]), ..Default::default() },
        ),
        (
            "timeseries?granularity=minute&start=1970-01-01T00:00:00Z",
            Request {
                granularity: minute,
                time_range: Some(v1::TimeRange { start: Some(Default::default()), end: None }),
                ..Default::default()
            },
        ),
    ] {
        hold(&get(both, target).await, client.get_time_series(request).await);
    }
    let unknown = Request { granularity: 99, ..Default::default() };
    refused(client.get_time_series(unknown).await, "`granularity` is 99");
}

async fn real_time(both: &Both) {
    type Request = v1::GetRealTimeAnalyticsRequest;
    let mut client = both.client.clone();
    for window_seconds in [-1, 3_601] {
        let request = Request { window_seconds, ..Default::default() };
        refused(client.get_real_time_analytics(request).await, "`window_seconds` must be");
    }
    let request = Request { r#where: NO_FILTER.to_owned(), ..Default::default() };
    let target = "summary?where=NO_FILTER";
    hold(&get(both, target).await, client.get_real_time_analytics(request).await);
}

async fn user(both: &Both) {
    type Request = v1::GetUserAnalyticsRequest;
    let mut client = both.client.clone();
    let of = || Request { user_id: "u1".to_owned(), include_events: true, ..Default::default() };
    for (target, request) in [
        ("users/u1?limit=-1", Request { limit: -1, ..of() }),
        ("users/u1?limit=10001", Request { limit: 10_001, ..of() }),
        ("users/u1?tz=Mars", Request { tz: "Mars".to_owned(), ..of() }),
        ("users/u1?page_token=00", Request { page_token: "00".to_owned(), ..of() }),
        ("users/u1?where=NO_FILTER", Request { r#where: NO_FILTER.to_owned(), ..of() }),
    ] {
        hold(&get(both, target).await, client.get_user_analytics(request).await);
    }
    refused(client.get_user_analytics(Request::default()).await, "`user_id` is missing");
}

fn step(event_type: &str) -> v1::FunnelStep {
    v1::FunnelStep { event_type: event_type.to_owned(), ..Default::default() }
}

fn two_steps() -> v1::GetFunnelAnalysisRequest {
    v1::GetFunnelAnalysisRequest { steps: vec![step("a"), step("b")], ..Default::default() }
}

async fn funnel(both: &Both) {
    type Request = v1::GetFunnelAnalysisRequest;
    let mut client = both.client.clone();
    let steps = || json!([{"event_type": "a"}, {"event_type": "b"}]);
    let breakdown = |property: &str, step| {
        Some(v1::FunnelBreakdown { property: property.to_owned(), step, ..Default::default() })
    };
    let zero = Some(prost_types::Duration::default());
    let exclusion =
        v1::FunnelExclusion { event_type: "x".to_owned(), from_step: 3, ..Default::default() };
    let filtered = v1::FunnelStep { r#where: NO_FILTER.to_owned(), ..step("b") };
    let no_filter: Value = serde_json::from_str(NO_FILTER).unwrap();
    for (body, request) in [
        (json!({"steps": []}), Request::default()),
        (
            json!({"steps": [{"event_type": "a"}]}),
            Request { steps: vec![step("a")], ..Default::default() },
        ),
        (
            json!({"steps": [{"event_type": "a"}, {}]}),
            Request { steps: vec![step("a"), step("")], ..Default::default() },
        ),
        (
            json!({"steps": [{"event_type": "a"}, {"event_type": "b", "where": no_filter}]}),
            Request { steps: vec![step("a"), filtered], ..Default::default() },
        ),
        (
            json!({"steps": vec![json!({"event_type": "a"}); 21]}),
            Request { steps: vec![step("a"); 21], ..Default::default() },
        ),
        (json!({"steps": steps(), "window": "0s"}), Request { window: zero, ..two_steps() }),
        (
            json!({"steps": steps(), "step_timeout": "1h", "order": "any"}),
            Request {
                step_timeout: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
                order: v1::FunnelOrder::Any.into(),
                ..two_steps()
            },
        ),
        (
            json!({"steps": steps(), "exclusions": [{"event_type": "x", "from_step": 3}]}),
            Request { exclusions: vec![exclusion], ..two_steps() },
        ),
        (
            json!({"steps": steps(), "breakdown": {"property": ""}}),
            Request { breakdown: breakdown("", 0), ..two_steps() },
        ),
        (
            json!({"steps": steps(), "breakdown": {"property": "p", "step": 1}}),
            Request { breakdown: breakdown("p", 1), ..two_steps() },
        ),
    ] {
        hold(&post(both, "funnel", &body).await, client.get_funnel_analysis(request).await);
    }
    let request = Request { order: 9, ..two_steps() };
    refused(client.get_funnel_analysis(request).await, "`order` is 9");
}

async fn funnel_users(both: &Both) {
    type Request = v1::GetFunnelUsersRequest;
    let mut client = both.client.clone();
    let of = |step| Request { funnel: Some(two_steps()), step, ..Default::default() };
    let body = |more: Value| {
        let mut body = json!({"steps": [{"event_type": "a"}, {"event_type": "b"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, request) in [
        (json!({"steps": [], "step": 1}), Request { step: 1, ..Default::default() }),
        (body(json!({})), of(0)),
        (body(json!({"step": 3})), of(3)),
        (body(json!({"step": -1})), of(-1)),
        (body(json!({"step": 1, "limit": 10_001})), Request { limit: 10_001, ..of(1) }),
        (
            body(json!({"step": 1, "page_token": "x"})),
            Request { page_token: "x".to_owned(), ..of(1) },
        ),
    ] {
        hold(&post(both, "funnel/users", &body).await, client.get_funnel_users(request).await);
    }
}

async fn retention(both: &Both) {
    type Request = v1::GetRetentionRequest;
    let mut client = both.client.clone();
    let bad = || Some(v1::EventMatch { r#where: NO_FILTER.to_owned(), ..Default::default() });
    let no_filter: Value = serde_json::from_str(NO_FILTER).unwrap();
    for (body, request) in [
        (json!({"tz": "Mars"}), Request { tz: "Mars".to_owned(), ..Default::default() }),
        (
            json!({"return_event": {"where": no_filter}}),
            Request { return_event: bad(), ..Default::default() },
        ),
    ] {
        hold(&post(both, "retention", &body).await, client.get_retention(request).await);
    }
    let request = Request { mode: 3, ..Default::default() };
    refused(client.get_retention(request).await, "`mode` is 3");
    let request = Request { events: bad(), ..Default::default() };
    refused(client.get_retention(request).await, "`events.where.op` must be one of");
}

async fn paths(both: &Both) {
    type Request = v1::GetPathsRequest;
    let mut client = both.client.clone();
    let of = || Request { anchor: Some(v1::EventMatch::default()), ..Default::default() };
    let zero = Some(prost_types::Duration::default());
    for (body, request) in [
        (json!({}), Request::default()),
        (json!({"anchor": {}, "depth": 6}), Request { depth: 6, ..of() }),
        (json!({"anchor": {}, "limit": -1}), Request { limit: -1, ..of() }),
        (json!({"anchor": {}, "gap": "0s"}), Request { gap: zero, ..of() }),
    ] {
        hold(&post(both, "paths", &body).await, client.get_paths(request).await);
    }
}

async fn sessions(both: &Both) {
    type Request = v1::GetSessionsRequest;
    let mut client = both.client.clone();
    let backwards = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    for (target, request) in [
        ("sessions?gap=-1s", Request { gap: backwards, ..Default::default() }),
        ("sessions?limit=1001", Request { limit: 1_001, ..Default::default() }),
        ("sessions?tz=UTC", Request { tz: "UTC".to_owned(), ..Default::default() }),
    ] {
        hold(&get(both, target).await, client.get_sessions(request).await);
    }
}

async fn stickiness(both: &Both) {
    type Request = v1::GetStickinessRequest;
    let mut client = both.client.clone();
    let request = Request { tz: "Mars".to_owned(), ..Default::default() };
    hold(&get(both, "stickiness?tz=Mars").await, client.get_stickiness(request).await);
    let request = Request { period: -1, ..Default::default() };
    refused(client.get_stickiness(request).await, "`period` is -1");
}

async fn lifecycle(both: &Both) {
    let mut client = both.client.clone();
    let request = v1::GetLifecycleRequest { tz: "Mars".to_owned(), ..Default::default() };
    hold(&get(both, "lifecycle?tz=Mars").await, client.get_lifecycle(request).await);
}

async fn top_values(both: &Both) {
    type Request = v1::GetTopValuesRequest;
    let mut client = both.client.clone();
    hold(&get(both, "top").await, client.get_top_values(Request::default()).await);
    let request = Request { property: "plan".to_owned(), limit: 10_001, ..Default::default() };
    hold(&get(both, "top?property=plan&limit=10001").await, client.get_top_values(request).await);
}

async fn list_users(both: &Both) {
    type Request = v1::ListUsersRequest;
    let mut client = both.client.clone();
    for (body, request) in [
        (json!({"min_events": -1}), Request { min_events: -1, ..Default::default() }),
        (
            json!({"min_events": 3, "max_events": 2}),
            Request { min_events: 3, max_events: 2, ..Default::default() },
        ),
        (json!({"limit": 10_001}), Request { limit: 10_001, ..Default::default() }),
        (json!({"page_token": "x"}), Request { page_token: "x".to_owned(), ..Default::default() }),
    ] {
        hold(&post(both, "users", &body).await, client.list_users(request).await);
    }
}

async fn cohorts(both: &Both) {
    type Request = v1::CreateCohortRequest;
    let mut client = both.client.clone();
    let of = |id: &str, name: &str, definition: &str| Request {
        id: id.to_owned(),
        name: name.to_owned(),
        definition: definition.to_owned(),
    };
    let long = "n".repeat(1_000);
    for (body, request) in [
        (json!({"definition": {}}), of("", "", "{}")),
        (json!({"name": "n"}), of("", "n", "")),
        (json!({"name": long, "definition": {}}), of("", &long, "{}")),
        (json!({"id": "a b", "definition": {}}), of("a b", "", "{}")),
        (json!({"name": "n", "definition": {"x": 1}}), of("", "n", r#"{"x": 1}"#)),
        (json!({"name": "n", "definition": []}), of("", "n", "[]")),
    ] {
        hold(&both.send("POST", "/v1/cohorts", &body).await, client.create_cohort(request).await);
    }
    refused(client.create_cohort(of("", "n", "{")).await, "`definition` must be");

    client.create_cohort(of("kept", "", "{}")).await.unwrap();
    let replace = |definition: &str, if_version| v1::ReplaceCohortRequest {
        id: "kept".to_owned(),
        definition: definition.to_owned(),
        if_version,
        ..Default::default()
    };
    let rest = both.send("PUT", "/v1/cohorts/kept", &json!({"definition": {"x": 1}})).await;
    hold(&rest, client.replace_cohort(replace(r#"{"x": 1}"#, 0)).await);
    refused(client.replace_cohort(replace("{}", -1)).await, "`if_version` must be");
    let delete = v1::DeleteCohortRequest { id: "kept".to_owned(), if_version: -1 };
    refused(client.delete_cohort(delete.clone()).await, "`if_version` must be");
    let get = v1::GetCohortRequest { id: "kept".to_owned(), at_least: "soon".to_owned() };
    hold(&both.api.get("/v1/cohorts/kept?at_least=soon").await, client.get_cohort(get).await);
    let users =
        v1::ListCohortUsersRequest { id: "kept".to_owned(), limit: -1, ..Default::default() };
    hold(
        &both.api.get("/v1/cohorts/kept/users?limit=-1").await,
        client.list_cohort_users(users).await,
    );
    client.delete_cohort(v1::DeleteCohortRequest { if_version: 0, ..delete }).await.unwrap();
}

async fn subscribe(both: &Both) {
    use v1::subscribe_request::Question;
    type Request = v1::SubscribeRequest;
    let mut client = both.client.clone();
    refused(client.subscribe(Request::default()).await, "`question` is missing");
    let summary = v1::GetAnalyticsSummaryRequest { top: Some(-1), ..Default::default() };
    let question = Some(Question::Summary(summary));
    let request = Request { question: question.clone(), ..Default::default() };
    hold(&get(both, "summary?top=-1").await, client.subscribe(request).await);
    let request = Request { question, last_position: "soon".to_owned() };
    refused(client.subscribe(request).await, "`last_position` is no position");
}
