//! The older systems' routes, with the answers that their clients know.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, Api, NOW};

async fn visible(api: &Api) {
    // Anything that waits until all that was acknowledged can be queried.
    let event = json!([{"id": "barrier", "user_id": "barrier", "event_type": "barrier"}]);
    api.fill(&event).await;
}

fn told(answer: &Answer) -> (u16, &str, &str) {
    (answer.status.as_u16(), answer.header("content-type"), answer.text.as_str())
}

#[tokio::test]
async fn clicks_are_echoed_and_counted_once() {
    let api = Api::new();
    let click = concat!(
        r#"{"event_id":"c1","user_id":"u","event_type":"click","page_url":"https://a/b","#,
        r#""time_stamp":"2025-11-05T20:00:00+02:00"}"#,
    );
    for _ in 0..2 {
        let answer = api.post("/ingest", click).await;
        assert_eq!(told(&answer), (200, "application/json", format!("{click}\n").as_str()));
    }
    visible(&api).await;
    let counted = "{\"count\":1,\"page_url\":\"https://a/b\",\"user_id\":\"u\"}\n";
    let ask = Request::get("/analytics/events")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"USER_ID":"u","page_url":"https://a/b","x":[1]}"#));
    let answer = api.send(ask.unwrap()).await;
    assert_eq!(told(&answer), (200, "application/json", counted));
    let answer = api.get("/analytics/events?user_id=u&page_url=https%3A%2F%2Fa%2Fb").await;
    assert_eq!(told(&answer), (200, "application/json", counted));
    let answer = api.get("/analytics/events?user_id=nobody&page_url=x").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["count"]), (200, &json!(0)));
}

#[tokio::test]
async fn clicks_refuse_in_plain_text() {
    let api = Api::new();
    let plain = "text/plain; charset=utf-8";
    for bad in ["", "[]", "{", r#"{"event_id":1}"#] {
        let answer = api.post("/ingest", bad).await;
        assert_eq!(told(&answer), (400, plain, "invalid json body\n"), "{bad}");
    }
    let answer = api.get("/ingest").await;
    assert_eq!(told(&answer), (405, plain, "method not allowed\n"));
    assert_eq!(answer.header("allow"), "POST");
    let answer = api.post("/analytics/events", "{}").await;
    assert_eq!(told(&answer), (405, plain, "method not allowed\n"));
    let answer = api.get("/analytics/events").await;
    assert_eq!(told(&answer), (400, plain, "invalid json body\n"));
    assert_eq!(api.post("/ingest", "{}").await.status, 400);
}

