//! Every method answers a project as if there were no other.

use std::collections::BTreeSet;
use std::fmt::Debug;

use gristmill_proto::analytics as older;
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::stream_events_request::Request as Sent;
use gristmill_proto::analytics::v1::subscribe_request::Question as Subscribed;
use http::Response;
use hyper::body::Incoming;
use prost::Message;
use serde_json::json;

use super::calls::calls;
use super::projects::{EVENTS, MARK, MORE_EVENTS, PLAIN, Two};
use crate::calling::{Caller, first, framed, payloads};
use crate::ingest_calls::event;
use crate::support::{Listening, Platform, ingest_config};

const ANALYTICS: &str = "/analytics.v1.AnalyticsService";
const METRICS: &str = "/analytics.v1.MetricsService";
const OLDER: &str = "/analytics.AnalyticsService";

/// What is told of the process, and so of all projects together.
const OF_THE_PROCESS: [&str; 7] = [
    "/analytics.v1.EventIngestionService/Health",
    "/analytics.v1.AnalyticsService/Health",
    "/analytics.v1.MetricsService/Health",
    "/analytics.ProducerService/GetProducerHealth",
    "/analytics.AnalyticsService/GetAnalyticsHealth",
    "/analytics.ConsumerService/GetConsumerHealth",
    "/analytics.ConsumerService/GetConsumerStats",
];

type Tell = Box<dyn Fn(&[u8]) -> String>;

/// A question, and how its answer is read.
struct Question {
    path: String,
    message: Vec<u8>,
    told: Tell,
}

/// A question of whose answers is forgotten what each has for itself.
fn question<A>(service: &str, method: &str, asked: &impl Message, forget: fn(&mut A)) -> Question
where
    A: Message + Default + Debug + 'static,
{
    let told = move |message: &[u8]| {
        let mut answer = A::decode(message).unwrap();
        forget(&mut answer);
        format!("{answer:#?}")
    };
    let message = asked.encode_to_vec();
    Question { path: format!("{service}/{method}"), message, told: Box::new(told) }
}

fn nothing<A>(_: &mut A) {}

/// All documents of the store share their versions.
fn version(cohort: &mut v1::Cohort) {
    cohort.version = 0;
}

fn versions(answer: &mut v1::ListCohortsResponse) {
    answer.cohorts.iter_mut().for_each(version);
}

fn time_of_summary(answer: &mut v1::AnalyticsSummary) {
    answer.metadata.as_mut().unwrap().processing_time = None;
}

fn time_of_funnel(answer: &mut v1::GetFunnelAnalysisResponse) {
    answer.metadata.as_mut().unwrap().processing_time = None;
}

/// All projects share the log, and so its positions.
fn position(answer: &mut v1::SubscribeResponse) {
    answer.position.clear();
}

/// The events of a word's type.
fn events(word: &str) -> Option<v1::EventMatch> {
    Some(v1::EventMatch { event_types: vec![format!("{word}-type")], ..Default::default() })
}

fn summary(word: &str) -> v1::GetAnalyticsSummaryRequest {
    let event_types = vec![format!("{word}-type")];
    v1::GetAnalyticsSummaryRequest {
        event_types,
        group_by: "word".to_owned(),
        ..Default::default()
    }
}

fn series(word: &str) -> v1::GetTimeSeriesRequest {
    let event_types = vec![format!("{word}-type")];
    v1::GetTimeSeriesRequest {
        event_types,
        group_by: vec!["word".to_owned()],
        ..Default::default()
    }
}

fn funnel(word: &str) -> v1::GetFunnelAnalysisRequest {
    let step = |name: &str| v1::FunnelStep {
        name: name.to_owned(),
        event_type: format!("{word}-type"),
        ..Default::default()
    };
    let breakdown = v1::FunnelBreakdown { property: "word".to_owned(), ..Default::default() };
    v1::GetFunnelAnalysisRequest {
        steps: vec![step("a"), step("b")],
        breakdown: Some(breakdown),
        ..Default::default()
    }
}

