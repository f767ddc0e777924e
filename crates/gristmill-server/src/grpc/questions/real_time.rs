//! `GetRealTimeAnalytics`: what happened in the last seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{
    Positions, ProjectId, Selection, SummaryAnswer, SummaryQuery, TimeRange, Timestamp, limits,
};
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::RealTimeAnalyticsResponse as Response;
use prost::Message;

use super::live::{Revisions, key, revisions};
use super::selecting::Selecting;
use super::well_known::timestamp;
use crate::analytics::live::{Key, Pace, Question, Subscription};
use crate::analytics::summary::top_types;
use crate::app::App;
use crate::problem::Problem;

/// How far back a window reaches if nobody says, in seconds.
const WINDOW_SECONDS: i32 = 60;
/// The shortest time between two answers.
const REST: Duration = Duration::from_millis(250);
/// How long an answer holds without new events: then old ones may have left the window.
const PATIENCE: Duration = Duration::from_secs(1);

/// What happened in the last seconds, again whenever it changes.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetRealTimeAnalyticsRequest,
) -> Result<Revisions<Response>, Problem> {
    let mut asked = request.clone();
    let most = limits::REAL_TIME_SECONDS;
    let seconds = match request.window_seconds {
        0 => WINDOW_SECONDS,
        seconds => seconds,
    };
    if !(1..=most).contains(&seconds) {
        let detail = format!("`window_seconds` must be a whole number from 1 to {most}");
        return Err(Problem::argument(detail));
    }
    asked.window_seconds = seconds;
    let key = key(&project, "GetRealTimeAnalytics", asked.encode_to_vec());
    let selecting = Selecting {
        event_types: request.event_types,
        filters: request.filters,
        filter: ("where", request.r#where),
        ..Selecting::default()
    };
    let selection = selecting.selection(&app, project).await?;
    let window = Window { app: Arc::clone(&app), selection, seconds, key };
    let begun = Subscription::begin(&app, Box::new(window), None, Positions::start());
    Ok(revisions(begun.await?, |_: &mut Response, _| {}))
}

/// A window that ends now.
struct Window {
    app: Arc<App>,
    selection: Selection,
    seconds: i32,
    key: Key,
}

#[async_trait]
impl Question for Window {
    fn key(&self) -> Key {
        self.key.clone()
    }

    async fn ask(&self) -> Result<Bytes, Problem> {
        let end = self.app.now();
        let start = end.plus(-i64::from(self.seconds) * Timestamp::SECOND);
        // An event of this very moment has happened.
        let range = TimeRange { start: Some(start), end: Some(end.plus(1)) };
        let selection = Selection { range, ..self.selection.clone() };
        let totals = self.app.services.query.summary(SummaryQuery { selection }).await?;
        let answer = Response {
            metrics: metrics(&totals, self.seconds, end),
            timestamp: Some(timestamp(end)),
            window_id: format!("{start}/{end}"),
        };
        Ok(answer.encode_to_vec().into())
    }

    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        lasting(one).is_some_and(|lasting_one| Some(lasting_one) == lasting(other))
    }

    fn pace(&self) -> Pace {
        Pace { rest: REST, patience: Some(PATIENCE) }
    }
}

/// What an answer says of the events.
fn lasting(answer: &[u8]) -> Option<Vec<v1::RealTimeMetric>> {
    let mut metrics = Response::decode(answer).ok()?.metrics;
    for metric in &mut metrics {
        metric.timestamp = None;
    }
    Some(metrics)
}

fn metrics(totals: &SummaryAnswer, seconds: i32, end: Timestamp) -> Vec<v1::RealTimeMetric> {
    let metric = |name: &str, value: f64, unit: &str| v1::RealTimeMetric {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
        timestamp: Some(timestamp(end)),
        labels: BTreeMap::new(),
    };
    let events = totals.total_events as f64;
    let mut metrics = vec![
        metric("total_events", events, "events"),
        metric("events_per_second", events / f64::from(seconds), "events/s"),
        metric("unique_users", totals.unique_users as f64, "users"),
    ];
    for (name, events) in top_types(totals, limits::TOP_METRICS) {
        let labels = [("event_type".to_owned(), name.to_owned())].into();
        metrics.push(v1::RealTimeMetric { labels, ..metric("events", events as f64, "events") });
    }
    metrics
}
