//! The same question both ways, for each method.

use std::pin::Pin;

use gristmill_proto::analytics::v1;
use serde_json::{Value, json};

use super::Both;
use super::events::Selected;
use super::folds::{lifecycle, paths, retention, sessions, stickiness, top_values};
use super::funnels::{funnel, funnel_shape, funnel_users, whole_funnel};
use super::shapes::{hold, lasting, maybe_time, time};
use super::users::{cohorts, list_users, user};

type Asked<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Case = for<'a> fn(&'a Both, &'a Selected) -> Asked<'a>;

/// The methods, each with what holds it against the HTTP API.
pub(super) const ALL: &[(&str, Case)] = &[
    ("GetAnalyticsSummary", |both, selected| Box::pin(summary(both, selected))),
    ("GetTimeSeries", |both, selected| Box::pin(series(both, selected))),
    ("GetRealTimeAnalytics", |both, selected| Box::pin(real_time(both, selected))),
    ("GetUserAnalytics", |both, selected| Box::pin(user(both, selected))),
    ("GetFunnelAnalysis", |both, selected| Box::pin(funnel(both, selected))),
    ("Health", |both, _| Box::pin(health(both))),
    ("GetFunnelUsers", |both, selected| Box::pin(funnel_users(both, selected))),
    ("GetRetention", |both, selected| Box::pin(retention(both, selected))),
    ("GetPaths", |both, selected| Box::pin(paths(both, selected))),
    ("GetSessions", |both, selected| Box::pin(sessions(both, selected))),
    ("GetStickiness", |both, selected| Box::pin(stickiness(both, selected))),
    ("GetLifecycle", |both, selected| Box::pin(lifecycle(both, selected))),
    ("GetTopValues", |both, selected| Box::pin(top_values(both, selected))),
    ("ListUsers", |both, selected| Box::pin(list_users(both, selected))),
    ("CreateCohort", |both, _| Box::pin(cohorts(both))),
    ("GetCohort", |both, _| Box::pin(cohorts(both))),
    ("ListCohorts", |both, _| Box::pin(cohorts(both))),
    ("ReplaceCohort", |both, _| Box::pin(cohorts(both))),
    ("DeleteCohort", |both, _| Box::pin(cohorts(both))),
    ("ListCohortUsers", |both, _| Box::pin(cohorts(both))),
    ("Subscribe", |both, selected| Box::pin(subscribe(both, selected))),
];