/// Questions about events.
fn about_events(word: &str) -> Vec<Question> {
    let real_time = v1::GetRealTimeAnalyticsRequest {
        event_types: vec![format!("{word}-type")],
        ..Default::default()
    };
    let funnel_users =
        v1::GetFunnelUsersRequest { funnel: Some(funnel(word)), step: 1, ..Default::default() };
    let retention = v1::GetRetentionRequest { return_event: events(word), ..Default::default() };
    let paths = v1::GetPathsRequest { anchor: events(word), ..Default::default() };
    let sessions = v1::GetSessionsRequest {
        events: events(word),
        group_by: "user_id".to_owned(),
        ..Default::default()
    };
    let stickiness = v1::GetStickinessRequest { events: events(word), ..Default::default() };
    let lifecycle = v1::GetLifecycleRequest { events: events(word), ..Default::default() };
    let top = v1::GetTopValuesRequest {
        events: events(word),
        property: "word".to_owned(),
        ..Default::default()
    };
    let subscribe = |question| v1::SubscribeRequest {
        question: Some(question),
        ..v1::SubscribeRequest::default()
    };
    let all = v1::GetAnalyticsSummaryRequest::default();
    vec![
        question(ANALYTICS, "GetAnalyticsSummary", &summary(word), time_of_summary),
        question(ANALYTICS, "GetAnalyticsSummary", &all, time_of_summary),
        question(ANALYTICS, "GetTimeSeries", &series(word), nothing::<v1::GetTimeSeriesResponse>),
        question(
            ANALYTICS,
            "GetRealTimeAnalytics",
            &real_time,
            nothing::<v1::RealTimeAnalyticsResponse>,
        ),
        question(ANALYTICS, "GetFunnelAnalysis", &funnel(word), time_of_funnel),
        question(ANALYTICS, "GetFunnelUsers", &funnel_users, nothing::<v1::GetFunnelUsersResponse>),
        question(ANALYTICS, "GetRetention", &retention, nothing::<v1::GetRetentionResponse>),
        question(ANALYTICS, "GetPaths", &paths, nothing::<v1::GetPathsResponse>),
        question(ANALYTICS, "GetSessions", &sessions, nothing::<v1::GetSessionsResponse>),
        question(ANALYTICS, "GetStickiness", &stickiness, nothing::<v1::GetStickinessResponse>),
        question(ANALYTICS, "GetLifecycle", &lifecycle, nothing::<v1::GetLifecycleResponse>),
        question(ANALYTICS, "GetTopValues", &top, nothing::<v1::GetTopValuesResponse>),
        question(ANALYTICS, "Subscribe", &subscribe(Subscribed::Summary(all.clone())), position),
        question(ANALYTICS, "Subscribe", &subscribe(Subscribed::Summary(summary(word))), position),
        question(
            ANALYTICS,
            "Subscribe",
            &subscribe(Subscribed::TimeSeries(series(word))),
            position,
        ),
        question(ANALYTICS, "Subscribe", &subscribe(Subscribed::Funnel(funnel(word))), position),
    ]
}

