//! `GET /v1/analytics/sessions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{
    Grouping, Micros, Selection, SessionBucket, SessionGroup, SessionPage, SessionSeries,
    SessionTotals, SessionsAnswer, SessionsQuery, Timestamp, limits,
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::question::{
    Format, INTERVALS, Metadata, duration_of, duration_term, format, granularity, grouping_term,
    limit, limit_term, seconds, selection,
};
use crate::app::App;
use crate::json::{self, Time};
use crate::openapi::Term;
use crate::parameters::Parameters;
use crate::problem::Problem;

/// How many pages and groups are given if nobody says.
const LISTED: usize = 10;
/// The longest pause within a session without an id if nobody says.
const GAP: Micros = 30 * 60 * Timestamp::SECOND;

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    unique_users: u64,
    #[serde(flatten)]
    totals: TotalsBody,
    median_duration: Option<String>,
    p95_duration: Option<String>,
    entry_pages: Vec<PageBody<'a>>,
    exit_pages: Vec<PageBody<'a>>,
    /// Only if buckets were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<Vec<BucketBody>>,
    /// Only if groups were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<GroupBody<'a>>>,
    /// Only if there are more groups than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_groups: Option<TotalsBody>,
    metadata: Metadata<TermsBody>,
}

#[derive(JsonSchema, Serialize)]
struct TotalsBody {
    sessions: u64,
    events: u64,
    page_views: u64,
    events_per_session: f64,
    pages_per_session: f64,
    bounces: u64,
    /// The share of the sessions.
    bounce_rate: f64,
    avg_duration: Option<String>,
}

#[derive(JsonSchema, Serialize)]
struct PageBody<'a> {
    page_url: &'a str,
    sessions: u64,
    unique_users: u64,
}

#[derive(JsonSchema, Serialize)]
struct BucketBody {
    timestamp: Time,
    #[serde(flatten)]
    totals: TotalsBody,
}

#[derive(JsonSchema, Serialize)]
struct GroupBody<'a> {
    value: Option<&'a str>,
    #[serde(flatten)]
    totals: TotalsBody,
}

/// What a question says beside which events it is about, as its answer repeats it.
#[derive(JsonSchema, Serialize)]
struct TermsBody {
    gap: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    granularity: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tz: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_by: Option<String>,
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Description {
    let terms = [
        duration_term("gap", "the longest pause within a session without an id")
            .by_default(seconds(GAP)),
        limit_term("how many pages and groups are given", LISTED, limits::SESSIONS_LISTED),
        Term::choice("granularity", "the width of buckets, if there shall be a series", &INTERVALS),
        Term::text("tz", "an IANA time zone, in which buckets are cut; UTC if missing"),
        grouping_term("group_by", "what sessions are grouped by, if there shall be groups"),
    ];
    let summary = "How many sessions there are, and what they are like";
    Description::of::<AnswerBody<'_>>("Sessions", summary, terms)
}

/// How many sessions there are, and what they are like.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let mut parameters = Parameters::of(request.uri())?;
    let terms = Terms::take(&mut parameters)?;
    let selection = selection(&app, request.extensions(), &mut parameters).await?;
    parameters.finish()?;
    let terms_body = terms.body();
    let range = selection.range;
    let answer = app.services.query.sessions(terms.question(selection)).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&answer));
    }
    let metadata = Metadata::of(range, terms_body, since);
    Ok(json::respond(StatusCode::OK, &body(&answer, metadata)))
}

/// What a question says beside which events it is about.
pub(crate) struct Terms {
    gap: Micros,
    limit: usize,
    granularity: Option<&'static str>,
    series: Option<SessionSeries>,
    group_by: Option<Grouping>,
}

impl Terms {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let gap = parameters.take("gap")?.map(|text| duration_of("gap", &text)).transpose()?;
        let gap = gap.unwrap_or(GAP);
        let limit = limit(parameters, LISTED, limits::SESSIONS_LISTED)?;
        let (granularity, series) = series(parameters)?;
        let group_by = parameters.take("group_by")?.map(|name| Grouping::from_name(&name));
        Ok(Self { gap, limit, granularity, series, group_by })
    }

    /// The question about a selection.
    pub(crate) fn question(self, selection: Selection) -> SessionsQuery {
        let Self { gap, limit, series, group_by, .. } = self;
        SessionsQuery { selection, gap, limit, series, group_by }
    }

    fn body(&self) -> TermsBody {
        TermsBody {
            gap: seconds(self.gap),
            granularity: self.granularity,
            tz: self.series.as_ref().map(|series| series.zone.clone()),
            group_by: self.group_by.as_ref().map(|grouping| grouping.name().into_owned()),
        }
    }
}

/// The buckets that are asked for, and the name of their width.
fn series(
    parameters: &mut Parameters,
) -> Result<(Option<&'static str>, Option<SessionSeries>), Problem> {
    let zone = parameters.take("tz")?;
    match (parameters.take("granularity")?, zone) {
        (None, None) => Ok((None, None)),
        (None, Some(_)) => {
            Err(Problem::argument("`tz` says where buckets are cut: give a `granularity` as well"))
        }
        (Some(text), zone) => {
            let (name, interval) = granularity(Some(text))?;
            let zone = zone.unwrap_or_else(|| "UTC".to_owned());
            Ok((Some(name), Some(SessionSeries { interval, zone })))
        }
    }
}

