//! The answers of `/v1/analytics/timeseries`: as JSON one object per point, as CSV one line.

use std::collections::BTreeMap;

use axum::response::Response;
use gristmill_model::{
    Compare, Period, SeriesAnswer, SeriesGroup, SeriesLine, SeriesPoint, SeriesQuery, TimeRange,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::csv::Table;
use super::super::question::RangeBody;
use crate::json::{Number, Time};

#[derive(JsonSchema, Serialize)]
pub(super) struct AnswerBody<'a> {
    pub(super) series: Vec<PointBody<'a>>,
    pub(super) metadata: MetadataBody,
}

/// One point. Labels have the names that the question gave, so that what else is said of a point
/// stands beside them.
#[derive(JsonSchema, Serialize)]
pub(super) struct PointBody<'a> {
    timestamp: Time,
    #[schemars(with = "Option<f64>")]
    value: Number,
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared_with: Option<Time>,
    /// Set where the point is about all groups but the top ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<bool>,
}

#[derive(Default, JsonSchema, Serialize)]
pub(super) struct MetadataBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<&'static str>,
    granularity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tz: Option<String>,
    data_points: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_range: Option<RangeBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_time_range: Option<RangeBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_time: Option<String>,
}

impl MetadataBody {
    /// About an answer of one metric.
    pub(super) fn of_metric(
        metric: &'static str,
        granularity: &'static str,
        answer: &SeriesAnswer,
    ) -> Self {
        let data_points = answer.lines.iter().map(|line| line.points.len()).sum();
        let previous_time_range = answer.previous.map(RangeBody::from);
        let metric = Some(metric);
        Self { metric, granularity, data_points, previous_time_range, ..Self::default() }
    }

    /// About an answer of several series.
    pub(super) fn of_series(
        granularity: &'static str,
        zone: String,
        range: TimeRange,
        processing_time: String,
        answer: &SeriesAnswer,
    ) -> Self {
        Self {
            metric: None,
            tz: Some(zone),
            time_range: Some(range.into()),
            processing_time: Some(processing_time),
            ..Self::of_metric("", granularity, answer)
        }
    }
}

/// What the points of an answer say beside time, value and labels, because the question asked.
pub(super) struct Columns {
    series: Option<&'static str>,
    period: Option<&'static str>,
    /// The names of what is grouped by.
    group_by: Vec<String>,
    other: Option<&'static str>,
}

impl Columns {
    /// The columns for a question; `series` is that of the names of series, if they are told.
    pub(super) fn of(query: &SeriesQuery, series: Option<&'static str>) -> Self {
        Self {
            series,
            period: (query.compare == Compare::PreviousPeriod).then_some("period"),
            group_by: query.group_by.iter().map(|grouping| grouping.name().into_owned()).collect(),
            other: query.top.map(|_| "other"),
        }
    }

    /// The points of all lines.
    pub(super) fn points<'a>(&'a self, answer: &'a SeriesAnswer) -> Vec<PointBody<'a>> {
        let lines = answer.lines.iter();
        lines.flat_map(|line| line.points.iter().map(|point| self.point(line, point))).collect()
    }

    fn point<'a>(&'a self, line: &'a SeriesLine, point: &SeriesPoint) -> PointBody<'a> {
        let values = match &line.group {
            SeriesGroup::Values(values) => values.as_slice(),
            SeriesGroup::Other => &[],
        };
        let label = |(name, value): (&'a String, &'a Option<String>)| {
            Some((name.as_str(), value.as_deref()?))
        };
        PointBody {
            timestamp: Time(point.start),
            value: Number(point.value),
            labels: self.group_by.iter().zip(values).filter_map(label).collect(),
            series: self.series.map(|_| line.name.as_str()),
            period: self.period.map(|_| period(line)),
            compared_with: point.compared_with.map(Time),
            other: (line.group == SeriesGroup::Other).then_some(true),
        }
    }

    /// The points as a table.
    pub(super) fn table(&self, answer: &SeriesAnswer) -> Response {
        let mut columns = vec!["timestamp"];
        columns.extend(self.series);
        columns.extend(self.period);
        columns.extend(self.period.map(|_| "compared_with"));
        columns.extend(self.group_by.iter().map(String::as_str));
        columns.extend(self.other);
        columns.push("value");
        let mut table = Table::new(&columns);
        for line in &answer.lines {
            for point in &line.points {
                self.row(&mut table, line, point);
            }
        }
        table.into_response()
    }

    fn row(&self, table: &mut Table, line: &SeriesLine, point: &SeriesPoint) {
        table.text(&point.start.to_string());
        if self.series.is_some() {
            table.text(&line.name);
        }
        if self.period.is_some() {
            table.text(period(line));
            table.text(&point.compared_with.map(|start| start.to_string()).unwrap_or_default());
        }
        for index in 0..self.group_by.len() {
            table.text(match &line.group {
                SeriesGroup::Values(values) => values[index].as_deref().unwrap_or_default(),
                SeriesGroup::Other => "",
            });
        }
        if self.other.is_some() {
            table.number(line.group == SeriesGroup::Other);
        }
        match point.value {
            Some(value) => table.number(value),
            None => table.text(""),
        }
        table.end_row();
    }
}

fn period(line: &SeriesLine) -> &'static str {
    match line.period {
        Period::Range => "current",
        Period::Previous => "previous",
    }
}