/// Questions about users and cohorts, and changes of these: with names that one project has and the
/// other has not.
fn about_users(word: &str) -> Vec<Question> {
    let user = v1::GetUserAnalyticsRequest {
        user_id: format!("{word}-user"),
        include_sessions: true,
        include_events: true,
        ..Default::default()
    };
    let of_cohort =
        v1::EventMatch { r#where: json!({"cohort": "shared"}).to_string(), ..Default::default() };
    let users = |events| v1::ListUsersRequest { events, ..Default::default() };
    let get = |id: &str| v1::GetCohortRequest { id: id.to_owned(), ..Default::default() };
    let list = |id: &str| v1::ListCohortUsersRequest { id: id.to_owned(), ..Default::default() };
    let definition = json!({"event_type": "none"}).to_string();
    let create = v1::CreateCohortRequest {
        id: format!("{word}-2"),
        name: "new".to_owned(),
        definition: definition.clone(),
    };
    let (id, name) = (word.to_owned(), "other".to_owned());
    let replace = v1::ReplaceCohortRequest { id, name, definition, if_version: 0 };
    let delete = v1::DeleteCohortRequest { id: word.to_owned(), if_version: 0 };
    let listed = nothing::<v1::ListUsersResponse>;
    let members = nothing::<v1::ListCohortUsersResponse>;
    vec![
        question(ANALYTICS, "GetUserAnalytics", &user, nothing::<v1::GetUserAnalyticsResponse>),
        question(ANALYTICS, "ListUsers", &users(events(word)), listed),
        question(ANALYTICS, "ListUsers", &users(Some(of_cohort)), listed),
        question(ANALYTICS, "GetCohort", &get("shared"), version),
        question(ANALYTICS, "GetCohort", &get(word), version),
        question(ANALYTICS, "ListCohortUsers", &list("shared"), members),
        question(ANALYTICS, "ListCohortUsers", &list(word), members),
        question(ANALYTICS, "CreateCohort", &create, version),
        question(ANALYTICS, "ReplaceCohort", &replace, version),
        question(ANALYTICS, "DeleteCohort", &delete, nothing::<()>),
        question(ANALYTICS, "ListCohorts", &v1::ListCohortsRequest {}, versions),
    ]
}

/// Metrics that events carry, and what clients of older systems ask.
fn about_numbers(word: &str) -> Vec<Question> {
    let metric_names = [format!("{word}_metric"), "shared_metric".to_owned()].to_vec();
    let get = v1::GetMetricsRequest { metric_names, ..Default::default() };
    let export = |format: &str| v1::ExportMetricsRequest {
        format: format.to_owned(),
        metric_names: get.metric_names.clone(),
        ..Default::default()
    };
    let count =
        older::EventCountRequest { user_id: format!("{word}-user"), page_url: format!("/{word}") };
    let totals = older::AnalyticsSummaryRequest::default();
    let numbers = |metric_name: String| older::MetricsRequest { metric_name, ..Default::default() };
    let of_type = numbers(format!("{word}-type"));
    let exported = nothing::<v1::ExportMetricsResponse>;
    let counted = nothing::<older::MetricsResponse>;
    vec![
        question(METRICS, "GetMetrics", &get, nothing::<v1::GetMetricsResponse>),
        question(METRICS, "StreamMetrics", &get, nothing::<v1::Metric>),
        question(METRICS, "ExportMetrics", &export("prometheus"), exported),
        question(METRICS, "ExportMetrics", &export("json"), exported),
        question(METRICS, "ExportMetrics", &export("csv"), exported),
        question(OLDER, "GetEventCount", &count, nothing::<older::EventCountResponse>),
        question(OLDER, "GetAnalyticsSummary", &totals, nothing::<older::AnalyticsSummary>),
        question(OLDER, "GetMetrics", &numbers(String::new()), counted),
        question(OLDER, "GetMetrics", &of_type, counted),
    ]
}

fn questions(word: &str) -> Vec<Question> {
    let mut all = about_events(word);
    all.extend(about_users(word));
    all.extend(about_numbers(word));
    all
}

/// Events with an id each that the first project has from the same user, and the second has not.
fn sent() -> Vec<(&'static str, Vec<u8>)> {
    let user = format!("{PLAIN}-user");
    let id = |offset: i64| (EVENTS + offset).to_string();
    let new = |offset| event(&id(offset), &user, "t");
    let older = |offset| older::Event {
        id: id(offset),
        user_id: user.clone(),
        event_type: "t".to_owned(),
        ..Default::default()
    };
    let visible = || Some(v1::IngestOptions { wait_visible: true, ..Default::default() });
    let one = v1::IngestEventRequest { event: Some(new(0)), options: visible() };
    let some = v1::IngestEventsRequest { events: vec![new(1)], options: visible() };
    let stream = v1::StreamEventsRequest { request: Some(Sent::Event(new(2))) };
    vec![
        ("/analytics.v1.EventIngestionService/IngestEvent", one.encode_to_vec()),
        ("/analytics.v1.EventIngestionService/IngestEvents", some.encode_to_vec()),
        ("/analytics.v1.EventIngestionService/StreamEvents", stream.encode_to_vec()),
        ("/analytics.ProducerService/SendEvent", older(3).encode_to_vec()),
        (
            "/analytics.ProducerService/SendBatchEvents",
            older::BatchEventsRequest { events: vec![older(4)] }.encode_to_vec(),
        ),
    ]
}

/// Who asks with a key.
struct Asking<'a> {
    caller: Caller,
    key: &'a str,
    /// Streams go on, as equal ones of several clients are answered together.
    open: Vec<Response<Incoming>>,
}

impl<'a> Asking<'a> {
    async fn new(server: &Listening, key: &'a str) -> Self {
        Self { caller: Caller::open(server.grpc_address).await, key, open: Vec::new() }
    }

    /// The first message of an answer, or the status without one.
    async fn ask(&mut self, question: &Question) -> String {
        let body = framed(0, &question.message);
        let headers = [("x-api-key", self.key)];
        let mut answer = self.caller.begin(&question.path, &headers, body).await;
        let told = match first(&mut answer).await {
            Ok(message) => (question.told)(&message),
            Err(ended) => format!("status {}: {}", ended.status(), ended.message()),
        };
        self.open.push(answer);
        told
    }
}