fn summary_request(selected: &Selected) -> v1::GetAnalyticsSummaryRequest {
    let v1::EventMatch { event_types, filters, r#where } = selected.events();
    let time_range = selected.range;
    v1::GetAnalyticsSummaryRequest {
        time_range,
        event_types,
        filters,
        r#where,
        ..Default::default()
    }
}

fn summary_shape(answer: &v1::AnalyticsSummary) -> Value {
    let metric = |metric: &v1::TopMetric| {
        json!({"name": metric.name, "value": metric.value, "unit": metric.unit,
            "change_percentage": metric.is_compared.then_some(metric.change_percentage)})
    };
    json!({
        "total_events": answer.total_events,
        "unique_users": answer.unique_users,
        "sessions": answer.sessions,
        "events_by_type": answer.events_by_type,
        "top_metrics": answer.top_metrics.iter().map(metric).collect::<Vec<_>>(),
        "first_event": maybe_time(answer.first_event.as_ref()),
        "last_event": maybe_time(answer.last_event.as_ref()),
    })
}

async fn summary(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    for (group_by, top) in
        [("", None), ("event_type", Some(2)), ("plan", Some(0)), ("plan", Some(2))]
    {
        let number = top.map(|top: i32| top.to_string());
        let mut parameters = vec![];
        parameters.extend(number.as_deref().map(|top| ("top", top)));
        parameters.extend((!group_by.is_empty()).then_some(("group_by", group_by)));
        let rest = both.rest(&selected.target("/v1/analytics/summary", &parameters)).await;
        let group_by = group_by.to_owned();
        let request = v1::GetAnalyticsSummaryRequest { group_by, top, ..summary_request(selected) };
        let answer = client.get_analytics_summary(request).await.unwrap().into_inner();
        let metadata = answer.metadata.as_ref().unwrap();
        assert!(metadata.processing_time.is_some() && answer.last_updated.is_some());
        assert_eq!(
            maybe_time(metadata.time_range.as_ref().unwrap().end.as_ref()),
            rest["metadata"]["time_range"]["end"]
        );
        hold(&lasting(rest), &summary_shape(&answer), "summary");
    }
}

fn series_request(selected: &Selected) -> v1::GetTimeSeriesRequest {
    let v1::EventMatch { event_types, filters, r#where } = selected.events();
    let time_range = selected.range;
    v1::GetTimeSeriesRequest { time_range, event_types, filters, r#where, ..Default::default() }
}

fn series_shape(answer: &v1::GetTimeSeriesResponse, is_compared: bool) -> Value {
    let point = |point: &v1::TimeSeriesData| {
        let mut shape = json!({
            "timestamp": maybe_time(point.timestamp.as_ref()),
            "value": (!point.has_no_value).then_some(point.value),
            "labels": point.labels,
        });
        if point.is_other {
            shape["other"] = json!(true);
        }
        if is_compared {
            let is_before = point.compared_with.is_some();
            shape["period"] = json!(if is_before { "previous" } else { "current" });
        }
        if let Some(at) = &point.compared_with {
            shape["compared_with"] = json!(time(at));
        }
        shape
    };
    json!({"series": answer.series.iter().map(point).collect::<Vec<_>>()})
}

async fn series(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let target = |parameters: &[_]| selected.target("/v1/analytics/timeseries", parameters);
    let plain = both.rest(&target(&[])).await;
    let answer = client.get_time_series(series_request(selected)).await.unwrap().into_inner();
    let metadata = answer.metadata.as_ref().unwrap();
    assert_eq!(json!(metadata.metric), plain["metadata"]["metric"]);
    assert_eq!(metadata.granularity(), v1::TimeGranularity::Day);
    assert_eq!(json!(metadata.data_points), plain["metadata"]["data_points"]);
    hold(&lasting(plain), &series_shape(&answer, false), "series");

    let cumulative = [
        ("metric", "p90"),
        ("property", "price"),
        ("granularity", "week"),
        ("tz", "America/Sao_Paulo"),
        ("group_by", "plan"),
        ("group_by", "page_url"),
        ("top", "3"),
        ("cumulative", "true"),
    ];
    let rest = both.rest(&target(&cumulative)).await;
    let request = v1::GetTimeSeriesRequest {
        metric: "p90".to_owned(),
        property: "price".to_owned(),
        granularity: v1::TimeGranularity::Week.into(),
        tz: "America/Sao_Paulo".to_owned(),
        group_by: vec!["plan".to_owned(), "page_url".to_owned()],
        top: 3,
        cumulative: true,
        ..series_request(selected)
    };
    let answer = client.get_time_series(request).await.unwrap().into_inner();
    hold(&lasting(rest), &series_shape(&answer, false), "series by two");

    if selected.range.is_some_and(|range| range.start.is_some()) {
        let compare = [("metric", "avg"), ("property", "price"), ("compare", "previous_period")];
        let rest = both.rest(&target(&compare)).await;
        let request = v1::GetTimeSeriesRequest {
            metric: "avg".to_owned(),
            property: "price".to_owned(),
            compare_previous_period: true,
            ..series_request(selected)
        };
        let answer = client.get_time_series(request).await.unwrap().into_inner();
        hold(&lasting(rest), &series_shape(&answer, true), "series compared");
    }
}

/// No random event is new: all that can be the same is that there is none. What the numbers are
/// has a test of its own.
async fn real_time(both: &Both, selected: &Selected) {
    let v1::EventMatch { event_types, filters, r#where } = selected.events();
    let request =
        v1::GetRealTimeAnalyticsRequest { event_types, filters, r#where, ..Default::default() };
    let mut client = both.client.clone();
    let mut stream = client.get_real_time_analytics(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    let rest = both.rest("/v1/analytics/summary?start=2025-12-31T23:59:00Z&end=1767225601").await;
    assert_eq!(rest["total_events"], 0);
    let numbers: Vec<_> =
        first.metrics.iter().map(|metric| (metric.name.as_str(), metric.value)).collect();
    let expected = ["total_events", "events_per_second", "unique_users"].map(|name| (name, 0.0));
    assert_eq!(numbers, expected);
}

/// The first answer is the plain one.
async fn subscribe(both: &Both, selected: &Selected) {
    use v1::subscribe_request::Question;
    use v1::subscribe_response::Answer;
    let mut client = both.client.clone();
    let (body, funnel) = whole_funnel(selected);
    for question in [
        Question::Summary(summary_request(selected)),
        Question::TimeSeries(series_request(selected)),
        Question::Funnel(funnel),
    ] {
        let request = v1::SubscribeRequest { question: Some(question), ..Default::default() };
        let mut stream = client.subscribe(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert!(first.position.starts_with('p'), "{}", first.position);
        match first.answer.unwrap() {
            Answer::Summary(answer) => {
                let rest = both.rest(&selected.target("/v1/analytics/summary", &[])).await;
                hold(&lasting(rest), &summary_shape(&answer), "live summary");
            }
            Answer::TimeSeries(answer) => {
                let rest = both.rest(&selected.target("/v1/analytics/timeseries", &[])).await;
                hold(&lasting(rest), &series_shape(&answer, false), "live series");
            }
            Answer::Funnel(answer) => {
                let rest = both.posted("/v1/analytics/funnel", &body).await;
                let repeated = json!({"property": "plan", "attribution": "step", "step": 2});
                hold(&lasting(rest), &funnel_shape(&answer, repeated), "live funnel");
            }
        }
    }
}

async fn health(both: &Both) {
    let mut client = both.client.clone();
    let answer = client.health(()).await.unwrap().into_inner();
    let rest = both.rest("/v1/analytics/health").await;
    assert_eq!(json!(answer.healthy), rest["healthy"]);
    assert_eq!(json!(answer.status), rest["status"]);
    assert_eq!(answer.details["log"], "available");
    assert_eq!(json!(answer.details["store"]), rest["details"]["store"]);
    assert!(answer.services.iter().all(|service| service.healthy));
    assert!(answer.timestamp.is_some());
}
