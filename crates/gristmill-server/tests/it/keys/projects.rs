//! Two projects over one store never see each other, whatever route is asked.

use std::collections::BTreeSet;

use gristmill_model::Timestamp;
use gristmill_server::needs_of_paths;
use http::StatusCode;
use serde_json::{Value, json};

use super::Keyed;
use crate::support::{ADMIN_KEY, NOW, Platform, ingest_config, with_admin_key};

/// What only the first project has: as user, session, page, source, type, property and value.
pub(super) const MARK: &str = "marked";

/// What the second project has. The first has it too, and more of it.
pub(super) const PLAIN: &str = "plain";

/// How many events of [`PLAIN`] a user of the first project has, and how many of the second.
pub(super) const MORE_EVENTS: i64 = 7;
pub(super) const EVENTS: i64 = 2;

/// Answers about the process, and so about all projects.
const OF_THE_PROCESS: [&str; 3] = ["/stats", "/lag", "/metrics"];

pub(super) struct Two {
    pub(super) keyed: Keyed,
    /// A key of the first project.
    pub(super) marked: String,
    /// A key of the second project.
    pub(super) plain: String,
}

impl Two {
    async fn new() -> Self {
        Self::over(Platform::new(ingest_config())).await
    }

    /// Both with what they have.
    pub(super) async fn over(platform: Platform) -> Self {
        let two = Self::empty(platform).await;
        two.fill(&two.marked, MARK, &["user"], EVENTS).await;
        two.fill(&two.marked, PLAIN, &["user", "guest"], MORE_EVENTS).await;
        two.save_cohorts(&two.marked, MARK).await;
        two.fill_second().await
    }

    /// The second one with the same, and nothing in the first one.
    pub(super) async fn alone(platform: Platform) -> Self {
        Self::empty(platform).await.fill_second().await
    }

    async fn empty(platform: Platform) -> Self {
        let keyed = Keyed::over(with_admin_key(), platform);
        let (marked, _) = keyed.key("one", &["admin"]).await;
        let (plain, _) = keyed.key("two", &["admin"]).await;
        Self { keyed, marked, plain }
    }

    async fn fill_second(self) -> Self {
        self.fill(&self.plain, PLAIN, &["user"], EVENTS).await;
        self.save_cohorts(&self.plain, PLAIN).await;
        self
    }

    /// An event a day for each user. The ids are the same in each project.
    async fn fill(&self, key: &str, word: &str, users: &[&str], days: i64) {
        let metric = |name: String| json!({"name": name, "value": 1});
        let metrics = [metric(format!("{word}_metric")), metric("shared_metric".to_owned())];
        let event = |user: &str, day: i64| {
            let time = NOW.plus(-Timestamp::SECOND - day * Timestamp::DAY);
            json!({"id": day.to_string(), "user_id": format!("{word}-{user}"),
                "event_type": format!("{word}-type"), "session_id": format!("{word}-session"),
                "page_url": format!("/{word}"), "source": format!("{word}-source"),
                "timestamp": time.to_string(),
                "properties": {"word": format!("{word}-value"), format!("{word}_name"): 1,
                    "custom_event": {"name": "c", "metrics": metrics}}})
        };
        let of_user = |user: &&str| (0..days).map(|day| event(user, day)).collect::<Vec<_>>();
        let events: Value = users.iter().flat_map(of_user).collect();
        let answer = self.keyed.post(key, "/v1/events/batch?wait=visible", &events).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for result in answer.json()["results"].as_array().unwrap() {
            // The same ids are no duplicates in another project.
            assert_eq!(result["status"], "stored", "{}", answer.text);
        }
    }

    async fn save_cohorts(&self, key: &str, word: &str) {
        let definition = json!({"event_type": format!("{word}-type")});
        for id in ["shared", word, &format!("{word}-2")] {
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
    get(format!("/v1/metrics/export?format=csv&metric_names={word}_metric"));
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

/// The status and the body of an answer, without what each answer has for itself.
async fn ask(
    keyed: &Keyed,
    key: &str,
    question: &(&'static str, String, Value),
) -> (StatusCode, Value) {
    let (method, target, body) = question;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = keyed.send(method, target, &[("x-api-key", key)], &body).await;
    let mut told = serde_json::from_str(&answer.text).unwrap_or(Value::String(answer.text));
    forget(&mut told);
    (answer.status, told)
}

/// Takes away the name of the request, how long it took, and versions, which all documents of the
/// store share.
fn forget(told: &mut Value) {
    match told {
        Value::Object(members) => {
            for name in ["request_id", "processing_time", "version"] {
                members.remove(name);
            }
            members.values_mut().for_each(forget);
        }
        Value::Array(all) => all.iter_mut().for_each(forget),
        _ => {}
    }
}

#[tokio::test]
async fn every_answer_is_as_if_there_were_no_other_project() {
    let mut asked = BTreeSet::new();
    let platform = || Platform::new(ingest_config());
    for platforms in [[platform(), platform()], [platform(), platform()].map(Platform::with_cache)]
    {
        let [both, one] = platforms;
        let (two, alone) = (Two::over(both).await, Two::alone(one).await);
        for question in [questions(MARK), questions(PLAIN)].concat() {
            let path = question.1.split('?').next().unwrap();
            asked.insert(path.to_owned());
            let own = ask(&two.keyed, &two.marked, &question).await;
            let other = ask(&two.keyed, &two.plain, &question).await;
            assert!(own.0.as_u16() < 500 && other.0.as_u16() < 500, "{question:?}: {own:?}");
            if OF_THE_PROCESS.contains(&path) {
                assert!(!other.1.to_string().contains(MARK), "{question:?}: {other:?}");
                continue;
            }
            assert_eq!(other, ask(&alone.keyed, &alone.plain, &question).await, "{question:?}");
            assert_ne!(other, own, "{question:?}");
        }
    }
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
    for (key, word, total) in
        [(&two.marked, MARK, EVENTS + 2 * MORE_EVENTS), (&two.plain, PLAIN, EVENTS)]
    {
        let get = async |target: String| two.keyed.get(key, &target).await;
        assert_eq!(get("/v1/analytics/summary".to_owned()).await.json()["total_events"], total);
        assert_eq!(get("/analytics/summary".to_owned()).await.json()["total_events"], total);
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
