//! `GET /v1/analytics/stickiness`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{
    Interval, PeriodActivity, Selection, StickinessAnswer, StickinessPeriod, StickinessQuery,
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::question::{
    Format, RangeBody, choice, format, granularity, seconds, selection, zone_term,
};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::parameters::Parameters;
use crate::problem::Problem;

const PERIODS: [(&str, StickinessPeriod); 2] =
    [("week", StickinessPeriod::Week), ("month", StickinessPeriod::Month)];

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    periods: Vec<PeriodBody<'a>>,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct PeriodBody<'a> {
    start: Time,
    days: usize,
    active_users: u64,
    avg_daily_users: f64,
    /// The average daily users as a share of the active users.
    stickiness: f64,
    exactly: &'a [u64],
    at_least: Vec<u64>,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    granularity: &'static str,
    period: &'static str,
    tz: String,
    processing_time: String,
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Description {
    let terms = [
        Term::choice("period", "over what days are counted", &PERIODS).by_default("week"),
        Term::name("granularity", "what is counted", ["day"]).by_default("day"),
        zone_term(),
    ];
    let summary = "On how many days of each period users were active";
    Description::of::<AnswerBody<'_>>("Stickiness", summary, terms)
}

/// On how many days of each period users were active.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let mut parameters = Parameters::of(request.uri())?;
    let terms = Terms::take(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let range = selection.range;
    let (granularity, tz) = (terms.granularity, terms.zone.clone());
    let (period_name, _) = terms.period;
    let answer = app.services.query.stickiness(terms.question(selection)).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&answer));
    }
    let body = AnswerBody {
        periods: answer.periods.iter().map(period_body).collect(),
        metadata: MetadataBody {
            time_range: range.into(),
            granularity,
            period: period_name,
            tz,
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// What a question says beside which events it is about.
pub(crate) struct Terms {
    granularity: &'static str,
    period: (&'static str, StickinessPeriod),
    zone: String,
}

impl Terms {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let (granularity, interval) = granularity(parameters.take("granularity")?)?;
        if interval != Interval::Day {
            return Err(Problem::argument("`granularity` of stickiness may only be `day`"));
        }
        let period = parameters.take("period")?;
        let period = choice("period", period.as_deref().unwrap_or("week"), &PERIODS)?;
        let zone = parameters.take("tz")?.unwrap_or_else(|| "UTC".to_owned());
        Ok(Self { granularity, period, zone })
    }

    /// The question about a selection.
    pub(crate) fn question(self, selection: Selection) -> StickinessQuery {
        let Self { period: (_, period), zone, .. } = self;
        StickinessQuery { selection, period, zone }
    }
}

fn period_body(period: &PeriodActivity) -> PeriodBody<'_> {
    PeriodBody {
        start: Time(period.start),
        days: period.exactly.len(),
        active_users: period.active_users(),
        avg_daily_users: period.mean_daily_users(),
        stickiness: period.stickiness(),
        exactly: &period.exactly,
        at_least: period.at_least(),
    }
}

fn table(answer: &StickinessAnswer) -> Response {
    let mut table = Table::new(&[
        "period",
        "active_users",
        "avg_daily_users",
        "stickiness",
        "active_days",
        "exactly",
        "at_least",
    ]);
    for period in &answer.periods {
        for (index, (exactly, at_least)) in period.exactly.iter().zip(period.at_least()).enumerate()
        {
            table.text(&period.start.to_string());
            table.number(period.active_users());
            table.number(period.mean_daily_users());
            table.number(period.stickiness());
            table.number(index + 1);
            table.number(exactly);
            table.number(at_least);
            table.end_row();
        }
    }
    table.into_response()
}
