//! What a process answers that has some of the roles.

use axum::body::Body;
use gristmill_server::{Front, Parts, Role, ServerConfig};
use http::Request;

use crate::support::{Answer, Platform, ingest_config};

/// The routes of a process with these roles.
fn front(platform: &Platform, roles: &[Role]) -> Front {
    let roles = roles.iter().copied().collect();
    Front::of(ServerConfig::default(), Parts::Services(platform.services.clone(), roles, None))
}

async fn get(front: &Front, target: &str) -> Answer {
    let request = Request::get(target).header("host", "a").body(Body::empty()).unwrap();
    Answer::read(front.answer(request).await).await
}

async fn post(front: &Front, target: &str) -> Answer {
    let event = Body::from(r#"{"id":"1","user_id":"u","event_type":"t"}"#);
    let request = Request::post(target).header("host", "a");
    let request = request.header("content-type", "application/json").body(event).unwrap();
    Answer::read(front.answer(request).await).await
}

#[tokio::test]
async fn a_route_of_another_role_is_not_here_and_says_whose_it_is() {
    let platform = Platform::new(ingest_config());
    let ingest = front(&platform, &[Role::Ingest]);
    let query = front(&platform, &[Role::Query]);
    let process = front(&platform, &[Role::Process]);
    assert_eq!(post(&ingest, "/v1/events").await.status, 200);
    assert_eq!(post(&ingest, "/events").await.status, 200);
    assert_eq!(get(&query, "/v1/analytics/summary").await.status, 200);
    assert_eq!(get(&query, "/analytics/summary").await.status, 200);
    for (front, target, role) in [
        (&query, "/v1/events", "ingest"),
        (&process, "/v1/events/batch", "ingest"),
        (&process, "/activity", "ingest"),
        (&ingest, "/v1/analytics/funnel", "query"),
        (&process, "/v1/cohorts", "query"),
    ] {
        let answer = post(front, target).await;
        assert_eq!((answer.status.as_u16(), answer.json()["status"].clone()), (404, 404.into()));
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(&format!("the role `{role}`")), "{target}: {detail}");
    }
    // Nothing at all is something else.
    let nothing = get(&query, "/v1/nothing").await;
    assert!(!nothing.text.contains("role"), "{}", nothing.text);
    for front in [&ingest, &query, &process] {
        for target in ["/health", "/ready", "/livez", "/readyz", "/stats", "/lag", "/metrics"] {
            assert_eq!(get(front, target).await.status, 200, "{target}");
        }
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_roles() {
    let mut platform = Platform::stalled(ingest_config());
    let ingest = front(&platform, &[Role::Ingest]);
    assert_eq!(post(&ingest, "/v1/events").await.status, 200);
    // Only a processor has to settle what is in the log.
    let all = [Role::Ingest, Role::Process, Role::Query];
    let cases = [(&all[..1], 200), (&all[2..], 200), (&all[1..2], 503), (&all[..], 503)];
    for (roles, status) in cases {
        let front = front(&platform, roles);
        for target in ["/ready", "/readyz"] {
            assert_eq!(get(&front, target).await.status, status, "{roles:?} {target}");
        }
    }
    platform.resume();
    platform.services.query.wait_for(&platform.services.ingest.durable()).await.unwrap();
    for roles in [&all[1..2], &all[..]] {
        assert_eq!(get(&front(&platform, roles), "/ready").await.status, 200, "{roles:?}");
    }
}
