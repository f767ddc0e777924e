//! Other analyses both ways.

use gristmill_proto::analytics::v1;
use serde_json::{Value, json};

use super::Both;
use super::events::Selected;
use super::shapes::{hold, lasting, maybe_time, span};

pub(super) async fn retention(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let body = selected.body(json!({
        "start_event": {"event_type": "view", "filters": {"source": "test"}},
        "return_event": {"where": {"field": "event_type", "op": "!=", "value": "view"}},
        "granularity": "day", "tz": "Europe/Berlin", "mode": "recurring", "counting": "rolling",
    }));
    let rest = both.posted("/v1/analytics/retention", &body).await;
    let request = v1::GetRetentionRequest {
        time_range: selected.range,
        events: Some(selected.events()),
        start_event: Some(v1::EventMatch {
            event_types: vec!["view".to_owned()],
            filters: [("source".to_owned(), "test".to_owned())].into(),
            ..Default::default()
        }),
        return_event: Some(v1::EventMatch {
            r#where: r#"{"field": "event_type", "op": "!=", "value": "view"}"#.to_owned(),
            ..Default::default()
        }),
        tz: "Europe/Berlin".to_owned(),
        mode: v1::RetentionMode::Recurring.into(),
        counting: v1::RetentionCounting::Rolling.into(),
        ..Default::default()
    };
    let answer = client.get_retention(request).await.unwrap().into_inner();
    let cohort = |cohort: &v1::RetentionCohort| {
        json!({"start": maybe_time(cohort.start.as_ref()), "users": cohort.users,
            "retained": cohort.retained, "rates": cohort.rates})
    };
    let shape = json!({"cohorts": answer.cohorts.iter().map(cohort).collect::<Vec<_>>()});
    hold(&lasting(rest), &shape, "retention");
}

pub(super) async fn paths(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let body = selected.body(json!({
        "anchor": {"event_type": "view"}, "direction": "before", "depth": 4, "step": "page_url",
        "limit": 3, "gap": "36h", "collapse_repeats": false, "occurrences": "first",
    }));
    let rest = both.posted("/v1/analytics/paths", &body).await;
    let request = v1::GetPathsRequest {
        time_range: selected.range,
        events: Some(selected.events()),
        anchor: Some(v1::EventMatch { event_types: vec!["view".to_owned()], ..Default::default() }),
        direction: v1::PathDirection::Before.into(),
        depth: 4,
        step: "page_url".to_owned(),
        limit: 3,
        gap: Some(prost_types::Duration { seconds: 36 * 3_600, nanos: 0 }),
        keep_repeats: true,
        occurrences: v1::PathOccurrences::First.into(),
        ..Default::default()
    };
    let answer = client.get_paths(request).await.unwrap().into_inner();
    let levels = answer.levels.iter().enumerate();
    let nodes = answer.nodes.iter().enumerate();
    let shape = json!({
        "unique_users": answer.unique_users,
        "levels": levels.map(|(level, at)| json!({"level": level, "count": at.count, "ended": at.ended}))
            .collect::<Vec<_>>(),
        "nodes": nodes.map(|(id, node)| json!({"id": id, "level": node.level, "value": node.value,
            "count": node.count, "unique_users": node.unique_users, "ended": node.ended}))
            .collect::<Vec<_>>(),
        "edges": answer.edges.iter().map(|edge| json!({"from": edge.from, "to": edge.to,
            "level": answer.nodes[edge.to as usize].level, "count": edge.count}))
            .collect::<Vec<_>>(),
    });
    hold(&lasting(rest), &shape, "paths");
}

fn totals_shape(totals: &v1::SessionTotals) -> Value {
    json!({
        "sessions": totals.sessions,
        "events": totals.events,
        "page_views": totals.page_views,
        "events_per_session": totals.events_per_session,
        "pages_per_session": totals.pages_per_session,
        "bounces": totals.bounces,
        "bounce_rate": totals.bounce_rate,
        "avg_duration": span(totals.avg_duration.as_ref()),
    })
}