fn server(two: &Two) -> Listening {
    Listening::serving(two.keyed.front.clone())
}

#[tokio::test]
async fn every_answer_is_as_if_there_were_no_other_project() {
    let mut wrong = Vec::new();
    let platform = || Platform::new(ingest_config());
    for platforms in [[platform(), platform()], [platform(), platform()].map(Platform::with_cache)]
    {
        let [both, one] = platforms;
        let (two, alone) = (Two::over(both).await, Two::alone(one).await);
        let (server, server_alone) = (server(&two), server(&alone));
        let mut first = Asking::new(&server, &two.marked).await;
        let mut second = Asking::new(&server, &two.plain).await;
        let mut alone = Asking::new(&server_alone, &alone.plain).await;
        for word in [MARK, PLAIN] {
            for question in questions(word) {
                let own = first.ask(&question).await;
                let other = second.ask(&question).await;
                let expected = alone.ask(&question).await;
                if other != expected || other == own {
                    wrong.push((question.path, word, own, other, expected));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_method_is_forgotten() {
    let asked = questions(MARK).into_iter().map(|question| question.path);
    let sent = sent().into_iter().map(|(path, _)| path);
    let known: BTreeSet<_> = asked.chain(sent.chain(OF_THE_PROCESS).map(str::to_owned)).collect();
    assert_eq!(known, calls().into_iter().collect(), "what is tried, and the methods");
}

#[tokio::test]
async fn a_cohort_of_another_project_is_not_found() {
    let two = Two::over(Platform::new(ingest_config())).await;
    let server = server(&two);
    let mut first = Asking::new(&server, &two.marked).await;
    let mut second = Asking::new(&server, &two.plain).await;
    let questions = about_users(MARK);
    let of_mark = |method: &str| {
        let is_meant = |question: &&Question| question.path.ends_with(&format!("/{method}"));
        questions.iter().rfind(is_meant).unwrap()
    };
    let before = first.ask(of_mark("ListCohorts")).await;
    for method in ["GetCohort", "ListCohortUsers", "ReplaceCohort", "DeleteCohort"] {
        let told = second.ask(of_mark(method)).await;
        assert!(told.starts_with("status 5:"), "{method}: {told}");
    }
    assert_eq!(first.ask(of_mark("ListCohorts")).await, before);
    for method in ["GetCohort", "ListCohortUsers", "ReplaceCohort", "DeleteCohort"] {
        let told = first.ask(of_mark(method)).await;
        assert!(!told.starts_with("status"), "{method}: {told}");
    }
}

#[tokio::test]
async fn what_is_sent_with_a_key_counts_in_its_project_only() {
    let two = Two::over(Platform::new(ingest_config())).await;
    let server = server(&two);
    let total = async |key: &str| {
        // What the same user sent before is there when this is, which was there already.
        let again = json!({"id": "0", "user_id": format!("{PLAIN}-user"), "event_type": "t"});
        let answer = two.keyed.post(key, "/v1/events?wait=visible", &again).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let summary = two.keyed.get(key, "/v1/analytics/summary").await.json();
        summary["total_events"].as_i64().unwrap()
    };
    let mut totals = [EVENTS + 2 * MORE_EVENTS, EVENTS];
    let mut caller = Caller::open(server.grpc_address).await;
    for (path, message) in sent() {
        for (key, counts, status) in
            [(&two.marked, 0, "duplicate"), (&two.plain, 1, "stored"), (&two.plain, 0, "duplicate")]
        {
            let body = framed(0, &message);
            let answer = caller.call(path, &[("x-api-key", key)], body).await;
            assert_eq!(answer.status(), "0", "{path}: {}", answer.message());
            totals[1] += counts;
            assert_eq!([total(&two.marked).await, total(&two.plain).await], totals, "{path}");
            let told = payloads(&answer.body)[0];
            let statuses = match path.rsplit('/').next() {
                Some("IngestEvent") => vec![v1::IngestEventResponse::decode(told).unwrap().status],
                Some("IngestEvents") => {
                    let results = v1::IngestEventsResponse::decode(told).unwrap().results;
                    results.into_iter().map(|result| result.status).collect()
                }
                // The others do not wait until it is known.
                _ => continue,
            };
            assert_eq!(statuses, [status], "{path}");
        }
    }
}
