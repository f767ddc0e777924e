//! `GET /v1/analytics/timeseries`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{Field, Metric, SeriesAnswer, SeriesQuery};
use http::{Request, StatusCode};
use serde::Serialize;

use super::csv::Table;
use super::question::{Format, choice, format, granularity, selection};
use crate::app::App;
use crate::json;
use crate::parameters::Parameters;
use crate::problem::Problem;

const METRICS: [(&str, Metric); 2] =
    [("count", Metric::Count), ("unique_users", Metric::UniqueUsers)];
#[derive(Serialize)]
struct AnswerBody<'a> {
    series: Vec<PointBody<'a>>,
    metadata: MetadataBody,
}

#[derive(Serialize)]
struct PointBody<'a> {
    timestamp: String,
    value: u64,
    labels: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct MetadataBody {
    metric: &'static str,
    granularity: &'static str,
    data_points: usize,
}

/// Values over time.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::of(request.uri())?;
    let metric = parameters.take("metric")?.unwrap_or_else(|| "count".to_owned());
    let (metric_name, metric) = choice("metric", &metric, &METRICS)?;
    let (granularity, interval) = granularity(parameters.take("granularity")?)?;
    let zone = parameters.take("tz")?.unwrap_or_else(|| "UTC".to_owned());
    let group_by = match parameters.take_all("group_by").as_slice() {
        [] => None,
        [name] => Some(Field::from_name(name)),
        _ => {
            return Err(Problem::argument(
                "only one field can be grouped by: give `group_by` once",
            ));
        }
    };
    let selection = selection(&app, request.headers(), &mut parameters).await?;
    parameters.finish()?;
    let query = SeriesQuery { selection, metric, interval, zone, group_by: group_by.clone() };
    let answer = app.services.query.series(query).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&answer, group_by.as_ref()));
    }
    let label = group_by.as_ref().map_or("", Field::name);
    let points = answer.points.iter().map(|point| PointBody {
        timestamp: point.start.to_string(),
        value: point.value,
        labels: point.group.iter().map(|group| (label, group.as_str())).collect(),
    });
    let body = AnswerBody {
        series: points.collect(),
        metadata: MetadataBody {
            metric: metric_name,
            granularity,
            data_points: answer.points.len(),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

fn table(answer: &SeriesAnswer, group_by: Option<&Field>) -> Response {
    let mut columns = vec!["timestamp"];
    columns.extend(group_by.map(Field::name));
    columns.push("value");
    let mut table = Table::new(&columns);
    for point in &answer.points {
        table.text(&point.start.to_string());
        if group_by.is_some() {
            table.text(point.group.as_deref().unwrap_or_default());
        }
        table.number(point.value);
        table.end_row();
    }
    table.into_response()
}
