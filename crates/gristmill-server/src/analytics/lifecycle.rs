//! `GET /v1/analytics/lifecycle`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{Interval, LifecycleAnswer, LifecycleBucket, LifecycleQuery, Selection};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::question::{
    Format, RangeBody, format, granularity, granularity_term, seconds, selection, zone_term,
};
use crate::app::App;
use crate::json::{self, Time};
use crate::parameters::Parameters;
use crate::problem::Problem;

#[derive(JsonSchema, Serialize)]
struct AnswerBody {
    buckets: Vec<BucketBody>,
    metadata: MetadataBody,
}

#[derive(JsonSchema, Serialize)]
struct BucketBody {
    start: Time,
    new: u64,
    returning: u64,
    resurrecting: u64,
    dormant: u64,
}

#[derive(JsonSchema, Serialize)]
struct MetadataBody {
    time_range: RangeBody,
    granularity: &'static str,
    tz: String,
    processing_time: String,
}

/// What the document says of [`get`].
pub(crate) fn describe() -> Description {
    let summary = "How many users are new, returning, resurrecting and dormant";
    Description::of::<AnswerBody>("Lifecycle", summary, [granularity_term(), zone_term()])
}

/// How many users are new, returning, resurrecting and dormant.
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
    let answer = app.services.query.lifecycle(terms.question(selection)).await?;
    if format(request.headers()) == Format::Csv {
        return Ok(table(&answer));
    }
    let bucket = |bucket: &LifecycleBucket| BucketBody {
        start: Time(bucket.start),
        new: bucket.new,
        returning: bucket.returning,
        resurrecting: bucket.resurrecting,
        dormant: bucket.dormant,
    };
    let body = AnswerBody {
        buckets: answer.buckets.iter().map(bucket).collect(),
        metadata: MetadataBody {
            time_range: range.into(),
            granularity,
            tz,
            processing_time: seconds(since.elapsed().as_micros() as i64),
        },
    };
    Ok(json::respond(StatusCode::OK, &body))
}

/// What a question says beside which events it is about.
pub(crate) struct Terms {
    granularity: &'static str,
    interval: Interval,
    zone: String,
}

impl Terms {
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let (granularity, interval) = granularity(parameters.take("granularity")?)?;
        let zone = parameters.take("tz")?.unwrap_or_else(|| "UTC".to_owned());
        Ok(Self { granularity, interval, zone })
    }

    /// The question about a selection.
    pub(crate) fn question(self, selection: Selection) -> LifecycleQuery {
        let Self { interval, zone, .. } = self;
        LifecycleQuery { selection, interval, zone }
    }
}

fn table(answer: &LifecycleAnswer) -> Response {
    let mut table = Table::new(&["bucket", "new", "returning", "resurrecting", "dormant"]);
    for bucket in &answer.buckets {
        table.text(&bucket.start.to_string());
        for users in [bucket.new, bucket.returning, bucket.resurrecting, bucket.dormant] {
            table.number(users);
        }
        table.end_row();
    }
    table.into_response()
}
