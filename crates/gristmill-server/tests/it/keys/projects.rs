//! Two projects over one store never see each other, whatever route is asked.

use std::collections::BTreeSet;

use gristmill_server::needs_of_paths;
use serde_json::{Value, json};

use super::Keyed;
use crate::support::{ADMIN_KEY, Answer};

/// What only the first project has: as user, session, page, source, type, property and value.
const MARK: &str = "marked";

struct Two {
    keyed: Keyed,
    /// A key of the project that has marked events.
    marked: String,
    /// A key of a project that has others.
    plain: String,
}

impl Two {
    async fn new() -> Self {
        let keyed = Keyed::new();
        let (marked, _) = keyed.key("one", &["admin"]).await;
        let (plain, _) = keyed.key("two", &["admin"]).await;
        let two = Self { keyed, marked, plain };
        two.fill(&two.marked, MARK).await;
        two.fill(&two.plain, "plain").await;
        two
    }

    /// The same events, ids included, with other words in them.
    async fn fill(&self, key: &str, word: &str) {
        let carried =
            json!({"name": "c", "metrics": [{"name": format!("{word}_metric"), "value": 1}]});
        let event = |id: &str, time: &str| {
            json!({"id": id, "user_id": format!("{word}-user"), "event_type": format!("{word}-type"),
                "session_id": format!("{word}-session"), "page_url": format!("/{word}"),
                "source": format!("{word}-source"), "timestamp": time,
                "properties": {"word": format!("{word}-value"), format!("{word}_name"): 1,
                    "custom_event": carried}})
        };
        let events =
            json!([event("1", "2025-12-01T00:00:00Z"), event("2", "2025-12-02T00:00:00Z")]);
        let answer = self.keyed.post(key, "/v1/events/batch?wait=visible", &events).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for result in answer.json()["results"].as_array().unwrap() {
            // The same ids are no duplicates in another project.
            assert_eq!(result["status"], "stored", "{}", answer.text);
        }
        let definition = json!({"event_type": format!("{word}-type")});
        for id in ["shared", word] {
            let cohort =
                json!({"id": id, "name": format!("{word}-cohort"), "definition": definition});
            assert_eq!(self.keyed.post(key, "/v1/cohorts", &cohort).await.status, 201);
        }
    }
}

/// A question for each path that answers some: the method, the target, and the body.
fn questions(word: &str) -> Vec<(&'static str, String, Value)> {
    let mut all = Vec::new();
    let mut get = |target: String| all.push(("GET", target, Value::Null));
    get("/v1/analytics/summary".to_owned());
    get("/v1/analytics/timeseries?granularity=month&group_by=word".to_owned());
    get("/v1/analytics/top?property=word".to_owned());
    get("/v1/analytics/top?property=user_id".to_owned());
    get(format!("/v1/analytics/users/{word}-user"));
    get("/v1/analytics/users".to_owned());
    get("/v1/analytics/stickiness".to_owned());
    get("/v1/analytics/lifecycle?granularity=month".to_owned());
    get("/v1/analytics/sessions?group_by=user_id".to_owned());
    get("/v1/cohorts".to_owned());
    get(format!("/v1/cohorts/{word}"));
    get("/v1/cohorts/shared/users".to_owned());
    get("/v1/cohorts/shared".to_owned());
    get(format!("/analytics/events?user_id={word}-user&page_url=/{word}"));
    get("/analytics/summary".to_owned());
    get("/stats".to_owned());
    get("/lag".to_owned());
    get("/metrics".to_owned());
    get(format!("/v1/metrics?metric_names={word}_metric"));
    get("/v1/metrics/export?format=csv".to_owned());
    let event_type = format!("{word}-type");
    let mut post = |path: &str, body: Value| all.push(("POST", path.to_owned(), body));
    let steps = json!([{"event_type": event_type}, {"event_type": event_type}]);
    post("/v1/analytics/timeseries", json!({"series": [{"metric": "unique_users"}]}));
    post("/v1/analytics/users", json!({"where": {"cohort": "shared"}}));
    post("/v1/analytics/funnel", json!({"steps": steps, "breakdown": {"property": "word"}}));
    post("/v1/analytics/funnel/users", json!({"steps": steps, "step": 1}));
    post("/v1/analytics/retention", json!({"return_event": {"event_type": event_type}}));
    post("/v1/analytics/paths", json!({"anchor": {"event_type": event_type}}));
    all
}

