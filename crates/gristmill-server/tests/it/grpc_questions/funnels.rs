//! Funnels both ways.

use gristmill_proto::analytics::v1;
use serde_json::{Value, json};

use super::Both;
use super::events::Selected;
use super::shapes::{hold, lasting, maybe, span};

/// A funnel with all there is, as both ways have it.
pub(super) fn whole_funnel(selected: &Selected) -> (Value, v1::GetFunnelAnalysisRequest) {
    let where_cheap = json!({"field": "price", "op": "<", "value": 45});
    let body = selected.body(json!({
        "steps": [{"name": "seen", "event_type": "view"},
            {"event_type": "cart", "where": where_cheap},
            {"event_type": "buy", "filters": {"source": "test"}}],
        "order": "ordered", "window": "6d", "step_timeout": "100h",
        "exclusions": [{"event_type": "purchase", "filters": {"plan": "team"}, "from_step": 2}],
        "breakdown": {"property": "plan", "attribution": "step", "step": 2, "top": 1},
    }));
    let step = |name: &str, event_type: &str| v1::FunnelStep {
        name: name.to_owned(),
        event_type: event_type.to_owned(),
        ..Default::default()
    };
    let duration = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let cheap = v1::FunnelStep { r#where: where_cheap.to_string(), ..step("", "cart") };
    let filters = [("source".to_owned(), "test".to_owned())].into();
    let exclusion = v1::FunnelExclusion {
        event_type: "purchase".to_owned(),
        filters: [("plan".to_owned(), "team".to_owned())].into(),
        from_step: 2,
        ..Default::default()
    };
    let v1::EventMatch { event_types, filters: equal, r#where } = selected.events();
    let request = v1::GetFunnelAnalysisRequest {
        steps: vec![step("seen", "view"), cheap, v1::FunnelStep { filters, ..step("", "buy") }],
        time_range: selected.range,
        filters: equal,
        step_timeout: duration(100 * 3_600),
        window: duration(6 * 86_400),
        r#where,
        event_types,
        order: v1::FunnelOrder::Ordered.into(),
        exclusions: vec![exclusion],
        breakdown: Some(v1::FunnelBreakdown {
            property: "plan".to_owned(),
            attribution: v1::FunnelAttribution::Step.into(),
            step: 2,
            top: 1,
        }),
        ..Default::default()
    };
    (body, request)
}

fn step_shape(step: &v1::FunnelStepResult) -> Value {
    json!({
        "name": step.name,
        "users": step.users,
        "conversion_rate": step.conversion_rate,
        "step_conversion_rate": step.step_conversion_rate,
        "drop_off": step.drop_off,
    })
}

pub(super) fn funnel_shape(answer: &v1::GetFunnelAnalysisResponse, breakdown: Value) -> Value {
    let bucket = |bucket: &v1::FunnelTimeBucket| json!({"below": span(bucket.below.as_ref()), "users": bucket.users});
    let step = |step: &v1::FunnelStepResult| {
        let buckets: Vec<_> = step.time_to_convert.iter().map(bucket).collect();
        let mut shape = step_shape(step);
        shape["avg_time_to_convert"] = span(step.avg_time_to_convert.as_ref());
        shape["median_time_to_convert"] = span(step.median_time_to_convert.as_ref());
        shape["time_to_convert"] = (!buckets.is_empty()).then_some(buckets).into();
        shape
    };
    let group = |group: &v1::FunnelGroup| {
        let steps: Vec<_> = group.steps.iter().map(step_shape).collect();
        json!({"steps": steps, "overall_conversion_rate": group.overall_conversion_rate})
    };
    let mut shape = json!({
        "steps": answer.steps.iter().map(step).collect::<Vec<_>>(),
        "overall_conversion_rate": answer.overall_conversion_rate,
        "overall_median_time_to_convert": span(answer.overall_median_time_to_convert.as_ref()),
    });
    let Value::Object(mut breakdown) = breakdown else { return shape };
    let (others, values): (Vec<_>, Vec<_>) =
        answer.groups.iter().partition(|group| group.other_values > 0);
    let value = |one: &v1::FunnelGroup| {
        let mut shape = group(one);
        shape["value"] = json!(one.value);
        shape
    };
    let other = others.first().map(|one| {
        let mut shape = group(one);
        shape["values"] = json!(one.other_values);
        shape
    });
    breakdown.insert("values".to_owned(), values.into_iter().map(value).collect());
    breakdown.insert("other".to_owned(), json!(other));
    shape["breakdown"] = Value::Object(breakdown);
    shape
}

pub(super) async fn funnel(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let (body, request) = whole_funnel(selected);
    let rest = both.posted("/v1/analytics/funnel", &body).await;
    let answer = client.get_funnel_analysis(request.clone()).await.unwrap().into_inner();
    let total_users = answer.metadata.as_ref().unwrap().total_users;
    assert_eq!(json!(total_users), rest["metadata"]["total_users"]);
    let repeated = json!({"property": "plan", "attribution": "step", "step": 2});
    hold(&lasting(rest), &funnel_shape(&answer, repeated), "funnel");

    for (order, name) in [(v1::FunnelOrder::Strict, "strict"), (v1::FunnelOrder::Any, "any")] {
        let steps = json!([{"event_type": "view"}, {"event_type": "buy"}]);
        let body = selected.body(json!({"steps": steps, "order": name}));
        let rest = both.posted("/v1/analytics/funnel", &body).await;
        let step = |event_type: &str| v1::FunnelStep {
            event_type: event_type.to_owned(),
            ..Default::default()
        };
        let plain = v1::GetFunnelAnalysisRequest {
            steps: vec![step("view"), step("buy")],
            order: order.into(),
            step_timeout: None,
            window: None,
            exclusions: Vec::new(),
            breakdown: None,
            ..request.clone()
        };
        let answer = client.get_funnel_analysis(plain).await.unwrap().into_inner();
        hold(&lasting(rest), &funnel_shape(&answer, Value::Null), name);
    }
}

pub(super) async fn funnel_users(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let (mut body, funnel) = whole_funnel(selected);
    body["step"] = json!(1);
    body["outcome"] = json!("dropped");
    body["limit"] = json!(2);
    let mut request = v1::GetFunnelUsersRequest {
        funnel: Some(funnel),
        step: 1,
        outcome: v1::FunnelOutcome::Dropped.into(),
        limit: 2,
        page_token: String::new(),
    };
    loop {
        let rest = both.posted("/v1/analytics/funnel/users", &body).await;
        let answer = client.get_funnel_users(request.clone()).await.unwrap().into_inner();
        let user = |user: &v1::FunnelUser| json!({"user_id": user.user_id, "reached_step": user.reached_step, "value": user.value});
        let shape = json!({
            "users": answer.users.iter().map(user).collect::<Vec<_>>(),
            "next_page_token": maybe(&answer.next_page_token),
        });
        hold(&lasting(rest), &shape, "funnel users");
        if answer.next_page_token.is_empty() {
            return;
        }
        body["page_token"] = json!(answer.next_page_token);
        request.page_token = answer.next_page_token;
    }
}