pub(super) async fn sessions(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let parameters = [
        ("gap", "2h"),
        ("limit", "2"),
        ("granularity", "day"),
        ("tz", "Asia/Tokyo"),
        ("group_by", "page_url"),
    ];
    let rest = both.rest(&selected.target("/v1/analytics/sessions", &parameters)).await;
    let request = v1::GetSessionsRequest {
        time_range: selected.range,
        events: Some(selected.events()),
        gap: Some(prost_types::Duration { seconds: 7_200, nanos: 0 }),
        limit: 2,
        granularity: v1::TimeGranularity::Day.into(),
        tz: "Asia/Tokyo".to_owned(),
        group_by: "page_url".to_owned(),
        ..Default::default()
    };
    let answer = client.get_sessions(request).await.unwrap().into_inner();
    let page = |page: &v1::SessionPage| {
        json!({"page_url": page.page_url, "sessions": page.sessions,
            "unique_users": page.unique_users})
    };
    let pages = |pages: &[v1::SessionPage]| pages.iter().map(page).collect::<Vec<_>>();
    let with = |totals: &Option<v1::SessionTotals>, name: &str, value: Value| {
        let mut shape = totals_shape(totals.as_ref().unwrap());
        shape[name] = value;
        shape
    };
    let bucket = |bucket: &v1::SessionBucket| {
        with(&bucket.totals, "timestamp", maybe_time(bucket.timestamp.as_ref()))
    };
    let group = |group: &v1::SessionGroup| with(&group.totals, "value", json!(group.value));
    let mut shape = totals_shape(answer.totals.as_ref().unwrap());
    shape["unique_users"] = json!(answer.unique_users);
    shape["median_duration"] = span(answer.median_duration.as_ref());
    shape["p95_duration"] = span(answer.p95_duration.as_ref());
    shape["entry_pages"] = json!(pages(&answer.entry_pages));
    shape["exit_pages"] = json!(pages(&answer.exit_pages));
    shape["series"] = answer.series.iter().map(bucket).collect();
    shape["groups"] = answer.groups.iter().map(group).collect();
    if let Some(other) = &answer.other_groups {
        shape["other_groups"] = totals_shape(other);
    }
    hold(&lasting(rest), &shape, "sessions");
}

pub(super) async fn stickiness(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    for (period, name) in
        [(v1::StickinessPeriod::Unspecified, "week"), (v1::StickinessPeriod::Month, "month")]
    {
        let parameters = [("period", name), ("tz", "Asia/Tokyo")];
        let rest = both.rest(&selected.target("/v1/analytics/stickiness", &parameters)).await;
        let request = v1::GetStickinessRequest {
            time_range: selected.range,
            events: Some(selected.events()),
            period: period.into(),
            tz: "Asia/Tokyo".to_owned(),
            ..Default::default()
        };
        let answer = client.get_stickiness(request).await.unwrap().into_inner();
        let period = |period: &v1::PeriodActivity| {
            json!({
                "start": maybe_time(period.start.as_ref()),
                "days": period.exactly.len(),
                "active_users": period.active_users,
                "avg_daily_users": period.avg_daily_users,
                "stickiness": period.stickiness,
                "exactly": period.exactly,
                "at_least": period.at_least,
            })
        };
        let shape = json!({"periods": answer.periods.iter().map(period).collect::<Vec<_>>()});
        hold(&lasting(rest), &shape, name);
    }
}

pub(super) async fn lifecycle(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let parameters = [("granularity", "week"), ("tz", "Asia/Tokyo")];
    let rest = both.rest(&selected.target("/v1/analytics/lifecycle", &parameters)).await;
    let request = v1::GetLifecycleRequest {
        time_range: selected.range,
        events: Some(selected.events()),
        granularity: v1::TimeGranularity::Week.into(),
        tz: "Asia/Tokyo".to_owned(),
        ..Default::default()
    };
    let answer = client.get_lifecycle(request).await.unwrap().into_inner();
    let bucket = |bucket: &v1::LifecycleBucket| {
        json!({"start": maybe_time(bucket.start.as_ref()), "new": bucket.new,
            "returning": bucket.returning, "resurrecting": bucket.resurrecting,
            "dormant": bucket.dormant})
    };
    let shape = json!({"buckets": answer.buckets.iter().map(bucket).collect::<Vec<_>>()});
    hold(&lasting(rest), &shape, "lifecycle");
}

pub(super) async fn top_values(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let parameters = [("property", "page_url"), ("limit", "4")];
    let rest = both.rest(&selected.target("/v1/analytics/top", &parameters)).await;
    let request = v1::GetTopValuesRequest {
        time_range: selected.range,
        events: Some(selected.events()),
        property: "page_url".to_owned(),
        limit: 4,
        ..Default::default()
    };
    let answer = client.get_top_values(request).await.unwrap().into_inner();
    let value = |value: &v1::TopValue| json!({"value": value.value, "count": value.count, "unique_users": value.unique_users});
    let shape = json!({"values": answer.values.iter().map(value).collect::<Vec<_>>()});
    hold(&lasting(rest), &shape, "top");
}