#[tokio::test]
async fn platform_events_are_answered_as_the_producer_did() {
    let api = Api::new();
    let event = r#"{"id":"e1","user_id":"u","event_type":"page_view","properties":{"page":"/d"},"timestamp":1640995200,"source":"web"}"#;
    let answer = api.post("/events", event).await;
    assert_eq!(answer.status, 200);
    let wanted = json!({"success": true, "message": "Event sent successfully", "event_id": "e1"});
    assert_eq!(answer.json(), wanted);

    let answer = api.post("/events", r#"{"id":"e2"}"#).await;
    assert_eq!(answer.status, 400);
    let wanted =
        json!({"success": false, "message": "Event ID and type are required", "event_id": ""});
    assert_eq!(answer.json(), wanted);

    let answer = api.post("/events", "{").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (400, "text/plain; charset=utf-8")
    );
    assert!(answer.json()["error"].as_str().unwrap().starts_with("Invalid JSON: "));

    let answer = api.get("/events").await;
    assert_eq!(told(&answer), (405, "", ""));

    let answer = api.post("/events/async", r#"{"id":"e3","event_type":"t"}"#).await;
    assert_eq!(answer.status, 202);
    let message = "Event queued for async processing";
    assert_eq!(answer.json(), json!({"event_id": "e3", "message": message, "success": true}));

    visible(&api).await;
    let summary = api.get("/analytics/summary").await.json();
    assert_eq!(summary["total_events"], 3);
    assert_eq!(summary["total_users"], 3);
    assert_eq!(summary["events_by_type"]["page_view"], 1);
    assert_eq!(summary["last_updated"], NOW.seconds());
    let metric = &summary["top_metrics"][0];
    assert!(metric["name"].is_string() && metric["value"].is_number(), "{summary}");
}

#[tokio::test]
async fn platform_batches_tell_what_failed() {
    let api = Api::new();
    let batch = async |events: Value| {
        let answer = api.post("/events/batch", json!({"events": events}).to_string()).await;
        (answer.status.as_u16(), answer.json())
    };
    let event = |id: &str| json!({"id": id, "user_id": "u", "event_type": "t"});
    let (status, body) = batch(json!([event("a"), event("b")])).await;
    let wanted = json!({"success": true, "message": "Processed 2/2 events", "processed_count": 2, "failed_event_ids": null});
    assert_eq!((status, body), (200, wanted));

    let (status, body) = batch(json!([event("c"), event(&"x".repeat(300))])).await;
    assert_eq!((status, &body["success"]), (206, &json!(false)), "{body}");
    assert_eq!(body["message"], "Processed 1/2 events");
    assert_eq!(body["failed_event_ids"].as_array().unwrap().len(), 1);

    let (status, body) = batch(json!([])).await;
    assert_eq!((status, &body["message"]), (206, &json!("No events provided")));
    let many = vec![json!({}); 10_001];
    assert_eq!(batch(json!(many)).await.0, 413);
    assert_eq!(api.post("/events/batch", "nope").await.status, 400);
}

#[tokio::test]
async fn activities_are_answered_as_the_service_did() {
    let api = Api::new();
    let activity = r#"{"user_id":"1","activity_type":"page_view","timestamp":"2024-07-01T12:34:56Z","metadata":{"page_url":"https://a","referrer":""}}"#;
    let json = "application/json; charset=utf-8";
    let answer = api.post("/activity", activity).await;
    assert_eq!(told(&answer), (200, json, r#"{"message":"Activity published successfully"}"#));
    let answer = api.post("/activity", r#"{"user_id":"1"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, json));
    assert!(answer.json()["error"].as_str().unwrap().contains("'required' tag"));
    visible(&api).await;
    let count = api.get("/analytics/events?user_id=1&page_url=https://a").await;
    assert_eq!(count.json()["count"], 1);
}

#[tokio::test]
async fn session_events_get_202_and_nothing() {
    let api = Api::new();
    let event = r#"{"sessionId":"s","eventType":"page_view","payload":"{\"path\":\"/home\"}"}"#;
    assert_eq!(told(&api.post("/events", event).await), (202, "", ""));
    let answer = api.post("/events", r#"{"sessionId":"s","eventType":"t","payload":{}}"#).await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!((&body["status"], &body["path"]), (&json!(400), &json!("/events")));
    assert_eq!(body["error"], "Bad Request");
    assert!(body["timestamp"].is_string());
    visible(&api).await;
    let pages = api.get("/v1/analytics/top?property=page_url&event_type=page_view").await.json();
    assert_eq!(pages["values"][0]["value"], "/home", "{pages}");
}

#[tokio::test]
async fn only_the_dashboards_origin_is_allowed() {
    let api = Api::new();
    let send = async |method: &str, path: &str, origin: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("origin", origin)
            .header("access-control-request-headers", "content-type");
        api.send(request.body(Body::from("{}")).unwrap()).await
    };
    let (dashboard, allow) = ("http://localhost:5173", "access-control-allow-origin");
    let answer = send("OPTIONS", "/events", dashboard).await;
    assert_eq!((answer.status.as_u16(), answer.header(allow)), (200, dashboard));
    assert_eq!(answer.header("access-control-allow-headers"), "content-type");
    assert_eq!(send("POST", "/events", dashboard).await.header(allow), dashboard);
    for (path, origin) in
        [("/events", "https://evil"), ("/events", "null"), ("/v1/events", "https://evil")]
    {
        for method in ["OPTIONS", "POST"] {
            let answer = send(method, path, origin).await;
            let names = answer.headers.keys().map(http::HeaderName::as_str);
            let given: Vec<_> = names.filter(|name| name.starts_with("access-control")).collect();
            assert!(given.is_empty(), "{method} {path} {origin}: {given:?}");
        }
    }
}
