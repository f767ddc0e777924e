//! `GetAnalyticsSummary`.

use std::sync::Arc;

use gristmill_model::ProjectId;
use gristmill_proto::analytics::v1;
use tokio::time::Instant;

use super::selecting::{Selecting, text};
use super::well_known::{count, duration_since, time_range, timestamp};
use crate::analytics::summary::{Summary, Terms, TopMetric};
use crate::app::App;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// Totals.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetAnalyticsSummaryRequest,
) -> Result<v1::AnalyticsSummary, Problem> {
    let since = Instant::now();
    let top = request.top.map(|top| top.to_string());
    let mut parameters = Parameters::given([("group_by", text(request.group_by)), ("top", top)]);
    let terms = Terms::take(&mut parameters)?;
    let selecting = Selecting {
        range: request.time_range,
        event_types: request.event_types,
        filters: request.filters,
        filter: ("where", request.r#where),
        at_least: request.at_least,
    };
    let selection = selecting.selection(&app, project).await?;
    let range = selection.range;
    let Summary { totals, top_metrics } = terms.ask(&app, selection).await?;
    let by_type = totals.events_by_type.into_iter();
    Ok(v1::AnalyticsSummary {
        total_events: count(totals.total_events),
        unique_users: count(totals.unique_users),
        sessions: count(totals.sessions),
        events_by_type: by_type.map(|(name, events)| (name, count(events))).collect(),
        top_metrics: top_metrics.into_iter().map(metric).collect(),
        last_updated: Some(timestamp(app.now())),
        metadata: Some(v1::SummaryMetadata {
            time_range: Some(time_range(range)),
            processing_time: Some(duration_since(since)),
            cache_status: String::new(),
        }),
        first_event: totals.first_event.map(timestamp),
        last_event: totals.last_event.map(timestamp),
    })
}

fn metric(metric: TopMetric) -> v1::TopMetric {
    let TopMetric { name, value, change_percentage } = metric;
    v1::TopMetric {
        name,
        value: value as f64,
        unit: TopMetric::UNIT.to_owned(),
        change_percentage: change_percentage.unwrap_or(0.0),
        is_compared: change_percentage.is_some(),
    }
}