async fn ask(keyed: &Keyed, key: &str, question: &(&'static str, String, Value)) -> Answer {
    let (method, target, body) = question;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    keyed.send(method, target, &[("x-api-key", key)], &body).await
}

#[tokio::test]
async fn no_answer_has_anything_of_another_project() {
    let two = Two::new().await;
    let mut asked = BTreeSet::new();
    let mut told = 0;
    for question in questions(MARK) {
        let path = question.1.split('?').next().unwrap().to_owned();
        asked.insert(path.replace(&format!("/users/{MARK}-user"), "/users/{id}"));
        // Its own project is told ...
        let own = ask(&two.keyed, &two.marked, &question).await;
        assert!(own.status.as_u16() < 500, "{question:?}: {}", own.text);
        told += usize::from(own.text.contains(MARK));
        // ... the other is not, even when it asks by name. What was asked is said back.
        let other = ask(&two.keyed, &two.plain, &question).await;
        let mut text = other.text.clone();
        for said in ["M-user", "/M", "M-type", "M_metric"].map(|said| said.replace('M', MARK)) {
            if question.1.contains(&said) || question.2.to_string().contains(&said) {
                text = text.replace(&said, "");
            }
        }
        let is_found = text.contains(&format!("{MARK}-")) || text.contains(&format!("{MARK}_"));
        assert!(!is_found, "{question:?}: {}", other.text);
    }
    assert!(told >= 12, "{told}");
    let wanted = needs_of_paths()
        .into_iter()
        .filter(|(path, asking, _)| *asking == "read" && !["/metrics/stream"].contains(path));
    for (path, ..) in wanted {
        let is_asked = asked.iter().any(|target| is_of(path, target));
        assert!(is_asked, "{path} is not asked");
    }
}

fn is_of(path: &str, target: &str) -> bool {
    let (path, target): (Vec<_>, Vec<_>) = (path.split('/').collect(), target.split('/').collect());
    let is_same = |(one, other): (&&str, &&str)| one.starts_with('{') || one == other;
    path.len() == target.len() && path.iter().zip(&target).all(is_same)
}

#[tokio::test]
async fn what_is_counted_is_counted_for_one_project() {
    let two = Two::new().await;
    for (key, word) in [(&two.marked, MARK), (&two.plain, "plain")] {
        let get = async |target: String| two.keyed.get(key, &target).await;
        assert_eq!(get("/v1/analytics/summary".to_owned()).await.json()["total_events"], 2);
        assert_eq!(get("/analytics/summary".to_owned()).await.json()["total_events"], 2);
        assert_eq!(get("/v1/cohorts/shared".to_owned()).await.json()["size"], 1);
        assert_eq!(get(format!("/v1/cohorts/{word}")).await.status, 200);
        let clicks = get(format!("/analytics/events?user_id={word}-user&page_url=/{word}")).await;
        assert_eq!(clicks.json()["count"], 2, "{}", clicks.text);
    }
    // The same, asked the other way round.
    let get = async |target: &str| two.keyed.get(&two.plain, target).await;
    assert_eq!(get(&format!("/v1/cohorts/{MARK}")).await.status, 404);
    let clicks = get(&format!("/analytics/events?user_id={MARK}-user&page_url=/{MARK}")).await;
    assert_eq!(clicks.json()["count"], 0);
    let user = get(&format!("/v1/analytics/users/{MARK}-user")).await.json();
    assert!(user["events"].as_array().is_none_or(Vec::is_empty), "{user}");
    // Who has no project of that name has nothing.
    let nobody = two.keyed.get(ADMIN_KEY, "/v1/analytics/summary").await.json();
    assert_eq!(nobody["total_events"], 0, "the project `default`");
}

#[tokio::test]
async fn a_cohort_of_another_project_cannot_be_changed() {
    let two = Two::new().await;
    let headers = [("x-api-key", two.plain.as_str())];
    let other = json!({"name": "mine now", "definition": {"event_type": "x"}}).to_string();
    let path = format!("/v1/cohorts/{MARK}");
    assert_eq!(two.keyed.send("PUT", &path, &headers, &other).await.status, 404);
    assert_eq!(two.keyed.send("DELETE", &path, &headers, "").await.status, 404);
    let mine = two.keyed.send("DELETE", "/v1/cohorts/shared", &headers, "").await;
    assert_eq!(mine.status, 204, "{}", mine.text);
    assert_eq!(two.keyed.get(&two.marked, "/v1/cohorts/shared").await.status, 200);
}

#[tokio::test]
async fn every_way_in_puts_events_into_the_project_of_the_key() {
    let keyed = Keyed::new();
    let (one, _) = keyed.key("one", &["write", "read"]).await;
    let (two, _) = keyed.key("two", &["write", "read"]).await;
    let click = json!({"event_id": "c", "user_id": "u", "event_type": "click", "page_url": "/"});
    let platform = json!({"id": "p", "event_type": "view", "user_id": "u", "data": {}});
    let session =
        json!({"sessionId": "s", "eventType": "login", "payload": "{}", "eventId": "e", "ts": 1});
    let activity = json!({"user_id": "u", "activity_type": "login",
        "timestamp": "2025-12-01T00:00:00Z", "metadata": {"page_url": "/"}});
    let native = json!({"id": "n", "user_id": "u", "event_type": "t"});
    let mut sent = BTreeSet::new();
    let mut counted = 0;
    for (path, body) in [
        ("/v1/events", native.clone()),
        ("/v1/events/batch", json!([{"id": "b", "user_id": "u", "event_type": "t"}])),
        ("/ingest", click),
        ("/events", platform.clone()),
        ("/events", session),
        ("/events/async", json!({"id": "q", "event_type": "view", "user_id": "u"})),
        ("/events/batch", json!({"events": [{"id": "r", "event_type": "view", "user_id": "u"}]})),
        ("/activity", activity),
    ] {
        let answer = keyed.post(&one, path, &body).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.text);
        sent.insert(path);
        counted += 1;
        let progress = keyed.post(&one, "/v1/events?wait=visible", &native).await;
        assert_eq!(progress.status, 200);
        let total = async |key: &str| {
            keyed.get(key, "/v1/analytics/summary").await.json()["total_events"].clone()
        };
        assert_eq!(total(&one).await, json!(counted), "{path}");
        assert_eq!(total(&two).await, json!(0), "{path}");
        // The native one is sent after each of the others and counts once.
        counted += i32::from(path == "/v1/events" && counted == 0);
    }
    let wanted = needs_of_paths().into_iter().filter(|(_, asking, _)| *asking == "write");
    for (path, ..) in wanted {
        assert!(sent.contains(path), "{path} is not tried");
    }
}