fn body(answer: &SessionsAnswer, metadata: Metadata<TermsBody>) -> AnswerBody<'_> {
    let bucket = |bucket: &SessionBucket| BucketBody {
        timestamp: Time(bucket.start),
        totals: totals_body(&bucket.totals),
    };
    let series = || answer.series.iter().map(bucket).collect();
    let groups = || {
        let groups = answer.groups.iter().map(|group| GroupBody {
            value: group.value.as_deref(),
            totals: totals_body(&group.totals),
        });
        groups.collect()
    };
    AnswerBody {
        unique_users: answer.users,
        totals: totals_body(&answer.totals),
        median_duration: answer.median_duration.map(seconds),
        p95_duration: answer.p95_duration.map(seconds),
        entry_pages: pages(&answer.entry_pages),
        exit_pages: pages(&answer.exit_pages),
        series: metadata.terms.granularity.map(|_| series()),
        groups: metadata.terms.group_by.as_ref().map(|_| groups()),
        other_groups: answer.other_groups.as_ref().map(totals_body),
        metadata,
    }
}

fn pages(pages: &[SessionPage]) -> Vec<PageBody<'_>> {
    let body = pages.iter().map(|page| PageBody {
        page_url: &page.page,
        sessions: page.sessions,
        unique_users: page.users,
    });
    body.collect()
}

/// How many there are for each session.
pub(crate) struct Rates {
    pub(crate) events: f64,
    pub(crate) pages: f64,
    pub(crate) bounces: f64,
}

impl Rates {
    pub(crate) fn of(totals: &SessionTotals) -> Self {
        let sessions = totals.sessions;
        let rate = |count: u64| if sessions == 0 { 0.0 } else { count as f64 / sessions as f64 };
        Self {
            events: rate(totals.events),
            pages: rate(totals.page_views),
            bounces: rate(totals.bounces),
        }
    }
}

fn totals_body(totals: &SessionTotals) -> TotalsBody {
    let SessionTotals { sessions, events, page_views, bounces, .. } = *totals;
    let rates = Rates::of(totals);
    TotalsBody {
        sessions,
        events,
        page_views,
        events_per_session: rates.events,
        pages_per_session: rates.pages,
        bounces,
        bounce_rate: rates.bounces,
        avg_duration: totals.mean_duration().map(seconds),
    }
}

/// One table: the rows of a kind have the columns that say something about it.
fn table(answer: &SessionsAnswer) -> Response {
    let mut table = Table::new(&[
        "kind",
        "value",
        "sessions",
        "unique_users",
        "events",
        "page_views",
        "events_per_session",
        "pages_per_session",
        "bounces",
        "bounce_rate",
        "avg_duration_seconds",
        "median_duration_seconds",
        "p95_duration_seconds",
    ]);
    let quantiles = [answer.median_duration, answer.p95_duration];
    row(&mut table, "total", "", &numbers(&answer.totals, Some(answer.users), quantiles));
    for SessionBucket { start, totals } in &answer.series {
        row(&mut table, "bucket", &start.to_string(), &numbers(totals, None, [None; 2]));
    }
    for SessionGroup { value, totals } in &answer.groups {
        let value = value.as_deref().unwrap_or_default();
        row(&mut table, "group", value, &numbers(totals, None, [None; 2]));
    }
    if let Some(totals) = &answer.other_groups {
        row(&mut table, "other_groups", "", &numbers(totals, None, [None; 2]));
    }
    for (kind, pages) in [("entry_page", &answer.entry_pages), ("exit_page", &answer.exit_pages)] {
        for SessionPage { page, sessions, users } in pages {
            let mut numbers = [None; NUMBERS];
            numbers[..2].copy_from_slice(&[*sessions, *users].map(|count| Some(count as f64)));
            row(&mut table, kind, page, &numbers);
        }
    }
    table.into_response()
}

/// How many columns have numbers.
const NUMBERS: usize = 11;

fn numbers(
    totals: &SessionTotals,
    users: Option<u64>,
    [median, p95]: [Option<Micros>; 2],
) -> [Option<f64>; NUMBERS] {
    let body = totals_body(totals);
    let seconds = |micros: Option<Micros>| micros.map(|micros| micros as f64 / 1e6);
    [
        Some(body.sessions as f64),
        users.map(|users| users as f64),
        Some(body.events as f64),
        Some(body.page_views as f64),
        Some(body.events_per_session),
        Some(body.pages_per_session),
        Some(body.bounces as f64),
        Some(body.bounce_rate),
        seconds(totals.mean_duration()),
        seconds(median),
        seconds(p95),
    ]
}

fn row(table: &mut Table, kind: &str, value: &str, numbers: &[Option<f64>; NUMBERS]) {
    table.text(kind);
    table.text(value);
    for number in numbers {
        match number {
            Some(number) => table.number(number),
            None => table.text(""),
        }
    }
    table.end_row();
}
