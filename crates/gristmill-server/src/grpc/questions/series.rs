//! `GetTimeSeries`.

use std::sync::Arc;

use gristmill_model::{ProjectId, SeriesGroup, SeriesLine, SeriesPoint};
use gristmill_proto::analytics::v1;

use super::selecting::{Selecting, granularity, number, text};
use super::well_known::{small, time_range, timestamp};
use crate::analytics::timeseries::OneMetric;
use crate::app::App;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// Values over time.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetTimeSeriesRequest,
) -> Result<v1::GetTimeSeriesResponse, Problem> {
    let compared = request.compare_previous_period.then(|| "previous_period".to_owned());
    let terms = [
        ("metric", text(request.metric)),
        ("property", text(request.property)),
        ("granularity", granularity(request.granularity)?),
        ("tz", text(request.tz)),
        ("top", number(request.top)),
        ("compare", compared),
        ("cumulative", request.cumulative.then(|| "true".to_owned())),
    ];
    let group_by = request.group_by.into_iter().map(|name| ("group_by", Some(name)));
    let mut parameters = Parameters::given(terms.into_iter().chain(group_by));
    let one = OneMetric::take(&mut parameters)?;
    let selecting = Selecting {
        range: request.time_range,
        event_types: request.event_types,
        filters: request.filters,
        filter: ("where", request.r#where),
        at_least: request.at_least,
    };
    let selection = selecting.selection(&app, project).await?;
    let metric = one.name;
    let (granularity, query) = one.question(selection);
    let names: Vec<_> = query.group_by.iter().map(|by| by.name().into_owned()).collect();
    let answer = app.services.query.series(query).await?;
    let lines = answer.lines.iter();
    let points = lines.flat_map(|line| line.points.iter().map(|point| data(&names, line, point)));
    let series: Vec<_> = points.collect();
    let name = format!("TIME_GRANULARITY_{}", granularity.to_ascii_uppercase());
    let metadata = v1::TimeSeriesMetadata {
        metric: metric.to_owned(),
        granularity: v1::TimeGranularity::from_str_name(&name).unwrap_or_default().into(),
        data_points: small(series.len()),
        previous_time_range: answer.previous.map(time_range),
    };
    Ok(v1::GetTimeSeriesResponse { series, metadata: Some(metadata) })
}

fn data(names: &[String], line: &SeriesLine, point: &SeriesPoint) -> v1::TimeSeriesData {
    let values = match &line.group {
        SeriesGroup::Values(values) => values.as_slice(),
        SeriesGroup::Other => &[],
    };
    let label = |(name, value): (&String, &Option<String>)| Some((name.clone(), value.clone()?));
    v1::TimeSeriesData {
        timestamp: Some(timestamp(point.start)),
        value: point.value.unwrap_or(0.0),
        labels: names.iter().zip(values).filter_map(label).collect(),
        has_no_value: point.value.is_none(),
        is_other: line.group == SeriesGroup::Other,
        compared_with: point.compared_with.map(timestamp),
    }
}
