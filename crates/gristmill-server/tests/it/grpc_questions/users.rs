//! One user, many users and saved sets of them both ways.

use gristmill_proto::analytics::v1;
use serde_json::{Value, json};

use super::Both;
use super::events::Selected;
use super::shapes::{hold, lasting, maybe, maybe_time, span};

pub(super) async fn user(both: &Both, selected: &Selected) {
    let v1::EventMatch { event_types, filters, r#where } = selected.events();
    let mut client = both.client.clone();
    let parameters =
        [("include_sessions", "true"), ("limit", "7"), ("order", "asc"), ("tz", "Asia/Tokyo")];
    let mut rest = both.rest(&selected.target("/v1/analytics/users/u3", &parameters)).await;
    let mut request = v1::GetUserAnalyticsRequest {
        user_id: "u3".to_owned(),
        time_range: selected.range,
        include_sessions: true,
        include_events: true,
        event_types,
        filters,
        r#where,
        tz: "Asia/Tokyo".to_owned(),
        limit: 7,
        oldest_first: true,
        ..Default::default()
    };
    let answer = client.get_user_analytics(request.clone()).await.unwrap().into_inner();
    for event in rest["events"].as_array_mut().unwrap() {
        // Texts stand apart from the other properties.
        let properties = event["properties"].take();
        let (texts, others): (Vec<_>, Vec<_>) = properties
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .partition(|(_, one)| one.is_string());
        event["texts"] = texts.into_iter().collect();
        event["others"] = others.into_iter().collect();
        event.as_object_mut().unwrap().remove("properties");
    }
    hold(&rest, &user_shape(&answer), "user");
    // A token is good for both ways.
    if !answer.next_page_token.is_empty() {
        let mut parameters = parameters.to_vec();
        parameters.push(("page_token", answer.next_page_token.as_str()));
        let rest = both.rest(&selected.target("/v1/analytics/users/u3", &parameters)).await;
        request.page_token.clone_from(&answer.next_page_token);
        let next = client.get_user_analytics(request).await.unwrap().into_inner();
        let ids: Vec<_> = next.events.iter().map(|event| json!(event.id)).collect();
        let expected: Vec<_> =
            rest["events"].as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
        assert_eq!(ids, expected);
    }
}

fn user_shape(answer: &v1::GetUserAnalyticsResponse) -> Value {
    let profile = answer.user_profile.as_ref().unwrap();
    let metrics = answer.metrics.as_ref().unwrap();
    let page = |page: &v1::UserPage| json!({"page_url": page.page_url, "count": page.events});
    let session = |session: &v1::UserSession| {
        json!({
            "session_id": session.session_id,
            "start_time": maybe_time(session.start_time.as_ref()),
            "end_time": maybe_time(session.end_time.as_ref()),
            "event_count": session.event_count,
            "duration": span(session.duration.as_ref()),
        })
    };
    let event = |event: &v1::Event| {
        let others = if event.properties_json.is_empty() { "{}" } else { &event.properties_json };
        json!({
            "id": event.id,
            "user_id": event.user_id,
            "session_id": maybe(&event.session_id),
            "event_type": event.r#type,
            "timestamp": maybe_time(event.timestamp.as_ref()),
            "source": event.source,
            "page_url": event.page_url,
            "texts": event.properties,
            "others": serde_json::from_str::<Value>(others).unwrap(),
        })
    };
    json!({
        "user_profile": {
            "user_id": profile.user_id,
            "first_seen": maybe_time(profile.first_seen.as_ref()),
            "last_seen": maybe_time(profile.last_seen.as_ref()),
            "total_sessions": profile.total_sessions,
            "total_events": profile.total_events,
            "attributes": profile.attributes,
        },
        "metrics": {
            "engagement_score": metrics.engagement_score,
            "days_active": metrics.days_active,
            "avg_session_duration": metrics.avg_session_duration,
            "total_transactions": metrics.total_transactions,
            "total_revenue": metrics.total_revenue,
            "top_pages": metrics.top_pages.iter().map(page).collect::<Vec<_>>(),
        },
        "sessions": answer.sessions.iter().map(session).collect::<Vec<_>>(),
        "events": answer.events.iter().map(event).collect::<Vec<_>>(),
        "next_page_token": maybe(&answer.next_page_token),
        "previous_page_token": maybe(&answer.previous_page_token),
    })
}

pub(super) async fn list_users(both: &Both, selected: &Selected) {
    let mut client = both.client.clone();
    let mut body = selected
        .body(json!({"min_events": 2, "max_events": 60, "order_by": "last_seen", "limit": 5}));
    let mut request = v1::ListUsersRequest {
        time_range: selected.range,
        events: Some(selected.events()),
        min_events: 2,
        max_events: 60,
        order_by: v1::UserOrder::LastSeen.into(),
        limit: 5,
        ..Default::default()
    };
    loop {
        let rest = both.posted("/v1/analytics/users", &body).await;
        let answer = client.list_users(request.clone()).await.unwrap().into_inner();
        let user = |user: &v1::ListedUser| {
            json!({"user_id": user.user_id, "events": user.events,
                "first_seen": maybe_time(user.first_seen.as_ref()),
                "last_seen": maybe_time(user.last_seen.as_ref())})
        };
        let shape = json!({
            "users": answer.users.iter().map(user).collect::<Vec<_>>(),
            "total_users": answer.total_users,
            "next_page_token": maybe(&answer.next_page_token),
        });
        hold(&lasting(rest), &shape, "users");
        if answer.next_page_token.is_empty() {
            return;
        }
        body["page_token"] = json!(answer.next_page_token);
        request.page_token = answer.next_page_token;
    }
}

fn cohort_shape(cohort: &v1::Cohort) -> Value {
    let mut shape = json!({"id": cohort.id, "name": cohort.name, "version": cohort.version});
    if !cohort.definition.is_empty() {
        shape["definition"] = serde_json::from_str(&cohort.definition).unwrap();
    }
    if let Some(size) = cohort.size {
        shape["size"] = json!(size);
    }
    shape
}

/// A cohort's whole life, made and changed the one way and seen the other.
pub(super) async fn cohorts(both: &Both) {
    let mut client = both.client.clone();
    let definition = json!({"event_type": "buy", "min_count": 3});
    let create = v1::CreateCohortRequest {
        name: "Good Buyers".to_owned(),
        definition: definition.to_string(),
        ..Default::default()
    };
    let created = client.create_cohort(create).await.unwrap().into_inner();
    let path = "/v1/cohorts/good-buyers";
    let mut seen = both.rest(path).await;
    let get = v1::GetCohortRequest { id: "good-buyers".to_owned(), ..Default::default() };
    let got = client.get_cohort(get.clone()).await.unwrap().into_inner();
    hold(&seen, &cohort_shape(&got), "cohort");
    seen.as_object_mut().unwrap().remove("size");
    hold(&seen, &cohort_shape(&created), "created cohort");

    let listed = client.list_cohorts(v1::ListCohortsRequest {}).await.unwrap().into_inner();
    let shape = json!({"cohorts": listed.cohorts.iter().map(cohort_shape).collect::<Vec<_>>()});
    hold(&both.rest("/v1/cohorts").await, &shape, "cohorts");

    let mut request =
        v1::ListCohortUsersRequest { id: "good-buyers".to_owned(), limit: 3, ..Default::default() };
    loop {
        let page = client.list_cohort_users(request.clone()).await.unwrap().into_inner();
        let rest = both.rest(&format!("{path}/users?limit=3&after={}", request.after)).await;
        let shape = json!({"users": page.users, "size": page.size, "next": maybe(&page.next)});
        hold(&rest, &shape, "cohort's users");
        if page.next.is_empty() {
            break;
        }
        request.after = page.next;
    }

    let replace = v1::ReplaceCohortRequest {
        id: "good-buyers".to_owned(),
        name: "Best".to_owned(),
        definition: json!({"not": definition}).to_string(),
        if_version: created.version,
    };
    let replaced = client.replace_cohort(replace.clone()).await.unwrap().into_inner();
    let mut seen = both.rest(path).await;
    seen.as_object_mut().unwrap().remove("size");
    hold(&seen, &cohort_shape(&replaced), "replaced cohort");
    // The version has moved on.
    let stale = client.replace_cohort(replace).await.unwrap_err();
    let delete =
        v1::DeleteCohortRequest { id: "good-buyers".to_owned(), if_version: created.version };
    let stale_too = client.delete_cohort(delete.clone()).await.unwrap_err();
    let aborted = (tonic::Code::Aborted, tonic::Code::Aborted);
    assert_eq!((stale.code(), stale_too.code()), aborted);

    let delete = v1::DeleteCohortRequest { if_version: 0, ..delete };
    client.delete_cohort(delete).await.unwrap();
    assert_eq!(both.api.get(path).await.status, 404);
    assert_eq!(client.get_cohort(get).await.unwrap_err().code(), tonic::Code::NotFound);
}
